"""A pool on the machines of a Ray cluster; needs `pip install 'blackbox_fx[ray]'`.

Ray moves the audio and lists the nodes. On each node, a `Processes` pool handles faults of plugins.
"""

from __future__ import annotations

import atexit
import collections
import dataclasses
import functools
import importlib.util
import logging
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core import checks, system
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import BlackBoxError, ParameterError, WorkerDied
from blackbox_fx.isolation import limits
from blackbox_fx.runtime.base import Batch, Job, Pool
from blackbox_fx.runtime.counters import Counters, Tally
from blackbox_fx.runtime.policy import FAILURES, Failure, Known, OnFailure, RetryPolicy
from blackbox_fx.runtime.process import START_DEADLINE, portable
from blackbox_fx.runtime.processes import Processes, pickled
from blackbox_fx.runtime.quarantine import Quarantine

_AHEAD = 2  # chunks given to a node at a time: the next is there when one is done
_ROUNDS = 8  # renders of a chunk for each worker of its node, at most
_CHUNK_BYTES = 64 * 2**20  # of outputs in a chunk, unless one render for each worker is more
_PULSE = 1.0  # seconds between two signs of life of a node
_LEAST_SILENCE = 5.0  # seconds without one, at least, until a node is given up: networks and busy machines pause
_MOMENT = 5.0  # seconds in which a node ends its workers
_EFFECTS = 64  # that a node remembers
_log = logging.getLogger("blackbox_fx")


@final
class Ray(Pool):
    """Renders on all nodes of a Ray cluster, in worker processes there.

    On each node that has CPUs in Ray, one actor owns a `Processes` pool, which handles what plugins do: its retries,
    quarantine and reports stay on that node. The audio of a job goes into the object store once. Renders are dealt in
    chunks, so that a node that is faster gets more, and inner products come home rather than audio. Actors start with
    the first job, and each job uses the nodes that are there when it begins.

    A node that is lost, or gives no sign of life for a deadline (five seconds at least), costs the renders it was at a
    second try elsewhere; what it had not begun goes elsewhere as if nothing had been. For a render that loses two
    nodes, `on_failure` says what happens. A node whose actor cannot start, as where blackbox_fx is not installed, is
    left out with a warning.

    Layers do not look ahead here by default: that would send all audio of a gradient back to this node.

    Nodes need blackbox_fx, the plugins, and the modules that effects come from; functions of a script or notebook
    travel. A Ray that runs already is used and left running. In a forked process the pool does not work.

    Args:
        workers: processes on each node; if not given, as many as Ray counts CPUs there, shared among the processes that
            a launcher such as torchrun started.
        deadline: seconds that one render may take, and that a node may be silent; see `Processes`. A minute of silence
            if not given.
        on_failure: "raise" an error for a render that failed twice, or "skip" it; see `Processes`.
        memory_mb: megabytes by which a worker's memory may grow; see `Processes`.
        address: of the cluster, for `ray.init`, where the program did not call that itself. If not given, the one that
            RAY_ADDRESS names, as in a submitted job, else a new one on this machine.

    Attributes:
        workers: processes on all nodes together, as far as they are known.

    Raises:
        ParameterError: an argument out of range, ray not installed, or no cluster at that address.
        WorkerDied, RenderTimeout: a render ended or outlived two workers, or two nodes; or no node can render.
        EffectError, ParameterError, AudioError: what the effect itself raised, with the traceback as a note.
    """

    background = True

    def __init__(
        self,
        workers: int | None = None,
        deadline: float | None = None,
        on_failure: OnFailure = "raise",
        memory_mb: float = 512.0,
        address: str | None = None,
    ) -> None:
        self._each = None if workers is None else checks.whole("workers", workers)
        self.deadline = None if deadline is None else checks.positive("deadline", deadline)
        self.on_failure: OnFailure = checks.one_of("on_failure", on_failure, ("raise", "skip"))
        self.memory_mb = checks.positive("memory_mb", memory_mb)
        self.address = address
        if importlib.util.find_spec("ray") is None:
            raise ParameterError("The Ray pool needs ray: pip install 'blackbox_fx[ray]'.")
        self.workers = self._each or system.cores()
        self._cluster = _Cluster()
        self._lock = threading.Lock()
        self._known = Known()
        self._finalizer = weakref.finalize(self, self._cluster.close)

    def map_into(self, job: Job, out: NDArray[np.float32]) -> None:
        """Runs a job; see `Pool.map`."""
        self._run(job, None, None, out)

    def project_into(
        self, job: Job, cotangent: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]
    ) -> None:
        """Runs a job; see `Pool.project`."""
        self._run(job, cotangent, stretch, out)

    def _run(self, job: Job, cotangent: Batch | None, stretch: int | None, out: NDArray[Any]) -> None:
        fields = {name: getattr(job, name) for name in ("audio", "points", "items", "sample_rate", "hop", "is_checked")}
        task = _Task(pickled(job.effect)[1], limits.search_path(), fields, dict(job.inputs), cotangent, stretch)
        policy = RetryPolicy(job, "", self._known, Quarantine(), self.tally, self.deadline, self.on_failure)
        with self._lock:
            self._cluster.connect(self.address)
            settings = self.deadline, self.on_failure, self.memory_mb
            deal = _Dispatch(self._cluster, policy, job, out, self._each, settings, self.tally)
            self.workers = deal.workers
            try:
                deal.run(self._cluster.ray.put(task))
            except BaseException:
                self._cluster.end_busy()  # Ctrl-C among others: nobody waits for what they are at
                raise

    def close(self) -> None:
        """Ends the actors and their workers, and Ray itself if this pool started it."""
        super().close()
        with self._lock:
            self._cluster.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Ray, (self._each, self.deadline, self.on_failure, self.memory_mb, self.address)


@final
@dataclasses.dataclass(frozen=True)
class _Task:
    """A job as it lies in the object store.

    Args:
        recipe: the effect, pickled.
        path: where the program at home looks for modules; nodes do so too, after their own places.
        fields, inputs: the rest of the job.
        cotangent, stretch: what to project on, see `Pool.project`; None for outputs.
    """

    recipe: bytes
    path: Sequence[str]
    fields: Mapping[str, Any]
    inputs: Mapping[str, Batch]
    cotangent: Batch | None
    stretch: int | None

    def job(self, renders: NDArray[np.int64]) -> Job:
        """Some of the renders, as a job."""
        sys.path.extend(place for place in self.path if place not in sys.path)
        return Job(_effect(self.recipe), **self.fields, inputs=self.inputs).part(renders)


@functools.lru_cache(_EFFECTS)
def _effect(recipe: bytes) -> Effect:
    return pickle.loads(recipe)


@final
@dataclasses.dataclass(frozen=True)
class _Answer:
    """What a node says of a chunk: outputs or inner products or an error, which failed, counts, and what was logged."""

    value: NDArray[Any] | BlackBoxError
    failed: NDArray[np.bool_] | None
    counters: Counters
    messages: Sequence[tuple[int, str]]


@final
class _RenderHost(logging.Handler):
    """The actor on a node. It also takes what is logged there, which Ray would not always show.

    Args:
        workers, deadline, on_failure, memory_mb: of its pool.
    """

    def __init__(self, workers: int, deadline: float | None, on_failure: OnFailure, memory_mb: float) -> None:
        super().__init__()
        self._pool = Processes(workers, deadline, on_failure, memory_mb)
        self._messages: list[tuple[int, str]] = []
        _log.addHandler(self)
        _log.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a message for the next answer."""
        self._messages.append((record.levelno, record.getMessage()))

    def live(self, seconds: float) -> None:
        """Gives a sign of life after some seconds."""
        time.sleep(seconds)

    def render(self, task: _Task, renders: NDArray[np.int64]) -> _Answer:
        """Renders a chunk."""
        self._pool.reset_counters()
        self._messages.clear()
        failed = None
        try:
            job = task.job(renders)
            cotangent, stretch = task.cotangent, task.stretch
            value = self._pool.map(job) if cotangent is None else self._pool.project(job, cotangent, stretch)
            failed = job.failed
        except Exception as error:
            value = error if isinstance(error, BlackBoxError) else portable(error)
        return _Answer(value, failed, self._pool.counters, list(self._messages))

    def end(self) -> None:
        """Ends the workers."""
        self._pool.close()


@final
class _Node:
    """A node of the cluster, as seen from home: its actor, and what it was asked to do.

    Args:
        ray: the library.
        found: the node as `ray.nodes` describes it.
        workers: processes on it.
        settings: deadline, on_failure and memory_mb of their pool.

    Attributes:
        has_started: whether its actor answered once.
        chunks: the renders that it was given, by the references of their answers, the present ones first.
        sign: reference of its next sign of life.
    """

    def __init__(self, ray: Any, found: Mapping[str, Any], workers: int, settings: tuple[Any, ...]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.id, self.address, self.workers = found["NodeID"], found["NodeManagerAddress"], workers
        self._ray = ray
        # beside the renders, a thread gives signs of life, even while the audio of a chunk is on its way
        groups, here = {"life": 1, "renders": 1}, NodeAffinitySchedulingStrategy(self.id, soft=False)
        options = {"num_cpus": 0, "max_concurrency": 2, "concurrency_groups": groups, "scheduling_strategy": here}
        self._actor = ray.remote(**options)(_RenderHost).remote(workers, *settings)
        self.has_started = False
        self.chunks: dict[Any, list[int]] = {}
        self.listen(0.0)

    def listen(self, seconds: float) -> None:
        """Asks for a sign of life within some seconds."""
        self.sign = self._actor.live.options(concurrency_group="life").remote(seconds)
        self._due = time.monotonic() + seconds

    def give(self, task: Any, renders: list[int]) -> None:
        """Asks for a chunk."""
        answer = self._actor.render.options(concurrency_group="renders").remote(task, np.array(renders))
        self.chunks[answer] = renders

    def is_silent(self, deadline: float) -> bool:
        """Whether its sign of life is late by a deadline."""
        patience = max(deadline, _LEAST_SILENCE) if self.has_started else START_DEADLINE
        return time.monotonic() > self._due + patience

    def end(self) -> Any:
        """Asks it to end its workers. Returns the reference of its answer."""
        return self._actor.end.options(concurrency_group="renders").remote()

    def kill(self) -> None:
        """Ends its actor; the workers end with it."""
        self._ray.kill(self._actor)


@final
class _Cluster:
    """Ray as a pool uses it.

    Attributes:
        ray: the library, once it is connected.
        nodes: those with an actor, by their names in Ray.
    """

    def __init__(self) -> None:
        self.ray: Any = None
        self.nodes: dict[str, _Node] = {}
        self._pid, self._session, self._is_ours = 0, ("", ""), False

    def connect(self, address: str | None) -> None:
        """Connects to Ray, and starts it if need be."""
        if self._pid not in (0, os.getpid()):
            raise ParameterError("A Ray pool does not work in a forked process; use Processes there.")
        import ray

        self._pid, self.ray = os.getpid(), ray
        atexit.unregister(self.close)
        atexit.register(self.close)  # after the import, so that it comes before what Ray does at the end
        if not self.ray.is_initialized():
            try:
                quiet = {"log_to_driver": False, "include_dashboard": False, "logging_level": logging.ERROR}
                self.ray.init(address or os.environ.get("RAY_ADDRESS") or "local", **quiet)
            except (ConnectionError, ValueError, RuntimeError) as error:
                where = "" if address is None else f" at {address}"
                raise ParameterError(f"Ray cannot be reached{where} ({error}); give an address where it is.") from error
            self._is_ours = True
        if self._now() != self._session:  # the actors of an earlier one ended with it
            self.nodes.clear()
            self._session = self._now()

    def _now(self) -> tuple[str, str]:
        """Names this program's connection to Ray; jobs are numbered separately in each cluster."""
        context = self.ray.get_runtime_context()
        return context.get_node_id(), context.get_job_id()

    def found(self) -> dict[str, Any]:
        """The nodes that are alive and may compute."""
        return {x["NodeID"]: x for x in self.ray.nodes() if x["Alive"] and x["Resources"].get("CPU", 0)}

    def end_busy(self) -> None:
        """Ends the actors that still render."""
        for node in list(self.nodes.values()):
            if node.chunks:
                self.nodes.pop(node.id).kill()

    def close(self) -> None:
        """Ends all actors, and Ray if it was started here; nothing in a forked process."""
        atexit.unregister(self.close)
        if self._pid != os.getpid() or not self.ray.is_initialized():
            return
        if self._now() == self._session:
            ends = [node.end() for node in self.nodes.values()]
            if ends:
                self.ray.wait(ends, num_returns=len(ends), timeout=_MOMENT)
            for node in self.nodes.values():
                node.kill()
            if self._is_ours:
                self.ray.shutdown()
        self.nodes.clear()
        self._is_ours = False


@final
class _Dispatch:
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
        cluster: _Cluster,
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
            self._nodes[name] = _Node(self._ray, found, self._workers_of(found), self._settings)

    def _hand_out(self, task: Any) -> None:
        """One chunk for each node, then one ahead while there are enough: at the end nobody waits beside a queue."""
        ready = [node for node in self._nodes.values() if node.has_started]
        for depth in range(1, _AHEAD + 1):
            for node in ready:
                enough = self._again or len(self._todo) >= (1 if depth == 1 else self.workers)
                if enough and len(node.chunks) < depth:
                    node.give(task, self._chunk(node))

    def _chunk(self, node: _Node) -> list[int]:
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

    def _receive(self, node: _Node, ref: Any) -> None:
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

    def _take(self, node: _Node, renders: list[int], answer: _Answer) -> None:
        self._tally.add(**vars(answer.counters))
        for level, text in answer.messages:
            _log.log(level, "%s (on Ray's node %s)", text, node.address)
        if isinstance(answer.value, BlackBoxError):  # the node has tried it twice, and skips what can be skipped
            answer.value.add_note(f"On Ray's node {node.address}.")
            self._policy.errors.append(answer.value)
        else:
            self._out[renders], self._job.failed[renders] = answer.value, answer.failed

    def _drop(self, node: _Node, failure: Failure, how: str, note: str) -> None:
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
