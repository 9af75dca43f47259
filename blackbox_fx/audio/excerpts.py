"""Where to listen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blackbox_fx.audio import Audio


def loudest(audio: Sequence[Audio] | Audio, length: int) -> int:
    """Where the loudest stretch of a length begins, to a tenth of it; 0 in shorter audio, (channel, time)."""
    power = np.square(np.asarray(audio, np.float64)).sum(0)
    if len(power) <= length:
        return 0
    sums = np.concatenate([[0.0], np.cumsum(power)])
    starts = np.arange(0, len(power) - length + 1, max(1, length // 10))
    return int(starts[np.argmax(sums[starts + length] - sums[starts])])
