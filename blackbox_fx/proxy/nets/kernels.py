"""Tables of the level for nets, with their gradients: one compiled pass over the samples, on the CPU."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from blackbox_fx.core.compiled import compiled

Floats = NDArray[np.float32]
SILENCE = 1e-7  # the lowest level, and the one before the clip
_FROM, _TO, _SHIFT = -24, 6, 15  # octaves of a table, and bits of a float32 between its knots: 256 an octave
_FIRST = (127 + _FROM) << 23  # the bits of the first knot
KNOTS = ((_TO - _FROM) << (23 - _SHIFT)) + 1
LEVELS = ((np.arange(KNOTS, dtype=np.int64) << _SHIFT) + _FIRST).astype(np.int32).view(np.float32)
_PER_LEVEL = (1 / np.diff(LEVELS.astype(np.float64))).astype(np.float32)


def coefficients(seconds: Tensor, rate: float) -> Tensor:
    """Of one-pole filters with these time constants."""
    return -torch.expm1(-1 / (rate * seconds.clamp_min(1e-6)))


def look_up(level: Tensor, table: Tensor) -> Tensor:
    """A function of the level, straight between knots.

    Args:
        level: (items, time), at least 0; beyond the first and the last knot, the function is constant.
        table: (items, KNOTS), the function at `LEVELS`: a knot in each 0.02 dB.
    """
    if is_compiled(level):
        return _LookUp.apply(level, table)
    levels = torch.from_numpy(LEVELS).to(level)
    level = level.clamp(levels[0], levels[-1])
    low = ((level.detach().float().view(torch.int32) - _FIRST) >> _SHIFT).clamp(0, KNOTS - 2).long()
    below, above = table.gather(1, low), table.gather(1, low + 1)
    return below + (above - below) * (level - levels[low]) * torch.from_numpy(_PER_LEVEL).to(level)[low]


def is_compiled(x: Tensor) -> bool:
    """Whether there are kernels for it."""
    return x.device.type == "cpu" and x.dtype == torch.float32


@compiled
def _look_up(levels: Floats, per_level: Floats, first: int, shift: int, level: Floats, table: Floats) -> Floats:
    out = np.empty_like(level)
    bits = level.view(np.int32)
    last = table.shape[1] - 2
    for item in range(level.shape[0]):
        for t in range(level.shape[1]):
            k = min(max((bits[item, t] - first) >> shift, 0), last)
            at = min(max((level[item, t] - levels[k]) * per_level[k], np.float32(0)), np.float32(1))
            out[item, t] = table[item, k] + (table[item, k + 1] - table[item, k]) * at
    return out


@compiled
def _look_up_back(
    levels: Floats, per_level: Floats, first: int, shift: int, grad: Floats, level: Floats, table: Floats
) -> tuple[Floats, Floats]:
    to_level, to_table = np.empty_like(level), np.zeros_like(table)
    bits = level.view(np.int32)
    last = table.shape[1] - 2
    for item in range(level.shape[0]):
        slopes = (table[item, 1:] - table[item, :-1]) * per_level
        sums = np.zeros(table.shape[1])
        for t in range(level.shape[1]):
            k = (bits[item, t] - first) >> shift
            g = grad[item, t]
            if k < 0:
                to_level[item, t] = 0
                sums[0] += g
            elif k > last:
                to_level[item, t] = 0
                sums[last + 1] += g
            else:
                to_level[item, t] = g * slopes[k]
                above = g * (level[item, t] - levels[k]) * per_level[k]
                sums[k] += g - above
                sums[k + 1] += above
        to_table[item] = sums
    return to_level, to_table


def arrays(*tensors: Tensor) -> list[Floats]:
    """Tensors as the kernels take them."""
    return [x.detach().to(torch.float32).contiguous().numpy() for x in tensors]


@final
class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(level: Tensor, table: Tensor) -> Tensor:
        return torch.from_numpy(_look_up(LEVELS, _PER_LEVEL, _FIRST, _SHIFT, *arrays(level, table)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = _look_up_back(LEVELS, _PER_LEVEL, _FIRST, _SHIFT, *arrays(grads[0], *ctx.saved_tensors))
        return tuple(map(torch.from_numpy, found))
