"""Time reversal."""

from __future__ import annotations

from typing import final

from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Site
from blackbox_fx.estimators.audio_rules.operators import Filter
from blackbox_fx.estimators.audio_rules.probes import Impulse


@final
class TimeReversal(Modelled):
    """For effects that are linear and do not change in time: equalisers, delays, reverbs, convolution.

    The cotangent is reversed in time, convolved with the effect's impulse response, and reversed again. The impulse
    response is rendered instead of the reversed cotangent, since that is also right if channels leak into each other.
    """

    def probes(self) -> tuple[Probe, ...]:
        """The impulse response."""
        return (Impulse(),)

    def fit(self, site: Site) -> Model:
        """A convolution."""
        return Filter(site[Impulse()])
