"""The power of an error against that of the signal."""

from __future__ import annotations

import torch
from torch import Tensor

_SILENCE = 1e-9  # power, -90 dB


def esr(wet: Tensor, target: Tensor, least: Tensor | float = _SILENCE) -> Tensor:
    """Error-to-signal ratio of every item, (batch,): power of the difference over that of the target.

    Args:
        wet: (batch, channel, time).
        target: the same.
        least: power, (batch,), that a softer target counts as; -90 dB if not given.
    """
    error, power = (x.square().mean(dim=(1, 2)) for x in (wet - target, target))
    return error / torch.maximum(power, torch.as_tensor(least))
