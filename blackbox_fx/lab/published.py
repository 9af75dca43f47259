"""SPSA as others published it, to compare with."""

from __future__ import annotations

from typing import final

import numpy as np
import torch

from blackbox_fx.estimators import Call, Plan
from blackbox_fx.estimators.stochastic import Stochastic
from blackbox_fx.space import Space


@final
class PublishedSPSA(Stochastic):
    """SPSA as DeepAFx-ST has it: one random sign for each parameter, shared by the whole batch, and a step of 5e-4.

    Ends are clipped to [0, 1] and divided by the whole step.

    Args:
        generator: draws the signs.
        step: on the [0, 1] axis.

    References:
        "Style transfer of audio effects with differentiable signal processing" (Steinmetz et al., 2022).
    """

    def __init__(self, generator: torch.Generator, step: float = 5e-4) -> None:
        super().__init__(generator)
        self.step = step

    def plan(self, call: Call) -> Plan:
        """Two renders for each item."""
        batch, width = call.points.shape
        signs = torch.randint(2, (1, width), generator=self.draws()).numpy() * 2.0 - 1.0
        points = np.concatenate([np.clip(call.points + way * self.step * signs, 0, 1) for way in (1, -1)])

        def combine(scores: np.ndarray, here: np.ndarray) -> np.ndarray:
            up, down = np.split(scores, 2)
            return (up - down)[:, None] / (2 * self.step * signs)

        return Plan(points, np.tile(np.arange(batch), 2), combine)

    def cost(self, space: Space) -> int:
        """Two."""
        return 2
