"""Tables, CSV files and pages about estimators."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_fx.core.files import write_text
from blackbox_fx.lab.gradients import Study
from blackbox_fx.lab.optimise import Race
from blackbox_fx.lab.sample import Summary, number
from blackbox_fx.report import curves, plot
from blackbox_fx.report.html import Section, write_page

Table = list[tuple[str, ...]]

WHAT_IS_WHAT = (
    "Error: the mean of |estimate - truth|² / |truth|², geometric mean over cases, with a 95 % "
    "bootstrap interval; an estimate of zero has 1. Bias: the distance of the mean estimate from the truth, over the "
    "truth's length; beside it what chance alone gives an unbiased estimator in as many draws. Renders are effects "
    "rendered over the clip, as counted, for one gradient, those for audio included; once: what the first backward "
    "pass adds to examine the effect."
)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], headings: Sequence[str] = ()) -> None:
    """Writes rows with the same keys as a CSV file, whole or not at all; `headings` stand there without rows, too."""
    text = io.StringIO()
    writer = csv.DictWriter(text, headings or (list(rows[0]) if rows else []), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def gradient_table(summaries: Sequence[Summary]) -> Table:
    """Headings, then one row for each method."""
    least = min((s.seconds for s in summaries if s.seconds), default=1.0)
    heading = ("estimator", "renders", "error", "95 %", "cosine", "bias", "by chance")
    more = ("variance", "for audio", "once", "time")
    rows = [
        (
            s.label,
            f"{s.renders + s.audio_renders:.3g}",
            number(s.error.value),
            f"{s.error.low:.2g} - {s.error.high:.2g}",
            f"{s.cosine.value:.3f}",
            f"{s.bias:.2g}",
            f"{s.chance:.2g}",
            f"{s.variance:.2g}",
            f"{s.audio_renders:.3g}",
            f"{s.once:.3g}",
            f"{s.seconds / least:.1f}x",
        )
        for s in summaries
    ]
    return [(*heading, *more), *rows]


def brief_table(summaries: Sequence[Summary]) -> Table:
    """The first columns of it, as much as fits on a terminal."""
    return [row[:6] for row in gradient_table(summaries)]


def truth_error(study: Study) -> float:
    """How well the truth is known, relative; median over the cases that count."""
    known = {s.case.name: s.truth.error for s in study.samples if s.truth.proves}
    return float(np.median(list(known.values()))) if known else 0.0


def write_gradient_page(folder: Path, title: str, study: Study, footer: str, by_line: bool = True) -> Path:
    """Writes gradients.csv, the plot and index.html.

    Args:
        folder: made if missing.
        title: of the page.
        study: that ran, or ran in part.
        footer: a line about the run.
        by_line: whether methods of one line are points on a curve; otherwise each is a bar.

    Returns:
        The path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "gradients.csv", [sample.row() for sample in study.samples])
    summaries = study.summaries()
    if by_line:
        figure = curves.accuracy(summaries, truth_error(study))
    else:
        values = [(s.error.value, s.error.low, s.error.high) for s in summaries]
        figure = curves.bars([s.label for s in summaries], values, "relative squared error", "an estimate of zero")
    best = min(range(len(summaries)), key=lambda k: summaries[k].error.value) if summaries else -1
    sections = [
        Section(
            "Error of the gradient",
            f"Cases that count: {summaries[0].cases if summaries else 0}. The truth itself is known to "
            f"{truth_error(study):.1g}.",
            images=[plot.save(figure, folder / "error.svg")],
        ),
        Section("In numbers", WHAT_IS_WHAT, table=gradient_table(summaries), best=best),
    ]
    doubts = study.doubts()
    if doubts:
        sections.append(Section("Left out", table=[("what, and why",), *((doubt,) for doubt in doubts)]))
    lead = (
        "Every estimator gives the gradient of a spectral loss with respect to the settings of an effect, on music. "
        "Here each is held against the truth."
    )
    write_page(folder / "index.html", title, lead, sections, footer)
    return folder / "index.html"


def race_table(race: Race) -> Table:
    """Headings, then one row for each method, the best first."""
    at, found = race.curves()
    places = [int(np.searchsorted(at, share * race.budget * 0.999)) for share in (0.1, 0.3, 1)]
    heading = ("method", *(f"after {at[p]:.0f} renders" for p in places), "quartiles at the end", "runs")
    rows = []
    for name, quartiles in found.items():
        low, _, high = quartiles[:, -1]
        runs = sum(run.name == name for run in race.runs)
        middles = (number(float(quartiles[1, p])) for p in places)
        rows.append((name, *middles, f"{number(float(low))} to {number(float(high))}", str(runs)))
    return [heading, *rows]


def write_race_page(folder: Path, title: str, race: Race, footer: str) -> Path:
    """Writes runs.csv, the plot and index.html. Returns the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"method": run.name, "case": run.case.name, "renders": renders, "loss": loss}
        for run in race.runs
        for renders, loss in zip(run.renders.tolist(), run.losses.tolist(), strict=True)
    ]
    write_csv(folder / "runs.csv", rows)
    figure = curves.descent(*race.curves(), dashed=race.searches)
    sections = [
        Section(
            "Loss against renders",
            "Median over starts, with quartiles. Solid: gradients. Dashed: nevergrad's optimisers, which see none.",
            images=[plot.save(figure, folder / "loss.svg")],
        ),
        Section("In numbers", "Least loss so far over the loss at the start, medians.", table=race_table(race), best=0),
    ]
    lead = (
        "The settings of a target output are searched from random starts, by Adam on estimated gradients and by "
        "searches without gradients. All have the same number of renders, those of the backward pass included."
    )
    write_page(folder / "index.html", title, lead, sections, footer)
    return folder / "index.html"
