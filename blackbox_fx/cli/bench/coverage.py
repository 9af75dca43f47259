"""The command that measures what preparing reaches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from blackbox_fx.report import terminal as show


def coverage(
    effects: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EFFECT]...", help="Addresses; pedalboard's, zam's and 34 others if none is given."),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Of training for each.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Effects at a time, with one thread each.")] = 2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, clips and settings.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV and a page; a survey in it is resumed.")] = None,
) -> None:
    """Prepare many effects, and measure which proxies are good enough as gradients, and why the others are not."""
    from blackbox_fx.cli.bench.gradients import make_folder
    from blackbox_fx.lab.coverage import Covered, measure, surveyed_effects
    from blackbox_fx.lab.survey import survey
    from blackbox_fx.report.coverage import coverage_table, reason_table, share_table, write_coverage_page

    folder = make_folder(out)
    addresses = list(dict.fromkeys(effects or surveyed_effects()))
    found: list[Covered] = []
    log = folder / f"coverage-{minutes:g}-{seed}.jsonl" if folder else None
    try:
        with show.bar("effects") as progress:
            work = partial(measure, minutes=minutes, seed=seed)
            found.extend(survey(addresses, work, Covered, log, progress, workers))
    except KeyboardInterrupt:
        show.err.print("stopped; start it again with the same --out to go on")
        raise
    rows, reasons, shares = coverage_table(found), reason_table(found), share_table(found)
    show.table("What was reached", rows[0], [tuple(map(show.plain, row)) for row in rows[1:]], numbers=8)
    if len(reasons) > 1:
        show.table("Not good enough, and why", reasons[0], [tuple(map(show.plain, row)) for row in reasons[1:]])
    show.table("Good enough: cosine .9 for params, .95 for audio", shares[0], shares[1:], numbers=4)
    if folder is not None:
        show.out.print(f"Open {write_coverage_page(folder, found, minutes)}", markup=False, soft_wrap=True)
