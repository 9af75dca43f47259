"""What native libraries do to a process, undone, and what they cost, said."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import logging
import sys
import threading
from collections.abc import Iterator, Sequence


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


# what a library calls that starts threads, and what one calls that reads a clock; editors do the latter, too
_THREADS = (b"pthread_create", b"_M_start_thread", b"thrd_create", b"CreateThread", b"_beginthread")
_CLOCKS = (b"clock_gettime", b"gettimeofday", b"steady_clock", b"system_clock", b"high_resolution_clock")
_EDITORS = (b"XOpenDisplay", b"xcb_connect", b"NSView")


def may_be_slow(library: bytes) -> bool:
    """Whether the code of a plugin may do things by the clock: it names functions for that."""

    def names(words: Sequence[bytes]) -> bool:
        return any(word in library for word in words)

    return names(_THREADS) or (names(_CLOCKS) and not names(_EDITORS))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def reseed() -> None:
    """Seeds the random numbers of the C library, so that plugins draw the same numbers in every render.

    They are one sequence for the whole process: renders in threads take them from each other.
    """
    for name in ("srand", "srandom", "srand48"):
        getattr(_libc(), name)(1)


_RANDOM = tuple(b"\0" + name + b"\0" for name in (b"rand", b"random", b"drand48", b"lrand48", b"mrand48"))


def turn(path: str, library: bytes) -> threading.RLock:
    """The lock under which the plugins of a library run: one after the other, since they may share what it keeps.

    Those that draw random numbers share these with all others that do.

    Args:
        path: of the library.
        library: its code.
    """
    return _turn("random numbers" if any(name in library for name in _RANDOM) else path)


@functools.cache
def _turn(_: str) -> threading.RLock:
    return threading.RLock()


def is_filtered(library: bytes) -> bool:
    """Whether a plugin is made with DPF, whose wrapper passes on only settings that differ from those before."""
    return b"DISTRHO" in library


_M_PERTURB, _TO_ZERO = -6, 255  # of mallopt in the GNU C library
_clearing, _clearing_lock = set[object](), threading.Lock()


@contextlib.contextmanager
def cleared_memory() -> Iterator[None]:
    """Gives plugins zeros for memory that they do not fill, so that a render does not depend on what was there before.

    Where the C library can: that is the GNU one, for all but small pieces. It holds for the whole process, until the
    last thread has left the context.
    """
    if not sys.platform.startswith("linux") or not hasattr(_libc(), "gnu_get_libc_version"):
        yield
        return
    mark = object()
    with _clearing_lock:
        _clearing.add(mark)
        _libc().mallopt(_M_PERTURB, _TO_ZERO)
    try:
        yield
    finally:
        with _clearing_lock:
            _clearing.discard(mark)
            if not _clearing:
                _libc().mallopt(_M_PERTURB, 0)


@functools.cache
def say_reload(name: str) -> None:
    """Says, once for each effect, that it is slow."""
    logging.getLogger("blackbox_fx").warning(
        "%s keeps something of earlier audio after a reset, so it is loaded again for each render; "
        "`blackbox-fx inspect` shows what that costs.",
        name,
    )
