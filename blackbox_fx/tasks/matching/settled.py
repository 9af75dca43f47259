"""How well settings are determined by what is heard, and which of them may stay at their defaults."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.space import Space
from blackbox_fx.tasks.matching.descent import Descent, State, states
from blackbox_fx.tasks.matching.problem import Problem, Spent

Array = NDArray[np.float64]

_RISE = 0.1  # of the loss, that counts as heard
_LEAST_RISE = 1e-4  # of the loss: -40 dB
_STEPS = (0.02, 0.2)  # of a column, for differences; the larger where the smaller changes nothing
_KEPT = 0.01  # rise of the loss that defaults may cost
_INAUDIBLE = 1e-6  # loss: -60 dB
_ROUNDS, _TRIED, _CYCLES = 6, 3, 2  # parameters set back while others follow, tried each time, and steps of these
_FREE = 1e-9
_ANYWHERE = 0.5  # of a column to both sides: all of it


def values_at(space: Space, point: Array) -> dict[str, Any]:
    """The values of free parameters at a point; defaults as they are written, though their columns are rounded."""
    defaults, values = space.encode(), space.decode(point)
    still = [name for name, own in space.slices.items() if np.array_equal(point[own], defaults[own])]
    return {**values, **{name: space.defaults[name] for name in still}}


def shown(value: Any) -> str:
    """A value in words; large numbers have all digits before the point, such as 10060, and no exponent."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


class Determined(NamedTuple):
    """How well one setting is known.

    Args:
        name: of the parameter.
        value: that was found.
        low, high: between which the loss rises by less than a tenth (and 1e-4), if all others follow; equal to the
            value for a choice that is heard.
        share: of the whole range that lies between these, from 0 to 1.
        is_made_up_for: whether it may stand anywhere only because others make up for it; moved alone, it is heard.
    """

    name: str
    value: Any
    low: Any
    high: Any
    share: float
    is_made_up_for: bool = False

    @property
    def is_heard(self) -> bool:
        """Whether the sound depends on it, as far as the others leave it alone."""
        return self.share < 1

    def words(self) -> str:
        """The range in words."""
        if not self.is_heard:
            return "any, if others follow" if self.is_made_up_for else "not heard"
        if self.low == self.high:
            return "sure"
        return f"{shown(self.low)} to {shown(self.high)}"


def simplify(problem: Problem, start: Array) -> Array:
    """A point about as good as this one, with as many parameters at their defaults as may stand there.

    First choices are turned over where that is better, such as the switch of an effect that does nothing. Then each
    parameter is set back alone, and each of those left while all others follow, which the Jacobian predicts.
    """
    here = states(problem, start[None])[0]
    with contextlib.suppress(Spent):
        for state in _simpler(problem, here):
            here = state
        return here.point
    # what was rendered last may be the best, and what nothing is heard of may not stand at its default yet
    problem.allowed += 2 * len(problem.chain.space.slices) + 2
    if problem.loss * (1 + _KEPT) + _INAUDIBLE < here.parts.sum():
        here = states(problem, problem.chain.space.snap(problem.best[None]))[0]
    return _set_back(problem, here, _limit(here)).point


def _simpler(problem: Problem, here: State) -> Iterator[State]:
    """States with more and more parameters at their defaults."""
    yield (here := _turn_over(problem, here))
    limit = _limit(here)
    yield (here := _set_back(problem, here, limit))
    yield (here := _turn_over(problem, here))
    for _ in range(_ROUNDS if problem.wants_residuals else 0):
        left = [
            own
            for own in problem.chain.space.slices.values()
            if own.start in problem.continuous and _is_away(problem, here, own)
        ]
        limit = min(limit, _limit(here))
        led = _follow(problem, here, left, limit) if left else None
        if led is None:
            return
        yield led
        yield (here := _set_back(problem, led, min(limit, _limit(led))))


def _turn_over(problem: Problem, here: State) -> State:
    """The state with better values of choices, one by one."""
    for option in problem.options:
        others = states(problem, np.array([_put(here.point, option.columns, value) for value in option.values]))
        here = min([here, *others], key=lambda state: float(state.parts.sum()))
    return here


def _is_away(problem: Problem, state: State, own: slice) -> bool:
    return float(np.abs(state.point[own] - problem.chain.space.encode()[own]).max(initial=0.0)) > _FREE


def _set_back(problem: Problem, here: State, limit: float) -> State:
    """Sets parameters back to their defaults one by one, those first that change the least."""
    space, defaults = problem.chain.space, problem.chain.space.encode()
    away = [own for own in space.slices.values() if _is_away(problem, here, own)]
    if not away:
        return here
    alone = states(problem, np.array([_with(here.point, own, defaults) for own in away]))
    for k in np.argsort([s.parts.sum() for s in alone]):
        if alone[k].parts.sum() > limit:
            break
        simpler = states(problem, _with(here.point, away[k], defaults)[None])[0]
        if simpler.parts.sum() <= limit:
            here, limit = simpler, min(limit, _limit(simpler))
    return here


def _limit(state: State) -> float:
    """The loss that defaults may cost, where this one is the best so far."""
    return float(state.parts.sum()) * (1 + _KEPT) + _INAUDIBLE


def _follow(problem: Problem, here: State, left: list[slice], limit: float) -> State | None:
    """Sets one more parameter back, while all others that are away follow; None where none can be."""
    rng, defaults = np.random.default_rng(0), problem.chain.space.encode()
    columns = np.array([own.start for own in left])
    descent = Descent(problem, here, rng, np.ones(problem.parts), region=0.02, columns=columns)
    descent.differ()
    alone = states(problem, np.array([_with(here.point, own, defaults) for own in left]))
    ahead = [descent.predict(state, own.start) for state, own in zip(alone, left, strict=True)]
    found = states(problem, np.array([a.point for a in ahead]))
    for k in np.argsort([s.parts.sum() for s in found])[:_TRIED]:
        others = columns[columns != columns[k]]
        closer = Descent(problem, found[k], rng, np.ones(problem.parts), region=0.1, columns=others)
        for _ in range(_CYCLES):
            closer.cycle()
            if closer.whole <= limit:
                return closer.state
    return None


def determine(problem: Problem, point: Array) -> list[Determined]:
    """How well each free parameter is determined at a point, in their order.

    Takes up to two renders for each column, and one for each other value of a choice.

    Raises:
        Spent: too few renders are left.
    """
    space, here = problem.chain.space, states(problem, point[None])[0]
    rise = max(_RISE * float(here.parts.sum()), _LEAST_RISE)
    widths = dict(zip(problem.continuous.tolist(), zip(*_widths(problem, here, rise), strict=True), strict=True))
    values = values_at(space, point)
    found = []
    for name, own in space.slices.items():
        if own.start in widths:
            found.append(_range(problem, name, point, own.start, *widths[own.start]))
            continue
        option = next(o for o in problem.options if o.columns.start == own.start)
        others = np.array([_put(point, own, value) for value in option.values])
        others = others[np.abs(others - point).max(1) > _FREE]
        heard = [s for s in states(problem, others) if s.parts.sum() > here.parts.sum() + rise]
        sure = len(heard) == len(others)
        found.append(Determined(name, values[name], values[name], values[name], 0.0 if sure else 1.0))
    return found


def _widths(problem: Problem, here: State, rise: float) -> tuple[Array, Array]:
    """By how much each free column may move while the loss rises by no more: with all others following, and alone."""
    columns = problem.continuous
    if not len(columns):
        return np.zeros(0), np.zeros(0)
    if not problem.wants_residuals:
        alone = _widths_alone(problem, here, rise)
        return alone, alone
    rows = np.zeros((len(here.residuals), len(columns)))
    for step in _STEPS:
        silent = np.flatnonzero(np.abs(rows).sum(0) == 0)
        points = np.array([_moved(here.point, columns[k], max(step, problem.steps[k])) for k in silent])
        for k, state in zip(silent, states(problem, points) if len(points) else [], strict=True):
            change = state.point[columns[k]] - here.point[columns[k]]
            if not state.failed:
                rows[:, k] = (state.residuals - here.residuals) / change
    # a prior of the whole range, so that what is not heard has a width, and not infinity
    information = rows.T @ rows / rise + np.eye(len(columns))
    return np.sqrt(np.diag(np.linalg.inv(information))), 1 / np.sqrt(np.diag(information))


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


def _range(problem: Problem, name: str, point: Array, column: int, width: float, alone: float) -> Determined:
    space = problem.chain.space
    low, high = max(0.0, point[column] - width), min(1.0, point[column] + width)
    ends = [space.decode(_put(point, slice(column, column + 1), np.array([u])))[name] for u in (low, high)]
    share = float(high - low) if width < _ANYWHERE else 1.0
    made_up_for = bool(alone < _ANYWHERE <= width)
    return Determined(name, values_at(space, point)[name], min(ends), max(ends), share, made_up_for)


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
