"""The gradient of a differentiable stand-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.base import AudioRule, Call


@final
class Surrogate(AudioRule):
    """The audio gradient of a differentiable function that imitates the effect: a neural proxy, a `Twin`. No renders.

    The cotangent is that of the real output, pulled back through the function at the same input. As good as the
    imitation.

    Args:
        function: called with audio (batch, channel, time) float32, params (batch, width) in [0, 1] and the sample rate
            in Hz; returns audio of the same shape, differentiable in audio.

    Raises:
        ParameterError: something that cannot be called, or whose output does not depend on audio.
    """

    def __init__(self, function: Callable[[Tensor, Tensor, float], Tensor]) -> None:
        super().__init__()
        if not callable(function):
            raise ParameterError(f"function must be one of (audio, params, sample_rate), got {function!r}.")
        self.function = function

    def vjp(self, call: Call, g: Tensor) -> Tensor:
        """The gradient with respect to audio; see `AudioRule.vjp`."""
        audio = call.audio.detach().clone().requires_grad_()
        with torch.enable_grad():
            output = self.function(audio, call.params.detach(), call.sample_rate)
        if not output.requires_grad or output.shape != audio.shape:
            raise ParameterError(
                f"The function must return audio of shape {tuple(audio.shape)} with a gradient, got "
                f"{tuple(output.shape)}; compute it from audio with torch, undetached."
            )
        return torch.autograd.grad(output, audio, g.to(output))[0]

    def cost(self, channels: int) -> int:
        """None."""
        return 0
