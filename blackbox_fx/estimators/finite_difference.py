"""Central differences."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.estimators.base import Call, Estimator
from blackbox_fx.estimators.moves import check_step, choices, choose, pair
from blackbox_fx.space import Space, Toggle


@final
class FiniteDifference(Estimator):
    """One central difference for every column: the reference that other estimators are held against.

    Args:
        step: half the distance between the two ends, on the [0, 1] axis; a parameter's own step where that is larger.
            The default suits smooth effects in float32; rough ones want more.

    Raises:
        ParameterError: a step outside (0, 0.5].
    """

    def __init__(self, step: float = 3e-3) -> None:
        super().__init__()
        self.step = check_step(step)

    def vjp(self, call: Call, g: Tensor) -> Tensor:
        """The gradient with respect to params; see `Estimator.vjp`."""
        space, rows = call.effect.space, call.rows
        batch = len(rows)
        points: list[np.ndarray] = []
        slopes: list[tuple[int, np.ndarray]] = []  # column, distance between the two points that follow each other
        discrete = choices(space)
        for name in space.free:
            columns = range(space.width)[space.slices[name]]
            if name in discrete:
                for option, column in enumerate(columns):
                    points += [choose(space, rows, name, option), rows]
                    slopes.append((column, np.ones(batch)))
            else:
                direction = np.zeros_like(rows)
                direction[:, columns.start] = 1.0
                plus, minus, moved = pair(space, rows, direction, self.step)
                points += [plus, minus]
                slopes.append((columns.start, moved[:, columns.start]))
        grad = np.zeros_like(rows)
        if points:
            items = np.tile(np.arange(batch), len(points))
            ends = call.project(np.concatenate(points), items, g).reshape(len(slopes), 2, batch)
            for (column, moved), (plus, minus) in zip(slopes, ends, strict=True):
                grad[:, column] = (plus - minus) / moved
        return torch.from_numpy(grad)

    def cost(self, space: Space) -> int:
        """Two for each continuous or integer parameter, one for on/off, one less than its options for a choice."""
        kinds = [space.parameters[name] for name in space.free]
        return sum(1 if isinstance(p, Toggle) else 2 if p.columns == 1 else p.columns - 1 for p in kinds)
