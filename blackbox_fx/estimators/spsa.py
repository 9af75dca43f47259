"""Simultaneous perturbation."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.base import Call, Estimator
from blackbox_fx.estimators.moves import check_step, choices, pair
from blackbox_fx.space import Space


@final
class SPSA(Estimator):
    """Two renders for any number of parameters: all move at once, each by its own random sign.

    Every item of the batch and every pair has signs of its own. The estimate of each column is the difference of the two
    inner products over the distance that column really moved, so nothing is halved at a bound. A choice moves to a random
    other option, on one side or the other, and the estimate is weighted by how many there are. The mean is the gradient, up
    to the curvature within a step; with P equal parameters the squared error is P - 1 times the squared gradient over pairs.

    Args:
        pairs: pairs of renders for each item of the batch.
        step: half the distance between the two ends, on the [0, 1] axis; a parameter's own step where that is larger.
        generator: draws the signs, on the CPU. If not given, one is seeded from torch's default generator, as the weights
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

    def vjp(self, call: Call, g: Tensor) -> Tensor:
        """The gradient with respect to params; see `Estimator.vjp`."""
        space = call.effect.space
        batch, width = call.params.shape
        rows = np.repeat(call.rows, self.pairs, axis=0)
        signs = self._draw(2, rows.shape) * 2.0 - 1.0
        plus, minus, moved = pair(space, rows, signs, self.step)
        # what one unit of difference between the inner products says about each column; 0 where it did not move
        weight = np.divide(1.0, moved, out=np.zeros_like(moved), where=moved != 0)
        for name in choices(space):
            s = space.slices[name]
            self._move_choice(rows[:, s], signs[:, s.start], plus[:, s], minus[:, s], weight[:, s])
        items = np.repeat(np.arange(batch), self.pairs)
        ends = call.project(np.concatenate([plus, minus]), np.tile(items, 2), g).reshape(2, -1)
        grad = (ends[0] - ends[1])[:, None] * weight
        return torch.from_numpy(grad.reshape(batch, self.pairs, width).mean(axis=1))

    def _move_choice(self, rows: Any, sign: Any, plus: Any, minus: Any, weight: Any) -> None:
        """Fills the columns of one choice, all (n, options): to a random other option, on the side of the sign."""
        options = rows.shape[1]
        present = rows.argmax(axis=1)
        other = (present + 1 + self._draw(options - 1, present.shape)) % options
        to, stay, up = np.eye(options)[other], np.eye(options)[present], sign[:, None] > 0
        plus[:] = np.where(up, to, stay)
        minus[:] = np.where(up, stay, to)
        weight[:] = to * sign[:, None] * (options - 1)

    def _draw(self, high: int, shape: tuple[int, ...]) -> np.ndarray:
        return torch.randint(high, shape, generator=self.generator).numpy()

    def cost(self, space: Space) -> int:
        """Two for each pair."""
        return 2 * self.pairs

    def get_extra_state(self) -> Tensor:
        """The state of the generator."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restores the state of the generator."""
        self.generator.set_state(state.cpu())
