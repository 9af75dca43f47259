"""Time reversal."""

from __future__ import annotations

from typing import final

from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Site
from blackbox_fx.estimators.audio_rules.operators import Filter
from blackbox_fx.estimators.audio_rules.probes import LOW, Impulse


@final
class TimeReversal(Modelled):
    """For effects that are linear and do not change in time: equalisers, delays, reverbs, convolution.

    The cotangent is reversed in time, convolved with the effect's impulse response, and reversed again. The impulse
    response is rendered instead of the reversed cotangent, since that is also right if channels leak into each other.

    Args:
        height: of the impulse. A small one is answered without the curves of nearly linear effects. One as high as the
            music is not lost in the rounding of effects that compute in whole numbers, such as `ladspa:tap_reverb`.
    """

    def __init__(self, height: float = LOW) -> None:
        super().__init__()
        self.height = height

    def probes(self) -> tuple[Probe, ...]:
        """The impulse response."""
        return (Impulse(self.height),)

    def fit(self, site: Site) -> Model:
        """A convolution."""
        return Filter(site[Impulse(self.height)])

    def extra_repr(self) -> str:
        """The height, unless it is low."""
        return "" if self.height == LOW else f"height={self.height:g}"
