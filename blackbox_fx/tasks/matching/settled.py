"""How well settings are determined by what is heard, and which of them may stay at their defaults."""

from __future__ import annotations

import contextlib
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.tasks.matching.descent import State, states
from blackbox_fx.tasks.matching.problem import Problem, Spent

Array = NDArray[np.float64]

_RISE = 0.1  # of the loss, that counts as heard
_LEAST_RISE = 1e-4  # of the loss: -40 dB
_STEPS = (0.02, 0.2)  # of a column, for differences; the larger where the smaller changes nothing
_KEPT = 0.01  # rise of the loss that a default may cost
_FREE = 1e-9


class Determined(NamedTuple):
    """How well one setting is known.

    Args:
        name: of the parameter.
        value: that was found.
        low, high: between which the loss rises by less than a tenth (and 1e-4), if all others follow; equal to the
            value for a choice that is heard.
        share: of the whole range that lies between these, from 0 to 1.
    """

    name: str
    value: Any
    low: Any
    high: Any
    share: float

    @property
    def is_heard(self) -> bool:
        """Whether the sound depends on it, as far as the others leave it alone."""
        return self.share < 1

    def words(self) -> str:
        """The range in words."""
        if not self.is_heard:
            return "not heard"
        if self.low == self.high:
            return "sure"
        return f"{self.low:.4g} to {self.high:.4g}"


def simplify(problem: Problem, start: Array) -> Array:
    """A point as good as this one, with every parameter at its default that may stand there.

    Takes two renders at most for each parameter that is elsewhere.
    """
    space, point = problem.chain.space, start.copy()
    defaults = space.encode()
    away = [own for own in space.slices.values() if np.abs(point[own] - defaults[own]).max(initial=0.0) > _FREE]
    if not away:
        return point
    with contextlib.suppress(Spent):
        limit = float(problem.evaluate(point[None]).losses[0]) * (1 + _KEPT) + _FREE
        alone = problem.evaluate(np.array([_with(point, own, defaults) for own in away])).losses
        for k in np.argsort(alone):
            if alone[k] > limit:
                break
            simpler = _with(point, away[k], defaults)
            if problem.evaluate(simpler[None]).losses[0] <= limit:
                point = simpler
    return point


def determine(problem: Problem, point: Array) -> list[Determined]:
    """How well each free parameter is determined at a point, in their order.

    Takes up to two renders for each column, and one for each other value of a choice.

    Raises:
        Spent: too few renders are left.
    """
    space, here = problem.chain.space, states(problem, point[None])[0]
    rise = max(_RISE * float(here.parts.sum()), _LEAST_RISE)
    widths = dict(zip(problem.continuous.tolist(), _widths(problem, here, rise), strict=True))
    values = space.decode(point)
    found = []
    for name, own in space.slices.items():
        if own.start in widths:
            found.append(_range(problem, name, point, own.start, widths[own.start]))
            continue
        option = next(o for o in problem.options if o.columns.start == own.start)
        others = np.array([_put(point, own, value) for value in option.values])
        others = others[np.abs(others - point).max(1) > _FREE]
        heard = [s for s in states(problem, others) if s.parts.sum() > here.parts.sum() + rise]
        sure = len(heard) == len(others)
        found.append(Determined(name, values[name], values[name], values[name], 0.0 if sure else 1.0))
    return found


def _widths(problem: Problem, here: State, rise: float) -> Array:
    """By how much each free column may move while the loss rises by no more, all others following, (columns,)."""
    columns = problem.continuous
    if not len(columns):
        return np.zeros(0)
    if not problem.wants_residuals:
        return _widths_alone(problem, here, rise)
    rows = np.zeros((len(here.residuals), len(columns)))
    for step in _STEPS:
        silent = np.flatnonzero(np.abs(rows).sum(0) == 0)
        points = np.array([_moved(here.point, columns[k], max(step, problem.steps[k])) for k in silent])
        for k, state in zip(silent, states(problem, points) if len(points) else [], strict=True):
            change = state.point[columns[k]] - here.point[columns[k]]
            if np.isfinite(state.parts).all():
                rows[:, k] = (state.residuals - here.residuals) / change
    # a prior of the whole range, so that what is not heard has a width, and not infinity
    information = rows.T @ rows / rise + np.eye(len(columns))
    return np.sqrt(np.diag(np.linalg.inv(information)))


def _widths_alone(problem: Problem, here: State, rise: float) -> Array:
    """The same for a loss without residuals, with all others at rest."""
    columns, widths = problem.continuous, np.ones(len(problem.continuous))
    step = _STEPS[1] / 2
    points = np.array([_moved(here.point, c, max(step, s)) for c, s in zip(columns, problem.steps, strict=True)])
    for k, state in enumerate(states(problem, points)):
        more = float(state.parts.sum() - here.parts.sum())
        if more > 0:
            change = abs(state.point[columns[k]] - here.point[columns[k]])
            widths[k] = min(1.0, change * math.sqrt(rise / more))
    return widths


def _range(problem: Problem, name: str, point: Array, column: int, width: float) -> Determined:
    space = problem.chain.space
    low, high = max(0.0, point[column] - width), min(1.0, point[column] + width)
    ends = [space.decode(_put(point, slice(column, column + 1), np.array([u])))[name] for u in (low, high)]
    heard = width < 0.5
    return Determined(name, space.decode(point)[name], min(ends), max(ends), float(high - low) if heard else 1.0)


def _put(point: Array, own: slice, value: Array) -> Array:
    moved = point.copy()
    moved[own] = value
    return moved


def _with(point: Array, own: slice, other: Array) -> Array:
    return _put(point, own, other[own])


def _moved(point: Array, column: int, step: float) -> Array:
    """A point with one column moved inwards."""
    at = point[column]
    return _put(point, slice(column, column + 1), np.array([min(at + step, 1.0) if at <= 0.5 else max(at - step, 0.0)]))
