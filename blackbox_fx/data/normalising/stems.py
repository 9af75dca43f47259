"""A stem made as its kind is on average, whatever effects it has been through."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, final

import numpy as np

from blackbox_fx.audio import Audio, check_audio, check_sample_rate
from blackbox_fx.audio.loudness import loudness, true_peaks
from blackbox_fx.data.normalising import dynamics, placing, tails
from blackbox_fx.data.normalising.dynamics import Slopes
from blackbox_fx.data.normalising.features import SILENCE_LUFS, StemFeatures, decay, features, to_stereo
from blackbox_fx.data.normalising.frames import OCTAVES_HZ, Analysis, Array, Grid, analyse, grid
from blackbox_fx.data.normalising.placing import Aim, Moves
from blackbox_fx.errors import DataError

CEILING_DBTP = -1.0
_LIMITED_DB = 6.0  # most that peaks are lowered by to get there; beyond that, the whole is
_MARGIN_DB = 0.1  # between what this meter finds and what others do
_ROUNDS, _PASSES = 3, 4
_DC = 0.01  # of the RMS level, from which on it is taken out
_REACH = 0.7  # how much of what is missing after a pass is added to the aim of the next
_HALF = 3.0  # tolerances that count as half of being far off
_LEAST_GAIN = 0.1  # in distance, below which nothing is done
_FARTHEST = 12.0  # how far an aim may move from the average
_BANDS = len(OCTAVES_HZ)
_TOLERANCES = np.array([0.3, *[1.0] * _BANDS, *[1.0] * _BANDS, *[1.5] * _BANDS, 0.5, 1.0, 0.15])
_WEIGHTS = np.array([1.0, *[1 / _BANDS] * (3 * _BANDS), 1.0, 1.0, 1.0])
_SPECTRUM, _PAN, _WIDTH = (slice(1 + k * _BANDS, 1 + (k + 1) * _BANDS) for k in range(3))
_CREST, _RANGE, _DECAY = -3, -2, -1


@final
@dataclasses.dataclass(frozen=True)
class EffectChanges:
    """What was done to a stem.

    Args:
        gain_db: of the whole.
        spectrum_db: gain of each of ten octaves, 31.25 Hz to 16 kHz.
        pan_db: gain of the left side in each octave; that of the right is the opposite.
        width_db: gain of the difference between the sides in each octave.
        spread_db: level of a difference made from the middle, relative to the middle, in each octave; -100 for none.
        turned: by how many degrees left and right were turned, where a side was silent or nearly so; else 0.
        reverberation_db: level of the reverberation that was added, relative to the stem; -inf for none.
        shortened: by how many times falls were made steeper, 1 for none.
        phrase_ratio: of a compressor of levels over 0.4 s; below 1, differences grow.
        note_ratio: of a compressor of levels within that.
        limited_db: by how much the highest peak was lowered.
    """

    gain_db: float
    spectrum_db: tuple[float, ...]
    pan_db: tuple[float, ...]
    width_db: tuple[float, ...]
    spread_db: tuple[float, ...]
    turned: float
    reverberation_db: float
    shortened: float
    phrase_ratio: float
    note_ratio: float
    limited_db: float


class NormalisedStem(NamedTuple):
    """A stem after normalisation.

    Args:
        audio: (channel, time), float32, of as many channels and samples as before.
        before: its features before.
        after: and now.
        changes: what was done, one after the other; none if it was left alone, bit for bit.
    """

    audio: Audio
    before: StemFeatures
    after: StemFeatures
    changes: tuple[EffectChanges, ...]


class _Done(NamedTuple):
    """A pass: its audio, and what led to it."""

    audio: Audio
    moves: Moves
    slopes: Slopes
    tail: float
    gain_db: float
    limited_db: float


def normalise_effects(audio: Any, sample_rate: float, normal: StemFeatures) -> NormalisedStem:
    """Moves a stem's loudness, spectrum, place, width, dynamics and reverberation to where they are on average.

    Wet stems then stand in for dry ones: what an engineer did to each is gone as far as it shows in these features. A
    stem that is within 0.3 LU, 1 dB in each octave, 1 dB of place, 1.5 dB of width, 0.5 dB of crest factor, 1 dB of
    range and a tenth of decay is returned as it is, bit for bit, and so is one that cannot be brought much closer. The
    true peak of any other is -1 dBTP at most.

    Octaves are lifted by 30 dB at most over the strongest, and less where they are weak, so that noise stays below. A
    mono stem stays mono, its place and width are left alone, and it is as loud as it sounds on both sides of a mix.
    Memory is some copies of the stem, and time is proportional to its length.

    Args:
        audio: (channel, time), mono or stereo, floating point.
        sample_rate: in Hz.
        normal: the average, such as `EffectAverages.of` gives for a role; what is NaN in it is left alone.

    Returns:
        the stem, its features before and after, and what was done. A silent stem, below -70 LUFS, is left alone.

    Raises:
        AudioError: bad audio or sample rate, or more than two channels.
        DataError: an average without loudness.

    References:
        "Automatic music mixing with deep learning and out-of-domain data" (Martínez-Ramírez et al., ISMIR 2022).
    """
    rate, given = check_sample_rate(sample_rate), check_audio(audio)
    if not math.isfinite(normal.loudness):
        raise DataError(f"The average has a loudness of {normal.loudness}; take one of stems that are not silent.")
    first = now = _round(given, rate, normal)
    changes: list[EffectChanges] = []
    while now.changes:
        changes += now.changes
        if len(changes) == _ROUNDS:
            break
        now = _round(now.audio, rate, normal)
    return NormalisedStem(now.audio, first.before, now.after, tuple(changes))


def _round(given: Audio, rate: float, normal: StemFeatures) -> NormalisedStem:
    """One change, or none where it would bring the stem hardly closer."""
    x, cut, target = to_stereo(given), grid(rate), normal.vector()
    found = analyse(x, cut)
    before = features(x, found, cut)
    target[-3:][np.isnan(before.vector()[-3:])] = np.nan
    off = np.abs(np.nan_to_num(before.vector() - target)) > _TOLERANCES
    off[_SPECTRUM] &= before.vector()[_SPECTRUM] > placing.LEAST_DB
    if len(given) == 1:
        target[_PAN] = target[_WIDTH] = np.nan
        off[_PAN] = off[_WIDTH] = False
    left = NormalisedStem(given, before, before, ())
    if before.loudness <= SILENCE_LUFS or not off.any():
        return left
    x = _without_offset(x)
    if loudness(x, rate) <= SILENCE_LUFS:
        return left
    turn = placing.angle(found.spectra) if np.isfinite(target[_PAN]).any() else 0.0
    best, after = _passes(x, found, target, turn, cut)
    if _distance(before, target) - _distance(after, target) < _LEAST_GAIN:
        return left
    return NormalisedStem(best.audio[: len(given)], before, after, (_changes(best, turn),))


def _distance(found: StemFeatures, target: Array) -> float:
    """How far features are from where they should be: near 1 for each that is far off, near 0 for each that is not."""
    missed = np.abs(np.nan_to_num(target - found.vector())) / _TOLERANCES
    return float(_WEIGHTS @ (missed / (missed + _HALF)))


def _passes(x: Audio, found: Analysis, target: Array, turn: float, cut: Grid) -> tuple[_Done, StemFeatures]:
    """The best of several passes, each of which aims at what the one before has missed."""
    aims, least = target.copy(), math.inf
    best, after = None, None
    for _ in range(_PASSES):
        done = _pass(x, found, aims, turn, cut)
        now = features(done.audio, analyse(done.audio, cut), cut)
        missed = np.nan_to_num(target - now.vector())
        off = _distance(now, target)
        if off < least:
            best, least, after = done, off, now
        if (np.abs(missed) < _TOLERANCES / 2).all():
            break
        aims = np.clip(aims + _REACH * missed, target - _FARTHEST, target + _FARTHEST)
    assert best is not None and after is not None
    return best, after


def _without_offset(x: Audio) -> Audio:
    """Audio without the mean of each channel, if it is more than a hundredth of the level."""
    mean = x.mean(axis=1, keepdims=True, dtype=np.float64)
    level = np.sqrt(np.mean(x.astype(np.float64) ** 2))
    return (x - mean * (np.abs(mean) > _DC * level)).astype(np.float32)


def _pass(x: Audio, found: Analysis, aims: Array, turn: float, cut: Grid) -> _Done:
    tail, aim = 0.0, float(2 ** aims[_DECAY])
    if abs(math.log2(decay(found.powers, cut) / aim)) > _TOLERANCES[_DECAY] / 2:
        tail = tails.solve(found.powers, aim, cut)
        x = tails.change(x, found.powers, tail, aim, cut)
        found = analyse(x, cut)
    moves = placing.solve(found.spectra, Aim(aims[_SPECTRUM], aims[_PAN], aims[_WIDTH]), turn, cut)
    x = placing.place(x, placing.matrix(moves, turn, cut), cut)
    slopes = dynamics.solve(x, cut.rate, float(aims[_CREST]), float(aims[_RANGE]))
    x = _without_offset(dynamics.level(x, cut.rate, slopes))
    gain = float(aims[0]) - loudness(x, cut.rate)
    x, lowered, limited = _limited(x * np.float32(10 ** (gain / 20)), cut.rate)
    return _Done(x, moves, slopes, tail, gain - lowered, limited)


def _limited(x: Audio, rate: float) -> tuple[Audio, float, float]:
    """Audio below the ceiling, and by how much the whole and the peaks were lowered, in dB."""
    size = max(round(0.0015 * rate), 1)
    peaks = 20 * np.log10(np.maximum(true_peaks(x, size), 1e-10))
    over = float(peaks.max()) - (CEILING_DBTP - _MARGIN_DB)
    if over <= 0:
        return x, 0.0, 0.0
    lowered = max(over - _LIMITED_DB, 0.0)
    gains = dynamics.limiting(peaks, CEILING_DBTP - _MARGIN_DB + lowered, size / rate)
    out = dynamics.apply(x, gains - lowered, size)
    left = 20 * np.log10(max(float(true_peaks(out, size).max()), 1e-10)) - (CEILING_DBTP - _MARGIN_DB)
    if left > 0:
        out, lowered = out * np.float32(10 ** (-left / 20)), lowered + left
    return out, lowered, over - lowered


def _changes(done: _Done, turn: float) -> EffectChanges:
    adds, moves = done.tail > 0, done.moves
    return EffectChanges(
        done.gain_db,
        tuple(moves.spectrum.tolist()),
        tuple((moves.centre + moves.pan).tolist()),
        tuple(moves.width.tolist()),
        tuple(moves.spread.tolist()),
        math.degrees(turn),
        tails.level_db(done.tail) if adds else -math.inf,
        tails.steepness(done.tail),
        1 / (1 - done.slopes.slow),
        1 / (1 - done.slopes.fast),
        done.limited_db + done.slopes.limited_db,
    )
