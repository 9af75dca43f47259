"""Numbers for each item of a batch, (batch,), or for each of its samples where they move, (batch, time)."""

from __future__ import annotations

import torch
from torch import Tensor


def by_item(numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers as (batch, 1 or time), in the type of another tensor."""
    return (numbers if numbers.ndim == 2 else numbers[:, None]).to(like.dtype)


def by_channel(numbers: Tensor, audio: Tensor) -> Tensor:
    """Numbers as (batch, 1, 1 or time), in the type of audio."""
    return by_item(numbers, audio)[:, None]


def held(hold: int, *numbers: Tensor) -> tuple[Tensor, ...]:
    """Numbers in float64: (batch,) each if none moves, else (batch, blocks) each, from the middles of blocks.

    Args:
        hold: samples of a block.
        *numbers: (batch,) or (batch, time).
    """
    if all(each.ndim == 1 for each in numbers):
        return tuple(each.double() for each in numbers)
    time = max(each.shape[1] for each in numbers if each.ndim == 2)
    middles = (torch.arange(0, time, hold) + hold // 2).clamp(max=time - 1).to(numbers[0].device)
    columns = (each[:, middles] if each.ndim == 2 else each[:, None] for each in numbers)
    return tuple(torch.broadcast_tensors(*(each.double() for each in columns)))
