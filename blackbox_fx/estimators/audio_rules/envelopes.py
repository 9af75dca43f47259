"""One-pole followers with an attack and a release, forwards and backwards; compiled on first use."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F) -> _F:
    """Compiles a function of arrays with numba when it is first called: numba takes a second to import."""

    @functools.cache
    def kernel() -> Callable[..., Any]:
        import numba

        return numba.njit(nogil=True, cache=True)(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return kernel()(*args)

    return cast(_F, call)


@compiled
def follow(level: Floats, attack: float, release: float) -> tuple[Floats, Floats]:
    """The envelope e(t) = c(t) e(t-1) + (1 - c(t)) level(t), and c(t).

    c(t) is `attack` while the level is above the envelope, else `release`, both in [0, 1). All (channel, time).
    """
    envelope, keeps = np.empty_like(level), np.empty_like(level)
    for channel in range(level.shape[0]):
        e = 0.0
        for t in range(level.shape[1]):
            keep = attack if level[channel, t] > e else release
            e = keep * e + (1.0 - keep) * level[channel, t]
            envelope[channel, t], keeps[channel, t] = e, keep
    return envelope, keeps


@compiled
def smooth(change: Floats, keeps: Floats) -> Floats:
    """What a change of the level does to the envelope."""
    out = np.empty_like(change)
    for channel in range(change.shape[0]):
        e = 0.0
        for t in range(change.shape[1]):
            keep = keeps[channel, t]
            e = keep * e + (1.0 - keep) * change[channel, t]
            out[channel, t] = e
    return out


@compiled
def smooth_back(cotangent: Floats, keeps: Floats) -> Floats:
    """The transpose of `smooth`."""
    out = np.empty_like(cotangent)
    for channel in range(cotangent.shape[0]):
        carried = 0.0
        for t in range(cotangent.shape[1] - 1, -1, -1):
            carried += cotangent[channel, t]
            out[channel, t] = (1.0 - keeps[channel, t]) * carried
            carried *= keeps[channel, t]
    return out
