"""Short-time spectra of stereo audio in third-octave bands, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio

Array = NDArray[np.float64]

OCTAVES_HZ = tuple(1000.0 * 2.0**k for k in range(-5, 5))  # centres of the ten octaves, 31.25 Hz to 16 kHz
_FINE = 3  # bands in an octave
_WINDOW_S = 0.09
_OVERLAP = 4
_BLOCK = 512  # frames that are transformed at a time
_LOWEST_HZ = 20.0
_SCALE = 1.5  # sum of squared Hann windows at this overlap


class Grid(NamedTuple):
    """How audio of a sample rate is cut into frames and bands.

    Args:
        size: samples of a frame.
        hop: samples between frames.
        rate: in Hz.
        fine: (third-octave band, bin), how much of a bin's power belongs to a band; columns sum to 1, or to 0 below
            20 Hz.
        coarse: the same of octaves.
    """

    size: int
    hop: int
    rate: float
    fine: Array
    coarse: Array

    @property
    def step(self) -> float:
        """Seconds between frames."""
        return self.hop / self.rate


class Analysis(NamedTuple):
    """What a stem is like in time and frequency.

    Args:
        spectra: (3, bin), mean power of left, of right, and the real part of what they share.
        powers: (third-octave band, frame), power of both channels together.
    """

    spectra: Array
    powers: NDArray[np.float32]


def grid(rate: float) -> Grid:
    """The frames and bands for a sample rate in Hz."""
    size = 2 ** round(np.log2(_WINDOW_S * rate))
    bins = np.arange(size // 2 + 1) * (rate / size)
    return Grid(size, size // _OVERLAP, rate, _bands(bins, _FINE), _bands(bins, 1))


def _bands(bins: Array, per_octave: int) -> Array:
    """Triangles on a logarithmic axis; the outer bands take what lies beyond them."""
    count = len(OCTAVES_HZ) * per_octave
    lowest = OCTAVES_HZ[0] * 2 ** ((1 - per_octave) / (2 * per_octave))
    at = np.clip(np.log2(np.maximum(bins, 1.0) / lowest) * per_octave, 0, count - 1)
    weights = np.maximum(0.0, 1 - np.abs(at[None] - np.arange(count)[:, None]))
    return weights * (bins >= _LOWEST_HZ)


def _blocks(audio: Audio, cut: Grid) -> Iterator[tuple[int, NDArray[np.complex64]]]:
    """The first frame of each block, and its spectra (channel, frame, bin)."""
    from blackbox_fx.core.lazy import scipy

    window = np.hanning(cut.size + 1)[:-1].astype(np.float32)
    frames = count(audio.shape[1], cut)
    for first in range(0, frames, _BLOCK):
        last = min(first + _BLOCK, frames)
        start, end = first * cut.hop - cut.size + cut.hop, (last - 1) * cut.hop + cut.hop
        piece = audio[:, max(start, 0) : max(end, 0)]
        before = max(-start, 0)
        piece = extended(piece, before, end - start - before - piece.shape[1])
        views = np.lib.stride_tricks.sliding_window_view(piece, cut.size, axis=1)[:, :: cut.hop]
        yield first, scipy.fft.rfft(views * window, axis=2)


def extended(audio: Audio, before: int, after: int) -> Audio:
    """Audio with samples added to both ends that go on as it begins and ends, so that there is no edge to be heard."""
    return np.pad(audio, ((0, 0), (before, after)), mode="reflect", reflect_type="odd")


def count(length: int, cut: Grid) -> int:
    """How many frames audio of a length has, so that each sample lies in four."""
    return -(-length // cut.hop) + _OVERLAP - 1


def analyse(audio: Audio, cut: Grid) -> Analysis:
    """Powers of stereo audio (2, time)."""
    frames = count(audio.shape[1], cut)
    spectra = np.zeros((3, cut.size // 2 + 1))
    powers = np.empty((len(cut.fine), frames), np.float32)
    for first, (left, right) in _blocks(audio, cut):
        each = np.stack([np.abs(left) ** 2, np.abs(right) ** 2, (left * right.conj()).real])
        spectra += each.sum(axis=1, dtype=np.float64)
        powers[:, first : first + len(left)] = cut.fine.astype(np.float32) @ (each[0] + each[1]).T
    scale = 1 / (frames * cut.size**2)
    return Analysis(spectra * scale, powers * np.float32(1 / cut.size**2))


def filtered(audio: Audio, gains: NDArray[np.float32], cut: Grid) -> Audio:
    """Audio whose bands have gains that move.

    Args:
        audio: (2, time).
        gains: (third-octave band, frame), factors.
        cut: the frames and bands.
    """
    from blackbox_fx.core.lazy import scipy

    window = np.hanning(cut.size + 1)[:-1].astype(np.float32) / np.float32(_SCALE)
    length, frames = audio.shape[1], gains.shape[1]
    out = np.zeros((2, (frames + _OVERLAP - 1) * cut.hop), np.float32)
    fine = cut.fine.astype(np.float32)
    fine[:, : np.argmax(fine.any(axis=0))] = fine[:, [np.argmax(fine.any(axis=0))]]  # below 20 Hz as above
    for first, spectra in _blocks(audio, cut):
        part = gains[:, first : first + spectra.shape[1]]
        pieces = scipy.fft.irfft(spectra * (part.T @ fine), cut.size, axis=2) * window
        for k in range(_OVERLAP):
            own = pieces[:, :, k * cut.hop : (k + 1) * cut.hop].reshape(2, -1)
            start = (first + k) * cut.hop
            out[:, start : start + own.shape[1]] += own
    start = cut.size - cut.hop
    return out[:, start : start + length]
