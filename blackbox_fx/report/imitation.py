"""Table, figure, CSV and page about trainings through a chain of effects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from blackbox_fx.lab.imitation import REFERENCES, Learnt
from blackbox_fx.report.curves import COLOURS
from blackbox_fx.report.gradients import Table, write_csv
from blackbox_fx.report.html import Section, write_page
from blackbox_fx.report.plot import new_figure, save


def learnt_table(found: Sequence[Learnt]) -> Table:
    """Headings, then a row for each way: losses, seconds, and what it took to be as good as what it is held against."""
    table: Table = [("task", "way", "held-out loss", "mean", "seconds", "loss and time over the reference's")]
    for task, way in dict.fromkeys((one.task, one.way) for one in found):
        own = [one for one in found if (one.task, one.way) == (task, way)]
        losses = [one.losses[-1] for one in own]
        seconds = np.mean([one.seconds[-1] for one in own])
        table.append(
            (
                task,
                way,
                " ".join(f"{loss:.3f}" for loss in losses),
                f"{np.mean(losses):.3f}",
                f"{seconds:.0f}",
                _against(own, [one for one in found if (one.task, one.way) == (task, REFERENCES[task])]),
            )
        )
    return table


def _against(own: Sequence[Learnt], others: Sequence[Learnt]) -> str:
    """Loss at the time that the reference took, and time until its loss, over the reference's; seed by seed."""
    pairs = [(a, b) for a in own for b in others if a.seed == b.seed]
    if not pairs:
        return "-"
    at_its_time = [_loss_at(a, b.seconds[-1]) / b.losses[-1] for a, b in pairs]
    to_its_loss = [a.seconds_to(b.losses[-1]) / b.seconds[-1] for a, b in pairs]
    return f"loss {np.mean(at_its_time):.2f} at its time, its loss in {_mean(to_its_loss)} of its time"


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isinf(value)]
    missing = len(values) - len(known)
    text = f"{np.mean(known):.2f}" if known else "none"
    return text + (f" (not by {missing} of {len(values)})" if missing else "")


def _loss_at(one: Learnt, seconds: float) -> float:
    """The held-out loss after so many seconds; the first known before that, and the last after the end."""
    return float(np.interp(seconds, one.seconds, one.losses))


def learnt_figure(found: Sequence[Learnt]) -> Figure:
    """Held-out loss against the seconds spent in training, a panel for each task."""
    tasks = list(dict.fromkeys(one.task for one in found))
    figure, axes = new_figure(5.4 * len(tasks), 4.0, 1, len(tasks))
    for axis, task in zip(axes[0], tasks, strict=True):
        own = [one for one in found if one.task == task]
        colours = dict(zip(dict.fromkeys(one.way for one in own), COLOURS, strict=False))
        for one in own:
            label = one.way if one.seed == own[0].seed else None
            axis.plot(one.seconds, one.losses, color=colours[one.way], linewidth=1.4, label=label)
        axis.set(title=task, xlabel="seconds of training", ylabel="held-out loss")
        axis.legend(fontsize=8, frameon=False)
    return figure


def write_learnt_page(folder: Path, found: Sequence[Learnt]) -> Path:
    """Writes training.csv, training.png and index.html; returns the path of the page."""
    rows = [
        {"task": one.task, "way": one.way, "seed": one.seed, "seconds": seconds, "loss": loss}
        for one in found
        for seconds, loss in zip(one.seconds, one.losses, strict=True)
    ]
    write_csv(folder / "training.csv", rows)
    save(learnt_figure(found), folder / "training.png")
    text = (
        "A network sets two effects in series so that a clip sounds like a reference that they have processed at "
        "hidden settings; held-out songs are others. Twins were prepared before as black boxes, which is not counted."
    )
    section = Section("Held-out loss against the clock", text, table=learnt_table(found), images=["training.png"])
    page = folder / "index.html"
    write_page(page, "Training through a chain", "One process, one thread.", [section], "blackbox_fx")
    return page
