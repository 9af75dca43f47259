"""The commands of style transfer: train, transfer, and compare gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blackbox_fx.core import system
from blackbox_fx.report import terminal as show


def bench_learning(
    out: Annotated[Path, typer.Option(help="Folder for CSV and a page; what is there is not trained again.")],
    case: Annotated[
        list[str], typer.Option(help="twins, 'EQ, ZamCompX2', 'three plugins' or 'a choice'; may be repeated.")
    ] = [],
    method: Annotated[list[str], typer.Option(help="A method; may be repeated. Else all are compared.")] = [],
    steps: Annotated[int, typer.Option(min=1, help="Of each training.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings by each method.")] = 3,
    pairs: Annotated[int, typer.Option(min=6, help="That are trained on.")] = 2000,
    rate: Annotated[
        list[float], typer.Option(help="Learning rate; of several, each method takes the one it learns most with.")
    ] = [],
) -> None:
    """Train a style network by different gradients, and compare its loss on unseen songs by step and by second."""
    from blackbox_fx.effects import Rack
    from blackbox_fx.report.learning import read_curves, write_curves
    from blackbox_fx.runtime import Inline, Processes
    from blackbox_fx.tasks.style.learning import CASES, METHODS, check_names, compare_learning
    from blackbox_fx.tasks.style.learning_page import learning_rows, write_learning_page
    from blackbox_fx.tasks.style.training import StyleRecipe
    from blackbox_fx.training.run import Run

    check_names(case, method)
    recipe = StyleRecipe(steps=steps, pairs=pairs, unseen=32)
    with Run(out), Processes(system.cores()) as workers, Inline() as inline, show.bar("training") as progress:
        curves = read_curves(out / "curves.csv")
        for name in case or CASES:
            pool = workers if Rack(CASES[name]().effects).native else inline
            for curve in compare_learning(
                name, method or list(METHODS), recipe, seeds, rate or [1e-3], curves, pool, progress
            ):
                curves.append(curve)
                write_curves(out / "curves.csv", curves)
    rows = learning_rows(curves)
    show.table("Loss on unseen songs", rows[0], rows[1:], numbers=8)
    show.out.print(f"Open {write_learning_page(out, curves)}", markup=False, soft_wrap=True)
