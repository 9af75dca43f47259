"""The figure and the table of a comparison of gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from blackbox_fx.report.plot import BLUE, GREY, ORANGE, new_figure
from blackbox_fx.tasks.mixing.comparison import Curve

_COLOURS = (GREY, ORANGE, BLUE)


def learning_curves(curves: Sequence[Curve]) -> Figure:
    """The loss on unseen songs by step, a line for each method: the mean over seeds, and each seed thinly."""
    figure, ((axis,),) = new_figure(7.5, 3.6)
    for colour, method in zip(_COLOURS, dict.fromkeys(curve.method for curve in curves), strict=False):
        own = [curve for curve in curves if curve.method == method]
        for curve in own:
            axis.plot(curve.steps, curve.losses, color=colour, alpha=0.3, linewidth=0.8)
        if len({curve.steps for curve in own}) == 1:
            mean = np.mean([curve.losses for curve in own], axis=0)
            axis.plot(own[0].steps, mean, color=colour, linewidth=2.2, label=method)
    axis.set(xlabel="optimiser step", ylabel="loss on unseen songs", ylim=(0, None))
    axis.legend(fontsize=9, frameon=False)
    return figure


def learning_table(curves: Sequence[Curve]) -> list[tuple[str, ...]]:
    """Headings, then a row for each method."""
    table: list[tuple[str, ...]] = [("method", "seeds", "at first", "at last", "seconds")]
    for method in dict.fromkeys(curve.method for curve in curves):
        own = [curve for curve in curves if curve.method == method]
        first, last, seconds = (
            [getattr(c, name)[k] for c in own] for name, k in (("losses", 0), ("losses", -1), ("seconds", -1))
        )
        spread = f" ± {np.std(last, ddof=1):.3f}" if len(own) > 1 else ""
        cells = (f"{np.mean(first):.3f}", f"{np.mean(last):.3f}{spread}", f"{np.mean(seconds):.0f}")
        table.append((method, str(len(own)), *cells))
    return table
