"""Identifies a gain that follows a level, from a clip and the effect's output."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.curves import QUANTILES, SMALLEST, Curve, Hinge, drawn, soft_hinge, spline
from blackbox_fx.estimators.audio_rules.envelopes import Floats, curves_left, follow_many, follow_moved
from blackbox_fx.estimators.audio_rules.levels import LOUDEST, MEAN, OWN, Times, Windows, keep

_ATTACKS_MS = (0.0, 0.05, 0.2, 1.0, 5.0, 20.0)
_SLOW_MS = (80.0, 300.0)  # attacks that are tried for a key, too
_RELEASES_MS = (0.2, 1.0, 5.0, 20.0, 80.0, 300.0)
_SAMPLES, _POWERS = (Times(0.0, 0.0),), (Times(0.0, 0.0, power=True),)
_MEANS = tuple(Times(0.0, 0.0, window=ms) for ms in (2.0, 8.0, 32.0))
_SLIDING = tuple(Times(0.0, 0.0, window=ms, sliding=True) for ms in (1.5, 6.0, 12.0, 24.0))
_KNOTS = 96  # of the curves that rank times
_STRETCHES = 2  # a second one is searched if the first one fails
_STRETCH = 1.0  # seconds that are searched
_FINALISTS, _KEYED_FINALISTS = 2, 6  # a key says less of the times than the clip itself, which peaks with its level
_STEPS = (6, 40)
EXACT = 1e-4  # of the output: a smaller residual shows that the effect has these equations
_SURE, _ENOUGH = 3e-5, 2e-4  # of the output: a smaller residual ends the search, or its slow part
HOPELESS = 0.2  # of the output: with a larger residual, the effect is no gain that follows a level
_SOFT = 1.5  # times the residual of many knots, that a soft knee may have
_ONSET = 0.02  # seconds in which a gain may come from elsewhere
_AUDIBLE = 1e-7  # below, an output says nothing of the gain
_CLEARLY = 1.25  # times as much may be left by the level of single samples
_PATIENCE = 2  # hinges for a key that leave more than curves of many knots
_ROUNDS = 3  # of fits on the whole clip
_FAR, _LITTLE = (3e-6, 2e-2), (1e-3, 5e-2)  # residuals of output and logarithm, and gains, that end a descent
_VAGUE = 0.01  # doubt of a number that halves its weight
_NONE = np.zeros(0)


class Fit(NamedTuple):
    """A hinge with its times.

    Args:
        residual: root mean square of what it leaves of the drawn samples, against the output.
        numbers: of the hinge, and the logarithms of the times.
        weights: how well each number is known, 0 to 1.
    """

    residual: float
    numbers: Floats
    weights: Floats

    @classmethod
    def guess(cls, numbers: Floats) -> Fit:
        """One that is to be tried."""
        return cls(np.inf, numbers, np.zeros(len(numbers)))


@final
@dataclasses.dataclass(frozen=True)
class Found:
    """A gain that follows a level.

    Args:
        times: of the follower.
        curve: from the envelope to the gain, and to its derivative by the logarithm of the envelope.
        residual: root mean square of the output's residual, once the gain has settled.
        weights: of a hinge, how well its four numbers and the logarithms of the times are known, 0 to 1.
    """

    times: Times
    curve: Curve
    residual: float
    weights: Floats


def _busiest(off: Floats, length: int) -> int:
    """The start of the stretch of a number of samples with the largest error, (channel, time)."""
    total = np.append(0.0, np.cumsum(np.square(off).sum(axis=0)))
    return int(np.argmax(total[length:] - total[: len(total) - length]))


def _root(squares: float) -> float:
    return float(np.sqrt(max(squares, 0.0)))


@final
class _Search:
    """Trials on samples drawn from a stretch of a clip.

    Args:
        clip: the clip and the output.
        off: what is off so far, (channel, time); half of the samples are drawn by its size.
        start: of the stretch.
        length: of the stretch.
    """

    def __init__(self, clip: Clip, off: Floats, start: int, length: int) -> None:
        x, y, rate = clip.x, clip.y, clip.rate
        before = max(0, start - length)  # where a follower runs in, which takes some of its release times
        self.rate, self._key = rate, np.ascontiguousarray(clip.key[:, before : start + length])
        self._channels, self.is_keyed = len(x), clip.key is not clip.x
        at = drawn(length)
        if len(at) < length:
            total = np.cumsum(np.abs(off[:, start : start + length]).max(axis=0))
            even = np.searchsorted(total, np.linspace(0, total[-1], len(at)))
            at = np.unique(np.append(at, np.minimum(even, length - 1)))
        self._at = start - before + at
        self.dry, self.wet = x[:, start + at].ravel(), y[:, start + at].ravel()
        self.size = self._loud(self.wet)
        # the logarithm of the gain is straight on both sides of a bend, however steep, so it leads there from afar
        loudness = np.minimum(np.abs(self.dry) / self._loud(self.dry), 1.0)
        self._trust: Floats = np.where(np.abs(self.wet) > _AUDIBLE, loudness, 0.0)
        self._logs = np.log((np.abs(self.wet) + SMALLEST) / (np.abs(self.dry) + SMALLEST))
        self._windows = Windows(self._key, rate)
        self._level = functools.lru_cache(maxsize=8)(self._windows.level)

    @staticmethod
    def _loud(signal: Floats) -> float:
        return _root(float(np.square(signal).mean())) + SMALLEST

    def _at_all(self, followed: Floats) -> Floats:
        """Envelopes (..., channel, sample) as (..., sample of any channel)."""
        shape = (*followed.shape[:-2], self._channels, followed.shape[-1])
        each = followed if followed.shape == shape else np.broadcast_to(followed, shape)
        return each.reshape(*shape[:-2], -1)

    def _envelopes(self, like: Times, pairs: Sequence[tuple[float, float]]) -> Floats:
        level = self._level(like.instant)
        attacks, releases = np.array([[keep(ms, self.rate) for ms in pair] for pair in pairs]).T.copy()
        return self._at_all(follow_many(level, attacks, releases, self._at))

    def _left(self, envelopes: Floats) -> Floats:
        left = curves_left(np.log(envelopes), self.dry, self.wet, _KNOTS)
        return np.sqrt(left / self.dry.size) / self.size

    def residual(self, times: Times) -> float:
        """What the best curve leaves of the output, 0 to 1."""
        return float(self._left(self._envelopes(times, [(times.attack, times.release)]))[0])

    def grid(self, kinds: Sequence[Times]) -> list[tuple[float, Times]]:
        """The best of a grid of attacks and releases for several kinds of level, and what they leave."""
        attacks = (*_ATTACKS_MS, *_SLOW_MS) if self.is_keyed else _ATTACKS_MS
        pairs = list(itertools.product(attacks, _RELEASES_MS))
        links = (OWN, LOUDEST, MEAN) if len(self._key) > 1 else (OWN,)
        found = list[tuple[float, Times]]()
        for kind, link in itertools.product(kinds, links):
            one = dataclasses.replace(kind, link=link)
            left = self._left(self._envelopes(one, pairs)).tolist()
            found += [
                (value, dataclasses.replace(one, attack=attack, release=release))
                for value, (attack, release) in zip(left, pairs, strict=True)
            ]
        found.sort(key=lambda pair: pair[0])
        best = {times.link: (least, times) for least, times in reversed(found)}
        first = sorted(best.values(), key=lambda pair: pair[0])  # of each link
        ranked = [*first, *(pair for pair in found if pair not in first)]
        return ranked[: _KEYED_FINALISTS if self.is_keyed else _FINALISTS + (len(first) > 1)]

    def refined(self, least: float, times: Times) -> tuple[float, Times]:
        """Better times nearby, by Nelder-Mead."""
        start = times.logs
        simplex = start + 0.7 * np.eye(len(start) + 1, len(start))
        options = {"initial_simplex": simplex, "maxfev": 24 * len(start), "xatol": 0.01, "fatol": 0}
        ended: Any = scipy.optimize.minimize(
            lambda logs: self.residual(times.at(logs)), start, method="Nelder-Mead", options=options
        )
        return min((least, times), (float(ended.fun), times.at(ended.x)), key=lambda pair: pair[0])

    def _slopes(self, numbers: Floats, like: Times, free: NDArray[np.bool_], logs: bool) -> tuple[Floats, Floats]:
        """What a hinge with its times leaves, against the output or of the gain's logarithm; and the derivative."""
        times = like.at(numbers[4:])
        level, moves = self._windows.moved(times.instant) if free[6:].any() else (self._level(times.instant),) * 2
        followed = follow_moved(level, moves, keep(times.attack, self.rate), keep(times.release, self.rate), self._at)
        envelope, *rises = self._at_all(followed[: len(free) - 3])
        over = np.log(envelope) - numbers[0]
        slope = np.where(over < 0, numbers[2], numbers[3])
        line = numbers[1] + slope * over
        np.clip(line, -60, 20, out=line)
        rows = np.empty((len(free), len(over)))
        rows[0], rows[1], rows[2], rows[3] = -slope, 1.0, np.minimum(over, 0), np.maximum(over, 0)
        for row, rise in zip(rows[4:], rises, strict=True):
            np.divide(np.multiply(slope, rise, out=row), envelope, out=row)
        chosen = rows if free.all() else rows[free]
        if logs:
            chosen *= self._trust
            return self._trust * (line - self._logs), chosen
        made = np.exp(line, out=line) * self.dry / self.size
        chosen *= made
        return made - self.wet / self.size, chosen

    def fit(self, numbers: Floats, like: Times, steps: int, free: NDArray[np.bool_] | None = None) -> Fit:
        """A hinge with its times that is near to given ones.

        Args:
            numbers: of the hinge, and the logarithms of the times.
            like: what level is followed.
            steps: at most.
            free: the numbers that are fitted; all if not given.
        """
        free = np.ones(len(numbers), bool) if free is None else free
        near = self._descend(numbers, like, steps, free, logs=True)
        return self._descend(near.numbers, like, steps, free, logs=False)

    def _descend(self, numbers: Floats, like: Times, steps: int, free: NDArray[np.bool_], logs: bool) -> Fit:
        """By Levenberg and Marquardt."""
        off, slopes = self._slopes(numbers, like, free, logs)
        least, damping = float(off @ off), 1e-3
        for _ in range(steps):
            if least < _FAR[logs] ** 2 * off.size or damping > 1e3:
                break
            gram = slopes @ slopes.T
            damped = gram + np.diag(damping * gram.diagonal() + 1e-9 * np.trace(gram) + 1e-30)
            moved = numbers.copy()
            moved[free] -= np.clip(np.linalg.solve(damped, slopes @ off), -1.5, 1.5)
            off_there, slopes_there = self._slopes(moved, like, free, logs)
            gain = 1 - float(off_there @ off_there) / least
            if gain > 0:
                numbers, off, slopes, least = moved, off_there, slopes_there, (1 - gain) * least
            damping *= 0.2 if gain > 0 else 5.0
            if 0 <= gain < _LITTLE[logs]:
                break
        residual, known = _root(least / off.size), np.zeros(len(numbers))
        gram = slopes @ slopes.T / off.size
        doubts = np.linalg.inv(gram + (1e-12 * np.trace(gram) + 1e-30) * np.eye(len(gram))).diagonal()
        known[free] = 1 / (1 + np.maximum(doubts, 0) * (max(residual, _FAR[0]) / _VAGUE) ** 2)
        return Fit(residual, numbers, known)

    def starts(self, times: Times) -> list[Floats]:
        """Numbers from which to look for a hinge with these times: the best lines on both sides of several bends."""
        axis = np.log(self._envelopes(times, [(times.attack, times.release)])[0])
        found = list[tuple[float, Floats]]()
        loud = axis[np.abs(self.dry) > 1e-3 * np.abs(self.dry).max()]
        for bend in np.quantile(loud, QUANTILES) if len(loud) else ():
            over = axis - bend
            lines = self._trust * np.stack([np.ones_like(over), np.minimum(over, 0), np.maximum(over, 0)])
            gram, wanted = lines @ lines.T, lines @ (self._trust * self._logs)
            best = np.linalg.solve(gram + (1e-9 * np.trace(gram) + 1e-30) * np.eye(3), wanted)
            found.append((float(-best @ wanted), np.concatenate([[bend], best, times.logs])))
        return [numbers for _, numbers in sorted(found, key=lambda pair: pair[0])[:2]]

    def _straight(self, times: Times) -> Floats:
        """Numbers of the best line without a bend, which is below all levels."""
        axis = np.log(self._envelopes(times, [(times.attack, times.release)])[0])
        bend, weights = float(axis.min()), np.square(self._trust)
        total = float(weights.sum()) + SMALLEST
        level, height = float(weights @ axis) / total, float(weights @ self._logs) / total
        spread = float(weights @ np.square(axis - level)) / total
        slope = float(weights @ ((axis - level) * self._logs)) / total / spread if spread > SMALLEST else 0.0
        height += slope * (bend - level)
        return np.concatenate([[bend, height, slope, slope], times.logs])

    def hinge(self, least: float, times: Times) -> tuple[float, Times, Fit | None]:
        """A hinge fitted together with its times, from these; given up early where it stays far from `least`.

        One that begins as a straight line is fitted, too: where the level is hardly ever below the threshold, the best
        bends are far from it.
        """
        found = list[Fit]()
        for numbers in self.starts(times):
            fit = self.fit(numbers, times, _STEPS[0])
            found.append(fit if fit.residual > 2 * least else self.fit(fit.numbers, times, _STEPS[1]))
        if found and min(fit.residual for fit in found) > _SURE:
            straight = self.fit(self._straight(times), times, _STEPS[1], _one_slope(times))
            found.append(self.fit(straight.numbers, times, _STEPS[1]))
        best = min(found, key=lambda fit: fit.residual, default=None)
        return (best.residual if best else np.inf), times, best


def _one_slope(times: Times) -> NDArray[np.bool_]:
    """Those of the numbers that a line without a bend has: its height, its slope, and the times."""
    return np.array([False, True, False, True, *np.ones(len(times.logs), bool)])


def _of_each_kind(tried: Sequence[tuple[float, Times]]) -> list[tuple[float, Times]]:
    """The best of single samples, of their powers, of a mean that falls, and of a sliding one."""
    return list({(at.window > 0, at.sliding, at.power): (least, at) for least, at in reversed(tried)}.values())


def _rank(pair: tuple[float, Times]) -> float:
    """What times leave; means and powers, which can pass for single samples, have to be clearly better."""
    least, times = pair
    return least * (1.0 if not times.window and not times.power else _CLEARLY)


def _identify(search: _Search) -> tuple[Times, Fit | None]:
    """Times, and a hinge; None for a curve of many knots."""
    tried = list[tuple[float, Times]]()
    best: tuple[float, Times, Fit | None] = (np.inf, Times(0.0, 1.0), None)
    for kinds in (_SAMPLES, _MEANS, *([_SLIDING] if search.is_keyed else []), _POWERS):
        grid = search.grid(kinds)
        tried = sorted([*tried, *grid], key=_rank)
        worse = 0
        for least, times in grid:
            if best[0] < _SURE or not least < HOPELESS or worse > (_PATIENCE if search.is_keyed else 0):
                break
            best = min(best, found := search.hinge(least, times), key=lambda one: one[0])
            worse += found[0] > least
    if best[0] > _ENOUGH and EXACT < tried[0][0] < HOPELESS:
        some = _of_each_kind(tried) if search.is_keyed else tried[:_FINALISTS]
        tried = sorted((search.refined(*one) for one in some), key=_rank)
        best = min(best, search.hinge(*tried[0]), key=lambda found: found[0])
    return (tried[0][1], None) if tried[0][0] < best[0] else best[1:]


@final
class Clip:
    """A clip and the effect's output, both (channel, time), between which a gain is sought.

    Args:
        x: the clip.
        y: the output.
        rate: in Hz.
        key: whose level the gain follows, (channel, time) or (1, time); the clip itself if not given.
    """

    def __init__(self, x: Floats, y: Floats, rate: float, key: Floats | None = None) -> None:
        self.x, self.y, self.rate = np.ascontiguousarray(x), y, rate
        self.key = self.x if key is None else np.ascontiguousarray(key)
        self.size = _root(float(np.square(y).mean())) + SMALLEST

    def _off(self, found: Found) -> Floats:
        envelope, _ = found.times.follow(found.times.level(self.key, self.rate), self.rate)
        return self.y - self.x * found.curve(envelope)[0]

    def _judged(self, times: Times, curve: Curve, weights: Floats = _NONE) -> tuple[Found, Floats]:
        found = Found(times, curve, np.inf, weights)
        off = self._off(found)
        settled = off[:, min(int(_ONSET * self.rate), off.shape[1] // 8) :]
        return dataclasses.replace(found, residual=_root(float(np.square(settled).mean()))), off

    def _hinge(self, fit: Fit, like: Times) -> tuple[Found, Floats]:
        return self._judged(like.at(fit.numbers[4:]), Hinge(*fit.numbers[:4].tolist()), fit.weights)

    def flat(self) -> Found:
        """The same gain at every level."""
        gain = float(np.vdot(self.x, self.y) / (np.vdot(self.x, self.x) + SMALLEST))
        times, hinge = Times(0.0, 1.0), Hinge(0.0, np.log(max(gain, SMALLEST)), 0.0, 0.0)
        residual = _root(float(np.square(self.y - gain * self.x).mean()))
        return Found(times, hinge, residual, np.zeros(len(hinge) + len(times.logs)))

    def curve(self, times: Times) -> Found:
        """A curve with these times: a soft knee, or one of many knots if that is clearly better."""
        envelope = np.broadcast_to(times.follow(times.level(self.key, self.rate), self.rate)[0], self.x.shape)
        free = self._judged(times, spline(envelope.ravel(), self.x.ravel(), self.y.ravel()))[0]
        if free.residual > HOPELESS * self.size:
            return free
        knee = soft_hinge(envelope, self.x, self.y, free.curve)
        soft = self._judged(times, knee)[0]
        if soft.residual > _SOFT * free.residual:  # else it has steadier slopes
            return free
        hard = self.near(Fit.guess(np.concatenate([knee[:4], times.logs])), times)
        return min(soft, hard, key=lambda found: found.residual)

    def near(self, fit: Fit, like: Times, free: NDArray[np.bool_] | None = None, widely: bool = False) -> Found:
        """A hinge with its times, from the numbers of one that was found elsewhere.

        Args:
            fit: from which to start.
            like: what level is followed.
            free: the numbers that are fitted; all if not given.
            widely: whether to start at other bends too where this one leads nowhere.
        """
        best, off = self._hinge(fit, like)
        for _ in range(_ROUNDS):
            if best.residual < EXACT * self.size:
                break
            search = _Search(self, off, 0, self.x.shape[1])
            fit = search.fit(fit.numbers, like, _STEPS[1], free)
            if fit.residual > 10 * EXACT:
                others = search.starts(like.at(fit.numbers[4:])) if widely else []
                fit = min((fit, *(search.fit(s, like, _STEPS[1]) for s in others)), key=lambda fit: fit.residual)
            found, off = self._hinge(fit, like)
            best = min(best, found, key=lambda found: found.residual)
            if fit.residual > 10 * EXACT:
                break
        return best

    def anywhere(self) -> Found:
        """The gain that suits best, from nothing.

        Attack, release and window are found on a grid, with the best curve for each by least squares. From there, a
        hinge is fitted together with the times: it finds a threshold with a ratio to 1e-6 of the output, and suits
        steep gates, which bend too sharply for knots beside the threshold. If the effect has no such hinge, as with a
        soft knee, Nelder-Mead continues from the grid. All this is done on a second of the clip, and on another one if
        the result is wrong for the whole clip.
        """
        x, y = self.x, self.y
        length = min(x.shape[1], int(_STRETCH * self.rate))
        best: Found | None = None
        off = y - x * float((x * y).sum() / ((x * x).sum() + SMALLEST))
        for _ in range(_STRETCHES):
            times, fit = _identify(_Search(self, off, _busiest(off, length), length))
            # a second may not show both sides of a threshold
            found = self.curve(times) if fit is None else self.near(fit, times, widely=True)
            best = found if best is None or found.residual < best.residual else best
            if not EXACT < best.residual / self.size < HOPELESS or x.shape[1] <= _STRETCH * self.rate:
                break
            off = self._off(found)
        assert best is not None
        return best


def identify(x: Floats, y: Floats, rate: float) -> Found:
    """The gain that turns x into y as well as it can, both (channel, time)."""
    return Clip(x, y, rate).anywhere()
