"""The page about networks that were trained on real mixes with several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from blackbox_fx.report import plot
from blackbox_fx.report.html import Section, write_page
from blackbox_fx.tasks.mixing.evaluation import TRAINED, Score, compare
from blackbox_fx.tasks.mixing.measures import DISTANCES
from blackbox_fx.tasks.mixing.page import distance_section


def write_mixes_page(folder: Path, scores: Sequence[Score]) -> Path:
    """Writes index.html: the distances of all ways of mixing, as numbers and as a picture.

    Args:
        folder: of the page.
        scores: of all seeds.

    Returns:
        The path of the page.
    """
    seeds, songs = len({s.seed for s in scores}), len({s.song for s in scores})
    picture = Section(
        "How near",
        "Each distance relative to that of the plain sum, with the interval of its mean over songs; left is nearer.",
        images=[plot.save(_picture(scores), folder / "distances.svg")],
    )
    lead = "Networks learnt the mixes of songs through real effects, and mix songs that they never heard."
    page = folder / "index.html"
    footer = f"Seeds: {seeds}; unseen songs: {songs}. distances.csv has every mix of every song."
    write_page(page, "Networks beside simple mixes", lead, [picture, distance_section(scores)], footer)
    return page


def _picture(scores: Sequence[Score]) -> Figure:
    found = compare(scores)
    names = list(DISTANCES)
    figure, ((axis,),) = plot.new_figure(8, 0.62 * len(names) + 1)
    for k, (way, own) in enumerate(found.items()):
        unit = np.array([max(found["plain sum"][name].mean, 1e-9) for name in names])
        means, lows, highs = (
            np.array([getattr(own[name], part) for name in names]) / unit for part in ("mean", "low", "high")
        )
        heights = np.arange(len(names))[::-1] + 0.32 - 0.64 * k / max(len(found) - 1, 1)
        colour = plot.BLUE if way == TRAINED else f"C{k + 1}"
        axis.errorbar(
            means, heights, xerr=[means - lows, highs - means], fmt="o", markersize=4, color=colour, label=way
        )
    axis.axvline(1, color=plot.GREY, linewidth=1, linestyle="--")
    axis.set_yticks(np.arange(len(names))[::-1], names)
    axis.set(xlabel="distance to the real mix, relative to the plain sum", xlim=(0, 3))
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    return figure
