"""Effects that mix the sound with a delayed or turned copy of itself: echoes, choruses, flangers and phasers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blackbox_fx.dsp.loops import allpass_chain, delay_line, oscillate
from blackbox_fx.dsp.moving import by_channel, by_item

_SWEEP_MS, _SHORTEST_MS = 10.0, 1.0  # of a chorus
_SECTIONS, _LOWEST_HZ, _HIGHEST_HZ = 6, 20.0, 20_000.0  # of a phaser
_HOLD = 4  # samples for which its frequency stands still
_HIGHEST = 0.49  # of the sample rate
_HALF = 0.5  # turns


def _rows(audio: Tensor, *numbers: Tensor) -> tuple[Tensor, ...]:
    """Audio as (batch * channel, time), and numbers for each of these, (batch * channel, 1 or time), in float64.

    In float32, a delay of two seconds is off by .004 samples.
    """
    channels = audio.shape[1]
    return audio.flatten(0, 1), *(by_item(x, x).double().repeat_interleave(channels, 0) for x in numbers)


def _sine(rate_hz: Tensor, sample_rate: float, time: int) -> Tensor:
    """A sine that begins in the middle, downwards: (items, time), for rates (items, 1 or time)."""
    step = rate_hz / sample_rate
    return oscillate(step, torch.full_like(step[:, 0], _HALF), time)


def _pair(first: Tensor, second: Tensor) -> Tensor:
    """Numbers of a loop, (items, 2, 1 or time)."""
    return torch.stack(torch.broadcast_tensors(first, second), 1)


def _blend(audio: Tensor, path: Tensor, mix: Tensor) -> Tensor:
    return torch.lerp(audio, path.reshape(audio.shape), by_channel(mix, audio))


def feedback_delay(
    audio: Tensor, sample_rate: float, *, delay_s: Tensor, feedback: Tensor, damping: Tensor, mix: Tensor
) -> Tensor:
    """Echoes: a delay line whose output goes back into it.

    Without damping, and with whole samples of delay, it is that of pedalboard. In between it interpolates linearly.

    Args:
        audio: any channel count.
        sample_rate: in Hz.
        delay_s: time between echoes in seconds, above 0; less than a sample counts as one.
        feedback: share of each echo that comes again, in (-1, 1).
        damping: pole of the low-pass that every echo goes through once more, in [0, 1); 0 for none.
        mix: share of the echoes, in [0, 1].

    Returns:
        As many samples; echoes beyond the end are cut off.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves
    """
    x, delay, back, pole = _rows(audio, delay_s * sample_rate, feedback, damping)
    path = delay_line(x, delay.expand(-1, x.shape[1]), _pair(back, pole), 0)
    return _blend(audio, path, mix)


def chorus(
    audio: Tensor,
    sample_rate: float,
    *,
    rate_hz: Tensor,
    depth: Tensor,
    centre_delay_ms: Tensor,
    feedback: Tensor,
    mix: Tensor,
) -> Tensor:
    """The sound and a copy whose delay swings: a chorus, or with short delays and feedback a flanger; as in pedalboard.

    Args:
        audio: any channel count; all swing together.
        sample_rate: in Hz.
        rate_hz: swings in a second, above 0.
        depth: how far the delay swings to either side, in [0, 1] of 10 ms; it stays above 1 ms.
        centre_delay_ms: delay in the middle.
        feedback: share of the copy that is delayed again, in (-1, 1); the loop turns its sign.
        mix: share of the copy, in [0, 1].

    Returns:
        As many samples.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves

    References:
        "DAFX: Digital Audio Effects" (Zölzer, 2011), chapter 2.
    """
    x, rate, swing, centre, back = _rows(audio, rate_hz, depth, centre_delay_ms, feedback)
    ms = torch.clamp(centre + _SWEEP_MS * swing * _sine(rate, sample_rate, x.shape[1]), min=_SHORTEST_MS)
    path = delay_line(x, ms * (sample_rate / 1000), _pair(-back, torch.zeros_like(back)), 1)
    return _blend(audio, path, mix)


def phaser(
    audio: Tensor,
    sample_rate: float,
    *,
    rate_hz: Tensor,
    depth: Tensor,
    centre_frequency_hz: Tensor,
    feedback: Tensor,
    mix: Tensor,
) -> Tensor:
    """The sound and a copy through six all-pass filters whose frequency swings: that of pedalboard, with gradients.

    At sample rates below 40.8 kHz, pedalboard moves the centre; here it stays.

    Args:
        audio: any channel count; all swing together.
        sample_rate: in Hz.
        rate_hz: swings in a second, above 0.
        depth: how far the frequency swings to either side, in [0, 1] of 5 octaves; it stays within 20 Hz and 20 kHz, or
            0.49 of the sample rate.
        centre_frequency_hz: frequency in the middle.
        feedback: share of the copy that goes through the filters again, in (-1, 1); the loop turns its sign.
        mix: share of the copy, in [0, 1].

    Returns:
        As many samples.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves

    References:
        "The art of VA filter design" (Zavalishin, 2018), chapter 3.
    """
    x, rate, swing, centre, back = _rows(audio, rate_hz, depth, centre_frequency_hz, feedback)
    highest = min(_HIGHEST_HZ, _HIGHEST * sample_rate)
    reach = math.log(highest / _LOWEST_HZ) / 2
    rate, swing, centre = (each[:, ::_HOLD] for each in (rate, swing, centre))
    place = centre.log() + reach * swing * _sine(rate, sample_rate / _HOLD, -(-x.shape[1] // _HOLD))
    hz = place.exp().clamp(_LOWEST_HZ, highest)
    g = torch.tan(hz * (math.pi / sample_rate))
    held = (g / (1 + g)).repeat_interleave(_HOLD, 1)[:, : x.shape[1]]
    path = allpass_chain(x, held, -back, _SECTIONS)
    return _blend(audio, path, mix)
