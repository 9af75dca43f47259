"""The command that trains through a chain of effects, by several ways to its gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blackbox_fx.report import terminal as show


def training(
    task: Annotated[str, typer.Option(help="twins, plugins, or both with a comma.")] = "twins,plugins",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each way.")] = 3,
    steps: Annotated[int, typer.Option(min=25, help="Of each training.")] = 400,
    minutes: Annotated[float, typer.Option(min=0.01, help="Of preparing each twin.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV and a page.")] = None,
) -> None:
    """Train a network through a chain of two effects, by default layers, autodiff and SPSA, against the clock."""
    from blackbox_fx.cli.bench.gradients import make_folder
    from blackbox_fx.errors import ParameterError
    from blackbox_fx.lab.imitation import Learnt, study, tasks
    from blackbox_fx.report.imitation import learnt_table, write_learnt_page

    names = [name.strip() for name in task.split(",")]
    if unknown := [name for name in names if name not in ("twins", "plugins")]:
        raise ParameterError(f"There is no task {unknown[0]!r}; write twins, plugins, or both with a comma.")
    folder = make_folder(out)
    found: list[Learnt] = []
    try:
        with show.bar("trainings") as progress:
            found.extend(study(tasks(names, minutes, progress), seeds, steps, progress))
    except KeyboardInterrupt:
        show.err.print("stopped; this is what was trained so far")
    rows = learnt_table(found)
    show.table(f"Held-out loss after {steps} steps, and time", rows[0], rows[1:], numbers=4)
    if folder is not None:
        show.out.print(f"Open {write_learnt_page(folder, found)}", markup=False, soft_wrap=True)


def consoles(
    steps: Annotated[int, typer.Option(min=1, help="Of each training.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each way.")] = 1,
    excerpts: Annotated[int, typer.Option(min=4, help="Excerpts of two seconds to train on.")] = 96,
) -> None:
    """Train a mixing network through one console, of twins and of black boxes, on composed songs."""
    from blackbox_fx.tasks.mixing.consoles import Trained, compare_consoles

    found: list[Trained] = []
    try:
        with show.bar("trainings") as progress:
            found.extend(compare_consoles(steps, seeds, excerpts, progress))
    except KeyboardInterrupt:
        show.err.print("stopped; this is what was trained so far")
    rows = [
        (
            t.way,
            str(t.seed),
            f"{t.seconds:.0f}",
            f"{1e3 * t.seconds / t.steps:.0f}",
            f"{t.before:.3f}",
            f"{t.after:.3f}",
        )
        for t in found
    ]
    show.table(
        f"Loss on excerpts of other songs, before and after {steps} steps",
        ("console", "seed", "s", "ms a step", "before", "after"),
        rows,
        numbers=5,
    )
