"""A reverberation of noise that fades at its own pace in three bands of frequency."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from torch import Tensor

_CROSSOVERS_HZ = (300.0, 3000.0)
_OVERLAP = 0.5  # octaves to either side of a crossover in which bands fade into each other
LONGEST_S = 3.0  # of the response: at the longest decay it ends at -60 dB
_FADED = math.log(1000.0)  # 60 dB


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
        - every parameter: (batch,)

    References:
        "Filtered noise shaping for time domain room impulse response estimation from reverberant speech" (Steinmetz,
        Ithapu and Calamia, 2021).
    """
    length = min(audio.shape[-1], round(LONGEST_S * sample_rate))
    bands = torch.from_numpy(_noise(audio.shape[1], float(sample_rate))).to(audio)[..., :length]
    time = torch.arange(length, device=audio.device, dtype=audio.dtype) / sample_rate
    decays = torch.stack([low_decay_s, mid_decay_s, high_decay_s], 1)[:, :, None]
    fades = torch.exp(-_FADED * time / decays)  # (batch, band, time)
    response = torch.einsum("bnt,cnt->bct", fades, bands) / _level(decays, sample_rate)[:, :, 0, None]
    size = 1 << (audio.shape[-1] + length - 1).bit_length()
    spectrum = torch.fft.rfft(audio, size) * torch.fft.rfft(response, size)
    wet = torch.fft.irfft(spectrum, size)[..., : audio.shape[-1]]
    levels = 10 ** (torch.stack([dry_db, wet_db]) / 20)[..., None, None]
    return levels[0] * audio + levels[1] * wet


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
