"""What native libraries do to a process, undone."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
from collections.abc import Iterator


@functools.cache
def _libm() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("m"))


@contextlib.contextmanager
def same_arithmetic() -> Iterator[None]:
    """Undoes what libraries built with -ffast-math do on loading: they turn subnormal numbers off for the thread."""
    state = ctypes.create_string_buffer(256)  # a fenv_t, of at most 40 bytes on known systems
    _libm().fegetenv(state)
    try:
        yield
    finally:
        _libm().fesetenv(state)
