"""A causal temporal convolutional network, steered by the parameters."""

from __future__ import annotations

import itertools
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blackbox_fx.proxy.nets.base import ProxyNet, mlp


@final
class TCN(ProxyNet):
    """Dilated causal convolutions, each followed by FiLM: a scale and a shift predicted from the parameters.

    The defaults are the size that DeepAFx-ST used for its proxies.

    Args:
        width, sample_rate: see `ProxyNet`.
        blocks: convolutions.
        channels: of each.
        kernel: taps of each.
        growth: of the dilation from block to block; the receptive field is 1 + (kernel - 1) sum of growth^k samples.

    References:
        "Efficient neural networks for real-time modeling of analog dynamic range compression" (Steinmetz and Reiss,
        2022); "Style transfer of audio effects with differentiable signal processing" (Steinmetz et al., 2022).
    """

    def __init__(
        self,
        width: int,
        sample_rate: float,
        blocks: int = 4,
        channels: int = 64,
        kernel: int = 13,
        growth: int = 8,
    ) -> None:
        super().__init__(width, sample_rate)
        sizes = [1, *[channels] * blocks]
        self.pads = [(kernel - 1) * growth**k for k in range(blocks)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, kernel, dilation=growth**k) for k, (a, b) in enumerate(itertools.pairwise(sizes))
        )
        self.skips = nn.ModuleList(nn.Conv1d(a, b, 1, bias=False) for a, b in itertools.pairwise(sizes))
        self.slopes = nn.ModuleList(nn.PReLU(channels) for _ in range(blocks))
        self.film = mlp(width, 32, 2 * channels * blocks)
        self.out = nn.Conv1d(channels, 1, 1)

    def process(self, x: Tensor, p: Tensor) -> Tensor:
        """The output; see `ProxyNet.process`."""
        h = x[:, None]
        steering = self.film(p).unflatten(1, (len(self.pads), 2, -1))
        for k, pad in enumerate(self.pads):
            scale, shift = steering[:, k, :, :, None].unbind(1)
            own = self.convolutions[k](F.pad(h, (pad, 0))) * (1 + scale) + shift
            h = self.slopes[k](own) + self.skips[k](h)
        return torch.tanh(self.out(h))[:, 0]
