"""Time reversal."""

from __future__ import annotations

from typing import final

from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Site
from blackbox_fx.estimators.audio_rules.operators import Filter
from blackbox_fx.estimators.audio_rules.probes import Impulse


@final
class TimeReversal(Modelled):
    """For effects that are linear and do not change in time: equalisers, delays, reverbs, convolution.

    The cotangent goes backwards through the effect: reversed, convolved with its impulse response, reversed. The
    impulse response is rendered, rather than the reversed cotangent, since that is right where channels cross too.
    """

    def probes(self) -> tuple[Probe, ...]:
        """The impulse response."""
        return (Impulse(),)

    def fit(self, site: Site) -> Model:
        """A convolution."""
        return Filter(site[Impulse()])
