"""Rules for the gradient with respect to audio."""

from __future__ import annotations

from typing import final

from torch import Tensor

from blackbox_fx.estimators.base import AudioRule, Call


@final
class Identity(AudioRule):
    """Passes the cotangent through as if the effect were a wire.

    Measured cosine to the truth on single effects: 0.4 (deep chorus) to 0.96 (mild EQ, compressor). No renders.
    Also known as the straight-through estimator: "Estimating or Propagating Gradients Through Stochastic Neurons"
    (Bengio et al., 2013).
    """

    def vjp(self, call: Call, g: Tensor) -> Tensor:
        """The cotangent itself."""
        return g

    def cost(self, channels: int) -> int:
        """No renders."""
        return 0
