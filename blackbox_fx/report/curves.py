"""Plots about estimators: their accuracy against the number of renders, and how fast they find settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from blackbox_fx.lab.sample import Interval, Summary
from blackbox_fx.report.plot import BLUE, GREY, INK, ORANGE, new_figure

COLOURS = (BLUE, ORANGE, "#0f9d6b", "#9333ea", "#dc2626", "#0891b2", "#a16207", "#db2777", INK)
_MARKS = "osD^vPX*<"


def accuracy(summaries: Sequence[Summary], truth_error: float = 0.0) -> Figure:
    """Relative squared error, and cosine, against renders: one line for each family of estimators.

    Args:
        summaries: of the methods; those of one line are joined.
        truth_error: relative error of the true gradient; relative squared errors below its square mean nothing.
    """
    figure, ((left, right),) = new_figure(10.5, 4.2, 1, 2)
    floor = max(truth_error**2, 1e-8)
    lines = list(dict.fromkeys(s.line for s in summaries))
    for k, line in enumerate(lines):
        own = sorted((s for s in summaries if s.line == line), key=lambda s: s.renders)
        style: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "label": line}
        renders, mark = np.array([s.renders for s in own]), _MARKS[k % len(_MARKS)]
        _draw_line(left, renders, np.maximum(_ends([s.error for s in own]), floor), mark, style)
        _draw_line(right, renders, _ends([s.cosine for s in own]), mark, style)
    left.axhline(1, color=GREY, linestyle=":", linewidth=1.2, label="an estimate of zero")
    if truth_error:
        left.axhline(floor, color=GREY, linewidth=0.8, label="as well as the truth is known")
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axis.set(xlabel="renders for one gradient")
    left.set(yscale="log", ylabel="relative squared error")
    right.set(ylabel="cosine to the true gradient", ylim=(min(0.0, right.get_ylim()[0]), 1.03))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _ends(intervals: Sequence[Interval]) -> NDArray[np.float64]:
    """The value, the lower and the upper end of intervals, (3, intervals)."""
    return np.array([[getattr(interval, name) for interval in intervals] for name in ("value", "low", "high")])


def _draw_line(
    axis: Axes, renders: NDArray[Any], ends: NDArray[np.float64], mark: str, style: Mapping[str, Any]
) -> None:
    """Draws values with their intervals against renders; a dashed horizontal line for methods without renders."""
    middle, low, high = ends
    if not renders.any():
        axis.axhline(middle[0], linestyle="--", linewidth=1.4, **style)
        return
    axis.fill_between(renders, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axis.errorbar(
        renders,
        middle,
        (middle - np.minimum(low, middle), np.maximum(high, middle) - middle),
        marker=mark,
        markersize=5,
        linewidth=1.8,
        elinewidth=1,
        **style,
    )


def descent(renders: NDArray[Any], quartiles: Mapping[str, NDArray[Any]], dashed: Sequence[str] = ()) -> Figure:
    """Least loss so far against renders, median and quartiles over starts.

    Args:
        renders: (points,).
        quartiles: by method, (3, points), of the loss over that at the start.
        dashed: methods drawn with dashed lines, those that use no gradient.
    """
    figure, ((axis,),) = new_figure(8.5, 4.2)
    for k, (name, (low, middle, high)) in enumerate(quartiles.items()):
        colour = COLOURS[k % len(COLOURS)]
        axis.fill_between(renders, low, high, color=colour, alpha=0.1, linewidth=0, step="post")
        style = "--" if name in dashed else "-"
        axis.step(renders, middle, color=colour, linewidth=1.9, linestyle=style, where="post", label=name)
    axis.set(xscale="log", yscale="log", xlabel="effect renders", ylabel="least loss so far / loss at the start")
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def bars(names: Sequence[str], values: Sequence[tuple[float, float, float]], label: str, one: str) -> Figure:
    """One bar for each name on a logarithmic axis, with its interval and its number.

    Args:
        names: from top to bottom.
        values: (value, low, high) of each.
        label: of the axis.
        one: what 1 means.
    """
    figure, ((axis,),) = new_figure(8.5, 0.42 * len(names) + 1.2)
    places = np.arange(len(names))[::-1]
    middle, low, high = np.maximum(np.array(values).T, 1e-8)
    start = min(0.5, float(low.min())) / 1.5
    axis.barh(places, middle - start, left=start, color=[BLUE if m < 1 else ORANGE for m in middle], height=0.6)
    axis.errorbar(middle, places, xerr=(middle - low, high - middle), fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
    for place, value, end in zip(places, middle, high, strict=True):
        axis.text(end * 1.08, place, f"{value:.2g}", va="center", fontsize=8, color=INK)
    axis.axvline(1, color=GREY, linestyle=":", linewidth=1.2)
    axis.annotate(one, (1, len(names) - 0.5), fontsize=8, color="#7a8496", ha="center", va="bottom")
    axis.set(xscale="log", xlabel=label, xlim=(start, max(1.0, float(high.max())) * 1.6), ylim=(-0.6, len(names) - 0.4))
    axis.set_yticks(places, names)
    return figure
