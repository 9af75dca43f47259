"""A pool of worker processes that survives what its effects do."""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import itertools
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, final

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core import checks, system
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.runtime.arena import Arena, Slot, open_anonymous
from blackbox_fx.runtime.base import Job, Pool
from blackbox_fx.runtime.execution import Execution, Shipment, WorkerSet
from blackbox_fx.runtime.policy import Known, OnFailure, RetryPolicy
from blackbox_fx.runtime.quarantine import Quarantine

_MOMENT = 2.0  # seconds
_KNOWN = 256  # effects whose render times and states a pool remembers
_Projection = tuple[NDArray[np.float32], int | None] | None  # a cotangent, and the stretch of scores
_Deliver = Callable[[int, int, Any, NDArray[np.float32]], None]  # of a job and a render by number, value and outputs


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
        self.map_all_into([job], [out])

    def map_all_into(self, jobs: Sequence[Job], outs: Sequence[NDArray[np.float32]]) -> None:
        """Runs several jobs side by side; see `Pool.map_all`."""
        # copied home one by one, while the workers go on with the next
        self._run(jobs, None, lambda k, n, _, outputs: np.copyto(outs[k][n], outputs[n]))

    def project_into(
        self, job: Job, cotangent: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]
    ) -> None:
        """Runs a job; see `Pool.project`."""
        self._run([job], (cotangent, stretch), lambda _, n, value, __: out.__setitem__(n, value))

    def _run(self, jobs: Sequence[Job], projection: _Projection, deliver: _Deliver) -> None:
        self._restart_if_forked()
        recipes = [pickled(job.effect) for job in jobs]
        with self._lock:
            if not self._arenas:
                self._arenas.append(Arena(open_anonymous()))
            (arena,) = self._arenas
            policies = [self._policy(job, key) for job, (key, _) in zip(jobs, recipes, strict=True)]
            try:
                placed = _place(jobs, projection, arena)
                shipments = [
                    Shipment(
                        job, *recipe, {**place.task, "effect": recipe[0]}, place.began, place.prepare, home, policy
                    )
                    for job, recipe, place, policy, home in zip(
                        jobs, recipes, placed, policies, _homes(placed, deliver), strict=True
                    )
                ]
                Execution(shipments, self._workers, arena.fd, self.tally).run()
            except BaseException:
                # Ctrl-C among others: whoever still works here would answer into the next job
                self._workers.remove_busy()
                raise

    def _policy(self, job: Job, key: str) -> RetryPolicy:
        known = self._learn(key)
        return RetryPolicy(job, key, known, self._quarantine, self.tally, self.deadline, self.on_failure)

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


class _Placed(NamedTuple):
    """A job in shared memory, where the workers read it.

    Args:
        task: where its arrays lie.
        prepare: copies the audio and the cotangent of a render there, while workers are busy with those before it.
        began: there, when each render began.
        outputs: there.
    """

    task: dict[str, Any]
    prepare: Callable[[int], None]
    began: NDArray[np.float64]
    outputs: NDArray[np.float32]


def _homes(placed: Sequence[_Placed], deliver: _Deliver) -> Iterator[Callable[[int, Any], None]]:
    """For each job, what takes the number of a render that is done and its value."""

    def home(k: int, n: int, value: Any) -> None:
        deliver(k, n, value, placed[k].outputs)

    return (functools.partial(home, k) for k in range(len(placed)))


def _place(jobs: Sequence[Job], projection: _Projection, arena: Arena) -> list[_Placed]:
    """Puts the arrays of jobs into shared memory, one behind the other."""
    cotangent, stretch = projection or (None, None)
    wanted = []
    for job in jobs:
        copied = [job.audio, *job.inputs.values(), *([] if cotangent is None else [cotangent])]
        out = () if projection else ((job.output_shape, np.float32),)
        given = [((len(job),), np.float64), *((x.shape, x.dtype) for x in (job.points, job.items, *copied)), *out]
        wanted.append((copied, given))
    slots = iter(arena.reserve(*(each for _, given in wanted for each in given)))
    return [
        _placed(job, copied, list(itertools.islice(slots, len(given))), arena, stretch, projection is not None)
        for job, (copied, given) in zip(jobs, wanted, strict=True)
    ]


def _placed(
    job: Job, copied: Sequence[NDArray[Any]], slots: list[Slot], arena: Arena, stretch: int | None, projects: bool
) -> _Placed:
    began, points, items, *shared = (arena.view(slot) for slot in slots)
    began[:], points[:], items[:] = 0.0, job.points, job.items
    done: set[int] = set()

    def prepare(n: int) -> None:
        item = int(job.items[n])
        if item not in done:
            done.add(item)
            for mine, theirs in zip(copied, shared, strict=False):
                np.copyto(theirs[item], mine[item])

    task = {
        "sample_rate": job.sample_rate,
        "hop": job.hop,
        "stretch": stretch,
        "began": slots[0],
        "points": slots[1],
        "items": slots[2],
        "audio": slots[3],
        "inputs": dict(zip(job.inputs, slots[4:], strict=False)),
        "cotangent": slots[-1] if projects else None,
        "out": None if projects else slots[-1],
    }
    return _Placed(task, prepare, began, shared[-1])


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
