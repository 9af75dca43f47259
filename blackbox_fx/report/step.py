"""Table, CSV and page about what a training step costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from blackbox_fx.lab.step import DEFAULT, Step
from blackbox_fx.report.gradients import Table, write_csv
from blackbox_fx.report.html import Section, write_page


def step_table(found: Sequence[Step]) -> Table:
    """Headings, then a row for each way."""
    table: Table = [("effect", "forward", "first, s", "params", "audio", "both", "cosine params", "cosine audio")]
    for s in found:
        times = (f"{ms:.1f} ({ms / s.forward:.1f})" for ms in (s.params, s.audio, s.both))
        cosines = (f"{c:.3f}".replace("nan", "-") for c in (s.params_cosine, s.audio_cosine))
        name = s.effect if s.way == DEFAULT else f"{s.effect}, {s.way}"
        table.append((name, f"{s.forward:.1f}", f"{s.first / 1e3:.1f}", *times, *cosines))
    return table


def choice_table(found: Sequence[Step]) -> Table:
    """Headings, then what each layer chose."""
    return [("effect", "gradients"), *((s.effect, s.by) for s in found if s.by)]


def write_step_page(folder: Path, found: Sequence[Step]) -> Path:
    """Writes steps.csv and index.html; returns the path of the page."""
    write_csv(folder / "steps.csv", [dataclasses.asdict(s) for s in found])
    section = Section(
        "Cost of a training step",
        "Milliseconds for each clip; gradients are what they add to the forward pass, and in brackets that over it. "
        "Cosines are to central differences of the effect, for params, and to its answers in random directions, for "
        "audio.",
        table=step_table(found),
    )
    chosen = Section("What the layers chose", table=choice_table(found))
    page = folder / "index.html"
    write_page(page, "What a training step costs", "Default layers, in one process.", [section, chosen], "blackbox_fx")
    return page
