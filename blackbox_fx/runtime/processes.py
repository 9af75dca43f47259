"""A pool of worker processes that survives what its effects do."""

from __future__ import annotations

import collections
import hashlib
import logging
import os
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any, final

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import BlackBoxError, EffectError, ParameterError, RenderTimeout, WorkerDied
from blackbox_fx.runtime.arena import Arena, open_anonymous
from blackbox_fx.runtime.base import Job, Pool
from blackbox_fx.runtime.process import OPENING, START_DEADLINE, WorkerProcess
from blackbox_fx.runtime.threads import check_workers

_log = logging.getLogger("blackbox_fx")
_AHEAD = 2  # renders given to a worker at a time: the next is there when one is done


@final
class Processes(Pool):
    """Renders in worker processes: a plugin that crashes or hangs ends a worker, not the run.

    Workers are plain `python -m` processes without torch, started on first use. Audio goes through memory that has no
    name and so cannot be left behind; effects travel as recipes and stay open in the worker. A worker that dies or
    outlives the deadline is replaced and its render tried once more. Workers end with their parent, however it ends. A
    process that forks (as data loaders do) starts its own workers in the child. Needs Linux or macOS.

    Args:
        workers: number of processes; the number of cores if not given.
        deadline: seconds that one render may take. Opening an effect may take a minute.

    Attributes:
        restarts: how many workers died or hung and were replaced; each is logged as a warning too.

    Raises:
        ParameterError: workers or deadline out of range.
        WorkerDied, RenderTimeout: the same render ended or outlived two workers.
        EffectError, ParameterError, AudioError: what the effect itself raised, with the worker's traceback as a note.
    """

    def __init__(self, workers: int | None = None, deadline: float = 60.0) -> None:
        self.workers = check_workers((os.cpu_count() or 1) if workers is None else workers)
        if not 0 < deadline < float("inf"):
            raise ParameterError(f"deadline must be a finite number of seconds above 0, got {deadline!r}.")
        self.deadline = deadline
        self.restarts = 0
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._team: list[WorkerProcess] = []
        self._arenas: list[Arena] = []  # one, once there is a job
        # a forked child must not end its parent's workers
        self._finalizer = weakref.finalize(self, _end, self._team, self._arenas, self._pid)

    def _map(self, job: Job, out: NDArray[np.float32]) -> None:
        # copied home one by one, while the workers go on with the next
        self._run(job, None, lambda n, _, arena, task: np.copyto(out[n], arena.view(task["out"])[n]))

    def _project(self, job: Job, weight: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]) -> None:
        self._run(job, (weight, stretch), lambda n, value, *_: out.__setitem__(n, value))

    def _run(
        self,
        job: Job,
        weight: tuple[NDArray[np.float32], int | None] | None,
        deliver: Callable[[int, Any, Arena, dict[str, Any]], None],
    ) -> None:
        if self._pid != os.getpid():
            for arena in self._arenas:
                arena.close()
            self._start()
        recipe = _recipe(job.effect)
        with self._lock:
            if not self._arenas:
                self._arenas.append(Arena(open_anonymous()))
            (arena,) = self._arenas
            try:
                task = _place(job, weight, recipe[0], arena)
                self._dispatch(job, recipe, task, lambda n, value: deliver(n, value, arena, task))
            except BaseException:
                # Ctrl-C among others: whoever is still at work here would answer into the next job
                for worker in [w for w in self._team if w.pending]:
                    self._discard(worker)
                raise

    def _staff(self, count: int, *task: Any) -> None:
        """Brings the team up to `count` workers and tells the new ones about the task."""
        new = [WorkerProcess(self._arenas[0].fd) for _ in range(count - len(self._team))]
        self._team += new
        try:
            for worker in new:
                worker.wait_ready()
        except BaseException:
            for worker in new:
                self._discard(worker)
            raise
        for worker in new:
            worker.give_task(*task)

    def _discard(self, worker: WorkerProcess) -> None:
        worker.stop()
        self._team.remove(worker)

    def _dispatch(
        self, job: Job, recipe: tuple[str, bytes], task: dict[str, Any], deliver: Callable[[int, Any], None]
    ) -> None:
        todo = collections.deque(range(len(job)))
        losses: collections.Counter[int] = collections.Counter()
        errors: list[BlackBoxError] = []
        for worker in [w for w in self._team if w.process.poll() is not None]:
            self._discard(worker)  # it ended while idle
        for worker in self._team:
            worker.give_task(*recipe, task)
        size = max(min(self.workers, len(job)), len(self._team))
        self._staff(size, *recipe, task)
        while True:
            for worker in self._team:
                while todo and len(worker.pending) < _AHEAD:
                    worker.give(todo.popleft())
            busy = {w.connection: w for w in self._team if w.pending}
            if not busy:
                break
            patience = min(w.time_left(self.deadline) for w in busy.values())
            answered = wait(list(busy), max(patience, 0.0))
            for connection, worker in busy.items():
                if connection in answered and (reply := worker.answer()) is not None:
                    n, value = reply
                    if isinstance(value, BlackBoxError):
                        errors.append(value)
                    elif n != OPENING:
                        deliver(n, value)
                elif connection in answered or worker.time_left(self.deadline) < 0:
                    head, *others = worker.pending
                    lost = self._lose(worker, job, head, hung=connection not in answered)
                    losses[head] += 1
                    if losses[head] == 2:
                        errors.append(lost)
                    todo.extendleft(n for n in reversed([head, *others]) if n != OPENING)
            if errors:
                todo.clear()  # but hear out the others, whose answers would otherwise go into the next job
            else:
                self._staff(size, *recipe, task)
        if errors:
            raise errors[0]

    def _lose(self, worker: WorkerProcess, job: Job, n: int, hung: bool) -> BlackBoxError:
        self._discard(worker)
        self.restarts += 1
        if n == OPENING:
            where, limit = "while it was opened", START_DEADLINE
        else:
            row = job.params[n] if job.hop is None else job.params[n, 0]
            where, limit = f"at {job.effect.space.decode(row)}", self.deadline
        how = f"outlived its deadline of {limit:g} s" if hung else f"ended its worker {worker.cause()}"
        what = f"{job.effect.name} {how} {where}"
        _log.warning("%s; another worker takes over.", what)
        return (RenderTimeout if hung else WorkerDied)(f"{what}, twice; leave out such settings, or the effect.")

    def close(self) -> None:
        """Ends the workers and frees the shared memory."""
        with self._lock:
            _end(self._team, self._arenas, self._pid)

    def __reduce__(self) -> tuple[Any, ...]:
        return Processes, (self.workers, self.deadline)


def _recipe(effect: Effect) -> tuple[str, bytes]:
    """The pickled effect and its name in the workers. Made anew for each job, since a function may have changed."""
    try:
        recipe = cloudpickle.dumps(effect)
    except Exception as error:
        raise EffectError(
            f"{effect.name} cannot travel to a worker process ({error}); use Threads or Inline."
        ) from error
    return hashlib.blake2b(recipe).hexdigest(), recipe


def _place(
    job: Job, weighed: tuple[NDArray[np.float32], int | None] | None, effect: str, arena: Arena
) -> dict[str, Any]:
    """Puts the arrays of a job into shared memory, and tells the workers where; that message is always short."""
    weight, stretch = weighed or (None, None)
    last = job.output_shape if weight is None else weight.shape
    inputs = {"audio": job.audio, "params": job.params, "rows": job.rows}
    *slots, other = arena.reserve(*((x.shape, x.dtype) for x in inputs.values()), (last, np.float32))
    for slot, x in zip(slots, inputs.values(), strict=True):
        np.copyto(arena.view(slot), x)
    if weight is not None:
        np.copyto(arena.view(other), weight)
    places = {"weight": other if weight is not None else None, "out": other if weight is None else None}
    return {
        "effect": effect,
        "sample_rate": job.sample_rate,
        "hop": job.hop,
        "stretch": stretch,
        **dict(zip(inputs, slots, strict=True)),
        **places,
    }


def _end(team: list[WorkerProcess], arenas: list[Arena], pid: int) -> None:
    if pid == os.getpid():
        for worker in team:
            worker.stop()
        for arena in arenas:
            arena.close()
        team.clear()
        arenas.clear()
