"""Exact gradients, where the effect is a differentiable function after all."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.base import Call, Estimator, is_all_finite
from blackbox_fx.space import Space

Differentiable = Callable[[Tensor, Tensor, float], Tensor]


def check_surrogate(name: str, value: object) -> None:
    """Raises ParameterError unless the value can be called."""
    if not callable(value):
        raise ParameterError(f"{name} must be a function of (audio, params, sample_rate), got {value!r}.")


def check_output(audio: Tensor, like: Tensor) -> Tensor:
    """What a surrogate returned. Raises AudioError unless it is finite and has the shape of its input."""
    if audio.shape != like.shape:
        raise AudioError(
            f"The function returned shape {tuple(audio.shape)} for audio of shape {tuple(like.shape)}; both must be "
            "equal."
        )
    if not is_all_finite(audio):
        raise AudioError("The function returned NaN or infinity; check it at these settings before gradients use it.")
    return audio


def check_gradient(grad: Tensor) -> Tensor:
    """A surrogate's gradient. Raises AudioError unless it is finite."""
    if not is_all_finite(grad):
        raise AudioError(
            "The gradient of the function is NaN or infinite; look for a root, a logarithm or a division at 0 in it."
        )
    return grad


def surrogate_vjp(surrogate: Differentiable, call: Call, cotangent: Tensor) -> Tensor:
    """The gradient of <cotangent, surrogate's output> with respect to params, (batch, width), float64, by autograd.

    Raises:
        AudioError: a surrogate that returns another shape, NaN or infinity, or whose gradient holds them.
        ParameterError: one whose output does not depend on params.
    """
    params = call.params.detach().clone().requires_grad_()
    with torch.enable_grad():
        output = check_output(surrogate(call.audio.detach(), params, call.sample_rate), call.audio)
        if not output.requires_grad:
            raise ParameterError(
                "The output of the function has no gradient for params; compute it from them with torch, undetached."
            )
        (grad,) = torch.autograd.grad(output, params, cotangent.to(output), allow_unused=True)
    return torch.zeros_like(params, dtype=torch.float64).cpu() if grad is None else check_gradient(grad).double().cpu()


@final
class Autodiff(Estimator):
    """The gradient of a differentiable function that computes the same as the effect; no renders.

    Exact as far as the two agree; where they do not, it is the gradient of the function, with nothing to show for it:
    see `ControlVariate` for one that is corrected by renders. A `Twin` of blackbox_fx.dsp is such a function.

    Args:
        function: called with audio (batch, channel, time) float32, params (batch, width) in [0, 1] and the sample rate
            in Hz; returns audio of the same shape, differentiable in params. The weights of a module given here get no
            gradient.

    Raises:
        ParameterError: something that cannot be called.
    """

    def __init__(self, function: Differentiable) -> None:
        super().__init__()
        check_surrogate("function", function)
        self.function = function

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to params; see `Estimator.vjp`."""
        if not call.params.shape[1]:
            return torch.zeros_like(call.params)
        return surrogate_vjp(self.function, call, cotangent)

    def cost(self, space: Space) -> int:
        """None."""
        return 0
