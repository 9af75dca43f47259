"""How loud audio is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio

_SILENCE_LUFS, _BLOCK_S = -70.0, 0.4  # of the gate of loudness
_FINER, _MARGIN, _PIECE = 4, 64, 2**16  # of true peaks: times as many samples, samples around a piece, samples of one


def loudness(audio: Audio, sample_rate: float) -> float:
    """Integrated loudness of (channel, time), in LUFS, at least -70; less than 0.4 s are filled with silence.

    References:
        "Algorithms to measure audio programme loudness and true-peak audio level" (ITU-R BS.1770-4, 2015);
        "pyloudnorm: A simple yet flexible loudness meter in Python" (Steinmetz and Reiss, 2021).
    """
    import pyloudnorm

    least = int(_BLOCK_S * sample_rate) + 1
    padded = np.pad(audio.astype(np.float64), ((0, 0), (0, max(0, least - audio.shape[1]))))
    found = float(pyloudnorm.Meter(sample_rate, block_size=_BLOCK_S).integrated_loudness(padded.T))
    return max(found, _SILENCE_LUFS)


def true_peaks(audio: Audio, size: int) -> NDArray[np.float64]:
    """The highest true peak of all channels in each block of `size` samples of (channel, time), as a factor.

    References:
        "Algorithms to measure audio programme loudness and true-peak audio level" (ITU-R BS.1770-4, 2015), annex 2.
    """
    from scipy.signal import resample_poly

    padded = np.pad(audio, ((0, 0), (_MARGIN, -audio.shape[1] % size + _MARGIN)))
    piece = max(_PIECE // size, 1) * size
    found = []
    for start in range(0, padded.shape[1] - 2 * _MARGIN, piece):
        cut = padded[:, start : start + piece + 2 * _MARGIN]
        fine = np.abs(resample_poly(cut, _FINER, 1, axis=1)[:, _FINER * _MARGIN : -_FINER * _MARGIN])
        found.append(fine.max(axis=0).reshape(-1, _FINER * size).max(axis=1))
    return np.concatenate(found).astype(np.float64)


def true_peak(audio: Audio) -> float:
    """The true peak of (channel, time) in dBTP, at least -200."""
    return 20 * math.log10(max(float(true_peaks(audio, _PIECE).max()), 1e-10))
