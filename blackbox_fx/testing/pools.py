"""A pool for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.runtime import Inline, Job, Pool


@final
class RecordingPool(Pool):
    """Renders in another pool, and keeps all jobs that it was given.

    Args:
        pool: where renders run; `Inline()` if not given.

    Attributes:
        jobs: in order.
        rounds: how many jobs were given at a time.
        renders: how many they had together.
    """

    def __init__(self, pool: Pool | None = None) -> None:
        self.pool = Inline() if pool is None else pool
        self.workers, self.background = self.pool.workers, self.pool.background
        self.jobs: list[Job] = []
        self.rounds: list[int] = []

    @property
    def renders(self) -> int:
        """How many renders the jobs had together."""
        return sum(map(len, self.jobs))

    def map_into(self, job: Job, out: NDArray[np.float32]) -> None:
        """Keeps a job, and runs it."""
        self.map_all_into([job], [out])

    def map_all_into(self, jobs: Sequence[Job], outs: Sequence[NDArray[np.float32]]) -> None:
        """Keeps jobs, and runs them side by side."""
        self.jobs += jobs
        self.rounds.append(len(jobs))
        self.pool.map_all_into(jobs, outs)

    def project_into(
        self, job: Job, cotangent: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]
    ) -> None:
        """Keeps a job, and runs it."""
        self.jobs.append(job)
        self.rounds.append(1)
        self.pool.project_into(job, cotangent, stretch, out)

    def close(self) -> None:
        """Closes the pool that renders."""
        self.pool.close()
        super().close()
