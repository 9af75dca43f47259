"""Runs jobs in worker processes: distributes their renders, and collects the answers."""

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
        began: (n,), in that memory; see `WorkerProcess.give_task`.
        prepare: puts what a render needs into that memory, once it is its turn.
        deliver: takes the number of a render that is done and its value.
        policy: what becomes of renders that fail.

    Attributes:
        todo: renders that no worker has.
        again: those that are tried once more, by a new worker.
    """

    job: Job
    key: str
    recipe: bytes
    task: dict[str, Any]
    began: NDArray[np.float64]
    prepare: Callable[[int], None]
    deliver: Callable[[int, Any], None]
    policy: RetryPolicy
    todo: collections.deque[int] = dataclasses.field(init=False, default_factory=collections.deque[int])
    again: collections.deque[int] = dataclasses.field(init=False, default_factory=collections.deque[int])

    @property
    def left(self) -> int:
        """How many renders no worker has."""
        return len(self.todo) + len(self.again)

    def clear(self) -> None:
        """Leaves out all that no worker has."""
        self.todo.clear()
        self.again.clear()


@final
class Execution:
    """Jobs on their way through the workers, side by side; each worker has renders of one of them at a time.

    Args:
        shipments: the jobs.
        workers: who renders.
        shared: descriptor of the memory that they share.
        tally: counts workers that are recycled.
    """

    def __init__(self, shipments: Sequence[Shipment], workers: WorkerSet, shared: int, tally: Tally) -> None:
        self._shipments, self._workers, self._shared, self._tally = shipments, workers, shared, tally
        self._at: dict[WorkerProcess, Shipment] = {}

    def run(self) -> None:
        """Renders all. Raises what the policies do not skip."""
        for shipment in self._shipments:
            shipment.todo.extend(shipment.policy.admitted())
        self._workers.remove_ended()
        if self._left and not self._errors:
            for worker in self._workers:
                self._assign(worker, self._neediest())
            while self._proceed():
                pass
        if errors := self._errors:
            raise errors[0]

    @property
    def _left(self) -> int:
        return sum(shipment.left for shipment in self._shipments)

    @property
    def _errors(self) -> list[BlackBoxError]:
        return [error for shipment in self._shipments for error in shipment.policy.errors]

    def _neediest(self) -> Shipment:
        """The job with the most renders to deal for each worker that it has."""
        busy = collections.Counter(id(shipment) for shipment in self._at.values())
        return max(self._shipments, key=lambda shipment: len(shipment.todo) / (1 + busy[id(shipment)]))

    def _assign(self, worker: WorkerProcess, shipment: Shipment) -> None:
        cpu = max(_LEAST_CPU, 2 * shipment.policy.deadline * system.cores())
        worker.give_task(shipment.key, shipment.recipe, {**shipment.task, "cpu": cpu}, shipment.began)
        self._at[worker] = shipment

    def _proceed(self) -> bool:
        """Deals renders and waits for an answer; False once none is left. Some workers may still be starting then."""
        self._recycle()
        self._staff()
        self._deal()
        busy = {w.connection.fileno(): w for w in self._workers if w.pending}
        rendering = any(order[0] >= 0 for worker in busy.values() for order in worker.pending)
        if not self._left and not rendering:
            return False
        patience = min(w.time_left(self._at[w].policy.deadline) for w in busy.values())
        answered = _ready(busy, patience)
        for descriptor, worker in busy.items():
            self._attend(worker, self._at[worker], descriptor in answered)
        if self._errors:
            # but wait for the others, whose answers would otherwise go into the next job
            for shipment in self._shipments:
                shipment.clear()
        return True

    def _recycle(self) -> None:
        for worker in self._workers:
            if worker.retiring and not worker.pending:
                self._remove(worker)
                self._tally.add(recycled=1)

    def _remove(self, worker: WorkerProcess, patience: float = 0.0) -> Shipment:
        """Ends a worker; what it was at."""
        self._workers.remove(worker, patience)
        return self._at.pop(worker)

    def _staff(self) -> None:
        """Starts as many workers as there is work for; those that replace others begin with what is tried again."""
        wanted = min(self._workers.workers, len(self._workers) + self._left)
        while len(self._workers) < wanted:
            shipment = next((each for each in self._shipments if each.again), None) or self._neediest()
            worker = self._workers.add(self._shared)
            self._assign(worker, shipment)
            if shipment.again:
                self._give(worker, shipment, [shipment.again.popleft()])

    def _deal(self) -> None:
        """One order for each worker, then one ahead while there are enough: at the end nobody waits beside a queue."""
        for depth in range(1, _AHEAD + 1):
            for worker in self._workers:
                shipment = self._at[worker]
                if not shipment.todo and not worker.pending and not worker.retiring and self._neediest().todo:
                    shipment = self._neediest()
                    self._assign(worker, shipment)
                enough = len(shipment.todo) >= (1 if depth == 1 else len(self._workers))
                if enough and len(worker.pending) < depth and not worker.retiring:
                    self._give(worker, shipment, self._next_order(shipment))

    def _next_order(self, shipment: Shipment) -> list[int]:
        """The next renders: as many as are worth a message, but less the less is left, so that all end together."""
        share = len(shipment.todo) // (2 * len(self._workers))
        size = max(1, min(share, shipment.policy.renders_within(_ORDER)))
        return [shipment.todo.popleft() for _ in range(size)]

    def _give(self, worker: WorkerProcess, shipment: Shipment, order: list[int]) -> None:
        for n in order:
            shipment.prepare(n)
        worker.give(order)

    def _attend(self, worker: WorkerProcess, shipment: Shipment, answered: bool) -> None:
        """Takes a worker's reply, or replaces it if it ended or is late."""
        if not answered:
            if worker.time_left(shipment.policy.deadline) >= 0:
                return
            if not worker.connection.poll(0):  # while another one was replaced, this one may have answered
                self._lose(worker, worker.present, "hangs")
                return
        order = worker.pending[0]
        reply = worker.reply()
        if reply is None:
            self._lose(worker, worker.present, "crashes")
        elif order[0] != STARTING and reply.effect == shipment.key:
            worker.retiring |= reply.grown
            shipment.todo.extendleft(reversed(order[len(reply.answers) :]))
            self._take(worker, shipment, reply.answers)

    def _take(self, worker: WorkerProcess, shipment: Shipment, answers: Sequence[Answer]) -> None:
        made = [answer for answer in answers if answer.n >= 0 and not isinstance(answer.value, BlackBoxError)]
        if made:
            shipment.policy.succeeded([answer.seconds for answer in made], sum(answer.stale for answer in made))
        for n, value, *_ in made:
            shipment.deliver(n, value)
        for n, value, *_ in answers:
            if isinstance(value, NotFinite):
                self._lose(worker, n, "not_finite", getattr(value, "__notes__", ()))
            elif isinstance(value, BlackBoxError):
                self._give_up(shipment, n, value)

    def _lose(self, worker: WorkerProcess, n: int, failure: Failure, notes: Iterable[str] = ()) -> None:
        """Replaces a worker that crashed, hung or gave NaN at its n-th render, which is tried again, or given up."""
        if self._workers.is_closing:
            raise WorkerDied("The pool was closed while it rendered; keep it open until all is done.")
        waiting = [m for order in worker.pending for m in order if m >= 0 and m != n]
        shipment = self._remove(worker, _CRASHING if failure == "crashes" else 0.0)
        limit = shipment.policy.deadline if n >= 0 else START_DEADLINE
        shipment.todo.extendleft(reversed(waiting))
        how = {
            "crashes": lambda: f"ended its worker {worker.cause()}",
            "hangs": lambda: f"outlived its deadline of {limit:g} s",
            "not_finite": lambda: "returned NaN or infinity",
        }[failure]()
        if shipment.policy.retries(n, failure, how):
            shipment.again.extend([n] if n >= 0 else [])
        else:
            self._give_up(shipment, n, shipment.policy.failure(n, failure, how, worker.output, list(notes)))

    def _give_up(self, shipment: Shipment, n: int, error: BlackBoxError) -> None:
        """Gives up a render; all that are left if the effect cannot be opened."""
        opening = n < 0
        skipped = shipment.policy.give_up([*shipment.again, *shipment.todo] if opening else [n], error, opening)
        if opening and skipped:
            shipment.clear()


def _ready(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Those sockets that have something to say, or ended, within this many seconds; none after a minute."""
    poll = system.polling.poll()  # `multiprocessing.connection.wait` takes several times as long
    for descriptor in descriptors:
        poll.register(descriptor, system.polling.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(1000 * min(max(seconds, 0.0), 60.0))}
