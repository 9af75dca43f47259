"""How the learning rate changes over a training."""

from __future__ import annotations

import math

_FLOOR = 0.02  # of the peak, at the end


def learning_rate(peak: float, step: int, part: float, warm_up: int) -> float:
    """A linear warm-up, then half a cosine down to a fiftieth of the peak.

    Args:
        peak: the highest rate.
        step: how many steps were made.
        part: how much of the training is over, in [0, 1].
        warm_up: steps.
    """
    fall = _FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * min(part, 1.0))) / 2
    return peak * fall * min(1.0, (step + 1) / warm_up)
