"""Renders in the background, for what is known to be wanted later."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import weakref
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.runtime.base import Job, Pool, inner

_MOMENT = 2e-3  # seconds in which a cotangent is there if nothing is computed before it: nothing is to be hidden then
_PAUSE = 5e-4  # seconds between parts, in which another thread gets the pool if it waits for it
_PART = 40e-3  # seconds that a part should take: beside it, the pause is short, and so is another thread's wait


@final
class Ahead:
    """A job that a thread hands to its pool part by part, so that other jobs can go in between.

    It stops once it is no longer wanted: when nothing refers to this object, or the pool is closed. What is not
    rendered when the inner products are asked for is left to `Pool.project`, so that no more audio comes home.

    Args:
        pool: where it renders; one with `background`.
        job: what to render. Its outputs wait in memory, see `nbytes`.
        part: renders handed over at a time, at first; more where they are quick.
    """

    def __init__(self, pool: Pool, job: Job, part: int) -> None:
        self._pid = os.getpid()
        self._progress = progress = _Progress(pool, job, part)
        self._thread = threading.Thread(target=_render, args=(progress,), name="blackbox_fx-ahead", daemon=True)
        self._finalizer = weakref.finalize(self, progress.stop.set)
        pool.notify_on_close(progress.stop)
        self._thread.start()

    @staticmethod
    def nbytes(job: Job) -> int:
        """Bytes that the outputs of a job take."""
        return 4 * int(np.prod(job.output_shape))

    def project(self, cotangent: NDArray[np.float32], stretch: int | None) -> NDArray[np.float64]:
        """What `Pool.project` gives for the job. Raises what the pool raised.

        Waits for the part that is being rendered, as long as the pool's own deadlines allow.
        """
        progress = self._progress
        if self._pid == os.getpid():  # no thread goes along into a forked child
            progress.wanted.set()
            self._thread.join()
        if progress.errors:
            raise progress.errors[0]
        job, done = progress.job, progress.done
        rest = progress.pool.project(job.part(slice(done, None)), cotangent, stretch)
        if not done:
            return rest
        pairs = zip(job.items[:done], progress.outputs, strict=False)
        ready = np.array([inner(cotangent[item], output, stretch) for item, output in pairs], np.float64)
        ready[job.failed[:done]] = 0.0
        return np.concatenate([ready, rest])

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which renders have failed, (n,); known after `project`."""
        return self._progress.job.failed


@final
@dataclasses.dataclass
class _Progress:
    """What the thread shares with its `Ahead`, to which it must not refer.

    Args:
        pool, job, part: see `Ahead`.

    Attributes:
        outputs: of the renders, (n, channel, time).
        done: how many of them are made, the first ones.
        errors: what the pool raised.
        stop: set once the outputs are not wanted any more.
        wanted: set once the inner products are.
    """

    pool: Pool
    job: Job
    part: int
    done: int = 0

    def __post_init__(self) -> None:
        self.outputs = np.empty(self.job.output_shape, np.float32)
        self.errors: list[BaseException] = []
        self.stop, self.wanted = threading.Event(), threading.Event()


def _render(progress: _Progress) -> None:
    pause = _MOMENT
    try:
        while progress.done < len(progress.job) and not progress.wanted.wait(pause) and not progress.stop.is_set():
            cut, began = slice(progress.done, progress.done + progress.part), time.perf_counter()
            progress.pool.map(progress.job.part(cut), progress.outputs[cut])
            progress.done = min(cut.stop, len(progress.job))
            if time.perf_counter() - began < _PART / 2:
                progress.part *= 2
            pause = _PAUSE
    except BaseException as error:  # whatever it is, it is raised where the inner products are wanted
        if not progress.stop.is_set():
            progress.errors.append(error)
