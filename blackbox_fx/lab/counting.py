"""Counts the renders that a layer really makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from blackbox_fx.effects import Effect
from blackbox_fx.estimators import AudioRule, Call, Estimator
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.runtime import Inline, Job, Pool


def effects_in(effect: Effect) -> int:
    """How many effects one render passes: the members of a `Rack`, all the way down; 1 for anything else."""
    return sum(map(effects_in, effect.members.values())) if effect.members else 1


@final
class CountingPool(Pool):
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

    def map_into(self, job: Job, out: NDArray[np.float32]) -> None:
        """Counts a job, and runs it."""
        self.map_all_into([job], [out])

    def map_all_into(self, jobs: Sequence[Job], outs: Sequence[NDArray[np.float32]]) -> None:
        """Counts jobs, and runs them side by side."""
        for job in jobs:
            self._count(job)
        self.pool.map_all_into(jobs, outs)

    def project_into(
        self, job: Job, cotangent: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]
    ) -> None:
        """Counts a job, and runs it."""
        self._count(job)
        self.pool.project_into(job, cotangent, stretch, out)

    def close(self) -> None:
        """Closes the pool that renders."""
        self.pool.close()

    def during(self, purpose: str, vjp: Any, call: Call, cotangent: Tensor) -> Tensor:
        """Runs a rule's vjp, booking its renders under a purpose."""
        self._purpose = purpose
        try:
            return vjp(call, cotangent)
        finally:
            self._purpose = "forward"


@final
class _CountedEstimator(Estimator):
    def __init__(self, inner: Estimator, tally: CountingPool) -> None:
        super().__init__()
        self.inner, self._counting = inner, tally

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        return self._counting.during("params", self.inner.vjp, call, cotangent)

    def cost(self, space: Any) -> int:
        return self.inner.cost(space)


@final
class _CountedRule(AudioRule):
    def __init__(self, inner: AudioRule, tally: CountingPool) -> None:
        super().__init__()
        self.inner, self._counting = inner, tally

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        return self._counting.during("audio", self.inner.vjp, call, cotangent)

    def cost(self, channels: int) -> int:
        return self.inner.cost(channels)


def count(layer: nn.Module, length: int) -> CountingPool:
    """Makes every `BlackBox` inside a layer render through one tally, which is returned.

    Args:
        layer: a `BlackBox` or anything that holds some; changed in place.
        length: samples of the clip.
    """
    boxes = [box for box in layer.modules() if isinstance(box, BlackBox)]
    tally = CountingPool(length, boxes[0].pool if boxes else None)
    for box in boxes:
        box.pool = tally
        box.estimator = _CountedEstimator(box.estimator, tally)
        box.audio_rule = _CountedRule(box.audio_rule, tally)
    return tally
