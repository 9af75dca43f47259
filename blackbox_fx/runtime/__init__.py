"""Pools: where renders run. Nothing here imports torch, so that a worker process stays small and starts fast."""

from blackbox_fx.runtime.ahead import Ahead as Ahead
from blackbox_fx.runtime.base import Job as Job
from blackbox_fx.runtime.base import Pool as Pool
from blackbox_fx.runtime.counters import Counters as Counters
from blackbox_fx.runtime.processes import Processes as Processes
from blackbox_fx.runtime.processes import shared_pool as shared_pool
from blackbox_fx.runtime.ray.pool import Ray as Ray
from blackbox_fx.runtime.threads import Inline as Inline
from blackbox_fx.runtime.threads import Threads as Threads
