"""Reverberations: of noise that fades at its own pace in three bands of frequency, and of any impulse response."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.dsp.moving import by_channel
from blackbox_fx.errors import AudioError

_CROSSOVERS_HZ = (300.0, 3000.0)
_OVERLAP = 0.5  # octaves to either side of a crossover in which bands fade into each other
LONGEST_S = 3.0  # of the response: at the longest decay it ends at -60 dB
_FADED = math.log(1000.0)  # 60 dB
_ROOM_S = 0.5


def reverberation(
    audio: Tensor,
    sample_rate: float,
    *,
    low_decay_s: Tensor,
    mid_decay_s: Tensor,
    high_decay_s: Tensor,
    wet_db: Tensor,
    dry_db: Tensor,
) -> Tensor:
    """The sound, plus its convolution with noise that fades: a room without early reflections.

    The noise is the same in every call, another one for each channel, and split at 300 Hz and 3 kHz. The response has
    unit energy at every setting, so that decays do not change the level.

    Args:
        audio: any number of channels.
        sample_rate: in Hz.
        low_decay_s: seconds in which what lies below 300 Hz fades by 60 dB, up to 3.
        mid_decay_s: the same of what lies between.
        high_decay_s: the same of what lies above 3 kHz.
        wet_db: level of the reverberation in dB.
        dry_db: level of the sound itself in dB.

    Returns:
        As many channels and samples; what rings on beyond the end is cut off.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,); levels (batch, time) where they move

    References:
        "Filtered noise shaping for time domain room impulse response estimation from reverberant speech" (Steinmetz,
        Ithapu and Calamia, 2021).
    """
    length = min(audio.shape[-1], round(LONGEST_S * sample_rate))
    bands = torch.from_numpy(_noise(audio.shape[1], float(sample_rate))).to(audio)[..., :length]
    time = torch.arange(length, device=audio.device, dtype=audio.dtype) / sample_rate
    decays = torch.stack([low_decay_s, mid_decay_s, high_decay_s], 1)[:, :, None].to(audio.dtype)
    fades = torch.exp(-_FADED * time / decays)  # (batch, band, time)
    response = torch.einsum("bnt,cnt->bct", fades, bands) / _level(decays, sample_rate)[:, :, 0, None]
    return _blend(audio, response, wet_db, dry_db)


def convolution(
    audio: Tensor,
    sample_rate: float,
    response: Tensor | None = None,
    *,
    fade_s: Tensor,
    wet_db: Tensor,
    dry_db: Tensor,
) -> Tensor:
    """The sound, plus its convolution with an impulse response, which may be made to fade sooner.

    Args:
        audio: any number of channels.
        sample_rate: in Hz.
        response: at this sample rate, (time,) for all channels or (channel, time); a small room of noise with unit
            energy, the same in every call, if not given. It may want a gradient.
        fade_s: seconds in which the response fades by 60 dB more than it does by itself, above 0.
        wet_db: level of the convolution in dB.
        dry_db: level of the sound itself in dB.

    Returns:
        As many channels and samples; what rings on beyond the end is cut off.

    Raises:
        AudioError: a response of another shape, or for another number of channels.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,); levels (batch, time) where they move
    """
    if response is None:
        response = torch.from_numpy(_room(float(sample_rate)))
    if response.ndim not in (1, 2) or response.shape[:-1] not in ((), (1,), (audio.shape[1],)) or not response.numel():
        raise AudioError(
            f"response must be (time,), or (channel, time) with the {audio.shape[1]} channels of audio, got "
            f"{tuple(response.shape)}."
        )
    response = response.to(audio)[..., : audio.shape[-1]]
    time = torch.arange(response.shape[-1], device=audio.device, dtype=audio.dtype) / sample_rate
    fades = torch.exp(-_FADED * time / fade_s[:, None].to(audio.dtype))
    return _blend(audio, fades[:, None] * response, wet_db, dry_db)


def _blend(audio: Tensor, response: Tensor, wet_db: Tensor, dry_db: Tensor) -> Tensor:
    """Audio, and its convolution with responses (batch, 1 or channel, time), at levels in dB."""
    if not audio.numel():
        return audio
    size = 1 << (audio.shape[-1] + response.shape[-1] - 1).bit_length()
    spectrum = torch.fft.rfft(audio, size) * torch.fft.rfft(response, size)
    wet = torch.fft.irfft(spectrum, size)[..., : audio.shape[-1]]
    dry_level, wet_level = (by_channel(10 ** (db / 20), audio) for db in (dry_db, wet_db))
    return dry_level * audio + wet_level * wet


@functools.lru_cache(maxsize=8)
def _room(sample_rate: float) -> np.ndarray:
    """Noise that fades by 60 dB in `_ROOM_S`, with unit energy, (time,)."""
    length = round(_ROOM_S * sample_rate)
    noise = np.random.default_rng(1).standard_normal(length) * np.exp(-_FADED * np.arange(length) / length)
    return noise / np.linalg.norm(noise)


def _level(decays: Tensor, sample_rate: float) -> Tensor:
    """The expected root of the response's energy, (batch, 1, 1): each band's share of unit noise, faded."""
    edges = torch.tensor([0.0, *_CROSSOVERS_HZ, 0.5 * sample_rate]).clamp(max=0.5 * sample_rate).to(decays)
    shares = (edges[1:] - edges[:-1])[:, None] / edges[-1]
    return (shares * decays * (sample_rate / (2 * _FADED))).sum(1, keepdim=True).sqrt()


@functools.lru_cache(maxsize=8)
def _noise(channels: int, sample_rate: float) -> np.ndarray:
    """Noise in three bands, (channel, band, time)."""
    length = round(LONGEST_S * sample_rate)
    noise = np.random.default_rng(0).standard_normal((channels, length))
    octaves = np.log2(np.fft.rfftfreq(length, 1 / sample_rate).clip(1.0))
    places = [(octaves - math.log2(hz)) / (2 * _OVERLAP) + 0.5 for hz in _CROSSOVERS_HZ]
    above = [np.ones_like(octaves), *(np.clip(place, 0, 1) for place in places), np.zeros_like(octaves)]
    masks = np.array([here - there for here, there in itertools.pairwise(above)])
    return np.fft.irfft(np.fft.rfft(noise)[:, None] * masks, length)
