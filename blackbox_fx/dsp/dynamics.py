"""Compressors, an expander, a gate and a limiter."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blackbox_fx.dsp.kernels import follow
from blackbox_fx.dsp.moving import by_channel, by_item
from blackbox_fx.errors import AudioError

# The floor keeps the gradient of logarithms finite in silence, and fading levels clear of slow denormals.
_FLOOR = 1e-30
_NEPERS = math.log(10) / 20  # of a dB
_NARROWEST_DB = 1e-3  # of a knee, which is then as good as none
_POWER_MS = 50.0  # in which the power fades that a gate looks at
_FIRST_DB, _FIRST_RATIO, _FIRST_ATTACK_MS, _FIRST_RELEASE_MS = -10.0, 4.0, 2.0, 200.0  # of a limiter
_SECOND_RATIO, _SECOND_ATTACK_MS = 1000.0, 1e-3


def _coefficient(ms: Tensor, sample_rate: float) -> Tensor:
    """Of a one-pole filter that covers 99.8 % of a step in this time."""
    return -torch.expm1(-2000 * math.pi / sample_rate / ms.double())


def _peaks(audio: Tensor) -> Tensor:
    """The largest level of all channels, (batch, time)."""
    return audio.abs().amax(1)


def _smooth(level: Tensor, attack_ms: Tensor, release_ms: Tensor, sample_rate: float) -> Tensor:
    """Levels (batch, time), smoothed from silence, with one time while they rise and another while they fall."""
    attack, release = (_coefficient(ms, sample_rate) for ms in (attack_ms, release_ms))
    return follow(level.clamp(min=_FLOOR), level.new_zeros(len(level)), release, attack)


def _over_db(level: Tensor, threshold_db: Tensor) -> Tensor:
    """By how many dB a level, (batch, time), is above a threshold."""
    return 20 * level.clamp(min=_FLOOR).log10() - by_item(threshold_db, level)


def _bend(over_db: Tensor, knee_db: Tensor) -> Tensor:
    """0 below a knee of this width about 0, the same number above it, and a parabola from one to the other."""
    knee = by_item(knee_db, over_db).clamp(min=_NARROWEST_DB)
    inside = (over_db + knee / 2).clamp(min=0).square() / (2 * knee)
    return torch.where(over_db < knee / 2, inside, over_db)


def _amplify(audio: Tensor, gain_db: Tensor) -> Tensor:
    """Audio (batch, channel, time) with the same gain in dB, (batch, time), for all channels."""
    return audio * (gain_db * _NEPERS).exp()[:, None]


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

    The largest level of all channels, smoothed, sets one gain for all of them. Levels are smoothed in float64.

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
        - every parameter: (batch,), or (batch, time) where it moves

    References:
        "Digital Dynamic Range Compressor Design: A Tutorial and Analysis" (Giannoulis, Massberg and Reiss, 2012)
        "Differentiable All-pole Filters for Time-varying Audio Systems" (Yu et al., 2024)
    """
    level = _smooth(_peaks(audio), attack_ms, release_ms, sample_rate)
    over_db = _over_db(level, threshold_db).relu()
    return _amplify(audio, by_item(makeup_db, audio) - over_db * by_item(1 - 1 / ratio, audio))


def soft_knee_compressor(
    audio: Tensor,
    sample_rate: float,
    *,
    threshold_db: Tensor,
    ratio: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    knee_db: Tensor,
    makeup_db: Tensor,
    mix: Tensor,
) -> Tensor:
    """A compressor whose ratio sets in gradually, blended with the dry signal.

    With no knee and a mix of 1 it is `compressor`. Levels are smoothed in float64.

    Args:
        audio: any channel count; the loudest channel sets the gain of all.
        sample_rate: in Hz.
        threshold_db: level in dB of full scale in the middle of the knee.
        ratio: dB of input above the knee for one dB of output, from 1 upwards.
        attack_ms: time in which a rising level covers 99.8 % of a step, above 0.
        release_ms: time in which a falling level covers 99.8 % of a step, above 0.
        knee_db: width of the knee in dB, 0 or more.
        makeup_db: gain of the compressed signal in dB.
        mix: share of the compressed signal, in [0, 1].

    Returns:
        The compressed audio.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves

    References:
        "Digital Dynamic Range Compressor Design: A Tutorial and Analysis" (Giannoulis, Massberg and Reiss, 2012)
    """
    times = {"attack_ms": attack_ms, "release_ms": release_ms, "knee_db": knee_db}
    return sidechain_compressor(
        audio, sample_rate, audio, threshold_db=threshold_db, ratio=ratio, makeup_db=makeup_db, mix=mix, **times
    )


def sidechain_compressor(
    audio: Tensor,
    sample_rate: float,
    sidechain: Tensor,
    *,
    threshold_db: Tensor,
    ratio: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    knee_db: Tensor,
    makeup_db: Tensor,
    mix: Tensor,
) -> Tensor:
    """A `soft_knee_compressor` whose gain follows another sound: a kick that ducks the bass.

    Args:
        audio: any channel count.
        sample_rate: in Hz.
        sidechain: the other sound, any channel count; its loudest channel sets the gain, so that a stereo copy of a
            mono one does the same.
        threshold_db: level in dB of full scale in the middle of the knee.
        ratio: dB of input above the knee for one dB of output, from 1 upwards.
        attack_ms: time in which a rising level covers 99.8 % of a step, above 0.
        release_ms: time in which a falling level covers 99.8 % of a step, above 0.
        knee_db: width of the knee in dB, 0 or more.
        makeup_db: gain of the compressed signal in dB.
        mix: share of the compressed signal, in [0, 1].

    Returns:
        The compressed audio.

    Raises:
        AudioError: a side-chain of another batch or length.

    Shape:
        - audio and output: (batch, channel, time)
        - sidechain: (batch, its channels, time)
        - every parameter: (batch,), or (batch, time) where it moves
    """
    if (len(sidechain), sidechain.shape[-1]) != (len(audio), audio.shape[-1]):
        raise AudioError(
            f"sidechain must be (batch, channel, time) with the batch and time of audio, {tuple(audio.shape)}, got "
            f"{tuple(sidechain.shape)}."
        )
    level = _smooth(_peaks(sidechain), attack_ms, release_ms, sample_rate)
    over_db = _bend(_over_db(level.to(audio.dtype), threshold_db), knee_db)
    wet = _amplify(audio, by_item(makeup_db, audio) - over_db * by_item(1 - 1 / ratio, audio))
    return torch.lerp(audio, wet, by_channel(mix, audio))


def expander(
    audio: Tensor,
    sample_rate: float,
    *,
    threshold_db: Tensor,
    ratio: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    knee_db: Tensor,
    range_db: Tensor,
) -> Tensor:
    """Makes what is soft softer, by a ratio that sets in gradually, and no softer than by a range.

    Levels are smoothed in float64.

    Args:
        audio: any channel count; the loudest channel sets the gain of all.
        sample_rate: in Hz.
        threshold_db: level in dB of full scale in the middle of the knee.
        ratio: dB of output below the knee for one dB of input, from 1 upwards.
        attack_ms: time in which a rising level covers 99.8 % of a step, above 0.
        release_ms: time in which a falling level covers 99.8 % of a step, above 0.
        knee_db: width of the knee in dB, 0 or more.
        range_db: by how many dB the level falls at most, 0 or more.

    Returns:
        The expanded audio.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves

    References:
        "Digital Dynamic Range Compressor Design: A Tutorial and Analysis" (Giannoulis, Massberg and Reiss, 2012)
    """
    level = _smooth(_peaks(audio), attack_ms, release_ms, sample_rate)
    under_db = _bend(-_over_db(level, threshold_db), knee_db)
    held_db, most_db = under_db * by_item(ratio - 1, audio), by_item(range_db, audio)
    return _amplify(audio, -torch.where(held_db > most_db, most_db, held_db))


def noise_gate(
    audio: Tensor,
    sample_rate: float,
    *,
    threshold_db: Tensor,
    ratio: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
) -> Tensor:
    """A gate that closes by a ratio: that of pedalboard with linked channels, with gradients.

    It looks at the root of the power, which rises at once and fades in 50 ms. Levels are smoothed in float64.

    Args:
        audio: any channel count; the loudest channel sets the gain of all.
        sample_rate: in Hz.
        threshold_db: level in dB of full scale below which the gain falls.
        ratio: dB of output below the threshold for one dB of input, from 1 upwards.
        attack_ms: time in which a rising level covers 99.8 % of a step, above 0.
        release_ms: time in which a falling level covers 99.8 % of a step, above 0.

    Returns:
        The gated audio.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves

    References:
        "Digital Dynamic Range Compressor Design: A Tutorial and Analysis" (Giannoulis, Massberg and Reiss, 2012)
    """
    power = _peaks(audio).square()
    fading = _coefficient(audio.new_full((len(audio),), _POWER_MS), sample_rate)
    faded = follow(power.clamp(min=_FLOOR), power.new_zeros(len(power)), fading, torch.ones_like(fading))
    level = _smooth(faded.sqrt(), attack_ms, release_ms, sample_rate)
    return _amplify(audio, -(-_over_db(level, threshold_db)).relu() * by_item(ratio - 1, audio))


def limiter(audio: Tensor, sample_rate: float, *, threshold_db: Tensor, release_ms: Tensor) -> Tensor:
    """A limiter that makes the threshold full scale: that of pedalboard with linked channels, with gradients.

    A slow compressor (threshold -10 dB, ratio 4) and a fast one (ratio 1000) in series, a gain that brings the
    threshold to 3.75 dB, and what is still above 1 is cut off, where the gradient is 0. Levels are smoothed in float64.

    Args:
        audio: any channel count; the loudest channel sets the gain of all.
        sample_rate: in Hz.
        threshold_db: level in dB of full scale above which the fast compressor acts.
        release_ms: time in which its level falls by 99.8 % of a step, above 0.

    Returns:
        The limited audio, in [-1, 1].

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves
    """
    fixed = [torch.full_like(threshold_db, value) for value in (_FIRST_DB, _FIRST_RATIO, _SECOND_RATIO)]
    times = [torch.full_like(threshold_db, ms) for ms in (_FIRST_ATTACK_MS, _FIRST_RELEASE_MS, _SECOND_ATTACK_MS)]
    none = torch.zeros_like(threshold_db)
    makeup = 5 * (1 - 1 / _FIRST_RATIO) - threshold_db
    first = {"threshold_db": fixed[0], "ratio": fixed[1], "attack_ms": times[0], "release_ms": times[1]}
    second = {"threshold_db": threshold_db, "ratio": fixed[2], "attack_ms": times[2], "release_ms": release_ms}
    held = compressor(audio, sample_rate, **first, makeup_db=none)
    return compressor(held, sample_rate, **second, makeup_db=makeup).clamp(-1, 1)
