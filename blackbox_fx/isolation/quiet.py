"""Keeps what native code prints in this process away from the user's terminal."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterator
from typing import final

from blackbox_fx.core import system
from blackbox_fx.isolation import limits

_STREAMS = (1, 2)


@final
class _Diversion:
    """The standard output and error of this process, which go to `plugins.log` while anyone is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._kept: list[int] = []

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(AttributeError, ValueError, OSError):
                        stream.flush()
                self._kept = [os.dup(fd) for fd in _STREAMS]
                for fd in _STREAMS:
                    os.dup2(_log(), fd)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for fd, kept in zip(_STREAMS, self._kept, strict=True):
                    os.dup2(kept, fd)
                    os.close(kept)


@functools.cache
def _log() -> int:
    """Opened once; plugins complain in their destructors, too, when the process ends."""
    log = limits.open_log()
    atexit.register(os.dup2, log, _STREAMS[1])
    return log


_DIVERSION = _Diversion()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What native code prints meanwhile goes to `plugins.log` in the user's cache folder.

    What Python prints from other threads goes there, too. Worker processes have such a log anyway; there, and where
    the standard streams are closed, this does nothing.
    """
    if limits.in_worker() or not _are_open():
        yield
        return
    _DIVERSION.enter()
    try:
        yield
    finally:
        _DIVERSION.leave()


def _are_open() -> bool:
    try:
        for fd in _STREAMS:
            system.posix.fstat(fd)
    except OSError:
        return False
    return True
