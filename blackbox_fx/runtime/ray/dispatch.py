"""Deals the renders of a job among the nodes of a Ray cluster, and again those of a node that was lost."""

from __future__ import annotations

import collections
import logging
from collections.abc import Mapping
from typing import Any, final

from numpy.typing import NDArray

from blackbox_fx.core import system
from blackbox_fx.errors import BlackBoxError, WorkerDied
from blackbox_fx.runtime.base import Job
from blackbox_fx.runtime.counters import Tally
from blackbox_fx.runtime.policy import FAILURES, Failure, RetryPolicy
from blackbox_fx.runtime.process import START_DEADLINE
from blackbox_fx.runtime.ray.actor import Answer
from blackbox_fx.runtime.ray.cluster import Cluster, Node

_AHEAD = 2  # chunks given to a node at a time: the next is there when one is done
_ROUNDS = 8  # renders of a chunk for each worker of its node, at most
_CHUNK_BYTES = 64 * 2**20  # of outputs in a chunk, unless one render for each worker is more
_PULSE = 1.0  # seconds between two signs of life of a node
_log = logging.getLogger("blackbox_fx")


@final
class Dispatch:
    """One job on its way through the nodes.

    Args:
        cluster: who renders.
        policy: what becomes of renders that lose their node.
        job: what to render.
        out: takes the outputs or inner products.
        workers: processes on each node; as many as it has CPUs if None.
        settings: deadline, on_failure and memory_mb of the nodes' pools.
        tally: counts what the nodes counted.
    """

    def __init__(
        self,
        cluster: Cluster,
        policy: RetryPolicy,
        job: Job,
        out: NDArray[Any],
        workers: int | None,
        settings: tuple[Any, ...],
        tally: Tally,
    ) -> None:
        self._cluster, self._policy, self._job, self._out = cluster, policy, job, out
        self._each, self._settings, self._tally = workers, settings, tally
        self._ray, self._nodes, self._found = cluster.ray, cluster.nodes, cluster.found()
        self._todo: collections.deque[int] = collections.deque()
        self._again: collections.deque[int] = collections.deque()
        self._avoided: set[str] = set()  # nodes that were lost meanwhile
        self._useless: set[str] = set()  # nodes whose actor did not start
        self._cause = WorkerDied("No node of Ray's cluster has CPUs; give it some.")
        self._most = max(1, _CHUNK_BYTES // (4 * job.output_shape[1] * job.output_shape[2]))

    @property
    def workers(self) -> int:
        """Processes on all nodes."""
        return sum(map(self._workers_of, self._found.values()))

    def _workers_of(self, found: Mapping[str, Any]) -> int:
        return self._each or max(1, int(found["Resources"]["CPU"]) // system.local_world_size())

    def run(self, task: Any) -> None:
        """Renders all. Raises what the policy does not skip."""
        self._todo.extend(self._policy.admitted())
        self._collect(0.0)  # to those that ended while they were idle
        while self._todo or self._again or any(node.chunks for node in self._nodes.values()):
            self._start_actors()
            self._hand_out(task)
            self._collect(_PULSE)
            if self._policy.errors:
                # but wait for the others, which would otherwise be busy with it in the next job
                self._todo.clear()
                self._again.clear()
        if self._policy.errors:
            raise self._policy.errors[0]

    def _start_actors(self) -> None:
        """Starts an actor on each node that has none; where one was lost, only if there is no other node."""
        if not self._todo and not self._again:
            return
        wanted = [name for name in self._found if name not in self._nodes and name not in self._avoided]
        if not wanted and not self._nodes:
            self._found = self._cluster.found()
            wanted = [name for name in self._found if name not in self._useless]
            if not wanted:
                raise self._cause
        for name in wanted:
            found = self._found[name]
            self._nodes[name] = Node(self._ray, found, self._workers_of(found), self._settings)

    def _hand_out(self, task: Any) -> None:
        """One chunk for each node, then one ahead while there are enough: at the end nobody waits beside a queue."""
        ready = [node for node in self._nodes.values() if node.has_started]
        for depth in range(1, _AHEAD + 1):
            for node in ready:
                enough = self._again or len(self._todo) >= (1 if depth == 1 else self.workers)
                if enough and len(node.chunks) < depth:
                    node.give(task, self._chunk(node))

    def _chunk(self, node: Node) -> list[int]:
        """The next renders for a node: what is tried again, else less the less is left, so that all end together."""
        queue = self._again or self._todo
        rounds = 1 if self._again else len(queue) // (2 * _AHEAD * self.workers)
        size = min(node.workers * min(max(rounds, 1), _ROUNDS), max(self._most, node.workers), len(queue))
        return [queue.popleft() for _ in range(size)]

    def _collect(self, patience: float) -> None:
        """Waits some seconds for an answer, takes all that are there, and gives up silent nodes."""
        # answers come before signs of life: of a node that was lost since, they are good still
        sources = {ref: node for node in self._nodes.values() for ref in (*node.chunks, node.sign)}
        if not sources:
            return
        self._ray.wait([*sources], timeout=patience)
        for ref in self._ray.wait([*sources], num_returns=len(sources), timeout=0)[0]:
            if sources[ref].id in self._nodes:
                self._receive(sources[ref], ref)
        for node in list(self._nodes.values()):
            if node.is_silent(self._policy.deadline):
                self._drop(node, "hangs", "which gave no sign of life", "")

    def _receive(self, node: Node, ref: Any) -> None:
        from ray.exceptions import RayError

        try:
            answer = self._ray.get(ref, timeout=START_DEADLINE)
        except RayError as error:
            self._drop(node, "crashes", f"by {type(error).__name__}", str(error))
            return
        if ref == node.sign:
            node.has_started = True
            node.listen(_PULSE)
        else:
            self._take(node, node.chunks.pop(ref), answer)

    def _take(self, node: Node, renders: list[int], answer: Answer) -> None:
        self._tally.add(**vars(answer.counters))
        for level, text in answer.messages:
            _log.log(level, "%s (on Ray's node %s)", text, node.address)
        if isinstance(answer.value, BlackBoxError):  # the node has tried it twice, and skips what can be skipped
            answer.value.add_note(f"On Ray's node {node.address}.")
            self._policy.errors.append(answer.value)
        else:
            self._out[renders], self._job.failed[renders] = answer.value, answer.failed

    def _drop(self, node: Node, failure: Failure, how: str, note: str) -> None:
        """Ends a node that was lost: what it was at is tried again or given up, what waited there goes elsewhere."""
        self._nodes.pop(node.id).kill()
        self._avoided.add(node.id)
        if not node.has_started:
            self._useless.add(node.id)
            self._cause = WorkerDied(f"No node of Ray's cluster can render: {node.address} did not start, {how}.")
            self._cause.add_note(note)
            _log.warning("Ray's node %s is left out, since its actor did not start, %s", node.address, how)
            _log.info("%s", note)
        present, *waiting = [*node.chunks.values()] or [[]]
        self._todo.extendleft(reversed([n for chunk in waiting for n in chunk]))
        how = f"lost Ray's node {node.address}, {how},"
        for k, n in enumerate(present):
            if self._policy.retries(n, failure, how, workers=k == 0):
                self._again.append(n)
                continue
            error = FAILURES[failure](f"{self._policy.describe(n, how)}, twice; look into Ray's logs for the cause.")
            if note:
                error.add_note(f"Ray says:\n{note}")
            self._policy.give_up([n], error)
