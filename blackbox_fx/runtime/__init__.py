"""Pools: where renders run. Nothing here imports torch, so that a worker process stays small and starts fast."""

from blackbox_fx.runtime.ahead import Ahead
from blackbox_fx.runtime.base import Job, Pool
from blackbox_fx.runtime.counters import Counters
from blackbox_fx.runtime.processes import Processes, shared_pool
from blackbox_fx.runtime.threads import Inline, Threads

__all__ = ["Ahead", "Counters", "Inline", "Job", "Pool", "Processes", "Threads", "shared_pool"]
