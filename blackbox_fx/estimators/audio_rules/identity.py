"""A wire."""

from __future__ import annotations

from typing import final

from blackbox_fx.effects.request import AUDIO
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Site
from blackbox_fx.estimators.audio_rules.operators import Wire


@final
class Identity(Modelled):
    """Passes the cotangent through as if the effect were a wire, and none to further inputs.

    Measured cosine to the truth on single effects: 0.4 (deep chorus) to 0.96 (mild EQ, compressor). No renders.
    Also known as the straight-through estimator: "Estimating or Propagating Gradients Through Stochastic Neurons"
    (Bengio et al., 2013).
    """

    any_channels = True

    def probes(self) -> tuple[Probe, ...]:
        """None."""
        return ()

    def fit(self, site: Site) -> Model:
        """A wire; for a key, one that is cut."""
        return Wire(passes=AUDIO not in site.inputs)
