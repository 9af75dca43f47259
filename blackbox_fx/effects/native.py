"""What native libraries do to a process, undone, and what they cost, said."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import logging
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


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def reseed() -> None:
    """Seeds the random numbers of the C library, so that plugins draw the same numbers in every render.

    They are one sequence for the whole process: renders in threads take them from each other.
    """
    for name in ("srand", "srandom", "srand48"):
        getattr(_libc(), name)(1)


@functools.cache
def say_reload(name: str) -> None:
    """Says, once for each effect, that it is slow."""
    logging.getLogger("blackbox_fx").warning(
        "%s keeps something of earlier audio after a reset, so it is loaded again for each render; "
        "`blackbox-fx inspect` shows what that costs.",
        name,
    )
