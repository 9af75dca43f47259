"""Smooth memoryless functions of a sample by cubic splines, with their gradients: one compiled pass, on the CPU."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from blackbox_fx.core.compiled import compiled
from blackbox_fx.proxy.nets.kernels import Floats, arrays

_FROM, _TO, _SHIFT = -18, 6, 18  # octaves, and bits of a float32 between knots: 32 an octave
_FIRST = (127 + _FROM) << 23  # the bits of the first knot above 0
_STEPS = (_TO - _FROM) << (23 - _SHIFT)
MAGNITUDES = np.append(
    np.float32(0), ((np.arange(_STEPS + 1, dtype=np.int64) << _SHIFT) + _FIRST).astype(np.int32).view(np.float32)
)


def spline(x: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
    """A function of x by its values and slopes at knots, as cubic Hermite splines.

    Args:
        x: (items, time), float32 on the CPU; beyond the outermost knots, the function is straight.
        values: (items, 2, knots), the function at `MAGNITUDES`, and at the same with a minus.
        slopes: its derivatives there.
    """
    return _Spline.apply(x, values, slopes)


@compiled
def _spline(knots: Floats, first: int, shift: int, x: Floats, values: Floats, slopes: Floats) -> Floats:
    out = np.empty_like(x)
    magnitudes = np.abs(x)
    bits = magnitudes.view(np.int32)
    last = len(knots) - 1
    for item in range(x.shape[0]):
        for t in range(x.shape[1]):
            m, side = magnitudes[item, t], 1 if x[item, t] < 0 else 0
            sign = np.float32(1 - 2 * side)
            k = max((bits[item, t] - first) >> shift, -1) + 1
            if k >= last:
                out[item, t] = values[item, side, last] + sign * slopes[item, side, last] * (m - knots[last])
                continue
            h = knots[k + 1] - knots[k]
            u = (m - knots[k]) / h
            v = np.float32(1) - u
            straight = values[item, side, k] + (values[item, side, k + 1] - values[item, side, k]) * u
            # what the slopes at both ends are steeper than the straight line
            rise = (values[item, side, k + 1] - values[item, side, k]) * sign
            start = slopes[item, side, k] * h - rise
            end = slopes[item, side, k + 1] * h - rise
            out[item, t] = straight + sign * u * v * (v * start - u * end)
    return out


@compiled
def _spline_back(
    knots: Floats, first: int, shift: int, grad: Floats, x: Floats, values: Floats, slopes: Floats
) -> tuple[Floats, Floats, Floats]:
    to_x, to_values, to_slopes = np.empty_like(x), np.zeros(values.shape), np.zeros(values.shape)
    magnitudes = np.abs(x)
    bits = magnitudes.view(np.int32)
    last = len(knots) - 1
    for item in range(x.shape[0]):
        for t in range(x.shape[1]):
            m, side = magnitudes[item, t], 1 if x[item, t] < 0 else 0
            sign, g = np.float32(1 - 2 * side), grad[item, t]
            k = max((bits[item, t] - first) >> shift, -1) + 1
            if k >= last:
                to_x[item, t] = g * slopes[item, side, last]
                to_values[item, side, last] += g
                to_slopes[item, side, last] += g * sign * (m - knots[last])
                continue
            h = knots[k + 1] - knots[k]
            u = (m - knots[k]) / h
            v = np.float32(1) - u
            rise = (values[item, side, k + 1] - values[item, side, k]) * sign
            start, end = slopes[item, side, k] * h, slopes[item, side, k + 1] * h
            bump = np.float32(6) * u * v
            to_x[item, t] = g / h * (rise * bump + start * v * (v - 2 * u) + end * u * (u - 2 * v))
            share = g * u * u * (1 + 2 * v)
            to_values[item, side, k] += g - share
            to_values[item, side, k + 1] += share
            to_slopes[item, side, k] += g * sign * h * u * v * v
            to_slopes[item, side, k + 1] -= g * sign * h * u * u * v
    return to_x, to_values.astype(np.float32), to_slopes.astype(np.float32)


@final
class _Spline(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
        return torch.from_numpy(_spline(MAGNITUDES, _FIRST, _SHIFT, *arrays(x, values, slopes)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = _spline_back(MAGNITUDES, _FIRST, _SHIFT, *arrays(grads[0], *ctx.saved_tensors))
        return tuple(map(torch.from_numpy, found))
