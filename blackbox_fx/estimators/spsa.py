"""Simultaneous perturbation."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.base import Call, Plan, Probing, Rows
from blackbox_fx.estimators.moves import Move, check_step, coarse_moves, fine_columns, most_moves, pair, plan
from blackbox_fx.space import Space


@final
class SPSA(Probing):
    """Two renders for any number of parameters: all move at once, each by its own random sign.

    Every item of the batch and every pair has signs of its own. The estimate of each column is the difference of the
    two inner products over the distance that column really moved, so nothing is halved at a bound. Its mean is the
    gradient, up to the curvature within a step; its variance over K pairs is the sum of the other columns' squared
    slopes, over K.

    On/off parameters, choices and whatever has steps larger than `step` do not take part. They move one at a time: each
    pair brings one more render, for one such move drawn without replacement and weighted by how many there are. That is
    unbiased, and exact once there are as many pairs as moves. (Moving them along with the others was tried: on a plugin
    with two switches it biased both by what they do together, and its noise hid the continuous parameters.)

    Args:
        pairs: pairs of renders for each item of the batch.
        step: half the distance between the two ends, on the [0, 1] axis.
        generator: draws the signs, on the CPU. If not given, one is seeded from torch's default generator, as the
            weights
            of any torch module are. Its state is part of `state_dict`.

    Raises:
        ParameterError: pairs below 1, or a step outside (0, 0.5].

    References:
        "Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient Approximation" (Spall, 1992).
    """

    def __init__(self, pairs: int = 1, step: float = 0.02, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if isinstance(pairs, bool) or not isinstance(pairs, int) or pairs < 1:
            raise ParameterError(f"pairs must be a whole number of at least 1, got {pairs!r}.")
        self.pairs = pairs
        self.step = check_step(step)
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self.generator = generator

    def plan(self, call: Call) -> Plan:
        """Two renders for every pair, and the coarse moves that are drawn."""
        space, rows = call.effect.space, call.rows
        batch, width = rows.shape
        fine = fine_columns(space, self.step)
        pairs = self.pairs if fine.any() else 0
        signs = torch.randint(2, (batch * pairs, width), generator=self.generator).numpy() * 2.0 - 1.0
        items = np.repeat(np.arange(batch), pairs)
        plus, minus, moved = pair(space, rows[items], signs * fine * self.step)
        moves = [self._draw(coarse_moves(space, row, self.step)) for row in rows]

        def slopes(differences: NDArray[np.float64]) -> Rows:
            if not pairs:
                return np.zeros((batch, width))
            each = np.divide(differences[:, None], moved, out=np.zeros_like(moved), where=moved != 0)
            return each.reshape(batch, pairs, width).mean(axis=1)

        return plan(plus, minus, items, moves, slopes)

    def _draw(self, moves: list[Move]) -> list[Move]:
        count = min(self.pairs, len(moves))
        drawn = torch.randperm(len(moves), generator=self.generator)[:count].tolist()
        return [moves[k]._replace(weight=moves[k].weight * len(moves) / count) for k in drawn]

    def cost(self, space: Space) -> int:
        """Two for each pair, and up to one more for each where parameters are coarse."""
        joint = 2 * self.pairs if fine_columns(space, self.step).any() else 0
        return joint + min(self.pairs, most_moves(space, self.step))

    def extra_repr(self) -> str:
        """Pairs and step."""
        return f"pairs={self.pairs}, step={self.step:g}"

    def get_extra_state(self) -> Tensor:
        """The state of the generator."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restores the state of the generator."""
        self.generator.set_state(state.cpu())
