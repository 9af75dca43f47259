"""Means and maxima over moving windows."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from blackbox_fx.core.compiled import compiled
from blackbox_fx.proxy.nets.kernels import Floats, arrays


def moving_mean(x: Tensor, length: Tensor) -> Tensor:
    """The mean of the last samples of x (items, time), with zeros before it.

    Args:
        x: (items, time).
        length: in samples, a scalar of at least 1 that need not be whole.
    """
    whole = int(length.detach())
    sums = F.pad(x.double().cumsum(1), (whole + 1, 0))
    late, later = sums[:, 1 : x.shape[1] + 1], sums[:, : x.shape[1]]
    return ((sums[:, whole + 1 :] - late - (length - whole) * (later - late)) / length).to(x)


def coming_max(x: Tensor, ahead: int) -> Tensor:
    """The largest of each sample of x (items, time) and those that come after it, `ahead` in number."""
    if x.device.type == "cpu":
        return _ComingMax.apply(x, ahead)
    return F.pad(x, (0, ahead), value=-torch.inf).unfold(1, ahead + 1, 1).amax(2)


@compiled
def _coming_max(x: Floats, ahead: int) -> NDArray[np.int64]:
    """Where the maxima are: a queue of samples that no later one exceeds."""
    found = np.empty(x.shape, np.int64)
    queue = np.empty(x.shape[1], np.int64)
    for item in range(x.shape[0]):
        first, last = 0, 0
        for t in range(x.shape[1] + ahead):
            if t < x.shape[1]:
                while last > first and x[item, queue[last - 1]] <= x[item, t]:
                    last -= 1
                queue[last] = t
                last += 1
            if t >= ahead:
                while queue[first] < t - ahead:
                    first += 1
                found[item, t - ahead] = queue[first]
    return found


@final
class _ComingMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ahead: int) -> Tensor:
        found = torch.from_numpy(_coming_max(arrays(x)[0], ahead))
        ctx.save_for_backward(found)
        return x.gather(1, found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (found,) = ctx.saved_tensors
        return torch.zeros_like(grads[0]).scatter_add(1, found, grads[0]), None
