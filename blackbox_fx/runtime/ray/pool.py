"""The pool on a Ray cluster.

Ray moves the audio and lists the nodes. On each node, a `Processes` pool handles faults of plugins.
"""

from __future__ import annotations

import importlib.util
import threading
import weakref
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core import checks, system
from blackbox_fx.errors import ParameterError
from blackbox_fx.isolation import limits
from blackbox_fx.runtime.base import Batch, Job, Pool
from blackbox_fx.runtime.policy import Known, OnFailure, RetryPolicy
from blackbox_fx.runtime.processes import pickled
from blackbox_fx.runtime.quarantine import Quarantine
from blackbox_fx.runtime.ray.actor import Task
from blackbox_fx.runtime.ray.cluster import Cluster
from blackbox_fx.runtime.ray.dispatch import Dispatch


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
        self._cluster = Cluster()
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
        task = Task(pickled(job.effect)[1], limits.search_path(), fields, dict(job.inputs), cotangent, stretch)
        policy = RetryPolicy(job, "", self._known, Quarantine(), self.tally, self.deadline, self.on_failure)
        with self._lock:
            self._cluster.connect(self.address)
            settings = self.deadline, self.on_failure, self.memory_mb
            deal = Dispatch(self._cluster, policy, job, out, self._each, settings, self.tally)
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
