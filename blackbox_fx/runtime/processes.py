"""A pool of worker processes that survives what its effects do."""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any, final

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core import checks, system
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.runtime.arena import Arena, open_anonymous
from blackbox_fx.runtime.base import Job, Pool
from blackbox_fx.runtime.execution import Execution, Shipment, WorkerSet
from blackbox_fx.runtime.policy import Known, OnFailure, RetryPolicy
from blackbox_fx.runtime.quarantine import Quarantine

_MOMENT = 2.0  # seconds
_KNOWN = 256  # effects whose render times and states a pool remembers


@final
class Processes(Pool):
    """Renders in worker processes: a plugin that crashes or hangs ends a worker, not the run.

    Workers are plain `python -m` processes without torch, started on first use. Audio goes through anonymous shared
    memory, which the system always frees. Effects are sent as recipes and stay open in the worker. A process that forks
    (as data loaders do) starts its own workers in the child. The pool needs Linux or macOS.

    A worker that dies, exceeds its deadline or gives NaN or infinity is replaced, and the new one tries the render once
    more. If that fails too, the settings are quarantined until the pool is closed, and `on_failure` decides what
    happens. A report with the audio, and with the command that reproduces the failure, goes to the user's cache folder.
    A native effect that gives silence or the dry audio is reopened; if it does so again, its output is accepted.
    Effects whose silent or dry output often proves right are reopened only now and then.

    Workers get PATH, HOME, and the locale, library, plugin and Python settings of the environment, and nothing else.
    Their output and that of plugins goes to `plugins.log` in the user's cache folder, and the end of it into reports. A
    worker writes no core dump, and cannot use more data than the machine has memory. All processes that a worker
    started end with it, and workers end with their parent, even if it crashes.

    Args:
        workers: number of processes; if not given, this process's share of the cores, see `core.system.cores`.
        deadline: seconds that one render may take. If not given, it is thirty times the time of the slowest render of
            the effect so far, scaled to the length of the audio, and at least 20; a minute before the first render.
            Opening an effect may take a minute.
        on_failure: "raise" an error for a render that failed twice, or "skip" it: its audio is dry and its gradient is
            zero, see `BlackBox`. An effect that was never rendered raises if it cannot be opened.
        memory_mb: megabytes by which a worker's memory may grow after four renders of an effect, until the worker is
            replaced. macOS does not report it.

    Attributes:
        restarts: number of workers that died, hung or gave NaN and were replaced; the first is logged as a warning.
        counters: all counters of the pool; see `Counters`.

    Raises:
        ParameterError: workers, deadline, on_failure or memory_mb out of range.
        WorkerDied, RenderTimeout: the same render ended two workers, or exceeded its deadline twice.
        EffectError, ParameterError, AudioError: errors of the effect itself, with the worker's traceback as a note.
    """

    background = True
    prefers_lookahead = True

    def __init__(
        self,
        workers: int | None = None,
        deadline: float | None = None,
        on_failure: OnFailure = "raise",
        memory_mb: float = 512.0,
    ) -> None:
        if not system.has_worker_processes():
            raise ParameterError("Worker processes need Linux or macOS; give the layer pool=bfx.Threads() here.")
        self.workers = checks.whole("workers", system.cores() if workers is None else workers)
        self.deadline = None if deadline is None else checks.positive("deadline", deadline)
        self.on_failure: OnFailure = checks.one_of("on_failure", on_failure, ("raise", "skip"))
        self.memory_mb = checks.positive("memory_mb", memory_mb)
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._workers = WorkerSet(self.workers, self.memory_mb)
        self._arenas: list[Arena] = []  # one, once there is a job
        self._known: collections.OrderedDict[str, Known] = collections.OrderedDict()
        self._quarantine = Quarantine()
        # a forked child must not end its parent's workers
        self._finalizer = weakref.finalize(self, _end_soon, self._lock, self._workers, self._arenas, self._pid)

    def _restart_if_forked(self) -> None:
        if self._pid != os.getpid():
            for arena in self._arenas:
                arena.close()
            self._start()

    @property
    def restarts(self) -> int:
        """How many workers were replaced since they died, hung or gave NaN."""
        return self.counters.restarts

    @property
    def worker_pids(self) -> list[int]:
        """The process numbers of the workers that run now."""
        return [worker.process.pid for worker in self._workers]

    def map_into(self, job: Job, out: NDArray[np.float32]) -> None:
        """Runs a job; see `Pool.map`."""
        # copied home one by one, while the workers go on with the next
        self._run(job, None, lambda n, _, outputs: np.copyto(out[n], outputs[n]))

    def project_into(
        self, job: Job, cotangent: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]
    ) -> None:
        """Runs a job; see `Pool.project`."""
        self._run(job, (cotangent, stretch), lambda n, value, *_: out.__setitem__(n, value))

    def _run(
        self,
        job: Job,
        projection: tuple[NDArray[np.float32], int | None] | None,
        deliver: Callable[[int, Any, NDArray[np.float32]], None],
    ) -> None:
        self._restart_if_forked()
        key, recipe = pickled(job.effect)
        with self._lock:
            if not self._arenas:
                self._arenas.append(Arena(open_anonymous()))
            (arena,) = self._arenas
            policy = RetryPolicy(
                job, key, self._learn(key), self._quarantine, self.tally, self.deadline, self.on_failure
            )
            try:
                task, prepare, began, outputs = _place(job, projection, key, arena)

                def deliver_here(n: int, value: Any) -> None:
                    deliver(n, value, outputs)

                shipment = Shipment(job, key, recipe, task, arena.fd, began, prepare, deliver_here)
                Execution(shipment, self._workers, policy, self.tally).run()
            except BaseException:
                # Ctrl-C among others: whoever still works here would answer into the next job
                self._workers.remove_busy()
                raise

    def _learn(self, key: str) -> Known:
        known = self._known.setdefault(key, Known())
        self._known.move_to_end(key)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return known

    def close(self) -> None:
        """Ends the workers, frees the shared memory, and lifts the quarantine."""
        self._restart_if_forked()
        super().close()
        with self._lock:
            _end(self._workers, self._arenas, self._pid)
            self._quarantine.lift()

    def __reduce__(self) -> tuple[Any, ...]:
        if shared_pool.cache_info().currsize and self is shared_pool():
            return shared_pool, ()
        return Processes, (self.workers, self.deadline, self.on_failure, self.memory_mb)


@functools.cache
def shared_pool() -> Processes:
    """The pool of native effects that were given none: one in this process, opened on first use, closed at exit."""
    return Processes()


def pickled(effect: Effect) -> tuple[str, bytes]:
    """The pickled effect and its name in the workers. Made again for each job, since a function may have changed."""
    try:
        recipe = _dumps(effect)
    except Exception as error:
        raise EffectError(
            f"{effect.name} cannot travel to a worker process ({error}); use Threads or Inline."
        ) from error
    return hashlib.blake2b(recipe).hexdigest(), recipe


def _dumps(effect: Effect) -> bytes:
    with contextlib.suppress(Exception):
        recipe = pickle.dumps(effect)  # several times as fast
        # which leaves out what is defined in the script or the notebook
        if b"_main__" not in recipe and not cloudpickle.list_registry_pickle_by_value():
            return recipe
    return cloudpickle.dumps(effect)


def _place(
    job: Job, projection: tuple[NDArray[np.float32], int | None] | None, effect: str, arena: Arena
) -> tuple[dict[str, Any], Callable[[int], None], NDArray[np.float64], NDArray[np.float32]]:
    """Puts the arrays of a job into shared memory, where the workers read them.

    Returns:
        The task; what copies the audio and the cotangent of a render there, while workers are busy with those before
        it; and, there, when each render began, and the outputs.
    """
    cotangent, stretch = projection or (None, None)
    copied = [job.audio, *job.inputs.values(), *([] if cotangent is None else [cotangent])]
    out = () if projection else ((job.output_shape, np.float32),)
    began = np.zeros(len(job))
    arrays = [began, job.points, job.items, *copied]
    slots = arena.reserve(*((x.shape, x.dtype) for x in arrays), *out)
    shared = [arena.view(slot) for slot in slots]
    for mine, theirs in zip(arrays[:3], shared, strict=False):
        np.copyto(theirs, mine)
    placed: set[int] = set()

    def prepare(n: int) -> None:
        item = int(job.items[n])
        if item not in placed:
            placed.add(item)
            for mine, theirs in zip(copied, shared[3:], strict=False):
                np.copyto(theirs[item], mine[item])

    task = {
        "effect": effect,
        "sample_rate": job.sample_rate,
        "hop": job.hop,
        "stretch": stretch,
        "began": slots[0],
        "points": slots[1],
        "items": slots[2],
        "audio": slots[3],
        "inputs": dict(zip(job.inputs, slots[4:], strict=False)),
        "cotangent": None if projection is None else slots[-1],
        "out": slots[-1] if projection is None else None,
    }
    return task, prepare, shared[0], shared[-1]


def _end_soon(lock: threading.Lock, workers: WorkerSet, arenas: list[Arena], pid: int) -> None:
    """What is done once nothing refers to a pool, or the program ends: what still renders has a moment to finish."""
    if pid == os.getpid():
        lock.acquire(timeout=_MOMENT)
        _end(workers, arenas, pid)


def _end(workers: WorkerSet, arenas: list[Arena], pid: int) -> None:
    if pid == os.getpid():
        workers.close()
        for arena in arenas:
            arena.close()
        arenas.clear()
