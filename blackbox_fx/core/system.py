"""What this operating system offers: cores, signals, and limits that only POSIX systems have."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import select
import signal
from pathlib import Path
from types import ModuleType
from typing import Any


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


resource: Any = _module("resource")  # None on Windows
posix: Any = os  # for functions that Windows lacks, where `has_worker_processes` says that they are there
polling: Any = select  # the same
signals: Any = signal  # the same
KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)


def has_worker_processes() -> bool:
    """Whether worker processes run here: they need the limits, signals and descriptors of Linux or macOS."""
    wanted = ((os, "waitid"), (os, "killpg"), (select, "poll"), (signal, "SIGKILL"))
    return resource is not None and all(hasattr(module, name) for module, name in wanted)


def signal_name(number: int) -> str:
    """A signal in words, such as "SIGSEGV" or "signal 64"."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def kill_group(group: int) -> None:
    """Kills a group of processes; just the process of that number where there are no groups."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        getattr(os, "killpg", os.kill)(group, KILL)


def user() -> str:
    """A name for the user, for files in shared folders."""
    return str(posix.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


@functools.cache
def cores() -> int:
    """How many cores this process should use.

    That is as many as it is allowed to (`os.sched_getaffinity`), shared among the processes that a launcher such as
    torchrun started on this machine (LOCAL_WORLD_SIZE); at least one.
    """
    allowed = len(posix.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed // local_world_size())


def local_world_size() -> int:
    """How many processes a launcher such as torchrun started on this machine; 1 without a launcher."""
    given = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(given)) if given.isdigit() else 1


def threads() -> int:
    """Threads of this process; 0 where that is not known."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 0


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has this number; True if that is unknown."""
    if os.name == "nt":
        return True  # there, os.kill would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
