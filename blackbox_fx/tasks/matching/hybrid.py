"""A population finds the basin and the choices, Gauss-Newton finishes, and large moves lead out where it stalls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.tasks.matching.descent import Descent, State, states
from blackbox_fx.tasks.matching.problem import FOUND, Option, Problem

Array = NDArray[np.float64]

_STARTS = 4
_STALLED = 0.7  # of the loss before a cycle, above which large moves are tried
_NEAR_WAVEFORM = 0.3  # power of the difference over that of the reference, from which on waveforms show the way
_BETTER = 0.9  # of the loss before a large move, below which it is taken
_SILENT = 0.01  # of the strongest column, below which one counts as silent
_JUMPS = 2  # of each column, to places anywhere in its range
_FAR = 0.08  # of which at least
_PREDICTED, _TRIED = 8, 3  # jumps that are rendered after a predicted step, and that are gone on from
_PATIENCE = 2  # stalls in a row, after which another population is drawn


@final
class Hybrid:
    """The search by populations and by gradients.

    A first population goes over the whole space, with every choice among it. From its best points, the best ones of
    each option of a choice, and the best of the given starts, `Descent` goes on: first towards the spectra alone, which
    have fewer false valleys than waveforms. Half of them are given up after each round. Where the last one stalls, each
    choice is turned over and each number moved far away; what counts is what the loss would be after the next step of
    all others, which the Jacobian predicts without a render. If nothing leads on, a new population is drawn: anywhere,
    or half of it around the best, by turns.

    Args:
        problem: that is asked, until it has no renders left.
        starts: points to begin with, (n, width); the defaults if not given.
        seed: of all draws.
    """

    def __init__(self, problem: Problem, starts: Array | None = None, seed: int = 0) -> None:
        self.problem, self._rng = problem, np.random.default_rng(seed)
        self._starts = problem.chain.space.encode()[None] if starts is None else starts
        self._all = np.ones(problem.parts)
        self._first = self._all.copy()
        self._first[1 : problem.target.parts] = 0.0

    def run(self) -> None:
        """Searches. Raises Spent when the problem has no renders left; returns if nothing is left to be found."""
        points, given = self._population(), len(self._starts)
        for again in itertools.count():
            best = self._go_down(self._race(states(self.problem, points), given))
            if self.problem.is_found or self._is_exhausted():
                return
            points = self._around(best) if again % 2 else self._fresh()
            given = 0

    def _is_exhausted(self) -> bool:
        """Whether there are only choices, and all of their combinations are known."""
        combinations = math.prod(len(option.values) for option in self.problem.options)
        return not len(self.problem.continuous) and len(self.problem.memory) >= combinations

    def _population(self) -> Array:
        problem, space = self.problem, self.problem.chain.space
        count = 20 + 3 * len(problem.continuous) + 4 * len(problem.options)
        count = max(1, int(min(count, problem.allowed / 5)))
        drawn = space.snap(space.sample(count, self._rng))
        return np.vstack([self._starts, drawn])[: max(count, len(self._starts))]

    def _fresh(self) -> Array:
        space = self.problem.chain.space
        return space.snap(space.sample(20 + 2 * len(self.problem.continuous), self._rng))

    def _race(self, found: Sequence[State], given: int) -> Descent:
        """The best descent from a population, the first of which were given; half are given up after each round."""
        begun = self._diverse(found)
        own = min(found[:given], key=lambda s: s.loss(self._first), default=begun[0])
        begun += [own] if not any(own is s for s in begun) else []
        racing = [Descent(self.problem, s, self._rng, self._first) for s in begun]
        while True:
            for each in racing:
                each.cycle()
            racing.sort(key=lambda each: each.loss)
            if len(racing) == 1:
                return racing[0]
            racing = racing[: len(racing) // 2]

    def _diverse(self, found: Sequence[State]) -> list[State]:
        """The best states, with the best ones of each option of each choice before others."""
        ranked = sorted(found, key=lambda s: s.loss(self._first))
        chosen = [ranked[0]]
        for option in self.problem.options:
            for value in option.values:
                own = next((s for s in ranked if _stands_at(s.point, option, value)), None)
                if own is not None and not any(own is s for s in chosen):
                    chosen.append(own)
        chosen[1:] = sorted(chosen[1:], key=lambda s: s.loss(self._first))
        chosen += [s for s in ranked if not any(s is c for c in chosen)]
        return [s for s in chosen if not s.failed][:_STARTS] or ranked[:1]

    def _go_down(self, descent: Descent) -> Descent:
        """Goes on from a descent until nothing leads on."""
        stalls = 0
        while descent.whole > FOUND and stalls < _PATIENCE:
            before = descent.loss
            descent.cycle()
            stalled = descent.loss > _STALLED * before
            if descent.weights is self._first and len(self._all) > 1:
                if stalled or descent.state.parts[self.problem.target.parts - 1] < _NEAR_WAVEFORM:
                    descent.weights, descent.region = self._all, max(descent.region, 0.05)
                continue
            if not stalled:
                continue
            led_on = self._jump(descent)
            if led_on is not None:
                descent, stalls = led_on, 0
            else:
                stalls, descent.region = stalls + 1, 0.1
        return descent

    def _jump(self, descent: Descent) -> Descent | None:
        """A descent from another option, or from a number far away, if one gets better."""
        moves = self._moves(descent)
        if not moves:
            return None
        near = states(self.problem, np.array([move.point for move in moves]))
        ahead = [descent.predict(state, move.column) for state, move in zip(near, moves, strict=True)]
        order = np.argsort([min(descent.loss_of(s), p.loss) for s, p in zip(near, ahead, strict=True)])
        far = states(self.problem, np.array([ahead[k].point for k in order[:_PREDICTED]]))
        for state in sorted([*far, *near], key=descent.loss_of)[:_TRIED]:
            other = Descent(self.problem, state, self._rng, descent.weights, region=0.1)
            other.cycle()
            if _BETTER * descent.loss <= other.loss < 5 * descent.loss:
                other.cycle()
            if other.loss < _BETTER * descent.loss:
                return other
        return None

    def _moves(self, descent: Descent) -> list[_Move]:
        """Every other option of each choice, and random places of each number.

        Numbers that change nothing where the descent stands go anywhere along with each: a peak of 0 dB has no
        frequency, and would have a wrong one once it is raised.
        """
        point, columns = descent.state.point, self.problem.continuous
        strength = np.linalg.norm(descent.weigh(descent.jacobian.T), axis=1)
        silent = columns[strength < _SILENT * strength.max(initial=0.0)]
        moves = [_Move(moved, -1) for option in self.problem.options for moved in _turned(point, option)]
        for column in columns.tolist():
            for place in (np.arange(_JUMPS) + self._rng.random(_JUMPS)) / _JUMPS:
                if abs(place - point[column]) > _FAR:
                    moved = point.copy()
                    moved[silent] = self._rng.random(len(silent))
                    moved[column] = place
                    moves.append(_Move(moved, column))
        return moves

    def _around(self, descent: Descent) -> Array:
        """A new population: one half around the best point, further away where it matters less; one half anywhere."""
        problem, space = self.problem, self.problem.chain.space
        columns, count = problem.continuous, 6 + len(problem.continuous) // 2
        strength = np.linalg.norm(descent.weigh(descent.jacobian.T), axis=1)
        strength = strength / max(float(strength.max(initial=0.0)), 1e-30)
        scale = np.clip(0.01 / np.maximum(strength, 1e-3), 0.02, 1.0) if len(strength) else strength
        near = np.repeat(problem.best[None], count, 0)
        for row in near:
            wide = 10 ** self._rng.uniform(-1, 0.5)
            row[columns] = np.clip(row[columns] + wide * scale * self._rng.standard_normal(len(columns)), 0, 1)
            for option in problem.options:
                if self._rng.random() < 0.15:
                    row[option.columns] = option.values[self._rng.integers(len(option.values))]
        return space.snap(np.vstack([near, space.sample(count, self._rng)]))


class _Move(NamedTuple):
    """A large move: where it leads, and which column it moved; -1 for a choice."""

    point: Array
    column: int


def _stands_at(point: Array, option: Option, value: Array) -> bool:
    return bool(np.abs(point[option.columns] - value).max() < 1e-6)


def _turned(point: Array, option: Option) -> list[Array]:
    """A point with each other value of an option."""
    found = []
    for value in option.values:
        if not _stands_at(point, option, value):
            moved = point.copy()
            moved[option.columns] = value
            found.append(moved)
    return found
