"""Simultaneous perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.core import checks
from blackbox_fx.estimators.call import Call, Plan, Rows
from blackbox_fx.estimators.moves import Move, check_step, coarse_moves, most_moves, pair, plan, reaches
from blackbox_fx.estimators.stochastic import Stochastic, signs
from blackbox_fx.space import Space


def draw(moves: list[Move], count: int, generator: torch.Generator) -> list[Move]:
    """At most a given number of the moves, drawn without replacement and weighted so that their sum keeps its mean."""
    count = min(count, len(moves))
    drawn = torch.randperm(len(moves), generator=generator)[:count].tolist()
    return [moves[k]._replace(weight=moves[k].weight * len(moves) / count) for k in drawn]


@final
class SPSA(Stochastic):
    """Two renders for any number of parameters: all move at once, each by its own random sign.

    Every item of the batch has its own signs, and those of its pairs are orthogonal: rows of a Hadamard matrix whose
    columns have random signs. The estimate of a column is the difference of the two inner products over the distance
    that the column really moved, so slopes are right at a bound too. Its mean is the gradient, up to the curvature
    within a step. Its variance is the sum of the other columns' squared slopes times r (m - r) / ((m - 1) K^2), where K
    is the number of pairs, m the number of columns rounded up to a power of two, and r = K mod m. This factor is 1 for
    one pair, less than 1 / K for more, and 0 where m divides K. A parameter whose own step is larger than `step` moves
    by its own step.

    On/off parameters, choices, and parameters with steps larger than a tenth of their range move one at a time instead.
    Each pair has one more render for such a move, drawn without replacement and weighted by the number of moves. This
    is unbiased, and exact if there are as many pairs as moves. (Moving them together with the others was tried: on a
    plugin with two switches, their interaction biased both, and their noise hid the continuous parameters.)

    An effect that is not deterministic needs larger steps. They are not chosen automatically: the effect of its noise
    depends on the loss as well, and a step that changes would change the bias without notice.

    Args:
        pairs: pairs of renders for each item of the batch.
        step: half the distance between the two ends, on the [0, 1] axis.
        generator: draws the signs, on the CPU. If not given, one is seeded from torch's default generator, as the
            weights of any torch module are. Its state is part of `state_dict`.

    Raises:
        ParameterError: pairs below 1, or a step outside (0, 0.5].

    References:
        "Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient Approximation" (Spall, 1992).
        "Two-timescale Simultaneous Perturbation Stochastic Approximation Using Deterministic Perturbation Sequences"
        (Bhatnagar et al., 2003), for Hadamard matrices.
    """

    def __init__(self, pairs: int = 1, step: float = 0.02, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        self.pairs = checks.whole("pairs", pairs)
        self.step = check_step(step)

    def plan(self, call: Call) -> Plan:
        """Two renders for every pair, and the coarse moves that are drawn."""
        space, reach, generator = call.effect.space, reaches(call.effect.space, self.step), self.draws()
        moves = [draw(coarse_moves(space, point, reach), self.pairs, generator) for point in call.points]
        return self.joint(call, generator, moves)

    def joint(self, call: Call, generator: torch.Generator, moves: Sequence[Sequence[Move]] | None = None) -> Plan:
        """The plan with these coarse moves for each item; without any, their columns are left 0."""
        space, points = call.effect.space, call.points
        batch, width = points.shape
        reach = reaches(space, self.step)
        fine = np.flatnonzero(reach)
        pairs = self.pairs if len(fine) else 0
        direction = np.zeros((batch, pairs, width))
        direction[..., fine] = signs(batch, pairs, len(fine), generator)
        items = np.repeat(np.arange(batch), pairs)
        plus, minus, moved = pair(space, points[items], direction.reshape(len(items), width) * reach)

        def slopes(scores: NDArray[np.float64], here: NDArray[np.float64]) -> Rows:
            if not pairs:
                return np.zeros((batch, width))
            up, down = np.split(scores, 2)
            each = np.divide((up - down)[:, None], moved, out=np.zeros_like(moved), where=moved != 0)
            return each.reshape(batch, pairs, width).mean(axis=1)

        return plan(np.concatenate([plus, minus]), np.concatenate([items, items]), moves or [()] * batch, slopes)

    def error(self, columns: int) -> float:
        """The expected squared error over the squared gradient, for a number of columns of a linear function."""
        order = 1 << max(columns - 1, 1).bit_length()
        over = self.pairs % order
        return (columns - 1) * over * (order - over) / ((order - 1) * self.pairs**2)

    def cost(self, space: Space) -> int:
        """Two for each pair, and up to one more for each where parameters are coarse."""
        reach = reaches(space, self.step)
        return 2 * self.pairs * bool(reach.any()) + min(self.pairs, most_moves(space, reach))

    def extra_repr(self) -> str:
        """Pairs and step."""
        return f"pairs={self.pairs}, step={self.step:g}"
