"""Gradients of losses that are no torch functions: a listening model, a meter, a count."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.audio import Audio
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators import Probing, ScoreFunction
from blackbox_fx.layers.black_box import BlackBox


def expected_loss(
    layer: BlackBox,
    audio: Tensor,
    params: Tensor,
    loss_fn: Callable[[Audio], float],
    estimator: Probing | None = None,
) -> Tensor:
    """The mean loss of a layer's output, whose backward gives params a gradient though the loss has none.

    The estimator's renders are worth their loss, where in an ordinary backward pass they are worth their inner product
    with the loss's gradient. They are made at once, in the layer's pool, if params want a gradient. Audio gets none.

    Args:
        layer: what renders; its own estimator and audio rule are not used.
        audio: (batch, channel, time), floating point.
        params: (batch, width) in [0, 1].
        loss_fn: from the output for one item, (channel, time) float32, to a finite number. Any Python function.
        estimator: `ScoreFunction()` if not given; with it the gradient is that of the expected loss over its random
            settings. `SPSA` and `FiniteDifference` work too where the loss is smooth.

    Returns:
        A scalar: the mean over the batch of the loss at params themselves.

    Raises:
        ParameterError: an estimator that cannot plan its renders or wants scores for stretches of time, which a loss
            does not have; a loss that is not a finite number. Else as `BlackBox`.

    >>> import blackbox_fx as bfx
    >>> layer = bfx.BlackBox(bfx.load("pedalboard:Gain"))
    >>> gain = torch.full((1, 1), 0.5, requires_grad=True)
    >>> loss = expected_loss(layer, torch.ones(1, 1, 100), gain, lambda wet: float(np.abs(wet).max()))
    >>> loss.backward()
    >>> bool(gain.grad > 0)
    True
    """
    if not isinstance(layer, BlackBox) or not callable(loss_fn):
        wrong = "loss_fn" if isinstance(layer, BlackBox) else "layer"
        raise ParameterError(
            f"{wrong} must be {'a function of audio' if wrong == 'loss_fn' else 'a BlackBox, of a Rack for several'}, "
            f"got {type(loss_fn if wrong == 'loss_fn' else layer).__name__}."
        )
    if not len(audio):
        raise ParameterError("The mean loss of an empty batch is no number; leave the step out.")
    estimator = ScoreFunction() if estimator is None else estimator
    if not isinstance(estimator, Probing):
        raise ParameterError(
            f"estimator must plan its renders, as ScoreFunction() or SPSA() do, got {type(estimator).__name__}."
        )
    with torch.no_grad():
        output = layer(audio, params)
    here = _losses(loss_fn, output.cpu().numpy())
    value = torch.tensor(here.mean(), dtype=torch.float32, device=params.device)
    if not (params.requires_grad and torch.is_grad_enabled()):
        return value
    call = layer.call_at(audio.detach().float(), params.detach().float(), output, layer.failed, user=estimator)
    plan = estimator.plan(call)
    if plan.stretch is not None:
        raise ParameterError(
            f"{type(estimator).__name__} wants scores for stretches of time, and a loss has one for the whole clip; "
            "use SPSA or ScoreFunction."
        )
    grad = torch.from_numpy(plan.combine(_losses(loss_fn, call.render(plan)), here))
    grad = call.without_failed(grad).to(params) / len(params)
    return value + ((params - params.detach()) * grad).sum()


def _losses(loss_fn: Callable[[Audio], float], outputs: Iterable[Audio]) -> NDArray[np.float64]:
    found = []
    for wet in outputs:
        loss = loss_fn(wet)
        try:
            number = float("nothing" if isinstance(loss, str) else loss)
        except (TypeError, ValueError):
            raise ParameterError(f"loss_fn must return a number, got {type(loss).__name__}.") from None
        if not math.isfinite(number):
            raise ParameterError(f"loss_fn returned {number}; it must return a finite number for every render.")
        found.append(number)
    return np.array(found)
