"""Laws by which numbers of an effect follow from its parameters, found from measured numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.proxy.nets.laws import Law, with_ones
from blackbox_fx.space import Continuous, Integer, Space

Floats = NDArray[np.float64]
_ROUNDS, _SETTLED = 30, 1e-6  # of reweighting; the change with which it ends
_TELLING = 0.7  # part of the typical error that another column must leave at most
_EXACT = 1e-3  # typical relative error of a law that is taken as exact
_AGREED, _LEAST = 2e-3, 4  # relative distance from a physical value that is none; settings that agree, beside half
_PERFECT = 1e-4  # one with which no other is looked for
_ROUND = 0.02  # relative distance from a physical value that is taken for that
_FLOOR = 1e-4  # of a number's span, below which its error is not relative to its size
_NEGLIGIBLE = 1e-9


def _weighted(features: Floats, values: Floats, errors: Floats) -> Floats:
    """Weights of features (n, k) by least squares that outliers hardly move."""
    sizes = 1 / errors
    weights: Floats = np.zeros(features.shape[1])
    for _ in range(_ROUNDS):
        scaled = features * sizes[:, None]
        weights = np.linalg.lstsq(scaled, values * sizes, rcond=1e-10)[0].astype(np.float64)
        off = np.abs(features @ weights - values) / errors
        typical = max(float(np.median(off)), 1e-12)
        before, sizes = sizes, 1 / errors / np.sqrt(1 + np.square(off / (3 * typical)))
        if np.abs(sizes - before).max() < _SETTLED * before.max():
            break
    return weights


def linear(features: Floats, values: Floats, errors: Floats) -> Floats:
    """Robust weights of features (n, k), of which the first always counts, and others if they explain much."""

    def fitted(columns: list[int]) -> tuple[float, Floats]:
        weights = np.zeros(features.shape[1])
        weights[columns] = _weighted(features[:, columns], values, errors)
        return float(np.median(np.abs(features @ weights - values) / errors)), weights

    kept = [0]
    score, weights = fitted(kept)
    while len(kept) < min(features.shape[1], len(values) // 2):
        others = [k for k in range(features.shape[1]) if k not in kept]
        tried = {k: fitted([*kept, k]) for k in others}
        best = min(others, key=lambda k: tried[k][0])
        if tried[best][0] > _TELLING * score:
            break
        kept.append(best)
        score, weights = tried[best]
    return weights


def _candidates(ones: Floats, values: Floats, errors: Floats) -> Iterator[tuple[Floats, float, Floats]]:
    """Base, power and exponent of laws, the simplest first."""
    zero, one = np.zeros(ones.shape[1]), np.eye(1, ones.shape[1])[0]
    yield linear(ones, values, errors), 1.0, zero
    sign = 1.0 if np.median(values) >= 0 else -1.0
    some = values * sign > _NEGLIGIBLE * np.abs(values).max()
    if some.sum() <= ones.shape[1]:
        return
    ones, values, errors = ones[some], values[some] * sign, errors[some]
    yield sign * one, 1.0, linear(ones, np.log(values), errors / values)
    yield sign * linear(ones, 1 / values, errors / np.square(values)), -1.0, zero
    for column in range(1, ones.shape[1]):
        found = _product(ones, values, errors, column)
        if found is not None:
            yield sign * found[0], 1.0, found[1]


def _product(ones: Floats, values: Floats, errors: Floats, column: int) -> tuple[Floats, Floats] | None:
    """A line of one column times an exponential of the others."""
    base, exponent = np.zeros(ones.shape[1]), linear(ones, np.log(values), errors / values)
    exponent[column] = 0
    others = np.delete(np.arange(ones.shape[1]), column)
    for _ in range(12):
        scale = np.exp(ones @ exponent)
        base[[0, column]] = linear(ones[:, [0, column]], values / scale, errors / scale)
        line = ones @ base
        some = line > 1e-3 * np.abs(line).max()
        if some.sum() <= len(others):
            return None
        goal, off = np.log(values[some] / line[some]), errors[some] / values[some]
        exponent[others] = linear(ones[np.ix_(some, others)], goal, off)
    return base, exponent


def find_law(points: Floats, values: Floats, errors: Floats) -> Law:
    """The simplest law that explains measured numbers about as well as the best.

    Args:
        points: (n, width) in [0, 1].
        values: of the number, (n,).
        errors: their standard errors, (n,).
    """
    ones = with_ones(points)
    span = max(float(np.subtract(*np.quantile(values, [0.9, 0.1]))), float(np.abs(values).mean()), 1e-9)
    sizes = np.abs(values) + _FLOOR * span
    known = errors / sizes <= np.quantile(errors / sizes, 0.6)
    found: list[tuple[float, Law]] = []
    for base, power, exponent in _candidates(ones, values, errors):
        law = Law(base, power, exponent)
        with np.errstate(all="ignore"):
            off = np.abs(law.at(points[known]) - values[known]) / sizes[known]
        found.append((float(np.median(np.nan_to_num(off, nan=np.inf))), law))
        if found[-1][0] <= _PERFECT:
            break
    best = min(error for error, _ in found)
    error, law = next((error, law) for error, law in found if error <= 2 * best + _PERFECT)
    return law._replace(spread=0.0 if error < _EXACT else error * span)


def physical_law(space: Space, scales: Sequence[float], points: Floats, values: Floats, errors: Floats) -> Law | None:
    """The law of a number that is a parameter's physical value, its inverse, gain or logarithm; None if it is none.

    Args:
        space: of the effect.
        scales: of physical values, such as 1, or samples in a second.
        points: (n, width) in [0, 1].
        values: of the number, (n,).
        errors: their standard errors, (n,).
    """
    if len(values) < _LEAST:
        return None
    sizes = np.maximum(np.abs(values) + _FLOOR * max(float(np.abs(values).max()), 1e-12), errors / _AGREED)
    laws = list(_physical(space, scales))
    most = max(_LEAST, (len(values) + 1) // 2)
    off = [float(np.sort(np.abs(law.at(points) - values) / sizes)[most - 1]) for law in laws]
    return laws[int(np.argmin(off))] if off and min(off) < _AGREED else None


def _physical(space: Space, scales: Sequence[float]) -> Iterator[Law]:
    """All such laws."""
    for name, columns in space.slices.items():
        parameter = space.parameters[name]
        if not isinstance(parameter, (Continuous, Integer)):
            continue
        ends, curved = np.array([parameter.low, parameter.high], float), getattr(parameter, "log", False)
        for scale in (*scales, *(-scale for scale in scales)):
            yield _between(space, columns.start, scale * ends, 1.0, curved)
            if ends.min() > 0:
                yield _between(space, columns.start, ends / scale, -1.0, curved)
        if curved:
            yield _between(space, columns.start, np.log(ends), 1.0, False)
        elif parameter.unit == "dB":
            yield _between(space, columns.start, 10 ** (ends / 20), 1.0, True)


def _between(space: Space, column: int, ends: Floats, power: float, curved: bool) -> Law:
    """The law of one column from the number, or with a power of -1 its inverse, at 0 to that at 1."""
    zero = np.zeros(1 + space.width)
    line = np.log(np.abs(ends)) if curved else ends
    law = zero.copy()
    law[[0, 1 + column]] = line[0], line[1] - line[0]
    return Law(np.sign(ends[0]) * np.eye(1, len(zero))[0], 1.0, power * law) if curved else Law(law, power, zero)


def in_units(law: Law, space: Space, scales: Sequence[float]) -> Law:
    """The law, with its numbers replaced by physical values times a scale where they are near enough.

    Args:
        law: of one column, if anything is to be replaced.
        space: of the effect.
        scales: such as 1, or samples in a second.
    """
    columns = np.flatnonzero((np.abs(law.base) + np.abs(law.exponent))[1:])
    names = {s.start: n for n, s in space.slices.items() if s.stop - s.start == 1}
    if len(columns) != 1 or columns[0] not in names or law.power != 1:
        return law
    column = int(columns[0])
    parameter = space.parameters[names[column]]
    if not isinstance(parameter, (Continuous, Integer)):
        return law
    ends = np.zeros((2, space.width))
    ends[1, column] = 1
    low, high = law.at(ends)
    for scale, sign in itertools.product(scales, (1.0, -1.0)):
        wanted = sign * scale * np.array([parameter.low, parameter.high])
        if np.abs(wanted - (low, high)).max() < _ROUND * np.abs(wanted).max() and _alike(wanted, (low, high)):
            return _between(space, column, wanted, 1.0, bool(law.exponent.any()))._replace(spread=law.spread)
    return law


def _alike(a: Floats, b: tuple[float, float]) -> bool:
    """Whether the low ends are about the same, too."""
    return bool(abs(a[0] - b[0]) < _ROUND * max(abs(a[0]), 0.05 * abs(a[1])))
