"""Finite differences."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.estimators.base import Probing
from blackbox_fx.estimators.call import Call, Plan, Rows
from blackbox_fx.estimators.moves import check_step, coarse_moves, most_moves, pair, plan, reaches
from blackbox_fx.space import Space


@final
class FiniteDifference(Probing):
    """Differences of every column by itself: the reference for all other estimators.

    Central differences take two renders for each column and are off by the third derivative times step^2 / 6. One-sided
    ones take one, against the forward pass, and are off by the second derivative times step / 2; they go up, or down
    where up would leave [0, 1].

    Args:
        step: distance of each end from the present value, on the [0, 1] axis; a parameter's own step where that is
            larger. If not given, 1e-3 for central and 3e-4 for one-sided differences, where what the curvature and what
            the float32 rounding of the renders (about 1e-7 / step) put in are about equal. Effects with kinks (a
            compressor that switches between attack and release) want smaller steps than smooth effects, down to 1e-5.
        central: whether differences are central; else one-sided.

    Raises:
        ParameterError: a step outside (0, 0.5].
    """

    def __init__(self, step: float | None = None, central: bool = True) -> None:
        super().__init__()
        self.step = check_step((1e-3 if central else 3e-4) if step is None else step)
        self.central = central

    def plan(self, call: Call) -> Plan:
        """The renders of every column that can move by the step, and the coarse moves."""
        return self._plan(call, coarse=True)

    def fine(self, call: Call) -> Plan:
        """The plan without coarse moves, whose columns are left 0."""
        return self._plan(call, coarse=False)

    def _plan(self, call: Call, coarse: bool) -> Plan:
        space, present = call.effect.space, call.points
        batch, width = present.shape
        reach = reaches(space, self.step)
        fine = np.flatnonzero(reach)
        items = np.repeat(np.arange(batch), len(fine))
        starts = space.snap(present)[items]
        columns = np.tile(fine, batch)
        each = np.arange(len(items))
        toward = np.zeros((len(items), width))
        toward[each, columns] = reach[columns]
        if self.central:
            plus, minus, moved = pair(space, starts, toward)
            points, owners = np.concatenate([plus, minus]), np.concatenate([items, items])
        else:
            down = starts + toward > 1
            points, _, _ = pair(space, starts, np.where(down, -toward, toward))
            moved, owners = points - starts, items
        own = moved[each, columns]

        def slopes(scores: NDArray[np.float64], here: NDArray[np.float64]) -> Rows:
            other = scores[len(items) :] if self.central else here[items]
            grad = np.zeros((batch, width))
            grad[:, fine] = ((scores[: len(items)] - other) / own).reshape(batch, len(fine))
            return grad

        moves = [coarse_moves(space, point, reach) if coarse else [] for point in present]
        return plan(points, owners, moves, slopes)

    def cost(self, space: Space) -> int:
        """Two (or one) for each continuous or integer parameter that moves by the step; and the coarse moves.

        These are one for on/off, one less than its options for a choice, up to two for a parameter with larger steps.
        """
        reach = reaches(space, self.step)
        return (1 + self.central) * int(np.count_nonzero(reach)) + most_moves(space, reach)

    def extra_repr(self) -> str:
        """The step, and which differences."""
        return f"step={self.step:g}, central={self.central}"
