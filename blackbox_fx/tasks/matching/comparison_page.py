"""The page about searches that were compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from blackbox_fx.report import plot
from blackbox_fx.report.html import Section, write_page
from blackbox_fx.tasks.matching.comparison import FLOOR, MARKS, METHODS, Trial, summary

_COLOURS = (plot.BLUE, plot.ORANGE, "#2f9e44", "#9c36b5", "#868e96", plot.INK)


def write_comparison_page(folder: Path, trials: Sequence[Trial]) -> Path:
    """Writes index.html and its figure. Returns the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    lead = (
        "Settings are hidden in real effects, switches included, and searched from the defaults. A render is a pass "
        "through the chain; losses are those of an aligned pair."
    )
    sections = [
        Section(
            "Loss against renders", "Medians over targets.", images=[plot.save(_curves(trials), folder / "loss.svg")]
        ),
        Section(
            "In numbers",
            "'to best at 2000': targets at which hybrid has after 700 renders what the best other has after 2000. "
            "'search': time beside rendering and comparing, over that of rendering. 'choices': switches and choices "
            "that are audible, and found. 'error': mean distance of all other settings, of their ranges. Losses "
            f"below {FLOOR:g} count as {FLOOR:g}.",
            table=summary(trials),
        ),
    ]
    write_page(folder / "index.html", "Searches for settings", lead, sections, "trials.csv has every search.")
    return folder / "index.html"


def _curves(trials: Sequence[Trial]) -> Figure:
    chains = list(dict.fromkeys(t.chain for t in trials)) or ["none"]
    figure, axes = plot.new_figure(3.2 * len(chains) + 1, 3.2, 1, len(chains), sharey=True)
    methods = [m for m in dict.fromkeys(t.method for t in trials) if not m.startswith("sound")]
    for axis, chain in zip(axes[0], chains, strict=True):
        for method, colour in zip(methods, _COLOURS * 4, strict=False):
            own = [np.maximum(t.losses, FLOOR) for t in trials if (t.chain, t.method) == (chain, method)]
            if own:
                style = "-" if method == METHODS[0] else "--"
                axis.plot(MARKS, np.median(own, axis=0), style, color=colour, marker=".", label=method)
        axis.set(xscale="log", yscale="log", xlabel="renders", title=chain)
    axes[0, 0].set_ylabel("least loss so far")
    axes[0, 0].legend(fontsize=8, frameon=False)
    return figure
