"""Tables and a page about installed plugins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from blackbox_fx.lab.hosts import PURE, Hosted, summarise
from blackbox_fx.report.gradients import Table, write_csv
from blackbox_fx.report.html import Section, write_page


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1e}" if 0 < value < 0.01 else f"{value:.3g}"


def summary_table(hosted: Sequence[Hosted]) -> Table:
    """Headings, then a row for each host, and one for all."""
    heading = ("host", "found", "usable", "pure", "share", "render / bare host", "excluded parameters")
    rows = [
        (
            s.host,
            str(s.found),
            str(s.loaded),
            str(s.pure),
            f"{s.pure / s.loaded:.0%}" if s.loaded else "-",
            _number(s.ratio),
            f"{s.excluded[0]} of {s.excluded[1]}",
        )
        for s in summarise(hosted)
    ]
    return [heading, *rows]


def reason_table(hosted: Sequence[Hosted]) -> Table:
    """Headings, then a row for each effect that is not pure, and for each that cannot be used."""
    rows = [(h.address, "cannot be used" if h.failure else "not pure", h.reason) for h in hosted if not h.pure]
    return [("effect", "what", "why"), *sorted(rows, key=lambda row: (row[1], row[0]))]


def write_hosts_page(folder: Path, hosted: Sequence[Hosted]) -> Path:
    """Writes hosts.csv and index.html. Returns the path of the page."""
    write_csv(folder / "hosts.csv", [dataclasses.asdict(h) | {"pure": h.pure} for h in hosted])
    heading = (
        "effect",
        "parameters",
        "excluded",
        "reset",
        "fresh",
        "A-B-A",
        "leak",
        "residual latency",
        "render / bare",
    )
    rows = [
        (
            h.address,
            str(h.used),
            str(h.excluded),
            h.reset or "new",
            *map(_number, (h.fresh, h.aba, h.leak, h.latency, h.ratio)),
        )
        for h in sorted(hosted, key=lambda h: h.address)
        if not h.failure
    ]
    sections = [
        Section("By host", f"Pure: no error above {PURE:g} of the largest sample.", table=summary_table(hosted)),
        Section("Not pure, or not usable", table=reason_table(hosted)),
        Section("One by one", "Errors after the reset that is chosen on loading.", table=[heading, *rows]),
    ]
    lead = "Every plugin that is installed here, loaded and rendered in a process of its own."
    write_page(folder / "index.html", "Installed plugins", lead, sections, f"{len(hosted)} plugins.")
    return folder / "index.html"
