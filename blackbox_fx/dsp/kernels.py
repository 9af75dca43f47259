"""The recursions that effects share.

On the CPU each is one compiled pass over the samples, which lets other threads run. Elsewhere they are those of
torchcomp and torchlpc.
"""

from __future__ import annotations

from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from blackbox_fx.core.compiled import compiled
from blackbox_fx.dsp.moving import by_item

Samples = NDArray[Any]  # float32 or float64


def follow(x: Tensor, start: Tensor, fall: Tensor, rise: Tensor) -> Tensor:
    """One-pole filters over x (items, time) from start (items,), with coefficients for falling and rising.

    Sums are in float64; the output has the type of x.

    Args:
        x: levels.
        start: of each item.
        fall: (items,), or (items, time) where it moves, which is computed on the CPU.
        rise: as fall.
    """
    moves = fall.ndim == 2 or rise.ndim == 2
    if x.device.type == "cpu" or moves:
        return _Follow.apply(*(t.cpu() for t in (x, start, by_item(fall, fall), by_item(rise, rise)))).to(x.device)
    import torchcomp.core

    # torchcomp follows a gain, whose attack is its fall
    return torchcomp.core.compressor_core(x, *(c.to(x.dtype) for c in (start, fall, rise)))


def recurse(x: Tensor, a: Tensor) -> Tensor:
    """All-pole filters over x (items, time) from silence, with coefficients (items, time, order), on a GPU."""
    import torchlpc

    return cast(Tensor, torchlpc.sample_wise_lpc(x, a))


def arrays(*tensors: Tensor) -> list[Samples]:
    """Tensors of the CPU as kernels take them."""
    return [x.detach().contiguous().numpy() for x in tensors]


@compiled
def _follow(x: Samples, start: Samples, fall: Samples, rise: Samples) -> Samples:
    out = np.empty_like(x)
    falling, rising = int(fall.shape[1] > 1), int(rise.shape[1] > 1)
    for item in range(x.shape[0]):
        e, down, up = np.float64(start[item]), np.float64(fall[item, 0]), np.float64(rise[item, 0])
        if falling + rising > 0:
            for t in range(x.shape[1]):
                now = np.float64(x[item, t])
                pole = np.float64(fall[item, t * falling] if now < e else rise[item, t * rising])
                e = e * (1 - pole) + now * pole
                out[item, t] = e
        # a larger step upwards is the larger of both results, so that nothing has to be predicted
        elif up >= down:
            for t in range(x.shape[1]):
                now = np.float64(x[item, t])
                e = max(e * (1 - down) + now * down, e * (1 - up) + now * up)
                out[item, t] = e
        else:
            for t in range(x.shape[1]):
                now = np.float64(x[item, t])
                e = min(e * (1 - down) + now * down, e * (1 - up) + now * up)
                out[item, t] = e
    return out


@compiled
def _follow_back(
    grad: Samples, x: Samples, out: Samples, start: Samples, fall: Samples, rise: Samples
) -> tuple[Samples, Samples, Samples, Samples]:
    to_x, to_start = np.empty_like(x), np.empty_like(start)
    to_fall, to_rise = np.zeros_like(fall), np.zeros_like(rise)
    falling, rising = int(fall.shape[1] > 1), int(rise.shape[1] > 1)
    for item in range(x.shape[0]):
        carried = 0.0
        for t in range(x.shape[1] - 1, -1, -1):
            carried += grad[item, t]
            off = np.float64(x[item, t]) - (out[item, t - 1] if t > 0 else start[item])
            below = min(off, 0.0)
            down, up = np.float64(fall[item, t * falling]), np.float64(rise[item, t * rising])
            to_fall[item, t * falling] += carried * below
            to_rise[item, t * rising] += carried * (off - below)
            moved = (down if off < 0 else up) * carried
            to_x[item, t] = moved
            carried -= moved
        to_start[item] = carried
    return to_x, to_start, to_fall, to_rise


@final
class _Follow(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, start: Tensor, fall: Tensor, rise: Tensor) -> Tensor:
        return torch.from_numpy(_follow(*arrays(x, start, fall, rise)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, *rest = inputs
        ctx.save_for_backward(x, output, *rest)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = _follow_back(*arrays(grads[0], *ctx.saved_tensors))
        return tuple(map(torch.from_numpy, found))
