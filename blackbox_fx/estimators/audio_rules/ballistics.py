"""Identifies a gain that follows a level, from a clip and the effect's output."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, final

import numpy as np

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.envelopes import Floats, follow

_ATTACKS_MS = (0.0, 0.05, 0.2, 1.0, 5.0, 20.0)
_RELEASES_MS = (0.2, 1.0, 5.0, 20.0, 80.0, 300.0)
_WINDOWS_MS = (2.0, 8.0, 32.0)  # of a mean square
_KNOTS = 48
_STRETCHES = 2  # a second one is searched if the first one fails
_STRAY = 3e-4  # of the output: a smaller residual on the whole clip is accepted
_STRETCH = 1.0  # seconds that are searched
_SAMPLES = 3000  # on which a curve is fitted
_FINALISTS = 2
_STEPS = (5, 30)
_EXACT, _ENOUGH = 3e-5, 2e-4  # of the output: a smaller residual ends the search, or its slow part
HOPELESS = 0.2  # of the output: with a larger residual, the effect is no gain that follows a level
_FLOOR = 1e-7
_SMALL = 1e-12

Curve = Callable[[Floats], tuple[Floats, Floats]]


def keep(ms: float, sample_rate: float) -> float:
    """The coefficient of a one-pole follower with this time constant."""
    return float(np.exp(-1000.0 / (ms * sample_rate))) if ms > 0 else 0.0


class Level(NamedTuple):
    """The input of an envelope follower.

    Args:
        level: the momentary level, at least 1e-7; (channel, time) or, where channels are linked, (1, time).
        each: the level of every channel.
        keeps: coefficients of the mean square, or None where the level is that of single samples.
    """

    level: Floats
    each: Floats
    keeps: Floats | None


@final
@dataclasses.dataclass(frozen=True, order=True)
class Times:
    """Time constants of an envelope follower, in ms.

    Args:
        attack: while the level rises.
        release: while the level falls.
        linked: whether the loudest channel sets the gain of all channels.
        window: 0 if the level is that of single samples. Otherwise the level is the root of a mean square that rises at
            once and falls with this time constant.
    """

    attack: float
    release: float
    linked: bool
    window: float

    def level(self, x: Floats, rate: float) -> Level:
        """The level of a clip (channel, time)."""
        each, keeps = np.abs(x), None
        if self.window:
            power, keeps = follow(np.square(x), 0.0, keep(self.window, rate))
            each = np.sqrt(power)
        each = each + _FLOOR
        return Level(each.max(axis=0, keepdims=True) if self.linked else each, each, keeps)

    def follow(self, level: Level, rate: float) -> tuple[Floats, Floats]:
        """The envelope, and the coefficient of the follower at every sample."""
        return follow(level.level, keep(self.attack, rate), keep(self.release, rate))


@final
@dataclasses.dataclass(frozen=True)
class Found:
    """A gain that follows a level.

    Args:
        times: of the follower.
        curve: from the envelope to the gain, and to its derivative by the logarithm of the envelope.
        residual: root mean square of the output's residual.
    """

    times: Times
    curve: Curve
    residual: float


def _constant(level: Floats) -> tuple[Floats, Floats]:
    return np.ones_like(level), np.zeros_like(level)


def _spline(envelope: Floats, x: Floats, y: Floats) -> tuple[Curve, float]:
    """The curve by least squares, straight between knots over the logarithm of the envelope; and its residual."""
    axis = np.log(envelope)
    audible = axis[np.abs(x) > 1e-6]
    spread = np.linspace(0, 1, _KNOTS)
    wide = np.ptp(audible) if len(audible) else 0.0
    if wide < 1e-3:
        return _constant, np.inf
    # where the level mostly is, and everywhere else too, but not on top of each other
    both = np.sort(np.append(np.quantile(audible, spread), audible.min() + wide * spread))
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
    values = np.linalg.solve(gram + _SMALL * main.mean() * np.eye(count), wanted)
    residual = y - x * (below * values[place] + above * values[place + 1])

    def curve(level: Floats) -> tuple[Floats, Floats]:
        at = np.log(level)
        rises = np.diff(values) / np.diff(knots)
        inside = (at >= knots[0]) & (at <= knots[-1])
        return np.interp(at, knots, values), inside * rises[np.clip(np.searchsorted(knots, at) - 1, 0, count - 2)]

    return curve, float(np.sqrt(np.mean(np.square(residual))))


class _Hinge(NamedTuple):
    """Two straight lines over the logarithm of the level, for the logarithm of the gain: a threshold and ratios."""

    bend: float
    height: float
    low: float
    high: float

    def __call__(self, level: Floats) -> tuple[Floats, Floats]:
        over = np.log(level) - self.bend
        line = self.height + self.low * np.minimum(over, 0) + self.high * np.maximum(over, 0)
        gain = np.exp(np.clip(line, -60, 20))
        return gain, gain * np.where(over < 0, self.low, self.high)

    def fitted(self, envelope: Floats, x: Floats, y: Floats) -> _Hinge:
        """The hinge that turns x into y best, from this one."""
        few = np.random.default_rng(0).choice(x.size, min(x.size, 2 * _SAMPLES), replace=False)
        envelope, x, y = (z.ravel()[few] for z in (envelope, x, y))
        size = float(np.sqrt(np.mean(np.square(y)))) + _SMALL
        ends = [
            scipy.optimize.least_squares(
                lambda z: (x * _Hinge(*z)(envelope)[0] - y) / size, start, x_scale="jac", max_nfev=20
            )
            for start in (self, *_hinges(envelope, x, y))
        ]
        return _Hinge(*min(ends, key=lambda ended: ended.cost).x.tolist())


def _hinges(envelope: Floats, x: Floats, y: Floats) -> list[Floats]:
    """Where to start looking for a hinge: (bend, height, low, high) for gates and for compressors."""
    loud = np.log(envelope[np.abs(x) > 1e-3 * np.abs(x).max()])
    bends = np.quantile(loud, (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95))
    starts = []
    for bend, slopes in itertools.product(bends, ((0.0, -0.7), (5.0, 0.0), (25.0, 0.0))):
        gain = _Hinge(float(bend), 0.0, *slopes)(envelope)[0] * x
        height = float(gain @ y) / (float(gain @ gain) + _SMALL)
        if height > 0:
            starts.append((float(np.square(y - height * gain).sum()), np.array([bend, np.log(height), *slopes])))
    return [start for _, start in sorted(starts, key=lambda pair: pair[0])[:2]]


def _busiest(off: Floats, length: int) -> int:
    """The start of the stretch of a number of samples with the largest error, (channel, time)."""
    total = np.append(0.0, np.cumsum(np.square(off).sum(axis=0)))
    return int(np.argmax(total[length:] - total[: len(total) - length]))


@final
class _Search:
    """Trials on samples drawn from the stretch of a clip that holds most of what is off."""

    def __init__(self, x: Floats, y: Floats, off: Floats, rate: float) -> None:
        length = min(x.shape[1], int(_STRETCH * rate))
        start = _busiest(off, length)
        before = max(0, start - length // 3)  # where a follower runs in
        self.rate, self._x = rate, x[:, before : start + length]
        drawn = np.random.default_rng(0).choice(length, min(length, _SAMPLES), replace=False)
        self._few = start - before + np.sort(drawn)
        self.dry, self.wet = x[:, start + np.sort(drawn)].ravel(), y[:, start + np.sort(drawn)].ravel()
        self.size = float(np.sqrt(np.mean(np.square(self.wet)))) + _SMALL
        self._level = functools.lru_cache(maxsize=8)(lambda times: times.level(self._x, rate))

    def envelope(self, times: Times) -> Floats:
        """As long as `dry`."""
        level = self._level(dataclasses.replace(times, attack=0.0, release=0.0))
        followed = times.follow(level, self.rate)[0][:, self._few]
        return np.broadcast_to(followed, (len(self._x), followed.shape[1])).ravel()

    def residual(self, times: Times) -> float:
        """What the best curve leaves of the output, 0 to 1."""
        return _spline(self.envelope(times), self.dry, self.wet)[1] / self.size

    def grid(self, windows: tuple[float, ...]) -> list[tuple[float, Times]]:
        """The best of a grid of times, and what they leave."""
        links = (False, True)[: len(self._x)]
        grid = (Times(*how) for how in itertools.product(_ATTACKS_MS, _RELEASES_MS, links, windows))
        return sorted((self.residual(times), times) for times in grid)[:_FINALISTS]

    def refined(self, least: float, times: Times) -> tuple[float, Times]:
        """Better times nearby, by Nelder-Mead."""
        start = _logs(times)
        simplex = start + 0.7 * np.eye(len(start) + 1, len(start))
        options = {"initial_simplex": simplex, "maxfev": 24 * len(start), "xatol": 0.01, "fatol": 0}
        ended: Any = scipy.optimize.minimize(
            lambda logs: self.residual(_at(logs, times)), start, method="Nelder-Mead", options=options
        )
        return min((least, times), (float(ended.fun), _at(ended.x, times)))

    def hinge(self, least: float, times: Times) -> tuple[float, Times, Curve]:
        """A hinge fitted together with its times, from these; given up early where it stays far from `least`."""

        def off(z: Floats) -> Floats:
            envelope = self.envelope(_at(z[4:], times))
            return (self.dry * _Hinge(*z[:4])(envelope)[0] - self.wet) / self.size

        found = []
        for start in _hinges(self.envelope(times), self.dry, self.wet):
            z = np.concatenate([start, _logs(times)])
            residual = np.inf
            for steps in _STEPS:
                ended = scipy.optimize.least_squares(off, z, x_scale="jac", max_nfev=steps)
                z, residual = ended.x, float(np.sqrt(np.mean(np.square(ended.fun))))
                if residual > 2 * least:
                    break
            found.append((residual, _at(z[4:], times), _Hinge(*z[:4].tolist())))
        return min(found, key=lambda one: one[0], default=(np.inf, times, _constant))


def _logs(times: Times) -> Floats:
    return np.log([max(times.attack, 0.01), times.release, *([times.window] if times.window else [])])


def _at(logs: Floats, like: Times) -> Times:
    times = np.exp(np.clip(logs, -7, 9)).tolist()
    return Times(times[0], times[1], like.linked, times[2] if like.window else 0.0)


def _identify(search: _Search) -> tuple[Times, Curve | None]:
    """Times and curve; None for one of many knots."""
    tried = list[tuple[float, Times]]()
    best: tuple[float, Times, Curve | None] = (np.inf, Times(0.0, 1.0, False, 0.0), _constant)
    for windows in ((0.0,), _WINDOWS_MS):
        grid = search.grid(windows)
        tried = sorted([*tried, *grid])
        for least, times in grid:
            if best[0] < _EXACT or not least < HOPELESS:
                break
            best = min(best, found := search.hinge(least, times), key=lambda one: one[0])
            if found[0] > least:
                break
    if best[0] > _ENOUGH and tried[0][0] < HOPELESS:
        tried = sorted(search.refined(*one) for one in tried[:_FINALISTS])
        best = min(best, search.hinge(*tried[0]), key=lambda found: found[0])
    return (tried[0][1], None) if tried[0][0] < best[0] else best[1:]


def identify(x: Floats, y: Floats, rate: float) -> Found:
    """The gain that turns x into y as well as it can, both (channel, time).

    Attack, release and window are found on a grid, with the best curve for each by least squares. From there, a hinge
    is fitted together with the times: it finds a threshold with a ratio to 1e-6 of the output, and suits steep gates,
    which bend too sharply for knots beside the threshold. If the effect has no such hinge, as with a soft knee,
    Nelder-Mead continues from the grid. All this is done on a second of the clip, and on another one if the result is
    wrong for the whole clip.
    """
    best: Found | None = None
    off = y - x * float((x * y).sum() / ((x * x).sum() + _SMALL))
    for _ in range(_STRETCHES):
        times, curve = _identify(_Search(x, y, off, rate))
        envelope = np.broadcast_to(times.follow(times.level(x, rate), rate)[0], x.shape)
        if isinstance(curve, _Hinge):
            curve = curve.fitted(envelope, x, y)  # a second may not show both sides of a threshold
        curve = curve or _spline(envelope.ravel(), x.ravel(), y.ravel())[0]
        off = y - x * curve(envelope)[0]
        found = Found(times, curve, float(np.sqrt(np.mean(np.square(off)))))
        best = found if best is None or found.residual < best.residual else best
        strays = best.residual / (float(np.sqrt(np.mean(np.square(y)))) + _SMALL)
        if not _STRAY < strays < HOPELESS or x.shape[1] <= _STRETCH * rate:
            break
    assert best is not None
    return best
