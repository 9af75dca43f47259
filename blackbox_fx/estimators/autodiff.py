"""Exact gradients, where the effect is a differentiable function after all."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.base import Estimator
from blackbox_fx.estimators.call import Call, Rows
from blackbox_fx.estimators.moves import coarse_moves, reaches
from blackbox_fx.estimators.surrogates import Differentiable, Pulled, surrogate_name
from blackbox_fx.estimators.tensors import is_all_finite, to_numpy
from blackbox_fx.runtime.base import inner
from blackbox_fx.space import Space

_LEAST = 1e-9  # a step so small that only a column's own steps count


def check_surrogate(name: str, value: object) -> None:
    """Raises ParameterError unless the value can be called, and is no proxy whose training has failed."""
    if not callable(value) or isinstance(value, type):
        how = "; load it with bfx.load_proxy" if isinstance(value, str) else ""
        raise ParameterError(f"{name} must be a function of (audio, params, sample_rate), got {value!r:.80}{how}.")
    if failure := getattr(value, "failure", ""):
        raise ParameterError(f"{str(failure).rstrip('.')}; to use it all the same, set its failure to ''.")


def check_output(audio: Tensor, like: Tensor) -> Tensor:
    """What a surrogate returned. Raises AudioError unless it is finite and has the shape of its input."""
    if not isinstance(audio, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise AudioError(
            f"The function returned {type(audio).__name__}; it must return audio of the shape that it got."
        )
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


def pull(surrogate: Differentiable, call: Call, cotangent: Tensor, audio: bool = False, params: bool = False) -> Pulled:
    """The gradients of <cotangent, surrogate's output> by autograd, on the device of the audio.

    One pass gives all that the backward pass asks for; the second to ask gets what the first has found.

    Args:
        surrogate: the function.
        call: the forward pass.
        cotangent: of its output, (batch, channel, time).
        audio: whether its gradient is wanted.
        params: whether theirs is wanted.

    Returns:
        (batch, channel, time) and (batch, width); None for what nobody wants.

    Raises:
        AudioError: a surrogate that returns another shape, NaN or infinity, or whose gradient holds them.
        ParameterError: one whose output depends on neither audio nor params.
    """
    key = (surrogate, call.audio, cotangent)
    kept = call.pullbacks.find(key)
    if kept is not None and (kept[0] is not None or not audio) and (kept[1] is not None or not params):
        return kept
    inputs = call.audio.detach().clone(), _settled(call)
    asked = [audio or call.pullbacks.audio, params or call.pullbacks.params]
    wanted = [x.requires_grad_() for x, ask in zip(inputs, asked, strict=True) if ask]
    with torch.enable_grad():
        output = check_output(surrogate(*inputs, call.sample_rate), call.audio)
        if not output.requires_grad:
            raise ParameterError(
                f"The output of the function has no gradient for {'params' if params else 'audio'}; compute it from "
                "them with torch, undetached."
            )
        found = iter(torch.autograd.grad(output, wanted, cotangent.to(output), allow_unused=True))
    grads = [_found(next(found), x) if ask else None for x, ask in zip(inputs, asked, strict=True)]
    both = grads[0], grads[1]
    call.pullbacks.keep(key, both)
    return both


def _settled(call: Call) -> Tensor:
    """The params as the effect sees them: at the steps, states and options that they decode to."""
    space = call.effect.space
    if not space.unit_steps.any():
        return call.params.detach().clone()
    return torch.from_numpy(space.snap(call.points)).to(call.params)


def _found(grad: Tensor | None, x: Tensor) -> Tensor:
    return torch.zeros_like(x) if grad is None else check_gradient(grad)


def surrogate_vjp(surrogate: Differentiable, call: Call, cotangent: Tensor) -> Tensor:
    """The gradient of <cotangent, surrogate's output> with respect to params, (batch, width), by autograd; see `pull`.

    Columns of on/off parameters and choices hold the slope of the function there.
    """
    grad = pull(surrogate, call, cotangent, params=True)[1]
    assert grad is not None
    return grad


@torch.no_grad()
def surrogate_scores(
    surrogate: Differentiable,
    call: Call,
    cotangent: Tensor,
    points: Rows,
    items: NDArray[np.int64],
    stretch: int | None = None,
) -> Rows:
    """What `Call.project` gives, of a surrogate; as many at once as the batch has items."""
    cotangents, found = to_numpy(cotangent), []
    rows = torch.from_numpy(points).to(call.params)
    for part in torch.arange(len(items)).split(max(1, len(call.params))):
        own = items[part.numpy()]
        audio = call.audio[torch.from_numpy(own).to(call.audio.device)]
        output = check_output(surrogate(audio, rows[part.to(rows.device)], call.sample_rate), audio)
        found += [inner(cotangents[k], y, stretch) for k, y in zip(own, to_numpy(output), strict=True)]
    return np.array(found)


def surrogate_gradient(surrogate: Differentiable, call: Call, cotangent: Tensor) -> Tensor:
    """The gradient with respect to params, (batch, width), as `Estimator.vjp` defines it, of a surrogate."""
    slopes = surrogate_vjp(surrogate, call, cotangent)
    space, points = call.effect.space, call.points
    reach = reaches(space, _LEAST)
    moves = [(item, move) for item, point in enumerate(points) for move in coarse_moves(space, point, reach)]
    fine = torch.from_numpy(reach > 0).to(slopes.device)
    if not moves:
        return slopes * fine
    items = np.array([item for item, _ in moves])
    moved = surrogate_scores(surrogate, call, cotangent, np.stack([move.point for _, move in moves]), items)
    here = surrogate_scores(surrogate, call, cotangent, points, np.arange(len(points)))
    grad = (slopes * fine).double().cpu().numpy()
    for (item, move), score in zip(moves, moved, strict=True):
        grad[item, move.column] += move.weight * (score - here[item])
    return torch.from_numpy(grad)


@final
class Autodiff(Estimator):
    """The gradient of a differentiable function that computes the same as the effect; no renders.

    Exact as far as the two agree; where they do not, it is the gradient of the function, with nothing to show for it:
    see `ControlVariate` for one that is corrected by renders. A `Twin` of blackbox_fx.dsp is such a function. Columns
    of on/off parameters, choices and large steps get the difference that the move makes to the function's output.

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

    @property
    def pulls(self) -> bool:
        """True."""
        return True

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to params; see `Estimator.vjp`."""
        if not call.params.shape[1]:
            return torch.zeros_like(call.params)
        return surrogate_gradient(self.function, call, cotangent)

    def cost(self, space: Space) -> int:
        """None."""
        return 0

    def extra_repr(self) -> str:
        """The function."""
        return f"function={surrogate_name(self.function)}"
