"""A recurrent network that runs at the rate of the audio."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.proxy.nets.base import ProxyNet


@final
class Recurrent(ProxyNet):
    """An LSTM over samples with the parameters beside every sample, and the input added to its output.

    Args:
        width, sample_rate: see `ProxyNet`.
        hidden: units.

    References:
        "Real-time guitar amplifier emulation with deep learning" (Wright et al., 2020).
    """

    def __init__(self, width: int, sample_rate: float, hidden: int = 32) -> None:
        super().__init__(width, sample_rate)
        self.lstm = nn.LSTM(1 + width, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def process(self, x: Tensor, p: Tensor) -> Tensor:
        """The output; see `ProxyNet.process`."""
        beside = torch.cat([x[..., None], p[:, None].expand(-1, x.shape[1], -1)], dim=-1)
        return x + self.out(self.lstm(beside)[0])[..., 0]
