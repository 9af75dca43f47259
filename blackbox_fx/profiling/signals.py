"""Signals that effects are measured with, and distances between their outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio

RATE = 44100


def music(seconds: float, channels: int = 2, seed: int = 0, rate: float = RATE) -> Audio:
    """Loud, tonal and transient, (channel, time), with a peak of 0.8; channels differ in the second half."""
    rng = np.random.default_rng(seed)
    n = max(1, int(seconds * rate))
    t = np.arange(n) / rate
    tones = np.zeros((channels, n))
    for frequency in rng.uniform(60, 4000, 6):
        tones += np.sin(2 * np.pi * frequency * t + rng.uniform(0, 6, (channels, 1)))
    beat = np.exp(-((t * 5) % 1) * 7)
    x = tones / 6 * (0.15 + beat) + 0.03 * rng.standard_normal((channels, n))
    x[:, : n // 2] = x[0, : n // 2]
    return (0.8 * x / np.abs(x).max()).astype(np.float32)


def difference(a: Audio, b: Audio) -> float:
    """Largest difference of two outputs, relative to the largest sample of the first if that is above 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        worst = float(np.abs(a.astype(np.float64) - b).max(initial=0.0))
    return worst / max(1.0, float(np.abs(a).max(initial=0.0)))


def rms(x: NDArray[Any]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0
