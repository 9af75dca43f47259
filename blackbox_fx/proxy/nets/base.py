"""The base class of nets for proxies."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from blackbox_fx.errors import ParameterError


class Measured(NamedTuple):
    """What was measured of an effect before a net is trained.

    Args:
        response: the impulse response, (time,), that rings longest among some settings.
        laws: of the numbers of a `Modulated` net; none for other nets.
    """

    response: Tensor
    laws: tuple[Any, ...] = ()


class ProxyNet(nn.Module, abc.ABC):
    """A net for a proxy: it takes audio and params, and gives audio.

    Every channel is processed by itself, in the same way.

    Args:
        width: columns of params.
        sample_rate: in Hz; a net works at this one only.

    Shape:
        - audio: (batch, channel, time), float32
        - params: (batch, width) in [0, 1]
        - output: (batch, channel, time)
    """

    def __init__(self, width: int, sample_rate: float) -> None:
        super().__init__()
        self.width, self.sample_rate = width, float(sample_rate)

    @final
    def forward(self, audio: Tensor, params: Tensor, sample_rate: float) -> Tensor:
        """The output. Raises ParameterError at another sample rate than the net's own."""
        if sample_rate != self.sample_rate:
            raise ParameterError(
                f"This proxy was trained at {self.sample_rate:g} Hz and cannot be used at {sample_rate:g} Hz; resample "
                "the audio, or train one at that rate."
            )
        batch, channels, time = audio.shape
        points = centred(params).to(audio).repeat_interleave(channels, 0)
        return self.process(audio.reshape(batch * channels, time), points).reshape(audio.shape)

    def start_from(self, measured: Measured) -> None:
        """Starts the net from what was measured of the effect, if it can use any of it."""

    @abc.abstractmethod
    def process(self, x: Tensor, p: Tensor) -> Tensor:
        """The output, (items, time), for x (items, time) and p (items, width) in [-1, 1]."""


def centred(params: Tensor) -> Tensor:
    """Parameters scaled to [-1, 1], which suits tanh and SiLU."""
    return 2 * params - 1


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, out)
    )


def start_at(layer: nn.Sequential, bias: Tensor | float, scale: float = 0.1) -> nn.Sequential:
    """Makes an MLP begin near a constant, whatever its input."""
    last = layer[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.copy_(torch.as_tensor(bias).expand_as(last.bias))
    return layer
