"""The audio gradient of a differentiable surrogate."""

from __future__ import annotations

from typing import final

from torch import Tensor

from blackbox_fx.estimators.autodiff import check_surrogate, pull
from blackbox_fx.estimators.base import AudioRule
from blackbox_fx.estimators.call import Call
from blackbox_fx.estimators.surrogates import Differentiable


@final
class Surrogate(AudioRule):
    """The audio gradient of a differentiable surrogate of the effect, a neural proxy or a `Twin`. It makes no renders.

    The cotangent is that of the real output, pulled back through the function at the same input. As good as the
    surrogate.

    Args:
        function: called with audio (batch, channel, time) float32, params (batch, width) in [0, 1] and the sample rate
            in Hz; returns audio of the same shape, differentiable in audio.

    Raises:
        ParameterError: something that cannot be called, or whose output does not depend on audio.
        AudioError: an output of another shape, or NaN or infinity in it or in the gradient.
    """

    any_channels = True

    def __init__(self, function: Differentiable) -> None:
        super().__init__()
        check_surrogate("function", function)
        self.function = function

    @property
    def pulls(self) -> bool:
        """True."""
        return True

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to audio; see `AudioRule.vjp`."""
        grad = pull(self.function, call, cotangent, audio=True)[0]
        assert grad is not None
        return grad

    def cost(self, channels: int) -> int:
        """None."""
        return 0
