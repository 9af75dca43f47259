"""Parts of audio files, at any sample rate, without reading the rest."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from blackbox_fx import audio
from blackbox_fx.audio import Audio

# The resampler needs some sound before what is wanted; an MP3 frame may also need the bits of many frames before it.
_MARGIN_S, _MP3_MARGIN_S = 0.05, 0.5


def cut(file: Path, header: audio.FileInfo, sample_rate: float, start: int, length: int) -> Audio:
    """A part of a file; only this part is decoded.

    Args:
        file: of audio.
        header: what its header says.
        sample_rate: at which the part is wanted, in Hz.
        start: first sample, at `sample_rate`.
        length: samples, at `sample_rate`; what lies behind the end is filled with zeros.

    Returns:
        (channels of the file, length), float32.

    Raises:
        AudioError: it cannot be read there.
    """
    out = np.zeros((header.channels, length), np.float32)
    # The first sample read must fall on a sample of the wanted rate, or the tracks of a song would get out of step.
    common = math.gcd(header.sample_rate, round(sample_rate))
    step, step_out = header.sample_rate // common, round(sample_rate) // common
    margin = _MP3_MARGIN_S if file.suffix.lower() == ".mp3" else _MARGIN_S
    steps = max(math.floor((start / sample_rate - margin) * header.sample_rate / step), 0)
    first, offset = steps * step, start - steps * step_out
    if start / sample_rate < header.frames / header.sample_rate:
        frames = math.ceil(((offset + length) / sample_rate + _MARGIN_S) * header.sample_rate)
        x, _ = audio.read(file, sample_rate, first, frames)
        piece = x[:, offset : offset + length]
        out[:, : piece.shape[1]] = piece
    return out
