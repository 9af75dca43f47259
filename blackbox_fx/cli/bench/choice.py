"""The command that compares Auto with SPSA."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from blackbox_fx.report import terminal as show


def choice(
    effects: Annotated[
        list[str] | None, typer.Argument(metavar="[EFFECT]...", help="Addresses; 30 effects if none is given.")
    ] = None,
    draws: Annotated[int, typer.Option(min=2, help="Gradients from each.")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the estimators.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for a CSV file.")] = None,
) -> None:
    """Compare the gradients of Auto with those of SPSA, at equal time, for two losses."""
    from blackbox_fx.cli.bench.gradients import make_folder
    from blackbox_fx.lab.choice import Compared, compare, compared_effects
    from blackbox_fx.report.gradients import write_csv

    folder = make_folder(out)
    found: list[Compared] = []
    try:
        with show.bar("comparisons") as progress:
            found.extend(compare(compared_effects(effects or ()), draws, seed, progress))
    except KeyboardInterrupt:
        show.err.print("stopped; this is what was measured so far")
    rows = [
        (
            show.plain(f"{c.effect}, {c.loss}"),
            show.plain(c.by),
            f"{c.spsa:.3g}",
            f"{c.auto:.3g}",
            f"{c.auto_ms / c.spsa_ms:.2f}",
            f"{c.ratio:.2g} +- {c.doubt:.1g}",
        )
        for c in found
    ]
    show.table(
        f"Squared error over the squared gradient, 8 clips and settings, {draws} draws",
        ("effect, loss", "Auto chose", "SPSA", "Auto(4)", "time / SPSA's", "error at equal time / SPSA's"),
        rows,
        numbers=4,
    )
    worse = sum(c.is_worse for c in found)
    show.out.print(
        f"{worse} of {len(found)} are worse than SPSA by more than 10 %, beyond two standard errors.", highlight=False
    )
    if folder is not None:
        write_csv(folder / "choice.csv", [dataclasses.asdict(c) | {"ratio": c.ratio} for c in found])
