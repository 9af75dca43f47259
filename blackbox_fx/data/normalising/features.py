"""What effects have made of a stem: loudness, spectrum, place, width, dynamics and reverberation."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio, check_audio, check_sample_rate
from blackbox_fx.audio.loudness import loudness
from blackbox_fx.data.normalising.frames import OCTAVES_HZ, Analysis, Array, Grid, analyse, grid
from blackbox_fx.errors import AudioError

SILENCE_LUFS = -70.0
SIGNIFICANT_DB = -50.0  # of a band, relative to the whole; what is weaker has no place and no width
WIDTHS_DB = (-30.0, 12.0)
PANS_DB = (-30.0, 30.0)
FLOOR_DB = -70.0  # of a band, relative to the whole
DECAYS_S = (0.1, 10.0)
_FALL_DB = 45.0  # below the loudest, down to which falls are looked at
_SPAN = 2  # frames to either side, over which a fall is measured
_FEWEST = 12  # falls
_STEEP = 90  # percentile of falls: those where notes end
_BLOCK_S = 0.0015
_WINDOW_S, _HOP_S = 0.4, 0.1  # of levels that move
_GATE_DB = -25.0, -15.0  # below the mean, between which levels count more and more
_PERCENTILES = 10, 95
_PLAYING_DB = 40.0
_FEWEST_WINDOWS = 5
_TINY = 1e-20


@final
@dataclasses.dataclass(frozen=True)
class StemFeatures:
    """What effects have made of a stem; NaN is what cannot be measured of it.

    Args:
        loudness: integrated, in LUFS.
        spectrum: level of each of ten octaves, 31.25 Hz to 16 kHz, relative to the whole, in dB, at least -70.
        pan: level of the left channel over that of the right in each octave, in dB, within [-30, 30].
        width: level of the sides (left minus right) over that of the middle in each octave, in dB, within [-30, 12].
        crest: highest sample over RMS level while it plays, in dB.
        range: from the 10th to the 95th percentile of levels over 0.4 s, in dB, without those far below the mean.
        decay: seconds in which the sound would fall by 60 dB, at the 90th percentile of its falls, which is where notes
            end; within [0.1, 10].
    """

    loudness: float
    spectrum: tuple[float, ...]
    pan: tuple[float, ...]
    width: tuple[float, ...]
    crest: float
    range: float
    decay: float

    def vector(self) -> Array:
        """All in one row, (34,): numbers that can be averaged, so the decay as its logarithm to base 2."""
        return np.array(
            [
                self.loudness,
                *self.spectrum,
                *self.pan,
                *self.width,
                self.crest,
                self.range,
                math.log2(self.decay),
            ]
        )

    @classmethod
    def of_vector(cls, row: Any) -> StemFeatures:
        """The features of such a row."""
        values, n = [float(v) for v in row], len(OCTAVES_HZ)
        spectrum, pan, width = (tuple(values[1 + k * n : 1 + (k + 1) * n]) for k in range(3))
        return cls(values[0], spectrum, pan, width, values[-3], values[-2], 2.0 ** values[-1])


def to_stereo(audio: Any) -> Audio:
    """Checked audio on two channels, a mono stem on both. Raises AudioError on another number of channels."""
    x = check_audio(audio, "the stem")
    if len(x) > 2:
        raise AudioError(f"the stem has {len(x)} channels; allowed are 1 and 2, so mix it down first.")
    return np.repeat(x, 2, axis=0) if len(x) == 1 else x


def measure_effects(audio: Any, sample_rate: float) -> StemFeatures:
    """Measures what effects have made of a stem.

    Args:
        audio: (channel, time), mono or stereo, floating point; mono is taken as it sounds on both sides of a mix, 3 dB
            louder than on one.
        sample_rate: in Hz.

    Returns:
        its features; all but the loudness are NaN for a silent stem, below -70 LUFS.

    Raises:
        AudioError: bad audio or sample rate, or more than two channels.

    References:
        "Automatic music mixing with deep learning and out-of-domain data" (Martínez-Ramírez et al., ISMIR 2022).
    """
    x, rate = to_stereo(audio), check_sample_rate(sample_rate)
    cut = grid(rate)
    return features(x, analyse(x, cut), cut)


def features(audio: Audio, found: Analysis, cut: Grid) -> StemFeatures:
    """The features of stereo audio whose powers are known."""
    loud, n = loudness(audio, cut.rate), len(OCTAVES_HZ)
    if loud <= SILENCE_LUFS:
        unknown = (math.nan,) * n
        return StemFeatures(SILENCE_LUFS, unknown, unknown, unknown, math.nan, math.nan, math.nan)
    spectrum, pan, width = balance(found.spectra, cut)
    blocks = block_levels(audio, cut.rate)
    return StemFeatures(
        loud,
        tuple(spectrum.tolist()),
        tuple(pan.tolist()),
        tuple(width.tolist()),
        crest(blocks.peaks, blocks.powers, blocks.step),
        level_range(blocks.powers, blocks.step),
        decay(found.powers, cut),
    )


def decibels(power: Any) -> Array:
    """A power, or powers, in dB."""
    return 10 * np.log10(np.maximum(power, _TINY))


def balance(spectra: Array, cut: Grid) -> tuple[Array, Array, Array]:
    """Spectrum, pan and width, (octave,) each, as in `StemFeatures`, from the spectra of an `Analysis`."""
    left, right, shared = spectra @ cut.coarse.T
    both = left + right
    spectrum = decibels(both / max(both.sum(), _TINY))
    pan = np.clip(decibels(left) - decibels(right), *PANS_DB)
    width = np.clip(decibels(both - 2 * shared) - decibels(both + 2 * shared), *WIDTHS_DB)
    weak = spectrum < SIGNIFICANT_DB
    return np.maximum(spectrum, FLOOR_DB), np.where(weak, np.nan, pan), np.where(weak, np.nan, width)


class Blocks(NamedTuple):
    """Peaks and powers of short blocks, (block,) each, and the seconds between them."""

    peaks: Array
    powers: Array
    step: float


def block_levels(audio: Audio, rate: float) -> Blocks:
    """The highest sample of both channels and their mean power, in blocks of 1.5 ms."""
    size = max(round(_BLOCK_S * rate), 1)
    padded = np.pad(audio, ((0, 0), (0, -audio.shape[1] % size))).reshape(2, -1, size)
    powers = np.einsum("cbt,cbt->b", padded, padded, dtype=np.float64) / (2 * size)
    peaks = np.maximum(padded.max(axis=(0, 2)), -padded.min(axis=(0, 2))).astype(np.float64)
    return Blocks(peaks, powers, size / rate)


def _windows(powers: Array, step: float) -> Array:
    """Mean powers over 0.4 s, every 0.1 s."""
    size, hop = min(max(round(_WINDOW_S / step), 1), len(powers)), max(round(_HOP_S / step), 1)
    sums = np.concatenate([[0.0], np.cumsum(powers)])
    return (sums[size:] - sums[:-size])[::hop] / size


def crest(peaks: Array, powers: Array, step: float) -> float:
    """The crest factor while the stem plays, in dB; see `Blocks`."""
    windows = _windows(powers, step)
    playing = windows[windows >= windows.max() * 10 ** (-_PLAYING_DB / 10)]
    return float(decibels(peaks.max() ** 2) - decibels(playing.mean()))


def level_range(powers: Array, step: float) -> float:
    """The range of levels in dB, see `StemFeatures`; NaN for less than 0.8 s.

    It is that of EBU Tech 3342 with shorter windows and a gate that opens gradually, so that a little more or less
    level changes it by a little.
    """
    windows = _windows(powers, step)
    if len(windows) < _FEWEST_WINDOWS:
        return math.nan
    level = decibels(windows)
    low, high = _GATE_DB
    weights = np.clip((level - decibels(windows.mean()) - low) / (high - low), 0.0, 1.0)
    order = np.argsort(level)
    shares = np.cumsum(weights[order])
    low, high = np.interp(np.array(_PERCENTILES) / 100 * shares[-1], shares, level[order])
    return float(high - low)


def decay(powers: NDArray[Any], cut: Grid) -> float:
    """The decay in seconds, from powers (third-octave band, frame); NaN where there are few falls."""
    from blackbox_fx.core.lazy import scipy

    octaves = powers.reshape(len(OCTAVES_HZ), -1, powers.shape[1]).sum(axis=1)
    level = decibels(scipy.ndimage.uniform_filter1d(octaves, 3, axis=1))
    totals = decibels(octaves.mean(axis=1))
    top = level.max(axis=1, keepdims=True)
    fall = level[:, : -2 * _SPAN] - level[:, 2 * _SPAN :]
    counted = (fall > 0) & (level[:, 2 * _SPAN :] > top - _FALL_DB)
    counted &= (totals > totals.max() - _FALL_DB)[:, None]
    if counted.sum() < _FEWEST:
        return math.nan
    slope = float(np.percentile(fall[counted], _STEEP)) / (2 * _SPAN * cut.step)
    return float(np.clip(60 / max(slope, 1e-3), *DECAYS_S))
