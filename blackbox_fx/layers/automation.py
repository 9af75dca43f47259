"""Settings that move: break points, and what lies between them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from blackbox_fx.core import checks
from blackbox_fx.errors import ParameterError, did_you_mean
from blackbox_fx.layers.eager import shows_values


@final
@dataclasses.dataclass(frozen=True)
class Curve:
    """A column of params over time, by break points; straight lines on its axis in [0, 1] between them.

    Args:
        points: (rows, points), one row for each item, track or mix, in [0, 1]. Each has a gradient of its own.
        rate_hz: break points in a second, the first at the beginning; the last one holds until the end.

    Raises:
        ParameterError: another shape, no points, points outside [0, 1], or a rate that is not above 0.
    """

    points: Tensor
    rate_hz: float

    def __post_init__(self) -> None:
        shaped = isinstance(self.points, Tensor) and self.points.ndim == 2 and self.points.is_floating_point()
        if not shaped or not self.points.shape[1]:
            shape = tuple(self.points.shape) if isinstance(self.points, Tensor) else self.points
            raise ParameterError(f"points must be a tensor (rows, points) of a point or more, got {shape!r:.80}.")
        self.check_range()
        checks.positive("rate_hz", self.rate_hz)

    def check_range(self) -> None:
        """Raises ParameterError for points outside [0, 1]; an optimiser may have moved them since they were given."""
        if not bool(((self.points >= 0) & (self.points <= 1)).all()):
            raise ParameterError("points must lie in [0, 1], and some do not; put a sigmoid before them.")

    def samples(self, time: int, sample_rate: float, start: int = 0, offset: float = 0.0) -> Tensor:
        """The column at so many samples from one on, or at so much of a sample behind each, (rows, time)."""
        last = self.points.shape[1] - 1
        if last == 0:
            return self.points.expand(-1, time)
        place = torch.arange(start, start + time, device=self.points.device, dtype=torch.float64)
        place.add_(offset).mul_(self.rate_hz / sample_rate).clamp_(max=last)
        low = place.long().clamp_(max=last - 1)
        part = place.sub_(low).to(self.points.dtype)
        low = low.expand(len(self.points), -1)  # gather has a faster gradient than an index
        return torch.lerp(self.points[:, :-1].gather(1, low), self.points[:, 1:].gather(1, low), part)

    def rows(self, chosen: Any) -> Curve:
        """The curve of some of the rows, by their numbers, a mask or a slice."""
        return Curve(self.points[chosen], self.rate_hz)


Curves = Mapping[str, Curve]


def check_curves(curves: Curves, rows: Mapping[str, int], what: str) -> None:
    """Raises ParameterError unless each is the curve of a column that can move, with as many rows.

    Args:
        curves: by column.
        rows: that the curve of each column has.
        what: has these columns, for errors.
    """
    if not isinstance(curves, Mapping):
        raise ParameterError(f"curves must be a mapping of columns to Curves, got {curves!r:.60}.")
    for name, curve in curves.items():
        if name not in rows:
            raise ParameterError(
                f"{name!r} of {what} cannot move{did_you_mean(name, rows)}; those that can are "
                f"{', '.join(rows) or 'none'}."
            )
        if not isinstance(curve, Curve) or len(curve.points) != rows[name]:
            got = f"{len(curve.points)} rows" if isinstance(curve, Curve) else f"{curve!r:.40}"
            raise ParameterError(f"The curve of {name} must be a Curve with {rows[name]} rows, got {got}.")
        if shows_values(curve.points):
            curve.check_range()


def curves_below(curves: Curves, prefix: str, columns: Sequence[str]) -> dict[str, Curve]:
    """The curves of some columns, by these, of curves by names that begin with a prefix."""
    return {name: curves[f"{prefix}{name}"] for name in columns if f"{prefix}{name}" in curves}


def call_layer(
    layer: Any, audio: Tensor, params: Tensor, inputs: Mapping[str, Tensor] = {}, curves: Curves = {}
) -> Tensor:
    """The output of a layer, which gets further inputs and curves only where there are some.

    Raises:
        ParameterError: curves for a layer that takes none.
    """
    if curves and "curves" not in inspect.signature(layer.forward).parameters:
        name, kind = next(iter(curves)), type(layer).__name__
        raise ParameterError(f"{name!r} cannot move, since a {kind} takes no curves; use a BlackBox in its place.")
    return layer(audio, params, *((inputs,) if inputs else ()), **({"curves": curves} if curves else {}))
