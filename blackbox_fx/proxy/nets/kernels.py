"""Followers and tables for nets, with their gradients: one compiled pass over the samples each, on the CPU."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from blackbox_fx.dsp import kernels
from blackbox_fx.estimators.audio_rules.envelopes import compiled

Floats = NDArray[np.float32]


def follow(x: Tensor, start: Tensor, fall: Tensor, rise: Tensor) -> Tensor:
    """One-pole filters over x (items, time) from start (items,), with coefficients (items,) for falling and rising.

    float32 on the CPU; elsewhere it is that of `dsp`, which also has second derivatives.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return kernels.follow(x, start, fall, rise)
    return _Follow.apply(x, start, fall, rise)


def interpolate(place: Tensor, table: Tensor) -> Tensor:
    """Values between the knots of tables.

    Args:
        place: (items, time), in knots from 0 on; beyond the ends, the table goes on straight.
        table: (items, knots).
    """
    if place.device.type == "cpu" and place.dtype == torch.float32:
        return _Interpolate.apply(place, table)
    low = place.detach().floor().clamp(0, table.shape[1] - 2).long()
    below, above = table.gather(1, low), table.gather(1, low + 1)
    return below + (above - below) * (place - low)


@compiled
def _follow(x: Floats, start: Floats, fall: Floats, rise: Floats) -> Floats:
    out = np.empty_like(x)
    for item in range(x.shape[0]):
        e = np.float64(start[item])
        for t in range(x.shape[1]):
            off = x[item, t] - e
            e += (fall[item] if off < 0 else rise[item]) * off
            out[item, t] = e
    return out


@compiled
def _follow_back(
    grad: Floats, x: Floats, out: Floats, start: Floats, fall: Floats, rise: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    to_x, to_start = np.empty_like(x), np.empty_like(start)
    to_fall, to_rise = np.zeros_like(start), np.zeros_like(start)
    for item in range(x.shape[0]):
        carried, falling, rising = 0.0, 0.0, 0.0
        for t in range(x.shape[1] - 1, -1, -1):
            carried += grad[item, t]
            off = x[item, t] - (out[item, t - 1] if t > 0 else start[item])
            if off < 0:
                falling += carried * off
                c = fall[item]
            else:
                rising += carried * off
                c = rise[item]
            to_x[item, t] = c * carried
            carried *= 1.0 - c
        to_start[item], to_fall[item], to_rise[item] = carried, falling, rising
    return to_x, to_start, to_fall, to_rise


@compiled
def _interpolate(place: Floats, table: Floats) -> Floats:
    out = np.empty_like(place)
    last = table.shape[1] - 2
    for item in range(place.shape[0]):
        for t in range(place.shape[1]):
            at = place[item, t]
            low = min(max(int(at), 0), last)
            out[item, t] = table[item, low] + (table[item, low + 1] - table[item, low]) * (at - low)
    return out


@compiled
def _interpolate_back(grad: Floats, place: Floats, table: Floats) -> tuple[Floats, Floats]:
    to_place, to_table = np.empty_like(place), np.zeros_like(table)
    last = table.shape[1] - 2
    for item in range(place.shape[0]):
        for t in range(place.shape[1]):
            at = place[item, t]
            low = min(max(int(at), 0), last)
            g = grad[item, t]
            to_place[item, t] = g * (table[item, low + 1] - table[item, low])
            to_table[item, low] += g * (1 - (at - low))
            to_table[item, low + 1] += g * (at - low)
    return to_place, to_table


def _arrays(*tensors: Tensor) -> list[Floats]:
    return [x.detach().to(torch.float32).contiguous().numpy() for x in tensors]


@final
class _Follow(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, start: Tensor, fall: Tensor, rise: Tensor) -> Tensor:
        return torch.from_numpy(_follow(*_arrays(x, start, fall, rise)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, *rest = inputs
        ctx.save_for_backward(x, output, *rest)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = _follow_back(*_arrays(grads[0], *ctx.saved_tensors))
        return tuple(map(torch.from_numpy, found))


@final
class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(place: Tensor, table: Tensor) -> Tensor:
        return torch.from_numpy(_interpolate(*_arrays(place, table)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = _interpolate_back(*_arrays(grads[0], *ctx.saved_tensors))
        return tuple(map(torch.from_numpy, found))
