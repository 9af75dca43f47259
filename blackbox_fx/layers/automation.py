"""Settings that move: break points, and what lies between them."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from blackbox_fx.core import checks
from blackbox_fx.errors import ParameterError


@final
@dataclasses.dataclass(frozen=True)
class Curve:
    """A column of params over time, by break points; straight lines on its axis in [0, 1] between them.

    Args:
        points: (rows, points), one row for each track or mix, in [0, 1]. Each has a gradient of its own.
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
        if not bool(((self.points >= 0) & (self.points <= 1)).all()):
            raise ParameterError("points must lie in [0, 1], and some do not; put a sigmoid before them.")
        checks.positive("rate_hz", self.rate_hz)

    def samples(self, time: int, sample_rate: float, start: int = 0, offset: float = 0.0) -> Tensor:
        """The column at so many samples from one on, or at so much of a sample behind each, (rows, time)."""
        last = self.points.shape[1] - 1
        count = torch.arange(start, start + time, device=self.points.device, dtype=torch.float64)
        place = (count + offset) * (self.rate_hz / sample_rate)
        place = place.clamp(max=last)
        low = place.long().clamp(max=max(last - 1, 0))
        part = (place - low).to(self.points.dtype)
        if last == 0:
            return self.points.expand(-1, time)
        return torch.lerp(self.points[:, low], self.points[:, low + 1], part)
