"""Functions of arrays that numba compiles when they are first called: it takes a second to import."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

_F = TypeVar("_F", bound=Callable[..., Any])
_PATIENCE_S = 60.0  # after which a function is compiled beside whoever compiles


def compiled(function: _F) -> _F:
    """A function of arrays, compiled by numba at its first call, which lets other threads run meanwhile.

    What is compiled is kept beside the module. Of processes that first call it together one compiles, and others wait.
    """

    @functools.cache
    def kernel() -> Any:
        import numba

        return numba.njit(nogil=True, cache=True)(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        found = kernel()
        if getattr(found, "overloads", True):  # a plain function has none, where numba is told not to compile
            return found(*args)
        with alone(Path(found.stats.cache_path) / f"{function.__name__}.lock"):
            return found(*args)

    return cast(_F, call)


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Waits until no other process holds a lock; where that cannot be told, goes on at once."""
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as held:
        with contextlib.suppress(Timeout, OSError, NotImplementedError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(lock, timeout=_PATIENCE_S))
        yield
