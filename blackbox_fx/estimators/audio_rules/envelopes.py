"""One-pole followers with an attack and a release, forwards and backwards; compiled on first use."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@numba.njit(nogil=True, cache=True)
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


@numba.njit(nogil=True, cache=True)
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


@numba.njit(nogil=True, cache=True)
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
