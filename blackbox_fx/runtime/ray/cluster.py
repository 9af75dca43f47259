"""A Ray cluster and its nodes, as seen from the program that renders there."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from blackbox_fx.errors import ParameterError
from blackbox_fx.runtime.process import START_DEADLINE
from blackbox_fx.runtime.ray.actor import RenderHost

_LEAST_SILENCE = 5.0  # seconds without one, at least, until a node is given up: networks and busy machines pause
_MOMENT = 5.0  # seconds in which a node ends its workers


@final
class Node:
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
        self._actor = ray.remote(**options)(RenderHost).remote(workers, *settings)
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
class Cluster:
    """Ray as a pool uses it.

    Attributes:
        ray: the library, once it is connected.
        nodes: those with an actor, by their names in Ray.
    """

    def __init__(self) -> None:
        self.ray: Any = None
        self.nodes: dict[str, Node] = {}
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
