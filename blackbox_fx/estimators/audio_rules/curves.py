"""Curves from the level to a gain, and their fits to audio whose level is known."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.envelopes import Floats

Curve = Callable[[Floats], tuple[Floats, Floats]]  # from the level to the gain, and its derivative by the level's log

QUANTILES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)  # of the level, where a bend may be
SMALLEST = 1e-12
_KNOTS = 48
_STEP = np.finfo(np.float64).eps ** 0.5  # of a number, for a derivative by differences
_SAMPLES = 1500  # drawn at random, on which a curve is fitted


class Hinge(NamedTuple):
    """Two straight lines over the logarithm of the level, for the logarithm of the gain: a threshold and ratios."""

    bend: float
    height: float
    low: float
    high: float

    def __call__(self, level: Floats) -> tuple[Floats, Floats]:
        """The gain, and its derivative by the logarithm of the level."""
        over = np.log(level) - self.bend
        slopes = np.where(over < 0, self.low, self.high)
        gain = np.exp(np.clip(self.height + slopes * over, -60, 20))
        return gain, gain * slopes


class SoftHinge(NamedTuple):
    """A hinge whose two lines pass into each other along a parabola, as those of compressors with a soft knee.

    Args:
        bend, height, low, high: as of a `Hinge`.
        knee: half the width of the parabola, over the logarithm of the level.
    """

    bend: float
    height: float
    low: float
    high: float
    knee: float

    def __call__(self, level: Floats) -> tuple[Floats, Floats]:
        """The gain, and its derivative by the logarithm of the level."""
        gain, part = self.at(np.log(level))
        return gain, gain * (self.low + (self.high - self.low) * part)

    def at(self, axis: Floats) -> tuple[Floats, Floats]:
        """The gain at logarithms of the level, and which part of the way from one line to the other they are."""
        over = axis - self.bend
        within = np.minimum(np.maximum(over + self.knee, 0), 2 * self.knee)
        part = within / (2 * self.knee)
        risen = part * within / 2 + np.maximum(over - self.knee, 0)
        line = self.height + self.low * over + (self.high - self.low) * risen
        return np.exp(np.minimum(np.maximum(line, -60), 20)), part


@functools.lru_cache(maxsize=8)
def drawn(length: int) -> NDArray[np.int64]:
    """Samples of a clip, at random and in order."""
    return np.sort(np.random.default_rng(0).choice(length, min(length, _SAMPLES), replace=False))


def _constant(level: Floats) -> tuple[Floats, Floats]:
    return np.ones_like(level), np.zeros_like(level)


def spline(envelope: Floats, x: Floats, y: Floats) -> Curve:
    """The curve by least squares, straight between knots over the logarithm of the envelope."""
    axis = np.log(envelope)
    audible = axis[np.abs(x) > 1e-6]
    spread = np.linspace(0, 1, _KNOTS)
    wide = np.ptp(audible) if len(audible) else 0.0
    if wide < 1e-3:
        return _constant
    # where the level mostly is, and everywhere else too, but not on top of each other
    both = np.sort(
        np.append(np.quantile(audible[:: len(audible) // _SAMPLES + 1], spread), audible.min() + wide * spread)
    )
    knots = both[np.append(True, np.diff(np.floor(both / wide * 500)) > 0)]
    count = len(knots)
    place = np.clip(np.searchsorted(knots, axis) - 1, 0, count - 2)
    above = np.clip((axis - knots[place]) / np.diff(knots)[place], 0, 1)
    below, power, product = 1 - above, np.square(x), x * y
    # hats overlap only with their neighbours, so the normal equations have three diagonals
    main = np.bincount(place, below**2 * power, count) + np.bincount(place + 1, above**2 * power, count)
    side = np.bincount(place, below * above * power, count)[: count - 1]
    wanted = np.bincount(place, below * product, count) + np.bincount(place + 1, above * product, count)
    bend = np.diff(np.eye(count), 2, axis=0)
    gram = np.diag(main) + np.diag(side, 1) + np.diag(side, -1) + 1e-6 * main.mean() * (bend.T @ bend)
    values = np.linalg.solve(gram + SMALLEST * main.mean() * np.eye(count), wanted)

    rises, middles = np.diff(values) / np.diff(knots), (knots[1:] + knots[:-1]) / 2

    def curve(level: Floats) -> tuple[Floats, Floats]:
        at = np.log(level)
        inside = (at >= knots[0]) & (at <= knots[-1])
        return np.interp(at, knots, values), inside * np.interp(at, middles, rises)

    return curve


def soft_hinge(envelope: Floats, x: Floats, y: Floats, free: Curve) -> SoftHinge:
    """The soft knee that suits best; it starts at the shape of a curve of many knots."""
    at = drawn(x.size)
    level, dry, wet = (np.ravel(signal)[at] for signal in (envelope, x, y))
    audible = np.abs(dry) > 1e-3 * np.abs(dry).max()
    axis = np.log(level[audible]) if audible.any() else np.zeros(1)
    places, levels = np.quantile(axis, QUANTILES), np.log(level)
    few = np.exp(places)
    heights = np.log(np.maximum(free(few)[0], SMALLEST))
    few = np.log(few)  # as of a level

    def gains(numbers: Floats, axis: Floats) -> Floats:
        """Those of several soft knees, (knee, level)."""
        bend, height, low, high, log_knee = numbers.T[..., None]
        return SoftHinge(bend, height, low, high, np.exp(log_knee)).at(axis)[0]

    def off(numbers: Floats) -> Floats:
        return gains(numbers, levels) * dry - wet

    def shape(numbers: Floats) -> Floats:
        return np.log(gains(numbers, few)) - heights

    best: Any = None
    for bend in places[1:-1:2]:
        start = np.array([bend, float(np.interp(bend, places, heights)), 0.0, -0.5, -0.7])
        near = _least(shape, start, 40)
        found = _least(off, near.x, 60)
        best = found if best is None or found.cost < best.cost else best
    bend, height, low, high, log_knee = best.x.tolist()
    return SoftHinge(bend, height, low, high, float(np.exp(log_knee)))


def _least(off: Callable[[Floats], Floats], start: Floats, most: int) -> Any:
    """Least squares from a start, with derivatives by differences of what many numbers leave at once.

    Args:
        off: from numbers, (trial, number), to what they leave, (trial, sample).
        start: numbers.
        most: evaluations.
    """

    def slopes(numbers: Floats) -> Floats:
        steps = _STEP * np.where(numbers >= 0, 1.0, -1.0) * np.maximum(1.0, np.abs(numbers))
        moved = numbers + np.diag(steps)
        now, *there = off(np.vstack([numbers, moved]))
        return ((np.array(there) - now) / (moved.diagonal() - numbers)[:, None]).T

    return scipy.optimize.least_squares(lambda numbers: off(numbers[None])[0], start, slopes, max_nfev=most)
