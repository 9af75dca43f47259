"""Functions of arrays that numba compiles when they are first called: it takes a second to import."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F) -> _F:
    """A function of arrays, compiled by numba at its first call, which lets other threads run meanwhile."""

    @functools.cache
    def kernel() -> Callable[..., Any]:
        import numba

        return numba.njit(nogil=True, cache=True)(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return kernel()(*args)

    return cast(_F, call)
