"""The network that chooses the settings of a chain from a recording and a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.models.treatment import TreatmentEncoder

_HIDDEN = 128


@final
class StyleNet(nn.Module):
    """One encoder hears a recording and a reference; a head for each effect of the chain gives its settings.

    At first all settings stand near the middle of their ranges.

    Args:
        widths: columns of each effect of the chain, by label.
        channels: 1 or 2, of what the encoder hears.

    Shape:
        - heard, wanted: (batch, channels * 64, frames), `Spectrograms` of the recording and of the reference; frames
          may differ
        - output: (batch, width of the chain) in [0, 1]
    """

    def __init__(self, widths: Mapping[str, int], channels: int = 1) -> None:
        super().__init__()
        self.encoder = TreatmentEncoder(channels)
        self.trunk = nn.Sequential(
            nn.Linear(2 * self.encoder.width, _HIDDEN),
            nn.GELU(),
            nn.LayerNorm(_HIDDEN),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.GELU(),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(_HIDDEN, width) for name, width in widths.items() if width})
        for head in self.heads.values():
            assert isinstance(head, nn.Linear)
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def forward(self, heard: Tensor, wanted: Tensor) -> Tensor:
        """The settings."""
        return self.choose(self.encoder(heard), self.encoder(wanted))

    def choose(self, here: Tensor, there: Tensor) -> Tensor:
        """The settings, of what the encoder gives for a recording and for a reference, (batch, its width) each."""
        found = self.trunk(torch.cat([here, there], 1))
        return torch.cat([head(found) for head in self.heads.values()], 1).sigmoid()
