"""WAV files of 32-bit floats that are written piece by piece, into what cannot go back."""

from __future__ import annotations

import struct
from typing import IO

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.errors import AudioError

_FRAMES = 1 << 16  # written at a time
_HEADER, _FLOAT = 58, 3
_MOST = 2**32 - _HEADER


def write_wave(target: IO[bytes], audio: Audio, sample_rate: int, name: str) -> None:
    """Writes audio as it is, without clipping.

    Args:
        target: a file that is open for writing; nothing is read from it, and it is not closed.
        audio: (channel, time).
        sample_rate: in Hz.
        name: of the track, for the error.

    Raises:
        AudioError: more than a WAV file can hold, which is 4 GiB.
    """
    channels, frames = audio.shape
    size = 4 * channels * frames
    if size > _MOST:
        raise AudioError(f"{name} has {size} bytes, and a WAV file can hold {_MOST}; divide it into several songs.")
    width = 4 * channels
    target.write(struct.pack("<4sI4s", b"RIFF", _HEADER - 8 + size, b"WAVE"))
    target.write(
        struct.pack("<4sIHHIIHHH", b"fmt ", 18, _FLOAT, channels, sample_rate, sample_rate * width, width, 32, 0)
    )
    target.write(struct.pack("<4sII4sI", b"fact", 4, frames, b"data", size))
    for start in range(0, frames, _FRAMES):
        target.write(np.ascontiguousarray(audio[:, start : start + _FRAMES].T, "<f4").data)
