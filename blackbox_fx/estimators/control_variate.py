"""Reduces the noise of an estimate by a differentiable surrogate, without adding the surrogate's own error."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.autodiff import check_surrogate, surrogate_scores, surrogate_vjp
from blackbox_fx.estimators.base import Estimator, Probing
from blackbox_fx.estimators.call import Call
from blackbox_fx.estimators.moves import reaches
from blackbox_fx.estimators.surrogates import Differentiable, surrogate_name
from blackbox_fx.space import Space

_LEAST = 1e-9  # a step so small that only a column's own steps count
_KEEP = 0.99  # weight of the statistics of past calls, at every call


@final
class ControlVariate(Estimator):
    """The estimate of `base`, less its noise on a surrogate whose exact gradient is known.

    The gradient is base(effect) - c * (base(surrogate) - exact(surrogate)), where both runs of `base` use the same
    settings. The term in brackets has mean zero, so the mean is that of `base` for any surrogate. The closer the
    surrogate's response to the probes is to the effect's, the less noise remains. c is the regression coefficient of
    the two over past calls only, since a c that depends on this call's noise would add a bias. It starts at 1 and is
    part of `state_dict`.

    `base` must render settings that are constant in time, since a surrogate takes no others: `MultiplexedSPSA` is
    refused. The columns of on/off parameters, choices and large steps are those of `base`, since the surrogate's slope
    does not predict such a move. For the other columns, the mean of base(surrogate) is its gradient only up to the
    curvature within a step; c times this small difference remains as a bias.

    Args:
        base: any estimator whose renders can be planned, such as `SPSA`.
        surrogate: called with audio (batch, channel, time) float32, params (batch, width) in [0, 1] and the sample rate
            in Hz; returns audio of the same shape, differentiable in params. A `Twin` or a neural proxy, for example.

    Attributes:
        c: the factor of the surrogate's noise.

    Raises:
        ParameterError: a base that cannot plan, a surrogate that cannot be called.

    References:
        "Backpropagation through the Void: Optimizing control variates for black-box gradient estimation" (Grathwohl et
        al., 2018).
    """

    products: Tensor

    def __init__(self, base: Probing, surrogate: Differentiable) -> None:
        super().__init__()
        if not isinstance(base, Probing):
            raise ParameterError(f"base must be an estimator that plans its renders, such as SPSA(), got {base!r}.")
        check_surrogate("surrogate", surrogate)
        self.base = base
        self.surrogate = surrogate
        self.register_buffer("products", torch.zeros(2, dtype=torch.float64))

    @property
    def c(self) -> float:
        """How much of the surrogate's noise is taken away; from past calls."""
        both, own = self.products.tolist()
        return both / own if own > 0 else 1.0

    @property
    def pulls(self) -> bool:
        """True."""
        return True

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to params; see `Estimator.vjp`."""
        plan = self.base.plan(call)
        if plan.hop is not None:
            raise ParameterError(
                f"A surrogate cannot follow the time-varying settings of {type(self.base).__name__}; use SPSA as base."
            )
        estimate = call.estimate(plan, cotangent)
        if not estimate.shape[1]:
            return torch.from_numpy(estimate)
        scores = surrogate_scores(self.surrogate, call, cotangent, plan.points, plan.items, plan.stretch)
        here = surrogate_scores(self.surrogate, call, cotangent, call.points, np.arange(len(call.params)), plan.stretch)
        exact = surrogate_vjp(self.surrogate, call, cotangent).double().cpu().numpy()
        exact[call.failed] = 0.0
        noise = (plan.combine(scores, here) - exact) * (reaches(call.effect.space, _LEAST) > 0)
        noise[call.failed] = 0.0
        corrected = estimate - self.c * noise
        self._learn(estimate - exact, noise)
        return torch.from_numpy(corrected)

    def _learn(self, estimate: NDArray[np.float64], noise: NDArray[np.float64]) -> None:
        """One call more for c; the first call counts as much as a guess of 1."""
        both, own = float((estimate * noise).sum()), float(np.square(noise).sum())
        past = self.products if self.products.any() else torch.full_like(self.products, own)
        self.products.copy_(_KEEP * past + past.new_tensor([both, own]))

    def cost(self, space: Space) -> int:
        """That of the base; the surrogate is no render."""
        return self.base.cost(space)

    def extra_repr(self) -> str:
        """The surrogate where it is no module, and c."""
        return f"surrogate={surrogate_name(self.surrogate)}, c={self.c:.3g}"
