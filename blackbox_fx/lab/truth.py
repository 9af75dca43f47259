"""The true gradient of a loss with respect to an effect's parameters, and its own error."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.dsp import TWINS
from blackbox_fx.dsp.twin import Twin
from blackbox_fx.effects import Effect, Rack
from blackbox_fx.estimators import Call, FiniteDifference
from blackbox_fx.lab.case import Case
from blackbox_fx.runtime import Inline, Pool

STEPS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # on the [0, 1] axis; below, float32 rounding of the renders shows
ONE_HOT = 0.95
KNOWN = 0.15

Differentiable = Callable[[Tensor, Tensor, float], Tensor]


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """A gradient with respect to parameters.

    Args:
        gradient: (width,).
        error: an estimate of its relative error; 0 for autograd.
        how: how it was computed, in words.
        columns: the name of every column.
    """

    gradient: NDArray[np.float64]
    error: float
    how: str
    columns: tuple[str, ...]

    @property
    def norm(self) -> float:
        """Length of the gradient."""
        return float(np.linalg.norm(self.gradient))

    @property
    def largest(self) -> tuple[str, float]:
        """The column that holds most of the squared length, and its share."""
        k = int(np.argmax(np.abs(self.gradient)))
        return self.columns[k], float(self.gradient[k] ** 2 / max(self.norm**2, 1e-300))

    @property
    def proves(self) -> bool:
        """Whether a comparison of estimators at this gradient means anything.

        It means nothing where the gradient is zero or its error is large. It also means nothing where one column of
        several holds nearly all of the gradient, since there an estimator scores well if only this column is right.
        """
        alone = len(self.gradient) > 1 and self.largest[1] > ONE_HOT
        return self.norm > 0 and self.error < KNOWN and not alone


def differentiable(effect: Effect) -> Differentiable | None:
    """The differentiable function of a twin or of a rack of twins; None for any other effect.

    It takes audio (batch, channel, time), params (batch, width) and a sample rate.
    """
    kind, _, name = effect.name.partition(":")
    if kind == "twin" and name in TWINS:
        return Twin(name, TWINS[name].function, effect.space)
    if not isinstance(effect, Rack):
        return None
    stages = [(member.space.width, differentiable(member)) for member in effect.members.values()]
    untouched = sum(width for width, _ in stages) == effect.space.width
    if not untouched or any(stage is None for _, stage in stages):
        return None

    def through(audio: Tensor, params: Tensor, sample_rate: float) -> Tensor:
        for (_, stage), own in zip(stages, params.split([width for width, _ in stages], dim=1), strict=True):
            assert stage is not None
            audio = stage(audio, own, sample_rate)
        return audio

    return through


def true_gradient(case: Case, pool: Pool | None = None, steps: tuple[float, ...] = STEPS) -> Truth:
    """The gradient of the loss with respect to the parameters of a case.

    Twins are differentiated by autograd in float64. Every other effect gets central differences with several steps.
    Larger steps suffer from the effect's curvature and kinks, smaller ones from the rounding of its float32 renders, so
    the step whose result is nearest to those of both its neighbours is taken. The greater of the two distances is its
    error. (Taking the nearest pair was tried: at a kink of a compressor's threshold, two large steps agreed on a slope
    of 2 where it is -11.) Columns without slopes (on/off, choices, parameters in steps) are defined as in
    `Estimator.vjp`, and have no error.

    Args:
        case: what is differentiated.
        pool: where the renders run; `Inline()` if not given.
        steps: three or more, falling, on the [0, 1] axis.
    """
    columns = case.effect.space.columns
    function = differentiable(case.effect)
    if function is not None:
        params = case.params.double()[None].requires_grad_()
        wet = function(case.audio.double()[None], params, case.sample_rate)
        (slope,) = torch.autograd.grad(wet, params, case.cotangent.double()[None])
        return Truth(slope[0].numpy(), 0.0, "autograd", columns)
    call = Call(
        case.effect, pool or Inline(), case.sample_rate, case.audio[None], case.params[None], _forward(case, pool)
    )
    found = [FiniteDifference(step).vjp(call, case.cotangent[None])[0].double().numpy() for step in steps]
    differences = [float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(found)]
    errors = [max(pair) for pair in itertools.pairwise(differences)]
    best = 1 + int(np.argmin(errors))
    error = min(errors) / max(float(np.linalg.norm(found[best])), 1e-300)
    return Truth(found[best], error, f"central differences, step {steps[best]:g}", columns)


def _forward(case: Case, pool: Pool | None) -> Tensor:
    from blackbox_fx.layers.black_box import BlackBox

    with torch.no_grad():
        return BlackBox(case.effect, pool=pool, sample_rate=case.sample_rate)(case.audio[None], case.params[None])
