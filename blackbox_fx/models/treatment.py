"""An encoder of how audio was treated: level, spectrum, dynamics and width, and how they move."""

from __future__ import annotations

import itertools
from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.models.encoders import BANDS, LogMel

SIZE = 96  # channels of the convolutions
_WIDTHS, _MIXED = (24, 48, 96), 192  # channels of convolutions that halve bands and frames, and of what is made of them
_LEAST = 1e-6  # variance that has a gradient


@final
class Spectrograms(nn.Module):
    """Log-mel spectrograms of middle and sides, one above the other.

    Args:
        sample_rate: in Hz.
        channels: 1 for the middle alone, which is all there is of mono; 2 for both.

    Shape:
        - audio: (batch, 1 or 2, time); mono has silent sides
        - output: (batch, channels * 64, frames)
    """

    def __init__(self, sample_rate: float, channels: int = 1) -> None:
        super().__init__()
        self.log_mel, self.channels = LogMel(sample_rate), channels

    def forward(self, audio: Tensor) -> Tensor:
        """The spectrograms."""
        middle = self.log_mel(audio)
        if self.channels == 1:
            return middle
        sides = audio[:, :1] - audio[:, -1:]
        return torch.cat([middle, self.log_mel(sides / 2)], 1)


@final
class TreatmentEncoder(nn.Module):
    """Means and deviations over time of spectrograms and of what two convolutions make of them.

    Args:
        channels: of the `Spectrograms`.
        size: channels of the convolutions.

    Shape:
        - spectrograms: (batch, channels * 64, frames), any number of frames
        - output: (batch, width), about zero mean and unit range
    """

    def __init__(self, channels: int = 1, size: int = SIZE) -> None:
        super().__init__()
        self.bands = bands = channels * BANDS
        self.width = 2 * (size + bands)
        self.convolutions = nn.Sequential(
            nn.Conv1d(bands, size, 5, 2, 2), nn.GELU(), nn.Conv1d(size, size, 5, 2, 2), nn.GELU()
        )

    def forward(self, spectrograms: Tensor) -> Tensor:
        """The vectors."""
        return torch.cat([statistics(self.convolutions(spectrograms)), statistics(spectrograms)], 1)


@final
class PictureEncoder(nn.Module):
    """Means and deviations over time of spectrograms, and of what convolutions over bands and frames make of them.

    Args:
        channels: of the `Spectrograms`.

    Shape:
        - spectrograms: (batch, channels * 64, frames), any number of frames
        - output: (batch, width), about zero mean and unit range
    """

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.channels, self.width = channels, 2 * (_MIXED + channels * BANDS)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((channels, *_WIDTHS)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.GELU()]
        self.convolutions = nn.Sequential(*layers)
        self.mixed = nn.Conv1d(_WIDTHS[-1] * BANDS // 2 ** len(_WIDTHS), _MIXED, 1)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """The vectors."""
        found = self.convolutions(spectrograms.unflatten(1, (self.channels, BANDS)))
        found = nn.functional.gelu(self.mixed(found.flatten(1, 2)))
        return torch.cat([statistics(found), statistics(spectrograms)], 1)


def statistics(x: Tensor) -> Tensor:
    """Means and standard deviations over time, (batch, 2 * bands), of (batch, bands, frames)."""
    return torch.cat([x.mean(-1), (x.var(-1, correction=0) + _LEAST).sqrt()], 1)
