"""Tables and pages about multiplexed SPSA, and about switches found by gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blackbox_fx.lab.discrete import Recovery
from blackbox_fx.lab.multiplexed import Ratio
from blackbox_fx.lab.sample import number
from blackbox_fx.report import curves, plot
from blackbox_fx.report.gradients import Table, write_csv
from blackbox_fx.report.html import Section, write_page


def _name(ratio: Ratio) -> str:
    return f"{ratio.effect}, {ratio.seconds:g} s, {ratio.window}"


def ratio_table(ratios: Sequence[Ratio]) -> Table:
    """Headings, then one row for each situation."""
    heading = ("clip, window", "width", "cases", "SPSA", "multi", "ratio")
    rows = [
        (_name(r), str(r.width), f"{r.cases} of {r.tried}", number(r.plain), number(r.multiplexed), str(r.ratio))
        for r in ratios
    ]
    return [heading, *rows]


def write_ratio_page(folder: Path, ratios: Sequence[Ratio], footer: str) -> Path:
    """Writes ratios.csv, the plot and index.html. Returns the path of the page."""
    write_csv(folder / "ratios.csv", [ratio.row() for ratio in ratios])
    values = [(r.ratio.value, r.ratio.low, r.ratio.high) for r in ratios]
    label = "squared error, multiplexed SPSA / SPSA"
    figure = curves.bars([_name(r) for r in ratios], values, label, "no better")
    sections = [
        Section(
            "How much nearer the truth",
            "Relative squared errors at two renders each, and the mean of their ratio over songs and settings.",
            images=[plot.save(figure, folder / "ratios.svg")],
        ),
        Section("In numbers", table=ratio_table(ratios)),
    ]
    lead = (
        "Multiplexed SPSA gives every block of time its own random signs, so one pair of renders holds many estimates."
    )
    write_page(folder / "index.html", "Multiplexed SPSA against SPSA", lead, sections, footer)
    return folder / "index.html"


def recovery_table(recovery: Recovery) -> Table:
    """Headings, then one row for each way."""
    heading = ("way", "found", "renders", "loss before", "loss after, median")
    rows = []
    for way in recovery.ways:
        own = [a for a in recovery.attempts if a.way == way]
        if own:
            found = f"{sum(a.found for a in own)} of {len(own)}"
            renders, start, end = (np.median([getattr(a, n) for a in own]) for n in ("renders", "start", "end"))
            rows.append((way, found, f"{renders:.0f}", number(float(start)), number(float(end))))
    return [heading, *rows]
