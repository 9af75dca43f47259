"""A three-band parametric equaliser of second-order recursive filters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from blackbox_fx.dsp.kernels import recurse

_HIGHEST = 0.49  # of the sample rate: from 0.5 upwards these designs are unstable


def _biquad(audio: Tensor, feedforward: tuple[Tensor, ...], feedback: tuple[Tensor, ...]) -> Tensor:
    """Audio (batch, channel, time) through one filter per batch item, from silence; all in float64."""
    batch, channel, time = audio.shape
    b = torch.stack(feedforward, -1) / feedback[0][:, None]
    a = torch.stack(feedback[1:], -1) / feedback[0][:, None]
    late = F.pad(audio, (2, 0))
    fir = b[:, 0, None, None] * audio + b[:, 1, None, None] * late[..., 1:-1] + b[:, 2, None, None] * late[..., :-2]
    held = a.repeat_interleave(channel, 0)[:, None].expand(-1, time, -1)
    return recurse(fir.reshape(batch * channel, time), held).reshape(audio.shape)


def _turn(freq_hz: Tensor, sample_rate: float) -> tuple[Tensor, Tensor]:
    w = freq_hz.clamp(max=_HIGHEST * sample_rate) * (2 * math.pi / sample_rate)
    return w.cos(), w.sin()


def _shelf(audio: Tensor, sample_rate: float, gain_db: Tensor, freq_hz: Tensor, q: Tensor, *, high: bool) -> Tensor:
    cos, sin = _turn(freq_hz, sample_rate)
    sign = -1.0 if high else 1.0  # a high shelf is a low shelf with the frequency axis mirrored
    cos = sign * cos
    a = 10 ** (gain_db / 40)
    width = a.sqrt() * sin / q
    up, down = a + 1, a - 1
    return _biquad(
        audio,
        (a * (up - down * cos + width), sign * 2 * a * (down - up * cos), a * (up - down * cos - width)),
        (up + down * cos + width, sign * -2 * (down + up * cos), up + down * cos - width),
    )


def _peak(audio: Tensor, sample_rate: float, gain_db: Tensor, freq_hz: Tensor, q: Tensor) -> Tensor:
    cos, sin = _turn(freq_hz, sample_rate)
    a = 10 ** (gain_db / 40)
    alpha = sin / (2 * q)
    return _biquad(
        audio,
        (1 + alpha * a, -2 * cos, 1 - alpha * a),
        (1 + alpha / a, -2 * cos, 1 - alpha / a),
    )


def parametric_eq(
    audio: Tensor,
    sample_rate: float,
    *,
    low_shelf_gain_db: Tensor,
    low_shelf_freq_hz: Tensor,
    low_shelf_q: Tensor,
    peak_gain_db: Tensor,
    peak_freq_hz: Tensor,
    peak_q: Tensor,
    high_shelf_gain_db: Tensor,
    high_shelf_freq_hz: Tensor,
    high_shelf_q: Tensor,
) -> Tensor:
    """A low shelf, a peak and a high shelf in series: those of pedalboard, with gradients.

    Computed in float64 whatever the audio: in float32 a shelf at 30 Hz is off by 4e-4. Frequencies above
    0.49 of the sample rate count as 0.49 of it.

    Args:
        audio: any channel count.
        sample_rate: in Hz.
        low_shelf_gain_db: gain in dB far below the shelf's frequency.
        low_shelf_freq_hz: where the shelf has half its gain in dB, above 0 Hz.
        low_shelf_q: steepness, above 0; overshoots from 0.71 upwards.
        peak_gain_db: gain in dB at the centre of the peak.
        peak_freq_hz: centre of the peak, above 0 Hz.
        peak_q: centre frequency over bandwidth, above 0.
        high_shelf_gain_db: gain in dB far above the shelf's frequency.
        high_shelf_freq_hz: where the shelf has half its gain in dB, above 0 Hz.
        high_shelf_q: steepness, above 0; overshoots from 0.71 upwards.

    Returns:
        The filtered audio.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,)

    References:
        "Cookbook formulae for audio EQ biquad filter coefficients" (Bristow-Johnson, 1998)
        "Differentiable Time-Varying Linear Prediction in the Context of End-to-End Analysis-by-Synthesis" (Yu and
        Fazekas, 2024)
    """
    low = (low_shelf_gain_db.double(), low_shelf_freq_hz.double(), low_shelf_q.double())
    peak = (peak_gain_db.double(), peak_freq_hz.double(), peak_q.double())
    high = (high_shelf_gain_db.double(), high_shelf_freq_hz.double(), high_shelf_q.double())
    x = _shelf(audio.double(), sample_rate, *low, high=False)
    x = _peak(x, sample_rate, *peak)
    return _shelf(x, sample_rate, *high, high=True).to(audio.dtype)
