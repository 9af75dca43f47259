"""The command that checks many effects."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from blackbox_fx.report import terminal as show


def checks(
    effects: Annotated[
        list[str] | None, typer.Argument(metavar="[EFFECT]...", help="Addresses; all that is installed if not given.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.05, max=10, help="Length of the clip.")] = 0.25,
    workers: Annotated[int, typer.Option(min=1, help="Effects at a time.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder for JSON lines and CSV; a survey in it is resumed.")] = None,
) -> None:
    """Check all effects that are installed, and count which promises are kept."""
    from blackbox_fx.cli.bench.gradients import make_folder
    from blackbox_fx.lab.checks import Checked, count, installed_effects, measure
    from blackbox_fx.lab.survey import survey
    from blackbox_fx.report.gradients import write_csv

    folder = make_folder(out)
    addresses = list(dict.fromkeys(effects or installed_effects()))
    found: list[Checked] = []
    log = folder / f"checks-{seconds:g}.jsonl" if folder else None
    try:
        with show.bar("effects") as progress:
            found.extend(survey(addresses, partial(measure, seconds=seconds), Checked, log, progress, workers))
    except KeyboardInterrupt:
        show.err.print("stopped; start it again with the same --out to go on")
        raise
    found.sort(key=lambda one: one.address)
    refused = [(one.address, one.refused) for one in found if one.refused]
    broken = [(one.address, check.name, check.value) for one in found for check in one.failed]
    headings = {"refused": ("effect", "why"), "broken": ("effect", "promise", "measured")}
    for title, rows in (("refused", refused), ("broken", broken)):
        if rows:
            show.table(title.title(), headings[title], [tuple(map(show.plain, row)) for row in rows])
        if folder is not None:
            write_csv(folder / f"{title}.csv", [dict(zip(headings[title], row, strict=True)) for row in rows])
    counts = [(name, *map(str, numbers)) for name, *numbers in count(found)]
    show.table("Promises", ("promise", "kept", "broken", "of no use"), counts, numbers=3)
    clean = sum(not one.refused and not one.failed for one in found)
    show.out.print(f"{len(found)} effects: {clean} keep every promise, {len(refused)} are refused.", markup=False)
