"""Which estimator, for a given number of renders."""

from __future__ import annotations

import logging
from typing import Any, final

import torch
from torch import Tensor

from blackbox_fx.core import checks
from blackbox_fx.estimators.base import Call, Estimator, Plan
from blackbox_fx.estimators.finite_difference import FiniteDifference
from blackbox_fx.estimators.multiplexed import MultiplexedSPSA
from blackbox_fx.estimators.spsa import SPSA
from blackbox_fx.estimators.stochastic import make_generator
from blackbox_fx.space import Space

_log = logging.getLogger("blackbox_fx")


@final
class Auto(Estimator):
    """Chooses the estimator by the effect and the clip, within a number of renders for each item.

    Central differences where they fit; else one-sided ones where those fit; else `MultiplexedSPSA` where the clip is
    long enough for its blocks; else SPSA; both with as many pairs as fit. One line on the logger "blackbox_fx" says so
    whenever the choice changes. The checks of `MultiplexedSPSA` come on top of the number of renders.

    Args:
        renders: the most renders for each item of the batch.
        generator: draws for whichever is chosen, see `SPSA`; its state, and what checks found, are part of
            `state_dict`.

    Attributes:
        chosen: the estimator that the last call used; None before the first.
        reason: why.

    Raises:
        ParameterError: renders below 3, with which a pair and one on/off parameter cannot be had.
    """

    def __init__(self, renders: int = 4, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.renders = checks.whole("renders", renders, 3)
        self.generator = make_generator(generator)
        # kept here as a module, so that what it measures is part of the state; the others remember nothing
        self.multiplexed = MultiplexedSPSA(generator=self.generator)
        self._shown: list[Estimator] = []  # no submodule: the keys of a state may not depend on the effect
        self.reason = "nothing was rendered yet"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.multiplexed.generator = self.generator

    @property
    def chosen(self) -> Estimator | None:
        """The estimator that the last call used; None before the first."""
        return self._shown[0] if self._shown else None

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to params; see `Estimator.vjp`."""
        estimator, reason = self._choose(call)
        grad = estimator.vjp(call, cotangent)
        self._show(call, estimator, reason)
        return grad

    def ahead(self, call: Call) -> Plan | None:
        """That of the estimator it chooses."""
        estimator, reason = self._choose(call)
        plan = estimator.ahead(call)
        if plan is not None:
            self._show(call, estimator, reason)
        return plan

    def _show(self, call: Call, estimator: Estimator, reason: str) -> None:
        if reason != self.reason:
            _log.info("%s: %s, since %s", call.effect.name, estimator, reason)
        self._shown, self.reason = [estimator], reason

    def _choose(self, call: Call) -> tuple[Estimator, str]:
        space = call.effect.space
        central, one_sided = self._differences()
        for estimator, kind in ((central, "central"), (one_sided, "one-sided")):
            if estimator.cost(space) <= self.renders:
                return estimator, f"{kind} differences take {estimator.cost(space)} of {self.renders} renders"
        why = f"one-sided differences would take {one_sided.cost(space)} renders instead of {self.renders}"
        self.multiplexed.pairs = self._pairs(space)
        if self.multiplexed.fits(call):
            return self.multiplexed, f"{why} and the clip is long enough for blocks"
        return self._spsa(self._pairs(space)), f"{why} and the clip is too short for blocks"

    def _differences(self) -> tuple[FiniteDifference, FiniteDifference]:
        return FiniteDifference(), FiniteDifference(central=False)

    def _spsa(self, pairs: int) -> SPSA:
        return SPSA(pairs, generator=self.generator)

    def _pairs(self, space: Space) -> int:
        return max(n for n in range(1, self.renders // 2 + 1) if self._spsa(n).cost(space) <= self.renders)

    def cost(self, space: Space) -> int:
        """That of the estimator that fits into the number of renders."""
        fitting = [e.cost(space) for e in self._differences() if e.cost(space) <= self.renders]
        return fitting[0] if fitting else self._spsa(self._pairs(space)).cost(space)

    def extra_repr(self) -> str:
        """The number of renders, what was chosen last and why."""
        return f"renders={self.renders}, chosen={type(self.chosen).__name__ if self._shown else None} ({self.reason})"
