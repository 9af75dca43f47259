"""A gate that opens and closes in ramps, with hysteresis and hold."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from blackbox_fx.estimators.audio_rules.envelopes import compiled
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
def _ramp(latched: bool, level: Floats, numbers: Floats) -> tuple[Floats, NDArray[np.int8]]:
    """How far it is open; and 1 while it opens, 0 while it closes, 2 at the sample at which a hold ended."""
    out, state = np.empty_like(level), np.empty(level.shape, np.int8)
    for item in range(level.shape[0]):
        opens, closes, hold, up, down, g = numbers[item]
        on, left = g >= 1, np.float32(0)
        for t in range(level.shape[1]):
            now, held = level[item, t], False
            if now > (closes if on else opens):
                on = True
            elif on and not (latched and g < 1) and left <= 0:
                on, held = False, hold >= 1 and t > 0 and level[item, t - 1] <= closes
            if on and g >= 1:
                left -= 1
            g = min(g + up, np.float32(1)) if on else max(g - down, np.float32(0))
            if g < 1:
                left = hold
            out[item, t], state[item, t] = g, 2 if held else 1 if on else 0
    return out, state


@compiled
def _ramp_back(
    latched: bool,
    near: float,
    most: int,
    state: NDArray[np.int8],
    grad: Floats,
    level: Floats,
    numbers: Floats,
    out: Floats,
) -> tuple[Floats, Floats]:
    to_level, to_numbers = np.zeros_like(level), np.zeros(numbers.shape)
    for item in range(level.shape[0]):
        hold, up, down, start = numbers[item, 2], numbers[item, 3], numbers[item, 4], numbers[item, 5]
        free = hold < 1 and not latched and abs(numbers[item, 0] - numbers[item, 1]) < near
        carried, later = 0.0, 0.0  # later: what a later opening does at the end of its hold
        for t in range(level.shape[1] - 1, -1, -1):
            carried += grad[item, t]
            before = out[item, t - 1] if t > 0 else start
            rises, rose = state[item, t] == 1, state[item, t - 1] == 1 if t > 0 else start >= 1
            side = 1 if rose else 0
            own, edge = level[item], numbers[item, side]
            step = carried * (min(before + up, np.float32(1)) - max(before - down, np.float32(0)))
            moved = 0.0
            if state[item, t] == 2:
                to_numbers[item, 2] += step
                later += step
            elif free and abs(own[t] - edge) < near:
                moved = -step / (2 * near)
            elif rises != rose and not free:
                sign, first, last = 1.0 if rises else -1.0, t, t
                while first > 0 and t - first < most and sign * (own[first - 1] - edge) > -near:
                    first -= 1
                while (
                    last < len(level[item])
                    and last - t < most
                    and sign * (level[item, last] - numbers[item, side]) < near
                ):
                    last += 1
                moved = (last - first) / (2 * near) * (later - step if rises else -step)
                if rises:
                    to_numbers[item, 3] -= later * (1 - before) / (up * up)
                    later = 0.0
            to_numbers[item, side] += moved
            to_level[item, t] = -moved
            if 0 < out[item, t] < 1:
                to_numbers[item, 3 if rises else 4] += carried if rises else -carried
            else:
                carried = 0.0
        to_numbers[item, 5] = carried
    return to_level, to_numbers.astype(np.float32)


@final
class _Ramp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, level: Tensor, numbers: Tensor, latched: bool) -> Tensor:
        inputs = arrays(level.cpu(), numbers.cpu())
        out, state = (torch.from_numpy(x) for x in _ramp(latched, *inputs))
        ctx.save_for_backward(level, numbers, out, state)
        ctx.latched = latched
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        level, numbers, out, state = ctx.saved_tensors
        found = _ramp_back(
            ctx.latched, _NEAR, _SEARCHED, state.numpy(), *arrays(grads[0].cpu(), level.cpu(), numbers.cpu(), out)
        )
        return *(torch.from_numpy(x).to(level) for x in found), None
