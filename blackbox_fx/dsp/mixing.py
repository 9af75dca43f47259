"""Gain, position and width in the stereo image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blackbox_fx.dsp.moving import by_channel, by_item
from blackbox_fx.errors import AudioError


def gain_pan(audio: Tensor, sample_rate: float, *, gain_db: Tensor, pan: Tensor) -> Tensor:
    """Gain and constant-power panning: a mono signal gets a place, a stereo signal a balance.

    Args:
        audio: one or two channels.
        sample_rate: in Hz; without influence.
        gain_db: gain in dB.
        pan: from -1 (left) to 1 (right). At 0 a mono signal reaches each side at -3 dB and a stereo signal stays as it
            is; at -1 and 1 one side is silent, and the other at 0 dB for mono and 3 dB for stereo.

    Returns:
        Two channels, left and right.

    Raises:
        AudioError: another number of channels.

    Shape:
        - audio: (batch, 1 or 2, time)
        - every parameter: (batch,), or (batch, time) where it moves
        - output: (batch, 2, time)
    """
    channels = audio.shape[1]
    if channels not in (1, 2):
        raise AudioError(f"gain_pan takes 1 or 2 channels, got {channels}; split or mix them first.")
    return place(audio, side_gains(gain_db, pan))


def side_gains(gain_db: Tensor, pan: Tensor) -> Tensor:
    """The gains of left and right that `gain_pan` gives a mono signal, (batch, 2, 1 or time)."""
    gain_db, pan = (by_item(x, x) for x in (gain_db, pan))
    angle, gain = (pan + 1) * (math.pi / 4), 10 ** (gain_db / 20)
    return torch.stack([gain * angle.cos(), gain * angle.sin()], 1)


def place(audio: Tensor, gains: Tensor) -> Tensor:
    """Audio, (batch, 1 or 2, time), in stereo, by its `side_gains`."""
    return audio * (gains * math.sqrt(audio.shape[1])).to(audio.dtype)


def mid_side(audio: Tensor, sample_rate: float, *, mid_db: Tensor, side_db: Tensor) -> Tensor:
    """Gains of what both sides share and of what they differ in: the width of a stereo image.

    Args:
        audio: one or two channels; one channel is all middle.
        sample_rate: in Hz; without influence.
        mid_db: gain in dB of half the sum of both sides.
        side_db: gain in dB of half their difference; wider above 0, mono far below.

    Returns:
        As many channels.

    Raises:
        AudioError: another number of channels.

    Shape:
        - audio and output: (batch, 1 or 2, time)
        - every parameter: (batch,), or (batch, time) where it moves
    """
    channels = audio.shape[1]
    if channels not in (1, 2):
        raise AudioError(f"mid_side takes 1 or 2 channels, got {channels}; split or mix them first.")
    middle, wide = (by_channel(10 ** (db / 20), audio) for db in (mid_db, side_db))
    mid = audio.mean(1, keepdim=True)
    return middle * mid + wide * (audio - mid)
