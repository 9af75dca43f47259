"""Pools within this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core import checks
from blackbox_fx.runtime.base import Job, Pool


@final
class Inline(Pool):
    """Renders one after the other, in the calling thread."""

    def map_into(self, job: Job, out: NDArray[np.float32]) -> None:
        """Runs a job; see `Pool.map`."""
        began = time.perf_counter()
        for n in range(len(job)):
            out[n] = job.render(n)
        self.tally.add(renders=len(job), seconds=time.perf_counter() - began)

    def project_into(
        self, job: Job, cotangent: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]
    ) -> None:
        """Runs a job; see `Pool.project`."""
        began = time.perf_counter()
        for n in range(len(job)):
            out[n] = job.project(n, cotangent, stretch)
        self.tally.add(renders=len(job), seconds=time.perf_counter() - began)


@final
class Threads(Pool):
    """Renders in threads of this process: quickest for hosts that release the GIL meanwhile, as pedalboard does.

    A thread cannot be stopped from outside, so there is no deadline here, and a plugin that crashes takes the process
    with it: use `Processes` for what you do not trust. VST3 plugins take turns here and are opened
    in the calling thread, which must be the main one; some cannot run in others at all: use `Processes` for them.

    Args:
        workers: number of threads.
    """

    background = True

    def __init__(self, workers: int = 2) -> None:
        self.workers = checks.whole("workers", workers)
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    def map_into(self, job: Job, out: NDArray[np.float32]) -> None:
        """Runs a job; see `Pool.map`."""
        self.map_all_into([job], [out])

    def map_all_into(self, jobs: Sequence[Job], outs: Sequence[NDArray[np.float32]]) -> None:
        """Runs several jobs side by side; see `Pool.map_all`."""
        for job in jobs:
            job.effect.open()  # here, since some open on the main thread only
        renders = [(job, out, n) for job, out in zip(jobs, outs, strict=True) for n in range(len(job))]

        def one(i: int) -> None:
            job, out, n = renders[i]
            out[n] = job.render(n)

        self._run(one, len(renders))

    def project_into(
        self, job: Job, cotangent: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]
    ) -> None:
        """Runs a job; see `Pool.project`."""
        job.effect.open()

        def one(n: int) -> None:
            out[n] = job.project(n, cotangent, stretch)

        self._run(one, len(job))

    def _run(self, one: Callable[[int], None], n: int) -> None:
        if self._pid != os.getpid():  # a fork takes no threads along
            self._pid, self._lock, self._executor = os.getpid(), threading.Lock(), None
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="blackbox_fx")
            executor = self._executor

        def timed(i: int) -> None:
            began = time.perf_counter()
            one(i)
            self.tally.add(renders=1, seconds=time.perf_counter() - began)

        futures = [executor.submit(timed, i) for i in range(n)]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Ends the threads once their current renders are done."""
        super().close()
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return Threads, (self.workers,)
