"""Counts the renders that a layer really makes."""

from __future__ import annotations

from collections import Counter
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from blackbox_fx.effects import Effect, Rack
from blackbox_fx.estimators import AudioRule, Call, Estimator
from blackbox_fx.layer import BlackBox
from blackbox_fx.runtime import Inline, Job, Pool


def effects_in(effect: Effect) -> int:
    """How many effects one render passes: the members of a `Rack`, all the way down; 1 for anything else."""
    return sum(effects_in(member) for member in effect.members.values()) if isinstance(effect, Rack) else 1


@final
class Tally(Pool):
    """A pool that counts what another one renders, by what it is for.

    The unit is one effect over one clip: a rack of six counts six, and audio twice as long as the clip counts double,
    since a rule for audio may render longer signals than the clip.

    Args:
        length: samples of the clip.
        pool: where renders run; `Inline()` if not given.

    Attributes:
        renders: by purpose: "forward", "params" or "audio".
    """

    def __init__(self, length: int, pool: Pool | None = None) -> None:
        self.length = length
        self.pool = pool or Inline()
        self.renders: Counter[str] = Counter()
        self._purpose = "forward"

    @property
    def total(self) -> float:
        """Renders for every purpose."""
        return sum(self.renders.values())

    def _count(self, job: Job) -> None:
        self.renders[self._purpose] += len(job) * effects_in(job.effect) * job.audio.shape[-1] / self.length

    def _map(self, job: Job, out: NDArray[np.float32]) -> None:
        self._count(job)
        self.pool._map(job, out)

    def _project(self, job: Job, weight: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]) -> None:
        self._count(job)
        self.pool._project(job, weight, stretch, out)

    def close(self) -> None:
        """Closes the pool that renders."""
        self.pool.close()

    def during(self, purpose: str, vjp: Any, call: Call, g: Tensor) -> Tensor:
        """Runs a rule's vjp, booking its renders under a purpose."""
        self._purpose = purpose
        try:
            return vjp(call, g)
        finally:
            self._purpose = "forward"


@final
class _CountedEstimator(Estimator):
    def __init__(self, inner: Estimator, tally: Tally) -> None:
        super().__init__()
        self.inner, self._tally = inner, tally

    def vjp(self, call: Call, g: Tensor) -> Tensor:
        return self._tally.during("params", self.inner.vjp, call, g)

    def cost(self, space: Any) -> int:
        return self.inner.cost(space)


@final
class _CountedRule(AudioRule):
    def __init__(self, inner: AudioRule, tally: Tally) -> None:
        super().__init__()
        self.inner, self._tally = inner, tally

    def vjp(self, call: Call, g: Tensor) -> Tensor:
        return self._tally.during("audio", self.inner.vjp, call, g)

    def cost(self, channels: int) -> int:
        return self.inner.cost(channels)


def count(layer: nn.Module, length: int) -> Tally:
    """Makes every `BlackBox` inside a layer render through one tally, which is returned.

    Args:
        layer: a `BlackBox` or anything that holds some; changed in place.
        length: samples of the clip.
    """
    boxes = [box for box in layer.modules() if isinstance(box, BlackBox)]
    tally = Tally(length, boxes[0].pool if boxes else None)
    for box in boxes:
        box.pool = tally
        box.estimator = _CountedEstimator(box.estimator, tally)
        box.audio_rule = _CountedRule(box.audio_rule, tally)
    return tally
