"""Reverberation moved to where it should be: added to what is dry, taken away from what is wet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.data.normalising.features import decay, decibels
from blackbox_fx.data.normalising.frames import Grid, filtered

WET_DB = (-40.0, 0.0)  # level of the reverberation that is added, relative to the sound
MOST = 2.0  # by how many times falls become steeper, less one
_DEEPEST_DB = 24.0
_REST = 3.0  # how many dB of a fall a rise of one undoes
_ROOMS_S = (0.4, 6.0)
_LONGER = 2.0  # than the decay that is aimed at, which is one of the steeper falls
_HALVINGS = 9
_TAIL_DB = 60.0


def solve(powers: NDArray[np.float32], aim: float, cut: Grid) -> float:
    """How much to add or take away so that the decay is at its aim.

    Args:
        powers: (third-octave band, frame), of an `Analysis`.
        aim: in seconds.
        cut: the frames and bands.

    Returns:
        within [-1, 1]: -1 takes most away, 0 changes nothing, and 1 adds most.
    """
    if decay(powers, cut) > aim:
        falls = _falls(powers)
        low, high = -1.0, 0.0

        def after(amount: float) -> float:
            return decay(powers * _gains(falls, amount) ** 2, cut)

    else:
        tail = _tail(powers, aim, cut)
        low, high = 0.0, 1.0

        def after(amount: float) -> float:
            return decay(powers + tail * np.float32(10 ** (level_db(amount) / 10)), cut)

    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if after(middle) > aim else (middle, high)
    return (low + high) / 2


def level_db(amount: float) -> float:
    """The level of the reverberation that a positive amount adds, relative to the sound."""
    low, high = WET_DB
    return low + (high - low) * amount


def steepness(amount: float) -> float:
    """By how many times a negative amount makes falls steeper; 1 for others."""
    return 1 + MOST * max(-amount, 0.0)


def _room(aim: float) -> float:
    return float(np.clip(_LONGER * aim, *_ROOMS_S))


def _tail(powers: NDArray[np.float32], aim: float, cut: Grid) -> NDArray[np.float32]:
    """The powers of a reverberation of unit energy."""
    from blackbox_fx.core.lazy import scipy

    kept = 10 ** (-_TAIL_DB / 10 * cut.step / _room(aim))
    delayed = np.pad(powers, ((0, 0), (1, 0)))[:, :-1]
    return scipy.signal.lfilter([1 - kept], [1, -kept], delayed, axis=1).astype(np.float32)


def _falls(powers: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how many dB each band has fallen since it last rose, (band, frame)."""
    from blackbox_fx.core.lazy import scipy

    level = decibels(scipy.ndimage.uniform_filter1d(powers, 3, axis=1))
    level = np.maximum(level, level.max() - 2 * _TAIL_DB)
    steps = np.diff(level, axis=1, prepend=level[:, :1])
    steps = np.where(steps < 0, -steps, -_REST * steps).astype(np.float32)
    out = np.empty_like(steps)
    fallen = np.zeros(len(steps), np.float32)
    for frame, step in enumerate(steps.T):
        fallen = np.clip(fallen + step, 0.0, _DEEPEST_DB)
        out[:, frame] = fallen
    return out


def _gains(falls: NDArray[np.float32], amount: float) -> NDArray[np.float32]:
    """Factors that make falls steeper, (band, frame)."""
    gains = 10 ** (np.maximum(falls * np.float32(amount * MOST), -_DEEPEST_DB) / 20)
    return gains.astype(np.float32)


def change(audio: Audio, powers: NDArray[np.float32], amount: float, aim: float, cut: Grid) -> Audio:
    """Adds or takes away reverberation.

    Args:
        audio: (2, time).
        powers: of its `Analysis`.
        amount: as from `solve`.
        aim: in seconds, which is also how long the reverberation that is added takes to fall by 60 dB.
        cut: the frames and bands.
    """
    from blackbox_fx.core.lazy import scipy

    if amount < 0:
        return filtered(audio, _gains(_falls(powers), amount), cut)
    room = _room(aim)
    time = np.arange(round(room * cut.rate)) / cut.rate
    noise = np.random.default_rng(1).standard_normal((2, len(time))) * 10 ** (-_TAIL_DB / 20 * time / room)
    noise *= -np.expm1(-time / 0.002)
    noise = (noise / np.sqrt((noise**2).sum(axis=1, keepdims=True)) * 10 ** (level_db(amount) / 20)).astype(np.float32)
    wet = scipy.signal.oaconvolve(audio, noise, axes=1)[:, : audio.shape[1]]
    return audio + wet.astype(np.float32)
