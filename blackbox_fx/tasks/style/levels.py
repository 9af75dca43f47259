"""Gives a chain the level of a reference, by the one parameter that does nothing but scale, or by a gain behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.effects import Effect, Rack, load
from blackbox_fx.effects.rack import label

Array = NDArray[np.float64]

_MOVED = 0.05  # of a range, by which it is tried what a parameter does
_LEAST_DB = 0.1  # that this must change
_EXACT = 1e-6  # share of power that may be left over
_STEPS, _NEAR_DB = 12, 0.05  # of the search for the level
_SILENT_DB = -120.0
_GAINS_DB = (-60.0, 24.0)  # of the gain behind others


def level(audio: Audio) -> float:
    """Mean power of (channel, time) in dBFS, at least -120."""
    return 10 * float(np.log10(max(float(np.square(audio, dtype=np.float64).mean()), 10 ** (_SILENT_DB / 10))))


@final
class Levelled(NamedTuple):
    """A chain whose level is set.

    Args:
        effects: by label.
        point: their settings in [0, 1], (width,).
        renders: that were made.
    """

    effects: Mapping[str, Effect]
    point: Array
    renders: int


def match_level(
    effects: Mapping[str, Effect], point: Array, audio: Audio, wanted: float, sample_rate: float
) -> Levelled:
    """Effects in series with settings at which a recording has the level that is wanted, or is as near as they reach.

    Only one parameter moves: the last one that does nothing but scale, such as a make-up gain behind a compressor.
    Where there is none, or it does not get there without doing more, a gain called "level", of -60 to 24 dB, does the
    rest behind the others.

    Args:
        effects: by label.
        point: in [0, 1], (width,).
        audio: of the recording, (channel, time).
        wanted: level in dBFS.
        sample_rate: in Hz.
    """
    chain = Rack(effects)
    wet = chain.render(audio, chain.space.decode(point), sample_rate)
    if level(wet) <= _SILENT_DB:
        return Levelled(effects, point, 1)
    missing = wanted - level(wet)
    point, gained, renders = _scaled(chain, point, audio, wet, missing, sample_rate)
    if abs(missing - gained) <= _NEAR_DB:
        return Levelled(effects, point, renders + 1)
    gain = load("pedalboard:Gain")
    own = gain.space.encode({"gain_db": float(np.clip(missing - gained, *_GAINS_DB))})
    return Levelled({**effects, label([*effects, "level"])[-1]: gain}, np.concatenate([point, own]), renders + 1)


def _scaled(
    chain: Effect, point: Array, audio: Audio, wet: Audio, wanted_db: float, sample_rate: float
) -> tuple[Array, float, int]:
    """Settings at which the last parameter that scales has done what it can, its gain, and how many renders it took."""

    def moved(column: int, to: float) -> Array:
        return np.where(np.arange(len(point)) == column, to, point)

    def gain_db(column: int, to: float) -> float | None:
        nonlocal renders
        renders += 1
        return _gain_db(wet, chain.render(audio, chain.space.decode(moved(column, to)), sample_rate))

    renders = 0
    for column in reversed(range(len(point))):
        step = _MOVED if point[column] < 0.5 else -_MOVED
        found = gain_db(column, point[column] + step)
        if found is not None and abs(found) >= _LEAST_DB:
            to, gained = _solve(lambda at, k=column: gain_db(k, at), point[column], found / step, wanted_db)
            return moved(column, to), gained, renders
    return point, 0.0, renders


def _solve(gain_db: Callable[[float], float | None], here: float, slope: float, wanted: float) -> tuple[float, float]:
    """Where a gain in dB is nearest to the one that is wanted, by the secant, as far as it is a gain; and that gain."""
    now, beyond = 0.0, None
    for _ in range(_STEPS):
        if abs(now - wanted) <= _NEAR_DB:
            break
        there = float(np.clip(here + (wanted - now) / slope, 0, 1))
        if beyond is not None and abs(there - here) >= abs(beyond - here) and (there > here) == (beyond > here):
            there = (here + beyond) / 2
        if there == here:
            break
        found = gain_db(there)
        if found is None or abs(found - wanted) > abs(now - wanted):
            beyond = there
            continue
        if found != now:
            slope = (found - now) / (there - here)
        here, now = there, found
    return here, now


def _gain_db(wet: Audio, other: Audio) -> float | None:
    """The gain between two renders; None where they differ in anything else, or one is silent."""
    if min(level(wet), level(other)) <= _SILENT_DB:
        return None
    x, y = wet.astype(np.float64), other.astype(np.float64)
    gain = float(np.vdot(x, y) / np.vdot(x, x))
    scales = gain > 0 and np.square(y - gain * x).sum() <= _EXACT * np.square(y).sum()
    return 20 * float(np.log10(gain)) if scales else None
