"""A gain for every sample."""

from __future__ import annotations

from typing import final

import numpy as np

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.operators import Gain
from blackbox_fx.estimators.audio_rules.probes import SMALL, Noise


def ratio(numerator: Signal, denominator: Signal, smooth: int) -> Signal:
    """The ratio of running means over `smooth` samples; 0 where the denominator is 0."""
    if smooth > 1:
        numerator = scipy.ndimage.uniform_filter1d(numerator, smooth, axis=-1)
        denominator = scipy.ndimage.uniform_filter1d(denominator, smooth, axis=-1)
    return numerator / np.maximum(denominator, 1e-3 * denominator.mean() + 1e-30)


@final
class Pointwise(Modelled):
    """For effects whose output at a time follows the input at that time: distortion, clipping, slow gains.

    Args:
        smooth: samples over which the derivative is averaged: 1 for what has no memory, more for dynamics, whose gain
            is slow and whose memory then averages out.
        size: of the probe, against the clip's root mean square.
    """

    any_channels = True

    def __init__(self, smooth: int = 1, size: float = SMALL) -> None:
        super().__init__()
        self.smooth, self.size = smooth, size

    def probes(self) -> tuple[Probe, ...]:
        """One random sign for every sample."""
        return (Noise(0, self.size),)

    def fit(self, site: Site) -> Model:
        """The answer over the probe."""
        u, ju = site[Noise(0, self.size)]
        return Gain(ratio(ju * u, u * u, self.smooth))

    def extra_repr(self) -> str:
        """Smoothing and size."""
        return f"smooth={self.smooth}, size={self.size:g}"
