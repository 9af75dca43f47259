"""How a job gets through workers that crash, hang and give nonsense."""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import select
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, final

from blackbox_fx.errors import BlackBoxError, EffectError, MissingHost, NotFinite, RenderTimeout, WorkerDied
from blackbox_fx.runtime.base import Job
from blackbox_fx.runtime.counters import Tally
from blackbox_fx.runtime.process import OPENING, START_DEADLINE, STARTING, Answer, WorkerProcess
from blackbox_fx.runtime.quarantine import Quarantine, settings

_log = logging.getLogger("blackbox_fx")
_AHEAD = 2  # renders given to a worker at a time: the next is there when one is done
_UNKNOWN, _LEAST, _GENEROUS = 60.0, 20.0, 30.0  # see `Known.deadline`
_LEAST_CPU = 600.0  # seconds of computing after which a render ends, whose parent did not
_BEFORE = {OPENING: "while it was opened", STARTING: "before it was opened"}
_CORES = os.cpu_count() or 1
_CRASHING = 0.5  # seconds in which a process that crashed is gone


@final
class Known:
    """What a pool has learnt of an effect.

    Attributes:
        pace: the most seconds of rendering that a second of audio took; 0 while nothing was rendered.
        told: what the user was told of it, once.
    """

    def __init__(self) -> None:
        self.pace = 0.0
        self.told: set[str] = set()

    def deadline(self, seconds: float) -> float:
        """Seconds that a render of so many seconds of audio may take.

        Thirty times what the slowest so far would have taken, and at least 20; a minute while nothing is known.
        """
        return max(_LEAST, _GENEROUS * self.pace * seconds) if self.pace else _UNKNOWN


@final
class Team:
    """The workers of a pool.

    Args:
        workers: processes at most.
        memory_mb: by how much the memory of each may grow.
    """

    def __init__(self, workers: int, memory_mb: float) -> None:
        self.workers, self.memory_mb = workers, memory_mb
        self._members: list[WorkerProcess] = []
        self._spares: list[WorkerProcess] = []  # at most one
        self._lossy = False
        self.is_closing = False

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(list(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def hire(self, shared: int) -> WorkerProcess:
        """A new worker with a descriptor of the shared file; it may be starting, but takes orders already.

        Once one was lost, another stands by from then on: to start takes longer than most renders.
        """
        while self._spares and self._spares[-1].has_ended():
            self._spares.pop().stop()
        self._members.append(self._spares.pop() if self._spares else WorkerProcess(shared, self.memory_mb))
        if self._lossy:
            self._spares.append(WorkerProcess(shared, self.memory_mb))
        return self._members[-1]

    def dismiss(self, worker: WorkerProcess, patience: float = 0.0) -> None:
        """Ends a worker; see `WorkerProcess.stop`."""
        self._lossy = True
        worker.stop(patience)
        self._members.remove(worker)

    def dismiss_busy(self) -> None:
        """Ends those that were asked for something: they would answer into the next job."""
        for worker in self:
            if worker.pending:
                self.dismiss(worker)

    def close(self) -> None:
        """Ends all."""
        self.is_closing = True
        for worker in [*self._members, *self._spares]:
            worker.stop()
        self._members.clear()
        self._spares.clear()
        self._lossy = self.is_closing = False


@final
@dataclasses.dataclass(frozen=True)
class Round:
    """One job on its way through the workers.

    Args:
        job: what to render.
        key, recipe: the name of its effect in the workers, and the effect pickled.
        task: where the job lies in shared memory.
        prepare: puts what a render needs into that memory, once it is its turn.
        deliver: takes the number of a render that is done and its value.
        team, shared: the workers, and the descriptor of the memory shared with them.
        known, quarantine, tally: what the pool knows of the effect, refuses to render, and counts.
        fixed: seconds that a render may take, if that is not measured.
        on_failure: what to do about a render that failed twice.
    """

    job: Job
    key: str
    recipe: bytes
    task: dict[str, Any]
    prepare: Callable[[int], None]
    deliver: Callable[[int, Any], None]
    team: Team
    shared: int
    known: Known
    quarantine: Quarantine
    tally: Tally
    fixed: float | None
    on_failure: Literal["raise", "skip"]
    _todo: collections.deque[int] = dataclasses.field(default_factory=collections.deque, init=False)
    _again: collections.deque[int] = dataclasses.field(default_factory=collections.deque, init=False)
    _losses: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter, init=False)
    _errors: list[BlackBoxError] = dataclasses.field(default_factory=list, init=False)

    @property
    def deadline(self) -> float:
        """Seconds that a render may take."""
        return self.fixed or self.known.deadline(self.job.audio.shape[-1] / self.job.sample_rate)

    def run(self) -> None:
        """Renders all. Raises what the policy does not skip."""
        for n in (n for n in range(len(self.job)) if not self.job.failed[n]):
            refused = self.quarantine.refusal(self.key, self.job, n)
            if refused is None:
                self._todo.append(n)
            else:
                self._give_up(n, refused)
        for worker in self.team:
            if worker.has_ended():
                self.team.dismiss(worker)  # it ended while idle
        if self._todo and not self._errors:
            for worker in self.team:
                worker.give_task(self.key, self.recipe, self._order())
            self._work()
        if self._errors:
            raise self._errors[0]

    def _order(self) -> dict[str, Any]:
        return {**self.task, "cpu": max(_LEAST_CPU, 2 * self.deadline * _CORES)}

    def _work(self) -> None:
        while True:
            for worker in self.team:
                if worker.retiring and not worker.pending:
                    self.team.dismiss(worker)
                    self.tally.add(recycled=1)
            self._staff()
            self._deal()
            busy = {w.connection.fileno(): w for w in self.team if w.pending}
            if not self._todo and not self._again and not any(n >= 0 for w in busy.values() for n in w.pending):
                return  # some may still be starting, for the next job
            patience = min(w.time_left(self.deadline) for w in busy.values())
            answered = _ready(busy, patience)
            for descriptor, worker in busy.items():
                # while one was replaced, others may have answered
                if descriptor in answered or (worker.time_left(self.deadline) < 0 and worker.connection.poll(0)):
                    head = worker.pending[0]
                    answer = worker.answer()
                    if answer is None:
                        self._lose(worker, head, "crashes")
                    else:
                        self._hear(worker, answer)
                elif worker.time_left(self.deadline) < 0:
                    self._lose(worker, worker.pending[0], "hangs")
            if self._errors:
                # but hear out the others, whose answers would otherwise go into the next job
                self._todo.clear()
                self._again.clear()

    def _staff(self) -> None:
        """Hires as many as there is work for; those that replace others begin with what is tried again."""
        wanted = min(self.team.workers, len(self.team) + len(self._todo) + len(self._again))
        while len(self.team) < wanted:
            worker = self.team.hire(self.shared)
            worker.give_task(self.key, self.recipe, self._order())
            if self._again:
                self._give(worker, self._again.popleft())

    def _deal(self) -> None:
        """One render for each worker, then one ahead while there are enough: at the end nobody waits beside a queue."""
        for depth in range(1, _AHEAD + 1):
            for worker in self.team:
                enough = len(self._todo) >= (1 if depth == 1 else len(self.team))
                if enough and len(worker.pending) < depth and not worker.retiring:
                    self._give(worker, self._todo.popleft())

    def _give(self, worker: WorkerProcess, n: int) -> None:
        self.prepare(n)
        worker.give(n)

    def _hear(self, worker: WorkerProcess, answer: Answer) -> None:
        n, value = answer.n, answer.value
        worker.retiring |= answer.grown
        if n == STARTING or answer.effect != self.key:
            return
        if isinstance(value, NotFinite):
            self._lose(worker, n, "not_finite", value)
        elif isinstance(value, BlackBoxError):
            self._give_up(n, value)
        elif n != OPENING:
            self.tally.add(renders=1, seconds=answer.seconds, stale=answer.stale)
            self.known.pace = max(self.known.pace, answer.seconds * self.job.sample_rate / self.job.audio.shape[-1])
            if answer.stale:
                self._tell("stale", f"{self._name} came out silent or dry until it was opened anew.")
            self.deliver(n, value)

    def _lose(self, worker: WorkerProcess, n: int, kind: str, error: NotFinite | None = None) -> None:
        """Replaces a worker that crashed, hung or gave NaN at its n-th render, which is tried again, or given up."""
        if self.team.is_closing:
            raise WorkerDied("The pool was closed while it rendered; keep it open until all is done.")
        left, limit = [m for m in worker.pending if m >= 0 and m != n], self.deadline if n >= 0 else START_DEADLINE
        self.team.dismiss(worker, _CRASHING if kind == "crashes" else 0.0)
        self._todo.extendleft(reversed(left))
        self.tally.add(restarts=1, **{kind: 1})
        self._losses[n] += 1
        how = {
            "crashes": lambda: f"ended its worker {worker.cause()}",
            "hangs": lambda: f"outlived its deadline of {limit:g} s",
            "not_finite": lambda: "returned NaN or infinity",
        }[kind]()
        where = f"at {settings(self.job, n)}" if n >= 0 else _BEFORE[n]
        what = f"{self._name} {how} {where}"
        if self._losses[n] < 2:
            self._tell(kind, f"{what}; another worker takes over.")
            if n >= 0:
                self.tally.add(retries=1)
                self._again.append(n)
            return
        kinds = {"crashes": WorkerDied, "hangs": RenderTimeout, "not_finite": NotFinite}
        failure = self.quarantine.add(self.key, self.job, n, kinds[kind], f"{what}, twice", worker.output)
        self.tally.add(quarantined=n >= 0)
        for note in getattr(error, "__notes__", ()):
            failure.add_note(note)
        self._give_up(n, failure)

    @property
    def _name(self) -> str:
        return self.job.effect.name

    def _give_up(self, n: int, error: BlackBoxError) -> None:
        """A render that failed for good."""
        failed = isinstance(error, (EffectError, WorkerDied, RenderTimeout)) and not isinstance(error, MissingHost)
        if self.on_failure == "raise" or not failed or (n < 0 and not self.known.pace):
            self._errors.append(error)
            return
        given_up = [n] if n >= 0 else [*self._again, *self._todo]
        if n < 0:
            self._again.clear()
            self._todo.clear()
        self.job.failed[given_up] = True
        self.tally.add(skipped=len(given_up))
        self._tell("skipped", f"{error} It was skipped: dry audio, no gradient. See counters of the pool for how many.")

    def _tell(self, kind: str, words: str) -> None:
        """Warns of the first of a kind; the others are counted."""
        _log.log(logging.INFO if kind in self.known.told else logging.WARNING, "%s", words)
        self.known.told.add(kind)


def _ready(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Those sockets that have something to say, or ended, within so many seconds; none after a minute."""
    poll = select.poll()  # `multiprocessing.connection.wait` takes several times as long
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(1000 * min(max(seconds, 0.0), 60.0))}
