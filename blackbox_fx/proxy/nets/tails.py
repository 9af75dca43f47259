"""Late reverberation."""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from blackbox_fx.core.compiled import compiled
from blackbox_fx.proxy.nets.convolution import convolve, fast_length
from blackbox_fx.proxy.nets.kernels import Floats, arrays, is_compiled
from blackbox_fx.proxy.nets.stages import Steer, log_grid

_BLOCK = 256  # samples


@final
class Tail(nn.Module):
    """A late reverberation: one learned response, whose frequency bands have predicted levels and decay times.

    Args:
        width: of the parameters.
        sample_rate: in Hz.
        seconds: length of the response.
        bands: octaves and so on, equally wide on a logarithmic axis.
    """

    masks: Tensor

    def __init__(self, width: int, sample_rate: float, seconds: float, bands: int = 6) -> None:
        super().__init__()
        self.length, self.sample_rate = round(seconds * sample_rate), sample_rate
        self.size = fast_length(self.length)
        self.register_buffer("masks", log_grid(self.size // 2 + 1, bands, sample_rate), persistent=False)
        self.carrier = nn.Parameter(torch.randn(self.length) / math.sqrt(self.length))
        self.predict = Steer(width, torch.zeros(2 * bands + 1))

    def response(self, p: Tensor, length: int | None = None) -> Tensor:
        """The first samples of the impulse response, (items, length), without the direct sound."""
        length = min(length or self.length, self.length)
        loud, fade, _ = self.predict(p).split([len(self.masks), len(self.masks), 1], dim=1)
        carriers = torch.fft.irfft(torch.fft.rfft(self.carrier, self.size) * self.masks, self.size)[:, :length]
        # an exponential is a product of one over blocks and one within them, which is far less to compute
        blocks = -(-length // _BLOCK)
        time = torch.arange(_BLOCK, device=p.device) / self.sample_rate
        within = torch.exp(-5 * fade[:, :, None] * time)
        starts = torch.arange(blocks, device=p.device) * (_BLOCK / self.sample_rate)
        over = torch.exp(-5 * fade[:, :, None] * starts + loud[:, :, None].clamp(-12, 6))
        return mix_bands(carriers, over, within)

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """The direct sound of x (items, time) at its predicted level, plus its reverberation."""
        direct = 1 + self.predict(p)[:, -1:]
        return direct * x + convolve(x, self.response(p, x.shape[-1]))


def mix_bands(carriers: Tensor, over: Tensor, within: Tensor) -> Tensor:
    """The sum of bands, each with an envelope that is a product of one over blocks and one within them.

    Args:
        carriers: (bands, time).
        over: (items, bands, blocks).
        within: (items, bands, samples of a block).

    Returns:
        (items, time).
    """
    if is_compiled(carriers):
        return _MixBands.apply(carriers, over, within)
    envelopes = (over[..., None] * within[:, :, None]).flatten(2)[..., : carriers.shape[1]]
    return (carriers * envelopes).sum(1)


@compiled
def _mix(carriers: Floats, over: Floats, within: Floats) -> Floats:
    items, bands, size = within.shape
    time = carriers.shape[1]
    out = np.zeros((items, time), np.float32)
    for item in range(items):
        for k in range(over.shape[2]):
            begin, end = k * size, min((k + 1) * size, time)
            for band in range(bands):
                level = over[item, band, k]
                for t in range(begin, end):
                    out[item, t] += carriers[band, t] * level * within[item, band, t - begin]
    return out


@compiled
def _mix_back(
    grad: Floats, carriers: Floats, over: Floats, within: Floats, to_carriers: Floats
) -> tuple[Floats, Floats]:
    """The gradients of `over` and `within`; adds that of the carriers, if there is room for it."""
    items, bands, size = within.shape
    time = carriers.shape[1]
    to_over, to_within = np.zeros_like(over), np.zeros_like(within)
    for item in range(items):
        for k in range(over.shape[2]):
            begin, end = k * size, min((k + 1) * size, time)
            for band in range(bands):
                level = over[item, band, k]
                share = np.zeros(size, np.float32)
                for t in range(begin, end):
                    share[t - begin] = grad[item, t] * carriers[band, t]
                to_over[item, band, k] = np.dot(share, within[item, band])
                to_within[item, band] += level * share
                if len(to_carriers):
                    for t in range(begin, end):
                        to_carriers[band, t] += grad[item, t] * level * within[item, band, t - begin]
    return to_over, to_within


@final
class _MixBands(torch.autograd.Function):
    @staticmethod
    def forward(carriers: Tensor, over: Tensor, within: Tensor) -> Tensor:
        return torch.from_numpy(_mix(*arrays(carriers, over, within)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad, carriers, over, within = arrays(grads[0], *ctx.saved_tensors)
        wanted = ctx.needs_input_grad[0]
        to_carriers = np.zeros(carriers.shape if wanted else (0, 0), np.float32)
        found = _mix_back(grad, carriers, over, within, to_carriers)
        return torch.from_numpy(to_carriers) if wanted else None, *map(torch.from_numpy, found)
