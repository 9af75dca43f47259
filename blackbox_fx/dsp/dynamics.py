"""A feed-forward compressor with separate attack and release."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blackbox_fx.dsp.kernels import follow


def _smooth(level: Tensor, attack: Tensor, release: Tensor) -> Tensor:
    """A one-pole filter over (batch, time), with one coefficient while it rises and another while it falls."""
    return follow(level, level.new_zeros(len(level)), release, attack)


def compressor(
    audio: Tensor,
    sample_rate: float,
    *,
    threshold_db: Tensor,
    ratio: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    makeup_db: Tensor,
) -> Tensor:
    """A hard-knee compressor: that of pedalboard with linked channels and make-up gain, with gradients.

    The largest level of all channels, smoothed, sets one gain for all of them. Levels are computed in float64.

    Args:
        audio: any channel count.
        sample_rate: in Hz.
        threshold_db: level in dB of full scale above which the gain falls.
        ratio: dB of input above the threshold for one dB of output, from 1 upwards.
        attack_ms: time in which a rising level covers 99.8 % of a step, above 0.
        release_ms: time in which a falling level covers 99.8 % of a step, above 0.
        makeup_db: gain of the output in dB.

    Returns:
        The compressed audio.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,)

    References:
        "Digital Dynamic Range Compressor Design: A Tutorial and Analysis" (Giannoulis, Massberg and Reiss, 2012)
        "Differentiable All-pole Filters for Time-varying Audio Systems" (Yu et al., 2024)
    """
    attack, release = (-torch.expm1(-2000 * math.pi / sample_rate / ms.double()) for ms in (attack_ms, release_ms))
    # the floor keeps the gradient of the logarithm finite in silence, and a fading level clear of slow denormals
    level = audio.abs().amax(1).double().clamp(min=1e-30)
    over_db = (20 * _smooth(level, attack, release).log10() - threshold_db[:, None]).relu()
    gain_db = makeup_db[:, None] - over_db * (1 - 1 / ratio[:, None])
    return audio * (10 ** (gain_db / 20)).to(audio.dtype)[:, None]
