"""What was found for an effect at earlier settings, as a start for the next search."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.estimators.audio_rules.envelopes import Floats

_MOST = 128  # outcomes that are kept; the regression over them takes 0.2 ms
_DEGREE = 4  # of the polynomials in every column of params, in the regression
_RIDGE = 1e-6
_REFITS = 3
_ROUNDING = 1e-4  # by which numbers that were found may be off
_SAME, _NEARLY_ALL = 2e-3, 0.8
_SETTLED = 5  # outcomes that agree on a number before it is taken for a constant of the effect


class Outcome(NamedTuple):
    """What was found at a point.

    Args:
        point: params, (width,).
        kind: what was found; only vectors of one kind are compared.
        vector: its numbers.
        weights: how well each number is known, 0 to 1.
    """

    point: Floats
    kind: Any
    vector: Floats
    weights: Floats

    def away(self, point: Floats) -> float:
        """The largest distance of any parameter from another point's."""
        return float(np.abs(self.point - point).max(initial=0.0))


class Expected(NamedTuple):
    """What is expected at a point.

    Args:
        kind: of the vector.
        vector: its numbers.
        free: which of them are not constants of the effect.
    """

    kind: Any
    vector: Floats
    free: NDArray[np.bool_]


def _features(points: Floats) -> Floats:
    """Polynomials, (point, 1 + width * degree); scaled so that a ridge prefers low degrees."""
    angles = np.arccos(np.clip(2 * points[..., None] - 1, -1, 1)) * np.arange(1, _DEGREE + 1)
    scaled: Any = np.cos(angles) * 0.3 ** np.arange(_DEGREE)
    return np.concatenate([np.ones((len(points), 1)), scaled.reshape(len(points), -1)], axis=1)


@final
class Memory:
    """The latest outcomes for one effect at one sample rate; it forgets all if another one comes."""

    def __init__(self) -> None:
        self._owner: Any = None
        self._outcomes: list[Outcome] = []

    def __reduce__(self) -> Any:
        """A copy is empty: what is found must not depend on what was copied or saved when."""
        return Memory, ()

    def claim(self, *owner: Any) -> bool:
        """Forgets what was found for another owner; whether there was one."""
        new = self._owner is None or any(a is not b and a != b for a, b in zip(self._owner, owner, strict=True))
        if new:
            self._owner, self._outcomes = owner, []
        return new

    def add(self, outcome: Outcome) -> None:
        """Keeps an outcome, in place of an earlier one at the same point."""
        others = [kept for kept in self._outcomes if not np.array_equal(kept.point, outcome.point)]
        self._outcomes = [*others, outcome][-_MOST:]

    def nearest(self, point: Floats) -> Outcome | None:
        """The outcome at the nearest point."""
        return min(self._outcomes, key=lambda kept: float(np.square(kept.point - point).sum()), default=None)

    def expected(self, point: Floats) -> Expected | None:
        """The outcome at the nearest point, moved by what all outcomes of its kind say of the way to this one."""
        near = self.nearest(point)
        if near is None:
            return None
        alike = [kept for kept in self._outcomes if kept.kind == near.kind]
        features = _features(np.stack([kept.point for kept in alike]))
        weights, values = (
            np.stack(rows) for rows in zip(*((kept.weights, kept.vector) for kept in alike), strict=True)
        )
        known_well = weights.T > 1 - _SAME
        lines = _regressed(features, values, weights)
        for _ in range(_REFITS):  # some were wrong
            off = np.abs(values - (features @ lines)[..., 0].T)
            weights = weights / (1 + np.square(off / (3 * np.median(off, axis=0) + _ROUNDING)))
            lines = _regressed(features, values, weights)
        known, here = (_features(np.stack([near.point, point])) @ lines)[..., 0].T
        trust = weights[next(k for k, kept in enumerate(alike) if kept is near)]
        vector = here + trust * (near.vector - known)
        constants = [_constant(row, sure) for row, sure in zip(values.T, known_well, strict=True)]
        free = np.array([one is None for one in constants])
        return Expected(near.kind, np.where(free, vector, np.array(constants, float)), free)


def _regressed(features: Floats, values: Floats, weights: Floats) -> Floats:
    """The coefficients of every number, (number, feature, 1), by weighted least squares with a ridge."""
    gram: Any = features.T @ (weights.T[..., None] * features) + _RIDGE * np.eye(features.shape[1])
    return np.linalg.solve(gram, (features.T @ (weights * values)).T[..., None])


def _constant(values: Floats, sure: NDArray[np.bool_]) -> float | None:
    """The value on which nearly all sure outcomes agree."""
    if sure.sum() < _SETTLED:
        return None
    middle = float(np.median(values[sure]))
    return middle if np.mean(np.abs(values[sure] - middle) < _SAME) > _NEARLY_ALL else None
