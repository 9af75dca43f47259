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

_HEADINGS = {"refused": ("effect", "why"), "broken": ("effect", "promise", "measured")}


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
    from blackbox_fx.lab.survey import read_log, recall, survey

    folder = make_folder(out)
    addresses = list(dict.fromkeys(effects or installed_effects()))
    found: list[Checked] = []
    log = folder / f"checks-{seconds:g}.jsonl" if folder else None
    if known := len(recall(addresses, Checked, log, _is_refused)):
        show.err.print(f"checked before, in {log}: {known} of {len(addresses)}", soft_wrap=True)
    try:
        with show.bar("effects") as progress:
            work = partial(measure, seconds=seconds)
            found.extend(survey(addresses, work, Checked, log, progress, workers, _is_refused))
    except KeyboardInterrupt:
        show.err.print("stopped; start it again with the same --out to go on")
        raise
    for title, rows in _tables(found).items():
        if rows:
            show.table(title.title(), _HEADINGS[title], [tuple(map(show.plain, row.values())) for row in rows])
    if folder is not None and log is not None:
        everything = {one.address: one for one in read_log(log, Checked)}
        _write_tables(folder, list(everything.values()))
    counts = [(name, *map(str, numbers)) for name, *numbers in count(found)]
    show.table("Promises", ("promise", "kept", "broken", "not applicable"), counts, numbers=3)
    show.out.print(_summary(found), markup=False)


def _is_refused(one: Checked) -> bool:
    return bool(one.refused)


def _summary(found: Sequence[Checked]) -> str:
    """How many effects there are, keep every promise, and are refused."""
    refused = sum(map(_is_refused, found))
    clean = sum(not one.refused and not one.failed for one in found)
    return (
        f"{len(found)} {'effect' if len(found) == 1 else 'effects'}: {clean} {'keeps' if clean == 1 else 'keep'} every "
        f"promise, {refused} {'is' if refused == 1 else 'are'} refused."
    )


def _tables(found: Sequence[Checked]) -> dict[str, list[dict[str, str]]]:
    """What is refused and what is broken, as rows."""
    found = sorted(found, key=lambda one: one.address)
    broken = [(one.address, check.name, check.value) for one in found for check in one.failed]
    rows = {"refused": [(one.address, one.refused) for one in found if one.refused], "broken": broken}
    return {title: [dict(zip(_HEADINGS[title], row, strict=True)) for row in own] for title, own in rows.items()}


def _write_tables(folder: Path, found: Sequence[Checked]) -> None:
    """Writes refused.csv and broken.csv."""
    from blackbox_fx.report.gradients import write_csv

    for title, rows in _tables(found).items():
        write_csv(folder / f"{title}.csv", rows, _HEADINGS[title])
