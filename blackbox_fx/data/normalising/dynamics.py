"""Dynamics moved to where they should be: gains that follow the level, slowly and quickly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.data.normalising.features import Blocks, block_levels, crest, decibels, level_range
from blackbox_fx.data.normalising.frames import Array

SLOPES = (-1.5, 0.9)  # below 0, differences in level grow
_SLOW_S, _FAST_S, _SMOOTH_S = 0.4, 0.012, 0.006
_QUIET_DB = 32.0  # below the mean; what is quieter is treated as that loud, and is not lifted
_FADE_DB = 10.0  # above that, in which lifts begin
_SWELL_DB = 6.0  # most that what is loud gets louder by
_GAIN_DB = 24.0
LIMITED_DB = 24.0  # most that a limiter takes off peaks
_LOOKAHEAD_S = 0.006
_GRID, _HALVINGS = 15, 7
_ROUNDS = 2
_PIECE = 2**20  # samples that get their gain at a time


class Slopes(NamedTuple):
    """How much of a difference in level is taken away: between phrases, and within 0.4 s; then off the highest peaks.

    Args:
        slow: share, within `SLOPES`.
        fast: share, within `SLOPES`.
        limited_db: by how much the highest peak is lowered, [0, 24].
    """

    slow: float
    fast: float
    limited_db: float = 0.0


def _smooth(values: Array, seconds: float, step: float) -> Array:
    from blackbox_fx.core.lazy import scipy

    size = max(round(seconds / step), 1)
    window = np.hanning(size + 2)[1:-1]
    return scipy.ndimage.convolve1d(values, window / window.sum(), mode="nearest")


class Levels:
    """The levels of a stem, and what becomes of them.

    Args:
        blocks: of the stem.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        slow = decibels(_smooth(blocks.powers, _SLOW_S, blocks.step))
        fast = decibels(_smooth(blocks.powers, _FAST_S, blocks.step))
        mean = decibels(blocks.powers[slow > slow.max() - _QUIET_DB].mean())
        slow, fast = np.maximum(slow, mean - _QUIET_DB), np.maximum(fast, mean - _QUIET_DB)
        self.slow, self.fast = slow - mean, fast - slow

    def gains(self, slopes: Slopes) -> Array:
        """The gain of each block, in dB."""
        slow = -slopes.slow * self.slow
        if slopes.slow > 0:
            slow *= np.clip((self.slow + _QUIET_DB) / _FADE_DB, 0.0, 1.0)
        else:
            slow = np.minimum(slow, _SWELL_DB)
        raw = slow - slopes.fast * self.fast
        gains = _smooth(np.clip(raw, -_GAIN_DB, _GAIN_DB), _SMOOTH_S, self.blocks.step)
        if slopes.limited_db > 0:
            peaks = gains + decibels(self.blocks.peaks**2)
            gains = gains + limiting(peaks, peaks.max() - slopes.limited_db, self.blocks.step)
        return gains

    def crest_after(self, slopes: Slopes) -> float:
        """Crest factor after the gains, in dB."""
        gains = 10 ** (self.gains(slopes) / 20)
        return crest(self.blocks.peaks * gains, self.blocks.powers * gains**2, self.blocks.step)

    def range_after(self, slopes: Slopes) -> float:
        """Range of levels after the gains, in dB."""
        return level_range(self.blocks.powers * 10 ** (self.gains(slopes) / 10), self.blocks.step)


def limiting(peaks_db: Array, ceiling_db: float, step: float) -> Array:
    """Gains in dB that keep the peaks of blocks at or below a ceiling.

    Args:
        peaks_db: of blocks.
        ceiling_db: for them.
        step: seconds between blocks.
    """
    from blackbox_fx.core.lazy import scipy

    wanted = np.minimum(0.0, ceiling_db - peaks_db)
    width = max(round(_LOOKAHEAD_S / step), 1)
    held = scipy.ndimage.minimum_filter1d(wanted, 2 * width + 3, mode="nearest")
    window = np.hanning(2 * width + 3)[1:-1]
    return scipy.ndimage.convolve1d(held, window / window.sum(), mode="nearest")


def solve(audio: Audio, rate: float, crest_db: float, range_db: float) -> Slopes:
    """The slopes after which crest factor and range of levels are at their aims, as far as the limits let them.

    Args:
        audio: (2, time).
        rate: in Hz.
        crest_db: the aim; NaN leaves it.
        range_db: the same.
    """
    levels = Levels(block_levels(audio, rate))
    slopes = Slopes(0.0, 0.0)
    for _ in range(_ROUNDS):
        if math.isfinite(range_db):
            slow = _nearest(lambda s, now=slopes: levels.range_after(now._replace(slow=s)) - range_db, SLOPES)
            slopes = slopes._replace(slow=slow)
        if math.isfinite(crest_db):
            fast = _nearest(lambda f, now=slopes: levels.crest_after(now._replace(fast=f)) - crest_db, SLOPES)
            slopes = slopes._replace(fast=fast)
    if levels.crest_after(slopes) > crest_db:
        ends = 0.0, LIMITED_DB
        limited = _nearest(lambda d, now=slopes: levels.crest_after(now._replace(limited_db=d)) - crest_db, ends)
        slopes = slopes._replace(limited_db=limited)
    return slopes


def _nearest(missed: Callable[[float], float], ends: tuple[float, float]) -> float:
    """Where a measure misses its aim least; of several places without a miss, the one nearest to 0."""
    low, high = ends
    grid = np.concatenate([low * np.linspace(1, 0, _GRID)[:-1] ** 2, high * np.linspace(0, 1, _GRID)])
    found = np.array([missed(float(at)) for at in grid])
    crossed = np.flatnonzero(np.sign(found[:-1]) != np.sign(found[1:]))
    if not len(crossed):
        return float(grid[np.argmin(np.abs(found))])
    k = crossed[np.argmin(np.abs(grid[crossed] + grid[crossed + 1]))]
    low, high, sign = float(grid[k]), float(grid[k + 1]), np.sign(found[k])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if np.sign(missed(middle)) == sign else (low, middle)
    return (low + high) / 2


def level(audio: Audio, rate: float, slopes: Slopes) -> Audio:
    """Stereo audio (2, time) with the gains of these slopes."""
    blocks = block_levels(audio, rate)
    return apply(audio, Levels(blocks).gains(slopes), blocks.step * rate)


def apply(audio: Audio, gains_db: Array, size: float) -> Audio:
    """Audio with gains of blocks of `size` samples, which glide from the centre of one to that of the next."""
    out = np.empty_like(audio)
    centres = (np.arange(len(gains_db)) + 0.5) * size
    for start in range(0, audio.shape[1], _PIECE):
        piece = audio[:, start : start + _PIECE]
        gains = np.interp(np.arange(start, start + piece.shape[1]), centres, gains_db)
        out[:, start : start + _PIECE] = piece * (10 ** (gains / 20)).astype(np.float32)
    return out
