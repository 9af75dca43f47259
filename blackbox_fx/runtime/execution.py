"""Runs a job in worker processes: distributes its renders, and collects the answers."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core import system
from blackbox_fx.errors import BlackBoxError, NotFinite, WorkerDied
from blackbox_fx.runtime.base import Job
from blackbox_fx.runtime.counters import Tally
from blackbox_fx.runtime.policy import STARTING, Failure, RetryPolicy
from blackbox_fx.runtime.process import START_DEADLINE, Answer, WorkerProcess

_AHEAD = 2  # orders given to a worker at a time: the next is there when one is done
_ORDER = 10e-3  # seconds of rendering in an order, beside which its message costs little
_LEAST_CPU = 600.0  # seconds of computing after which a render ends, whose parent did not
_CRASHING = 0.5  # seconds in which a process that crashed is gone


@final
class WorkerSet:
    """The worker processes of a pool.

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

    def add(self, shared: int) -> WorkerProcess:
        """A new worker with a descriptor of the shared file; it may be starting, but takes orders already.

        Once one was lost, a spare one stands by: to start takes longer than most renders.
        """
        while self._spares and self._spares[-1].has_ended():
            self._spares.pop().stop()
        self._members.append(self._spares.pop() if self._spares else WorkerProcess(shared, self.memory_mb))
        if self._lossy:
            self._spares.append(WorkerProcess(shared, self.memory_mb))
        return self._members[-1]

    def remove(self, worker: WorkerProcess, patience: float = 0.0) -> None:
        """Ends a worker; see `WorkerProcess.stop`."""
        self._lossy = True
        worker.stop(patience)
        self._members.remove(worker)

    def remove_ended(self) -> None:
        """Removes those that ended while they were idle."""
        for worker in self:
            if worker.has_ended():
                self.remove(worker)

    def remove_busy(self) -> None:
        """Ends those that still work: their answers would go into the next job."""
        for worker in self:
            if worker.pending:
                self.remove(worker)

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
class Shipment:
    """A job as workers get it.

    Args:
        job: what to render.
        key, recipe: the name of its effect in the workers, and the effect pickled.
        task: where the job lies in shared memory.
        shared: descriptor of that memory.
        began: (n,), in that memory; see `WorkerProcess.give_task`.
        prepare: puts what a render needs into that memory, once it is its turn.
        deliver: takes the number of a render that is done and its value.
    """

    job: Job
    key: str
    recipe: bytes
    task: dict[str, Any]
    shared: int
    began: NDArray[np.float64]
    prepare: Callable[[int], None]
    deliver: Callable[[int, Any], None]


@final
class Execution:
    """One job on its way through the workers.

    Args:
        shipment: the job.
        workers: who renders.
        policy: what becomes of renders that fail.
        tally: counts workers that are recycled.
    """

    def __init__(self, shipment: Shipment, workers: WorkerSet, policy: RetryPolicy, tally: Tally) -> None:
        self._shipment, self._workers, self._policy, self._tally = shipment, workers, policy, tally
        self._todo: collections.deque[int] = collections.deque()
        self._again: collections.deque[int] = collections.deque()

    def run(self) -> None:
        """Renders all. Raises what the policy does not skip."""
        self._todo.extend(self._policy.admitted())
        self._workers.remove_ended()
        if self._todo and not self._policy.errors:
            for worker in self._workers:
                self._assign(worker)
            while self._proceed():
                pass
        if self._policy.errors:
            raise self._policy.errors[0]

    def _assign(self, worker: WorkerProcess) -> None:
        cpu = max(_LEAST_CPU, 2 * self._policy.deadline * system.cores())
        shipment = self._shipment
        worker.give_task(shipment.key, shipment.recipe, {**shipment.task, "cpu": cpu}, shipment.began)

    def _proceed(self) -> bool:
        """Deals renders and waits for an answer; False once none is left. Some workers may still be starting then."""
        self._recycle()
        self._staff()
        self._deal()
        busy = {w.connection.fileno(): w for w in self._workers if w.pending}
        rendering = any(order[0] >= 0 for worker in busy.values() for order in worker.pending)
        if not self._todo and not self._again and not rendering:
            return False
        patience = min(w.time_left(self._policy.deadline) for w in busy.values())
        answered = _ready(busy, patience)
        for descriptor, worker in busy.items():
            self._attend(worker, descriptor in answered)
        if self._policy.errors:
            # but wait for the others, whose answers would otherwise go into the next job
            self._todo.clear()
            self._again.clear()
        return True

    def _recycle(self) -> None:
        for worker in self._workers:
            if worker.retiring and not worker.pending:
                self._workers.remove(worker)
                self._tally.add(recycled=1)

    def _staff(self) -> None:
        """Starts as many workers as there is work for; those that replace others begin with what is tried again."""
        wanted = min(self._workers.workers, len(self._workers) + len(self._todo) + len(self._again))
        while len(self._workers) < wanted:
            worker = self._workers.add(self._shipment.shared)
            self._assign(worker)
            if self._again:
                self._give(worker, [self._again.popleft()])

    def _deal(self) -> None:
        """One order for each worker, then one ahead while there are enough: at the end nobody waits beside a queue."""
        for depth in range(1, _AHEAD + 1):
            for worker in self._workers:
                enough = len(self._todo) >= (1 if depth == 1 else len(self._workers))
                if enough and len(worker.pending) < depth and not worker.retiring:
                    self._give(worker, self._next_order())

    def _next_order(self) -> list[int]:
        """The next renders: as many as are worth a message, but less the less is left, so that all end together."""
        share = len(self._todo) // (2 * len(self._workers))
        size = max(1, min(share, self._policy.renders_within(_ORDER)))
        return [self._todo.popleft() for _ in range(size)]

    def _give(self, worker: WorkerProcess, order: list[int]) -> None:
        for n in order:
            self._shipment.prepare(n)
        worker.give(order)

    def _attend(self, worker: WorkerProcess, answered: bool) -> None:
        """Takes a worker's reply, or replaces it if it ended or is late."""
        if not answered:
            if worker.time_left(self._policy.deadline) >= 0:
                return
            if not worker.connection.poll(0):  # while another one was replaced, this one may have answered
                self._lose(worker, worker.present, "hangs")
                return
        order = worker.pending[0]
        reply = worker.reply()
        if reply is None:
            self._lose(worker, worker.present, "crashes")
        elif order[0] != STARTING and reply.effect == self._shipment.key:
            worker.retiring |= reply.grown
            self._todo.extendleft(reversed(order[len(reply.answers) :]))
            self._take(worker, reply.answers)

    def _take(self, worker: WorkerProcess, answers: Sequence[Answer]) -> None:
        made = [answer for answer in answers if answer.n >= 0 and not isinstance(answer.value, BlackBoxError)]
        if made:
            self._policy.succeeded([answer.seconds for answer in made], sum(answer.stale for answer in made))
        for n, value, *_ in made:
            self._shipment.deliver(n, value)
        for n, value, *_ in answers:
            if isinstance(value, NotFinite):
                self._lose(worker, n, "not_finite", getattr(value, "__notes__", ()))
            elif isinstance(value, BlackBoxError):
                self._give_up(n, value)

    def _lose(self, worker: WorkerProcess, n: int, failure: Failure, notes: Iterable[str] = ()) -> None:
        """Replaces a worker that crashed, hung or gave NaN at its n-th render, which is tried again, or given up."""
        if self._workers.is_closing:
            raise WorkerDied("The pool was closed while it rendered; keep it open until all is done.")
        waiting = [m for order in worker.pending for m in order if m >= 0 and m != n]
        limit = self._policy.deadline if n >= 0 else START_DEADLINE
        self._workers.remove(worker, _CRASHING if failure == "crashes" else 0.0)
        self._todo.extendleft(reversed(waiting))
        how = {
            "crashes": lambda: f"ended its worker {worker.cause()}",
            "hangs": lambda: f"outlived its deadline of {limit:g} s",
            "not_finite": lambda: "returned NaN or infinity",
        }[failure]()
        if self._policy.retries(n, failure, how):
            self._again.extend([n] if n >= 0 else [])
        else:
            self._give_up(n, self._policy.failure(n, failure, how, worker.output, list(notes)))

    def _give_up(self, n: int, error: BlackBoxError) -> None:
        """Gives up a render; all that are left if the effect cannot be opened."""
        opening = n < 0
        skipped = self._policy.give_up([*self._again, *self._todo] if opening else [n], error, opening)
        if opening and skipped:
            self._again.clear()
            self._todo.clear()


def _ready(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Those sockets that have something to say, or ended, within this many seconds; none after a minute."""
    poll = system.polling.poll()  # `multiprocessing.connection.wait` takes several times as long
    for descriptor in descriptors:
        poll.register(descriptor, system.polling.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(1000 * min(max(seconds, 0.0), 60.0))}
