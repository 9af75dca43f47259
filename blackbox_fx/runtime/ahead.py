"""Renders in the background, for what is known to be wanted later."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.runtime.base import Job, Pool, inner

_PAUSE = 5e-4  # seconds between parts, in which another thread gets the pool if it waits for it
_PART = 10e-3  # seconds that a part should take: beside it, the pause is short, and so is another thread's wait


@final
class Ahead:
    """A job that a thread hands to its pool part by part, so that other jobs can go in between.

    It stops once it is no longer wanted: when nothing refers to this object, or the pool is closed.

    Args:
        pool: where it renders; one with `background`.
        job: what to render. Its outputs wait in memory, see `nbytes`.
        part: renders handed over at a time, at first; more where they are quick.
    """

    def __init__(self, pool: Pool, job: Job, part: int) -> None:
        self._pool, self._job, self._pid = pool, job, os.getpid()
        self._outputs = np.empty(job.output_shape, np.float32)
        self._errors: list[BaseException] = []
        self._done = threading.Event()
        self.stop = stop = threading.Event()
        arguments = (pool, job, part, self._outputs, self._errors, stop, self._done)
        self._thread = threading.Thread(target=_render, args=arguments, name="blackbox_fx-ahead", daemon=True)
        self._finalizer = weakref.finalize(self, stop.set)
        pool.notify_on_close(stop)
        self._thread.start()

    @staticmethod
    def nbytes(job: Job) -> int:
        """Bytes that the outputs of a job take."""
        return 4 * int(np.prod(job.output_shape))

    def project(self, cotangent: NDArray[np.float32], stretch: int | None) -> NDArray[np.float64]:
        """What `Pool.project` gives for the job. Raises what the pool raised.

        Waits for what is not rendered yet, as long as the pool's own deadlines allow. Where the pool was closed
        meanwhile, and in a forked child, all is rendered now.
        """
        if self._pid == os.getpid():
            self._thread.join()
        if self._errors:
            raise self._errors[0]
        if self._pid != os.getpid() or not self._done.is_set():
            return self._pool.project(self._job, cotangent, stretch)
        pairs = zip(self._job.items, self._outputs, strict=True)
        found = np.array([inner(cotangent[item], output, stretch) for item, output in pairs], np.float64)
        found[self._job.failed] = 0.0
        return found

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which renders have failed, (n,); known after `project`."""
        return self._job.failed


def _render(
    pool: Pool,
    job: Job,
    part: int,
    outputs: NDArray[np.float32],
    errors: list[BaseException],
    stop: threading.Event,
    done: threading.Event,
) -> None:
    try:
        start = 0
        while start < len(job) and not stop.is_set():
            cut, began = slice(start, start + part), time.perf_counter()
            outputs[cut] = pool.map(job.part(cut))
            start += part
            if time.perf_counter() - began < _PART / 2:
                part *= 2
            time.sleep(_PAUSE)
        if start >= len(job):
            done.set()
    except BaseException as error:  # whatever it is, it is raised where the outputs are wanted
        if not stop.is_set():
            errors.append(error)
