"""Sets the one parameter of a chain that does nothing but scale, so that it gives the level of a reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.effects import Effect

Array = NDArray[np.float64]

_MOVED = 0.05  # of a range, by which it is tried what a parameter does
_LEAST_DB = 0.1  # that this must change
_EXACT = 1e-6  # share of power that may be left over
_STEPS, _NEAR_DB = 4, 0.05  # of the search for the level
_SILENT_DB = -120.0


def level(audio: Audio) -> float:
    """Mean power of (channel, time) in dBFS, at least -120."""
    return 10 * float(np.log10(max(float(np.square(audio, dtype=np.float64).mean()), 10 ** (_SILENT_DB / 10))))


def match_level(chain: Effect, point: Array, audio: Audio, wanted: float, sample_rate: float) -> Array:
    """Settings of a chain at which a recording has the level that is wanted, or is as near as the range allows.

    Only one parameter moves: the last one that does nothing but scale, such as a make-up gain behind a compressor, so
    that the sound stays what it is. Where there is none, the point is returned as it is.

    Args:
        chain: to set.
        point: in [0, 1], (width,).
        audio: of the recording, (channel, time).
        wanted: level in dBFS.
        sample_rate: in Hz.
    """

    def render(at: Array) -> Audio:
        return chain.render(audio, chain.space.decode(at), sample_rate)

    def moved(column: int, to: float) -> Array:
        return np.where(np.arange(len(point)) == column, np.clip(to, 0, 1), point)

    wet = render(point)
    for column in reversed(range(len(point))):
        step = _MOVED if point[column] < 0.5 else -_MOVED
        gain = _gain(wet, render(moved(column, point[column] + step)))
        if gain is not None:
            break
    else:
        return point
    here, slope = point[column], 20 * np.log10(gain) / step
    now = level(wet)
    for _ in range(_STEPS):
        if abs(now - wanted) <= _NEAR_DB:
            break
        there = float(np.clip(here + (wanted - now) / slope, 0, 1))
        if there == here:
            break
        found = level(render(moved(column, there)))
        if found != now:
            slope = (found - now) / (there - here)
        here, now = there, found
    return moved(column, here)


def _gain(wet: Audio, other: Audio) -> float | None:
    """The factor between two renders that differ in nothing else; None where they do, or where it is about one."""
    if min(level(wet), level(other)) <= _SILENT_DB:
        return None
    x, y = wet.astype(np.float64), other.astype(np.float64)
    gain = float(np.vdot(x, y) / np.vdot(x, x))
    if gain <= 0 or abs(20 * np.log10(gain)) < _LEAST_DB:
        return None
    return gain if np.square(y - gain * x).sum() <= _EXACT * np.square(y).sum() else None
