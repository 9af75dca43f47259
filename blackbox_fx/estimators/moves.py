"""Perturbed points that respect bounds, steps and kinds, with the distance they really moved.

Columns are fine or coarse. Fine ones move by an estimator's step, or by their own where that is larger, up to a tenth
of the range, and may all move at once. On/off parameters, choices and parameters with larger steps are coarse: they
move one at a time against the forward pass, since such a move would drown the response to small ones, and the responses
to two of them together could not be separated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.call import Plan, Rows
from blackbox_fx.space import Choice, Space, Toggle

_LARGEST = 0.1  # a parameter whose own step is larger is coarse


def check_step(step: Any) -> float:
    """A step on the [0, 1] axis. Raises ParameterError outside (0, 0.5]."""
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not 0 < step <= 0.5:
        raise ParameterError(f"step must lie in (0, 0.5] of a parameter's range, got {step!r}.")
    return float(step)


def reaches(space: Space, step: float) -> NDArray[np.float64]:
    """How far each column moves, (width,): by the step, or by its own where that is larger; 0 for coarse ones."""
    own = space.unit_steps
    return np.where(own <= max(step, _LARGEST), np.maximum(own, step), 0.0)


def pair(space: Space, points: Rows, reach: Rows) -> tuple[Rows, Rows, Rows]:
    """Points moved both ways, stopped at 0 and 1.

    Args:
        space: of the effect.
        points: (n, width), the present settings.
        reach: (n, width), how far and in which direction each column goes; 0 for coarse ones.

    Returns:
        plus, minus: (n, width), the two ends as they will be rendered.
        moved: (n, width), plus - minus. Dividing by it instead of twice the reach keeps slopes whole at a bound.
    """
    ends = [np.clip(points + s * reach, 0.0, 1.0) for s in (1, -1)]
    plus, minus = (np.where(reach != 0, space.snap(end), points) for end in ends)
    return plus, minus, plus - minus


def around(points: Rows, reach: Rows) -> tuple[Rows, Rows]:
    """Points plus and minus a reach of the same shape, around a centre moved inside where they would leave [0, 1].

    The distance between the two is twice the reach always (of at most 0.5), so that a slope is whole at a bound.
    """
    reach = np.clip(reach, -0.5, 0.5)
    centre = np.clip(points, np.abs(reach), 1 - np.abs(reach))
    return centre + reach, centre - reach


class Move(NamedTuple):
    """One coarse move: it adds weight * <cotangent, render at point - forward pass> to a column of the gradient."""

    point: Rows
    column: int
    weight: float


def coarse_moves(space: Space, point: Rows, reach: NDArray[np.float64]) -> list[Move]:
    """All coarse moves from a point, (width,). Summed up, they give the gradient of the columns whose reach is 0.

    An on/off parameter moves to its other state, a choice to each of its other options, and a parameter with steps by
    one step up and one down, whose slopes are averaged.
    """
    here = space.snap(point[None])[0]
    moves = []
    for name in space.free:
        p, s = space.parameters[name], space.slices[name]

        def moved(columns: Rows, s: slice = s) -> Rows:
            to = point.copy()
            to[s] = columns
            return to

        if isinstance(p, Choice):
            present = int(here[s].argmax())
            others = [k for k in range(p.columns) if k != present]
            moves += [Move(moved(np.eye(p.columns)[k]), s.start + k, 1.0) for k in others]
        elif isinstance(p, Toggle):
            moves.append(Move(moved(1.0 - here[s]), s.start, 1.0 if here[s.start] == 0 else -1.0))
        elif not reach[s.start]:
            ends = [p.snap(np.clip(here[None, s] + d * p.unit_step, 0, 1))[0] for d in (1, -1)]
            ends = [end for end in ends if end[0] != here[s.start]]
            moves += [Move(moved(end), s.start, 1 / (float(end[0] - here[s.start]) * len(ends))) for end in ends]
    return moves


def most_moves(space: Space, reach: NDArray[np.float64]) -> int:
    """The most moves that `coarse_moves` can give."""
    kinds = [space.parameters[name] for name in space.free if not reach[space.slices[name].start]]
    return sum(1 if isinstance(p, Toggle) else 2 if p.columns == 1 else p.columns - 1 for p in kinds)


def plan(
    points: Rows,
    items: NDArray[np.int64],
    moves: Sequence[Sequence[Move]],
    slopes: Callable[[NDArray[np.float64], NDArray[np.float64]], Rows],
    hop: int | None = None,
    stretch: int | None = None,
) -> Plan:
    """A plan that puts coarse moves behind an estimator's own renders.

    Args:
        points: the estimator's own renders; see `Plan`.
        items: theirs.
        moves: for each item of the batch.
        slopes: their `combine`: the gradient, (batch, width), of the columns that take no coarse moves.
        hop: theirs.
        stretch: theirs.
    """
    flat = [(item, move) for item, own in enumerate(moves) for move in own]
    moved = np.array([move.point for _, move in flat]).reshape(len(flat), points.shape[-1])
    owners = np.array([item for item, _ in flat], dtype=np.int64)
    if hop is not None:
        moved = np.repeat(moved[:, None], points.shape[1], axis=1)

    def combine(scores: NDArray[np.float64], here: NDArray[np.float64]) -> Rows:
        own, coarse = np.split(scores, [len(points)])
        grad = slopes(own, here)
        if stretch is not None:
            coarse, here = coarse.sum(axis=1), here.sum(axis=1)
        for (item, move), score in zip(flat, coarse, strict=True):
            grad[item, move.column] += move.weight * (score - here[item])
        return grad

    return Plan(np.concatenate([points, moved]), np.concatenate([items, owners]), combine, hop, stretch)
