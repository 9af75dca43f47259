"""How loud audio is."""

from __future__ import annotations

import numpy as np

from blackbox_fx.audio import Audio

_SILENCE_LUFS, _BLOCK_S = -70.0, 0.4  # of the gate of loudness


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
