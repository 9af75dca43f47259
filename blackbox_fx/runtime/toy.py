"""A toy pool: renders backwards, in the calling thread."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.runtime.base import Job, Pool


@final
class Backwards(Pool):
    """Renders the last first."""

    def map_into(self, job: Job, out: NDArray[np.float32]) -> None:
        """Runs a job; see `Pool.map`."""
        for n in reversed(range(len(job))):
            out[n] = job.render(n)
        self.tally.add(renders=len(job))

    def project_into(
        self, job: Job, cotangent: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]
    ) -> None:
        """Runs a job; see `Pool.project`."""
        for n in reversed(range(len(job))):
            out[n] = job.project(n, cotangent, stretch)
        self.tally.add(renders=len(job))
