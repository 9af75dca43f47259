"""The command that checks many effects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blackbox_fx.report import terminal as show

if TYPE_CHECKING:
    from blackbox_fx.lab.checks import Checked


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
    _show_broken(sorted(found, key=lambda one: one.address), folder)
    counts = [(name, *map(str, numbers)) for name, *numbers in count(found)]
    show.table("Promises", ("promise", "kept", "broken", "of no use"), counts, numbers=3)
    refused = sum(bool(one.refused) for one in found)
    clean = sum(not one.refused and not one.failed for one in found)
    show.out.print(f"{len(found)} effects: {clean} keep every promise, {refused} are refused.", markup=False)


def _show_broken(found: Sequence[Checked], folder: Path | None) -> None:
    """Lists what is refused and what is broken, in the terminal and as CSV files."""
    from blackbox_fx.report.gradients import write_csv

    tables = {
        "refused": [{"effect": one.address, "why": one.refused} for one in found if one.refused],
        "broken": [
            {"effect": one.address, "promise": check.name, "measured": check.value}
            for one in found
            for check in one.failed
        ],
    }
    for title, rows in tables.items():
        if rows:
            show.table(title.title(), tuple(rows[0]), [tuple(map(show.plain, row.values())) for row in rows])
        if folder is not None:
            write_csv(folder / f"{title}.csv", rows)
