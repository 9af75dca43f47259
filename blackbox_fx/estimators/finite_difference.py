"""Central differences."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.estimators.base import Call, Plan, Probing, Rows
from blackbox_fx.estimators.moves import check_step, coarse_moves, fine_columns, most_moves, pair, plan
from blackbox_fx.space import Space


@final
class FiniteDifference(Probing):
    """One central difference for every column: the reference that other estimators are held against.

    Args:
        step: half the distance between the two ends, on the [0, 1] axis; a parameter's own step where that is larger.
            Effects with kinks (a compressor that switches between attack and release) want smaller ones than smooth
            effects, down to where float32 rounding of the renders shows, at about 1e-5.

    Raises:
        ParameterError: a step outside (0, 0.5].
    """

    def __init__(self, step: float = 1e-3) -> None:
        super().__init__()
        self.step = check_step(step)

    def plan(self, call: Call) -> Plan:
        """Two renders for every column that can move by the step, and the coarse moves."""
        space, rows = call.effect.space, call.rows
        batch, width = rows.shape
        fine = np.flatnonzero(fine_columns(space, self.step))
        reach = np.zeros((batch, len(fine), width))
        reach[:, np.arange(len(fine)), fine] = self.step
        items = np.repeat(np.arange(batch), len(fine))
        plus, minus, moved = pair(space, rows[items], reach.reshape(len(items), width))
        moves = [coarse_moves(space, row, self.step) for row in rows]
        own = moved.reshape(batch, len(fine), width)[:, np.arange(len(fine)), fine]

        def slopes(differences: NDArray[np.float64]) -> Rows:
            grad = np.zeros((batch, width))
            grad[:, fine] = differences.reshape(batch, len(fine)) / own
            return grad

        return plan(plus, minus, items, moves, slopes)

    def extra_repr(self) -> str:
        """The step."""
        return f"step={self.step:g}"

    def cost(self, space: Space) -> int:
        """Two for each continuous or integer parameter, one for on/off, one less than its options for a choice."""
        return 2 * int(fine_columns(space, self.step).sum()) + most_moves(space, self.step)
