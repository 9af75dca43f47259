"""Gauss-Newton in the columns that move freely, from differences; for a loss without residuals, BFGS."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from blackbox_fx.tasks.matching.problem import Problem

Array = NDArray[np.float64]

_WIDEST, _NARROWEST = 0.1, 1e-3  # differences
_REGIONS = (2.0, 1.0, 1 / 3)  # of trust, tried side by side
_LARGEST, _LEAST = 0.5, 1e-5  # regions of trust
_LASTS = 6  # steps that one set of differences is used for
_POOR = 0.7  # of the loss before a step, above which the differences are made anew
_DAMPING = 1e-4
_REACH = 0.3  # of predicted steps


class State(NamedTuple):
    """A point with what is known of it.

    Args:
        point: (width,).
        parts: of the loss, (parts,).
        residuals: see `Heard`; no columns if the loss has none.
    """

    point: Array
    parts: Array
    residuals: Array

    def loss(self, weights: Array) -> float:
        """The parts by their weights, (parts,); those of no weight do not count, even if they are infinite."""
        counted = weights > 0
        return float(weights[counted] @ self.parts[counted])

    @property
    def failed(self) -> bool:
        """Whether it could not be rendered."""
        return not np.isfinite(self.parts).all()


class Ahead(NamedTuple):
    """A predicted point and its predicted loss."""

    point: Array
    loss: float


def states(problem: Problem, points: Array) -> list[State]:
    """Evaluates points, (n, width)."""
    heard = problem.evaluate(points)
    rows = zip(points, heard.parts, heard.residuals.astype(np.float64), strict=True)
    return [State(*row) for row in rows]


@final
class Descent:
    """Goes down from a state.

    One set of differences, a render for each column, serves several steps: each step tries three regions of trust side
    by side, and what they give corrects the differences (Broyden, 1965). Differences shrink with the region. For a loss
    that is no sum of squares, they give a gradient, and the curvature follows from gradients (BFGS).

    Args:
        problem: that is asked.
        state: where it begins.
        rng: of the signs of differences.
        weights: of the parts of the loss, (parts,).
        region: of trust at the beginning, on the axis of columns.
        columns: that it moves, of those that are continuous; all of them if not given.

    Attributes:
        state: where it stands.
        jacobian: of all residuals, (residuals, columns), as last made by differences; the gradient, (1, columns), of a
            loss without residuals.
        region: of trust.

    References:
        "An algorithm for least-squares estimation of nonlinear parameters" (Marquardt, 1963); "A class of methods for
        solving nonlinear simultaneous equations" (Broyden, 1965).
    """

    def __init__(
        self,
        problem: Problem,
        state: State,
        rng: np.random.Generator,
        weights: Array,
        region: float = 0.25,
        columns: NDArray[np.int64] | None = None,
    ) -> None:
        self.problem, self.state, self.region = problem, state, region
        self._rng, self.weights = rng, weights
        self.columns = problem.continuous if columns is None else columns
        self._steps = problem.chain.space.unit_steps[self.columns]
        self.jacobian: Array = np.zeros((0, len(self.columns)))
        self._curvature: Array | None = None
        self._before: tuple[Array, Array] | None = None

    @property
    def loss(self) -> float:
        """By its weights."""
        return self.loss_of(self.state)

    @property
    def whole(self) -> float:
        """The loss itself."""
        return float(self.state.parts.sum())

    def loss_of(self, state: State) -> float:
        """The loss of a state, by the weights."""
        return state.loss(self.weights)

    def weigh(self, residuals: Array) -> Array:
        """Residuals, (..., residuals), by the weights of their parts."""
        if not self.problem.target.has_residuals:
            return residuals
        each = residuals.shape[-1] // len(self.weights)
        return residuals * np.repeat(np.sqrt(self.weights), each)

    def cycle(self) -> None:
        """Makes differences, and goes as many steps as they are good for."""
        problem, columns = self.problem, self.columns
        if not len(columns):
            return
        tried = self.differ()
        jacobian = self.jacobian.copy()
        for age in range(_LASTS):
            before = self.loss
            found = states(problem, self._proposals(jacobian))
            start, moved = self.state, self._move(found, tried if age == 0 else [])
            if problem.target.has_residuals:
                _correct(jacobian, start, sorted(found, key=self.loss_of, reverse=True), columns)
            elif moved:
                return
            if (not moved and age) or self.loss > _POOR * before:
                return

    def predict(self, state: State, held: int = -1) -> Ahead:
        """Where all columns but one would go from a state, by the Jacobian, and the loss there.

        Args:
            state: near or far from where it stands.
            held: the column that stays; none if not given.
        """
        free = np.flatnonzero(self.columns != held)
        if not self.problem.target.has_residuals or not len(free) or state.failed:
            return Ahead(state.point, self.loss_of(state))
        q, root = np.linalg.qr(self.weigh(self.jacobian[:, free].T).T)
        residuals = self.weigh(state.residuals)
        wanted, at = -q.T @ residuals, state.point[self.columns[free]]
        move = least(root, wanted, np.maximum(-at, -_REACH), np.minimum(1 - at, _REACH))
        point = state.point.copy()
        point[self.columns[free]] = np.clip(at + move, 0, 1)
        left = float(residuals @ residuals - wanted @ wanted + np.square(root @ move - wanted).sum())
        return Ahead(point, max(left, 0.0))

    def differ(self) -> list[State]:
        """Makes the Jacobian anew; the states that it took."""
        problem, columns = self.problem, self.columns
        at = self.state.point[columns]
        step = np.maximum(np.clip(self.region / 2, _NARROWEST, _WIDEST), self._steps)
        sign = self._rng.choice([-1.0, 1.0], len(columns))
        sign = np.where(at + step > 1, -1.0, np.where(at - step < 0, 1.0, sign))
        moved = np.clip(at + sign * step, 0, 1)
        points = np.repeat(self.state.point[None], len(columns), 0)
        points[np.arange(len(columns)), columns] = moved
        tried = states(problem, points)
        failed = np.array([s.failed for s in tried], bool)
        if problem.target.has_residuals:
            rise = np.array([s.residuals for s in tried]) - self.state.residuals
        else:
            rise = np.array([s.parts for s in tried]) - self.state.parts
        self.jacobian = (np.where(failed[:, None], 0.0, rise) / (moved - at)[:, None]).T
        return tried

    def _move(self, found: list[State], tried: list[State]) -> bool:
        """Takes the best of what a step and the differences gave; whether it is better than where it stood."""
        before, start = self.loss, self.state
        nearest, aside = min(found, key=self.loss_of), min(tried, key=self.loss_of, default=None)
        if aside is not None and self.loss_of(aside) < min(self.loss_of(nearest), before):
            self.state, self.region = aside, self.region / 2
            return True
        if self.loss_of(nearest) >= before:
            self.region = max(self.region / 6, _LEAST)
            return False
        reach = float(np.abs(nearest.point - start.point).max())
        good = self.loss_of(nearest) < 0.5 * before
        self.state, self.region = nearest, min(max(reach * (1.5 if good else 0.7), _LEAST), _LARGEST)
        return True

    def _proposals(self, jacobian: Array) -> Array:
        """Where the model is least, within each region of trust."""
        columns = self.columns
        at = self.state.point[columns]
        root, wanted = self._model(jacobian)
        points: list[Array] = []
        for share in _REGIONS:
            reach = self.region * share
            point = self.state.point.copy()
            move = least(root, wanted, np.maximum(-at, -reach), np.minimum(1 - at, reach))
            point[columns] = np.clip(at + move, 0, 1)
            if all(np.abs(point - other).max() > 1e-9 for other in points):
                points.append(point)
        return np.array(points)

    def _model(self, jacobian: Array) -> tuple[Array, Array]:
        """A quadratic model of the loss as |root @ move - wanted| squared."""
        if self.problem.target.has_residuals:
            q, root = np.linalg.qr(self.weigh(jacobian.T).T)
            return root, -q.T @ self.weigh(self.state.residuals)
        gradient = jacobian[0]
        self._curvature = self._updated(gradient)
        root = np.linalg.cholesky(self._curvature).T.astype(np.float64)
        return root, -np.linalg.solve(root.T, gradient)

    def _updated(self, gradient: Array) -> Array:
        """The curvature by BFGS, from the gradients here and where it stood before."""
        at = self.state.point[self.columns]
        curvature = self._curvature
        if curvature is None or self._before is None:
            curvature = np.eye(len(at)) * max(float(np.linalg.norm(gradient)), 1e-12) / self.region
        else:
            s, y = at - self._before[0], gradient - self._before[1]
            bent, straight = curvature @ s, float(s @ y)
            if straight > 1e-8 * float(np.linalg.norm(s) * np.linalg.norm(y)) and float(s @ bent) > 0:
                curvature = curvature + np.outer(y, y) / straight - np.outer(bent, bent) / float(s @ bent)
        self._before = at, gradient
        return curvature


def least(root: Array, wanted: Array, low: Array, high: Array) -> Array:
    """The move within bounds that makes |root @ move - wanted| least, a little damped."""
    n = root.shape[1]
    damping = _DAMPING * float(np.linalg.norm(root)) / math.sqrt(n) + 1e-12
    damped = np.vstack([root, damping * np.eye(n)]), np.concatenate([wanted, np.zeros(n)])
    bounds = np.minimum(low, -1e-12), np.maximum(high, 1e-12)
    return lsq_linear(*damped, bounds, method="bvls", max_iter=60).x


def _correct(jacobian: Array, start: State, found: list[State], columns: NDArray[np.int64]) -> None:
    """Makes differences agree with what was found, the best last."""
    for state in found:
        move = state.point[columns] - start.point[columns]
        length = float(move @ move)
        if length > 1e-16 and not state.failed:
            jacobian += np.outer((state.residuals - start.residuals) - jacobian @ move, move) / length
