"""A page about prepared effects: what was found, and what a gradient will cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blackbox_fx.learning.prepare import Prepared
from blackbox_fx.profiling.profiles import rows
from blackbox_fx.proxy.table import gradient_table, score_table
from blackbox_fx.report.html import Section, write_page


def write_prepared_page(path: Path, done: Sequence[Prepared]) -> None:
    """Writes an HTML page with a part for each effect."""
    sections = [section for found in done for section in _sections(found)]
    names = ", ".join(found.effect for found in done)
    write_page(path, f"Prepared: {names}", "What layers of these effects know about them.", sections, "blackbox_fx")


def _sections(found: Prepared) -> list[Section]:
    decision = found.decision
    chosen = -1 if decision is None else decision.chosen
    why = (
        "There is no proxy to compare with renders."
        if decision is None
        else f"Compared on {decision.items} clips and settings; squared error over the squared gradient."
    )
    return [
        Section(found.effect, found.failure, table=[("what", "value"), *found.rows()]),
        Section("Gradient of params", why, table=() if decision is None else decision.rows(), best=chosen),
        Section("Gradient of audio", str(found.certificate), table=found.certificate.lines(), best=0),
        Section(
            "Proxy: sound",
            f"On {found.card.scores.items} held-out clips, each at a setting of its own; trained for "
            f"{found.card.training.seconds:.0f} s.",
            table=score_table(found.card.scores, found.card.baselines),
            best=0,
        ),
        Section("Proxy: gradients", table=gradient_table(found.card.scores)),
        Section("Profile", table=[("what", "value", "meaning"), *rows(found.profile)]),
    ]
