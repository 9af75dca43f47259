"""Tables and a page about what `prepare` reaches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from blackbox_fx.lab.coverage import AUDIO, PARAMS, Covered, summarise
from blackbox_fx.report.gradients import Table, write_csv
from blackbox_fx.report.html import Section, write_page


def _cosine(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _ratio(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}"


def share_table(covered: Sequence[Covered]) -> Table:
    """Headings, then a row for each group of effects, and one for all."""
    rows = [
        (
            s.group,
            str(s.found),
            str(s.counted),
            f"{s.good} ({_percent(s.good, s.counted)})",
            _percent(s.layers, s.counted),
        )
        for s in summarise(covered)
    ]
    return [("effects", "found", "with a gradient", "proxy is good enough", "default layer is"), *rows]


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def coverage_table(covered: Sequence[Covered]) -> Table:
    """Headings, then a row for each effect that could be prepared."""
    heading = (
        "effect",
        "ESR",
        "dry",
        "params",
        "audio",
        "layer's params",
        "layer's audio",
        "forward, ms",
        "times the forward",
    )
    rows = [
        (
            c.address,
            _ratio(c.esr),
            _ratio(c.dry),
            *map(_cosine, (c.params, c.audio, c.layer_params, c.layer_audio)),
            _ratio(c.forward),
            _ratio(c.backward / c.forward),
        )
        for c in sorted(covered, key=lambda c: c.address)
        if not c.failure
    ]
    return [heading, *rows]


def reason_table(covered: Sequence[Covered]) -> Table:
    """Headings, then why a proxy is not good enough, for each such effect."""
    return [("effect", "why"), *((c.address, c.reason) for c in sorted(covered, key=lambda c: c.address) if c.reason)]


def write_coverage_page(folder: Path, covered: Sequence[Covered], minutes: float) -> Path:
    """Writes coverage.csv and index.html. Returns the path of the page."""
    write_csv(folder / "coverage.csv", [dataclasses.asdict(c) | {"reason": c.reason} for c in covered])
    sections = [
        Section(
            "Share",
            f"A proxy is good enough with cosines of {PARAMS:g} for params and {AUDIO:g} for audio, on held-out clips "
            "and settings. Effects whose settings have no gradient do not count.",
            table=share_table(covered),
        ),
        Section(
            "One by one",
            "Error-to-signal ratio and cosines of the proxy, then cosines and cost of a default layer, which may "
            "prefer renders or rules.",
            table=coverage_table(covered),
        ),
        Section("Not good enough, and why", table=reason_table(covered)),
    ]
    lead = f"What prepare reaches in {minutes:g} min on one core."
    write_page(folder / "index.html", "Coverage", lead, sections, f"{len(covered)} effects.")
    return folder / "index.html"
