"""How a loss fell while a network learned: kept as CSV, drawn, and as a table."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from matplotlib.figure import Figure

from blackbox_fx.errors import DataError
from blackbox_fx.report.gradients import write_csv
from blackbox_fx.report.plot import BLUE, GREY, ORANGE, new_figure

_COLOURS = (GREY, ORANGE, BLUE)


@final
@dataclasses.dataclass(frozen=True)
class Curve:
    """The loss on unseen songs while a network learned.

    Args:
        method: how gradients were obtained.
        seed: of songs, weights and gradients.
        steps, seconds, losses: when, and what the loss was; seconds are those of training alone.
        case: what was learnt, where there are several.
        rate: the learning rate; 0 where all have the same.
        renders: that the training took; 0 where they were not counted.
        aside: losses at the same steps on songs that are set aside to choose a network by; empty where there are none.
    """

    method: str
    seed: int
    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    case: str = ""
    rate: float = 0.0
    renders: int = 0
    aside: tuple[float, ...] = ()

    @property
    def best(self) -> int:
        """The point whose network is kept: where the loss on songs set aside is least; the last without such."""
        return int(np.argmin(np.nan_to_num(self.aside, nan=np.inf))) if self.aside else len(self.losses) - 1


def write_curves(path: Path, curves: Sequence[Curve]) -> None:
    """Writes curves as CSV, a row for each point."""
    write_csv(
        path,
        [
            {"case": c.case, "method": c.method, "seed": c.seed, "rate": c.rate, "renders": c.renders}
            | {"step": step, "seconds": f"{seconds:.2f}", "loss": f"{loss:.6f}", "aside": aside and f"{aside:.6f}"}
            for c in curves
            for step, seconds, loss, aside in zip(
                c.steps, c.seconds, c.losses, c.aside or [""] * len(c.losses), strict=True
            )
        ],
    )


def read_curves(path: Path) -> list[Curve]:
    """The curves that `write_curves` wrote; none where there is no file. Raises DataError for another file."""
    if not path.exists():
        return []
    found: dict[tuple[str, str, int, float, int], list[tuple[int, float, float, float | None]]] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                key = row["case"], row["method"], int(row["seed"]), float(row["rate"]), int(row["renders"])
                aside = float(row["aside"]) if row.get("aside") else None
                found.setdefault(key, []).append((int(row["step"]), float(row["seconds"]), float(row["loss"]), aside))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no table of curves ({error!r}); remove it, or name another folder.") from error
    return [_curve(key, points) for key, points in found.items()]


def _curve(key: tuple[str, str, int, float, int], points: Sequence[tuple[int, float, float, float | None]]) -> Curve:
    case, method, seed, rate, renders = key
    steps, seconds, losses, aside = zip(*points, strict=True)
    kept = () if None in aside else aside
    return Curve(method, seed, steps, seconds, losses, case=case, rate=rate, renders=renders, aside=kept)


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
