"""The objective of effects whose gain follows the level."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blackbox_fx.learning.loss import Loss
from blackbox_fx.learning.objectives import Objective
from blackbox_fx.proxy.clips import Batch, ClipStream
from blackbox_fx.proxy.nets import ProxyNet

_FIRST, _EVERY = 300, 4  # batches that are bursts: all of the first ones, and one in so many later
_FRAME = 256  # samples
_SILENCE = 1e-9  # power
_LEVELS = 0.2  # weight of the distance of levels for clips


class Bursts(Batch):
    """Bursts at many levels, which show where thresholds are."""


@final
class LevelObjective(Objective[Batch]):
    """Bursts at all levels first, then mostly clips.

    The loss of a clip says little of a threshold that is far from where it should be. The distance of levels in dB,
    over bursts at all levels, leads there from everywhere.

    Args:
        stream: clips of the effect.
        slopes: see `Loss`.
    """

    def __init__(self, stream: ClipStream, slopes: float = 0.0) -> None:
        super().__init__(stream)
        self._loss = Loss(slopes, robust=True)

    def batch(self, number: int) -> Batch:
        """Bursts or clips."""
        if number < _FIRST or number % _EVERY == 0:
            return Bursts(*self.stream.bursts(number))
        return self.stream.batch(number)

    def loss(self, net: ProxyNet, batch: Batch, draw: np.random.Generator) -> Tensor:
        """The distance of levels; for clips that of `Loss` too."""
        wet = net(batch.audio, batch.params, self.stream.clips.sample_rate)
        distance = level_distance(wet, batch.wet)
        if isinstance(batch, Bursts):
            return distance
        return _LEVELS * distance + self._loss(wet, batch, draw)


def level_distance(wet: Tensor, target: Tensor) -> Tensor:
    """The mean distance of the logarithms of the power, in frames of 6 ms."""
    frame = min(_FRAME, wet.shape[-1])
    here, there = (torch.log(F.avg_pool1d(x.square(), frame, max(1, frame // 2)) + _SILENCE) for x in (wet, target))
    return (here - there).abs().mean()
