"""A gate that opens and closes in ramps, with hysteresis and hold."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from blackbox_fx.core.compiled import compiled
from blackbox_fx.proxy.nets.kernels import Floats, arrays

_NEAR = 0.03  # of the logarithm of the level, 0.6 dB: how far thresholds are moved for their derivatives
_SEARCHED = 4410  # samples around a crossing


def ramp(level: Tensor, numbers: Tensor, latched: bool) -> Tensor:
    """How far a gate is open, from 0 to 1, (items, time).

    It opens above one threshold and closes below another, by the same amount in each sample. Once it is open, it stays
    so for a hold time. A threshold's derivative is that of the times at which the level crosses it, averaged over 0.6
    dB to either side. Computed on the CPU, wherever the tensors are.

    Args:
        level: (items, time), logarithms to base 10.
        numbers: (items, 6): thresholds for opening and closing, hold in samples, steps up and down, and how far it is
            open at first.
        latched: whether it opens completely before it may close.
    """
    return _Ramp.apply(level, numbers, latched).to(level)


@compiled
def _ramp(latched: bool, level: Floats, numbers: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """How far it is open, and whether it opens or stays open."""
    out, opening = np.empty_like(level), np.empty(level.shape, np.bool_)
    for item in range(level.shape[0]):
        opens, closes, hold, up, down, g = numbers[item]
        on, left = g >= 1, np.float32(0)
        for t in range(level.shape[1]):
            if level[item, t] > (closes if on else opens):
                on = True
            elif not (latched and g < 1) and left <= 0:
                on = False
            if on and g >= 1:
                left -= 1
            g = min(g + up, np.float32(1)) if on else max(g - down, np.float32(0))
            if g < 1:
                left = hold
            out[item, t], opening[item, t] = g, on
    return out, opening


@compiled
def _delays(near: float, most: int, level: Floats, numbers: Floats, opening: NDArray[np.bool_]) -> Floats:
    """Samples by which each turn moves for a unit of its threshold; -1 where a hold ended, 0 where nothing turns."""
    out = np.zeros_like(level)
    for item in range(level.shape[0]):
        own, hold, closes, was = level[item], numbers[item, 2], numbers[item, 1], numbers[item, 5] >= 1
        for t in range(level.shape[1]):
            on, before = opening[item, t], was
            was = on
            if on == before:
                continue
            if before and hold >= 1 and t > 0 and own[t - 1] <= closes:
                out[item, t] = -1
                continue
            edge, sign, first, last = numbers[item, int(before)], 1 - 2 * int(before), t, t
            while first > max(0, t - most) and sign * (own[first - 1] - edge) > -near:
                first -= 1
            while last < min(len(own), t + most) and sign * (own[last] - edge) < near:
                last += 1
            out[item, t] = (last - first) / (2 * near)
    return out


@compiled
def _ramp_back(
    latched: bool,
    near: float,
    opening: NDArray[np.bool_],
    grad: Floats,
    level: Floats,
    numbers: Floats,
    out: Floats,
    delays: Floats,
) -> tuple[Floats, Floats]:
    to_level, to_numbers = np.zeros_like(level), np.zeros(numbers.shape)
    for item in range(level.shape[0]):
        up, down, start = numbers[item, 3], numbers[item, 4], numbers[item, 5]
        free = numbers[item, 2] < 1 and not latched and abs(numbers[item, 0] - numbers[item, 1]) < near
        carried, later = 0.0, 0.0  # later: what a later opening does at the end of its hold
        for t in range(level.shape[1] - 1, -1, -1):
            carried += grad[item, t]
            before = out[item, t - 1] if t > 0 else start
            on, was = opening[item, t], opening[item, t - 1] if t > 0 else start >= 1
            step = carried * (min(before + up, np.float32(1)) - max(before - down, np.float32(0)))
            moved = 0.0
            if free:
                moved = -step / (2 * near) * (abs(level[item, t] - numbers[item, int(was)]) < near)
            elif delays[item, t] < 0:
                to_numbers[item, 2] += step
                later += step
            elif on and not was:
                moved = delays[item, t] * (later - step)
                to_numbers[item, 3] -= later * (1 - before) / (up * up)
                later = 0.0
            else:
                moved = -delays[item, t] * step
            to_numbers[item, int(was)] += moved
            to_level[item, t] = -moved
            if 0 < out[item, t] < 1:
                to_numbers[item, 4 - int(on)] += carried * (2 * int(on) - 1)
            else:
                carried = 0.0
        to_numbers[item, 5] = carried
    return to_level, to_numbers.astype(np.float32)


@final
class _Ramp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, level: Tensor, numbers: Tensor, latched: bool) -> Tensor:
        out, opening = (torch.from_numpy(x) for x in _ramp(latched, *arrays(level.cpu(), numbers.cpu())))
        ctx.save_for_backward(level, numbers, out, opening)
        ctx.latched = latched
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        level, numbers, kept, opening = ctx.saved_tensors
        grad, own, numbers, out = arrays(grads[0].cpu(), level.cpu(), numbers.cpu(), kept)
        delays = _delays(_NEAR, _SEARCHED, own, numbers, opening.numpy())
        found = _ramp_back(ctx.latched, _NEAR, opening.numpy(), grad, own, numbers, out, delays)
        return *(torch.from_numpy(x).to(level) for x in found), None
