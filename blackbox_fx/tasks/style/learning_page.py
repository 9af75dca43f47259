"""The table and the page of a comparison of gradients in style transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from blackbox_fx.report import plot
from blackbox_fx.report.curves import COLOURS
from blackbox_fx.report.html import Section, write_page
from blackbox_fx.report.learning import Curve
from blackbox_fx.tasks.style.learning import AUTODIFF, PUBLISHED, reported

Rows = list[tuple[str, ...]]


def learning_rows(curves: Sequence[Curve]) -> Rows:
    """Headings, then a row for each method of each case: losses on unseen songs, and what they cost."""
    headings = (
        "case",
        "method",
        "rate",
        "seeds",
        "loss",
        "spread",
        "kept",
        "to autodiff",
        "to published",
        "seconds",
        "renders",
    )
    rows: Rows = [headings]
    for case in dict.fromkeys(c.case for c in curves):
        own = reported([c for c in curves if c.case == case])
        methods = {name: [c for c in own if c.method == name] for name in dict.fromkeys(c.method for c in own)}
        ends = {name: float(np.mean([c.losses[-1] for c in mine])) for name, mine in methods.items()}
        rows += [(case, name, *_cells(mine, ends)) for name, mine in methods.items()]
    return rows


def _cells(mine: Sequence[Curve], ends: Mapping[str, float]) -> tuple[str, ...]:
    """What stands beside the name of a method, whose losses are compared with others' in the end."""
    end = ends[mine[0].method]
    if not mine[0].steps[-1]:
        return "", "", f"{end:.3f}", *[""] * 6
    last = [c.losses[-1] for c in mine]
    return (
        f"{mine[0].rate:g}",
        str(len(mine)),
        f"{end:.3f}",
        f"{np.std(last, ddof=1):.3f}" if len(last) > 1 else "",
        f"{np.mean([c.losses[c.best] for c in mine]):.3f}" if all(c.aside for c in mine) else "",
        *(f"{end / ends[name]:.2f}" if name in ends else "" for name in (AUTODIFF, PUBLISHED)),
        f"{np.mean([c.seconds[-1] for c in mine]):.0f}",
        f"{np.mean([c.renders for c in mine]):.0f}",
    )


def write_learning_page(folder: Path, curves: Sequence[Curve]) -> Path:
    """Writes index.html with a figure for each case, and learning.svg of the first; its path."""
    sections = []
    for number, case in enumerate(dict.fromkeys(c.case for c in curves)):
        own = reported([c for c in curves if c.case == case])
        name = plot.save(draw_learning(own), folder / ("learning.svg" if number == 0 else f"learning-{number + 1}.svg"))
        table = learning_rows(own)
        sections.append(
            Section(case, "Means over seeds, and each seed thinly.", table=[r[1:] for r in table], images=[name])
        )
    lead = "A network learns to set a chain so that one place of a song sounds like another, by different gradients."
    footer = (
        "Losses are multi-resolution STFT distances to the true output on songs that were not trained on, after the "
        "last step; kept is that of the network which was best on further songs, set aside to choose it. "
        "Seconds are those of training, without the time in which proxies were made."
    )
    page = folder / "index.html"
    write_page(page, "Style transfer by different gradients", lead, sections, footer)
    return page


def draw_learning(curves: Sequence[Curve]) -> Figure:
    """Losses on unseen songs against steps and against seconds; dotted lines for what was not trained."""
    figure, ((left, right),) = plot.new_figure(10.5, 4.2, 1, 2, sharey=True)
    trained = list(dict.fromkeys(c.method for c in curves if c.steps[-1]))
    for colour, method in zip(COLOURS * 2, trained, strict=False):
        own = [c for c in curves if c.method == method]
        for axis, at in ((left, "steps"), (right, "seconds")):
            for c in own:
                axis.plot(getattr(c, at), c.losses, color=colour, alpha=0.25, linewidth=0.8)
            if len({c.steps for c in own}) == 1:
                mean = [np.mean([getattr(c, name) for c in own], axis=0) for name in (at, "losses")]
                axis.plot(*mean, color=colour, linewidth=2, label=method)
    for c in curves:
        if not c.steps[-1]:
            left.axhline(c.losses[-1], color=plot.GREY, linestyle=":", linewidth=1.2)
            left.annotate(c.method, (left.get_xlim()[1], c.losses[-1]), fontsize=7, ha="right", va="bottom")
    left.set(xlabel="optimiser step", ylabel="loss on unseen songs")
    right.set(xlabel="seconds of training")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure
