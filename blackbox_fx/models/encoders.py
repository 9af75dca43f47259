"""Encoders of audio for networks: spectrograms."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.losses.spectral import power_spectrum

BANDS = 64


def mel_filters(bands: int, n_fft: int, sample_rate: float) -> Tensor:
    """Triangular filters on the mel scale, (bands, n_fft // 2 + 1), from 20 Hz to half the sample rate."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (20.0, sample_rate / 2))
    edges = torch.linspace(low, high, bands + 2)
    hz = 700 * (10 ** (edges / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    rise = (bins - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    fall = (hz[2:, None] - bins) / (hz[2:] - hz[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp(min=0)


@final
class LogMel(nn.Module):
    """Log-mel spectrogram of the sum of channels, about zero mean and unit range for music.

    Shape:
        - audio: (batch, channel, time)
        - output: (batch, bands, frames)
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: float, bands: int = BANDS, n_fft: int = 2048) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", mel_filters(bands, n_fft, sample_rate), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """The spectrogram."""
        n_fft = len(self.window)
        mono = audio.mean(dim=1)
        mono = nn.functional.pad(mono, (0, max(0, n_fft - mono.shape[-1])))
        power = power_spectrum(mono, self.window, n_fft // 2)
        return (self.filters @ power + 1e-5).log10() / 2
