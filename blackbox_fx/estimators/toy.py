"""A toy estimator: SPSA with half the step."""

from __future__ import annotations

from typing import final

from blackbox_fx.estimators.base import Call, Plan
from blackbox_fx.estimators.spsa import SPSA
from blackbox_fx.estimators.stochastic import Stochastic
from blackbox_fx.space import Space


@final
class ToyDifference(Stochastic):
    """SPSA with one pair and half the usual step."""

    def plan(self, call: Call) -> Plan:
        """That of SPSA."""
        return SPSA(1, 0.01, self.draws()).plan(call)

    def cost(self, space: Space) -> int:
        """That of SPSA."""
        return SPSA(1).cost(space)
