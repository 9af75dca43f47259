"""Identifies compressors, expanders and gates at many settings, and how their numbers follow from the parameters."""

from __future__ import annotations

import itertools
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.dsp.kernels import follow
from blackbox_fx.identification.growing import FEW, LawSearch
from blackbox_fx.identification.laws import find_law, in_units, physical_law
from blackbox_fx.identification.nature import jumping
from blackbox_fx.identification.numbers import Fit, fit_numbers
from blackbox_fx.identification.records import Identified
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.nets.ballistics import (
    ABOVE,
    BELOW,
    FALL,
    KNEE,
    MAKEUP,
    POWER_FALL,
    POWER_RISE,
    RISE,
    START,
    THRESHOLD,
    Ballistics,
)
from blackbox_fx.proxy.nets.base import Measured
from blackbox_fx.proxy.nets.laws import Law
from blackbox_fx.runtime import Job
from blackbox_fx.space import Space

Floats = NDArray[np.float64]
_SETTINGS, _COMPARED = 36, 2  # all; those by which nets are compared
_SILENT = 1e-9  # variance of a gain that does nothing
_SECONDS = 1.5  # of noise whose level jumps
_DEEPEST = 5.0  # how far a gain that is compared goes down, in units of 20 dB
_CONFIGS: tuple[dict[str, Any], ...] = ({}, {"power": True}, {"after": True}, {"stages": 2})
_TIMES_S = (1e-5, 3e-4, 2e-3, 1e-2, 5e-2, 0.25)  # from which times are fitted
_ITERATIONS = 20
_DRAWN, _AT_ONCE, _BEST, _SHORT_S = 800, 50, 6, 0.5  # starts of several stages, a quarter of them where some are known
_SLOPES = (0.0, 0.1, 0.25, 0.5)  # above thresholds, from which several stages are fitted
_ROUNDING = 1e-6  # of the largest sample of what is clipped
_EVERY = 16  # samples between those in which times are tried
_BINS = 120  # of the level
_NEUTRAL = 1e-3  # distance from a slope of 1, or from a gain of 0, that is none
_GOOD, _PASSABLE = 1e-7, 1e-4  # mean square errors of gains, in units of 20 dB
_HOPELESS = 1e-3
_LOST = 0.1  # error of a start from which nothing is fitted
_UNLIKE = 3e-3  # error of one stage with which several are not tried
_HARD, _SOFT = 1e-3, 0.5  # knee that is none, and one from which knees are fitted; in units of 20 dB
_EXACT = 1e-5  # error-to-signal ratio for clips with which no training does better
_TRIED = 3  # batches of clips
_UNITS = (1.0, 0.05, 1e-3, 1e-3 / (2 * np.pi))  # of parameters in dB and ms, against those of the numbers


def identify_ballistics(stream: ClipStream) -> Identified | None:
    """The net of ballistics that an effect is, with laws for its numbers; None if it is none.

    Args:
        stream: of the effect.

    Raises:
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    found = _Search(stream).run()
    return found if found is not None and found.residual < _EXACT else None


@final
class _Search(LawSearch):
    """Compares nets at two settings, and looks for the laws of the best one."""

    good, passable, enough = _GOOD, _PASSABLE, _GOOD

    def __init__(self, stream: ClipStream) -> None:
        self.stream, self.space, self.rate = stream, stream.effect.space, stream.clips.sample_rate
        self.noise = jumping(round(_SECONDS * self.rate), self.rate)
        points = stream.settings(_SETTINGS, np.random.default_rng([stream.seed, 4]))
        inputs = self.noise.astype(np.float32)[None, None]
        job = Job(stream.effect, inputs, points, np.zeros(len(points), np.int64), self.rate)
        wet = stream.pool.map(job)[~job.failed, 0].astype(np.float64)
        gains = self._heard(wet)
        order = np.argsort(gains.var(axis=1) < _SILENT, kind="stable")  # first those at which anything is done
        self.points, self.gains = points[~job.failed][order], gains[order]
        self.clips = abs(float(np.abs(wet).max(initial=0)) - 1) < _ROUNDING
        self.net = self._net({})

    def _net(self, config: dict[str, Any]) -> Ballistics:
        return Ballistics(self.space.width, self.rate, clip=self.clips, **config)

    def _heard(self, outputs: Floats) -> Floats:
        """The logarithm of the gain, not below a hundred dB."""
        return np.log10(np.abs(outputs / self.noise) + 10**-_DEEPEST)

    def run(self) -> Identified | None:
        """The net and its laws; None if the effect is not of this kind."""
        if len(self.points) <= FEW:
            return None
        tried: list[tuple[float, dict[str, Any], list[Fit]]] = []
        # most of those that clip are limiters of two stages
        for config in sorted(_CONFIGS, key=lambda one: "stages" not in one and bool(one)) if self.clips else _CONFIGS:
            if config.get("stages", 1) > 1 and min(each[0] for each in tried) > _UNLIKE:
                break
            self.net, fits = self._net(config), []
            for k in range(_COMPARED):
                fits.append(self.search(k, self.known(fits)))
            tried.append((max(fit.residual for fit in fits), config, fits))
            if tried[-1][0] < _GOOD:
                break
        off, config, fits = min(tried, key=lambda each: each[0])
        if off > _HOPELESS:
            return None
        self.net = self._net(config)
        laws = self.grow(fits)
        if not laws:
            return None
        self.net.start_from(Measured(torch.zeros(1), tuple(laws)))
        return Identified({"kind": "ballistics", "clip": self.clips, **config}, tuple(laws), self._error())

    @torch.no_grad()
    def _error(self) -> float:
        """The error-to-signal ratio for clips at other settings, mean over items."""
        batches = [self.stream.batch(number) for number in range(_TRIED)]
        found = [esr(self.net(batch.audio, batch.params, self.rate), batch.wet) for batch in batches]
        return float(torch.cat([each.flatten() for each in found]).nan_to_num(nan=np.inf).mean())

    def fit(self, k: int, start: Floats) -> Fit:
        """See `LawSearch`."""
        gains, most = self.gains[k], _ITERATIONS * self.net.stages
        free = [n for n in range(len(start)) if self.net.power or n % len(START) not in (POWER_FALL, POWER_RISE)]
        if self.net.stages > 1:  # what is made up for by one stage moves the threshold of the next
            free.remove(MAKEUP)
        fit = fit_numbers(self.net, self.noise, gains, self.net.sensible(start.copy()), free, most, self._heard)
        return fit._replace(residual=fit.residual * float(np.square(gains).mean()))

    def residuals(self, numbers: Floats) -> Floats:
        """Mean square errors of the gains; see `LawSearch`."""
        rows = np.stack([self.net.sensible(row) for row in numbers])
        inputs = torch.from_numpy(self.noise).float().expand(len(rows), -1)
        wet = self.net.render(inputs, torch.from_numpy(rows)).numpy().astype(np.float64)
        return np.square(self._heard(wet) - self.gains[: len(rows)]).mean(axis=1).astype(np.float64)

    def search(self, k: int, known: list[Fit]) -> Fit:
        """See `LawSearch`."""
        gains = self.gains[k]
        starts = self._bent_once(gains, known) if self.net.stages == 1 else self._drawn(gains, known)
        fits: list[Fit] = []
        for off, start in starts:
            lost = off > _LOST
            fits.append(Fit(start, np.full(len(start), np.inf), off) if lost else self.fit(k, start))
            if lost or fits[-1].residual < _GOOD:
                break
        return min(fits, key=lambda fit: fit.residual)

    def _bent_once(self, gains: Floats, known: list[Fit]) -> list[tuple[float, Floats]]:
        """Starts at the times with which the gain is most nearly a function of the level, after how far it is off."""
        level, net = np.abs(self.noise), self.net
        powers = [fit.numbers[POWER_FALL] for fit in known[-1:]] or _TIMES_S
        levels = [np.sqrt(_smoothed(level**2, fall, 1e-6, self.rate)) for fall in powers] if net.power else [level]
        tried = []
        for (k, one), fall, rise in itertools.product(enumerate(levels), _TIMES_S, _TIMES_S):
            if net.after:
                error, curve = _bent(np.log10(one)[1::_EVERY], _before(gains, rise, fall, self.rate)[::_EVERY])
            else:
                smooth = _smoothed(one, fall, rise, self.rate)
                error, curve = _bent(np.log10(smooth[::_EVERY]), gains[::_EVERY])
            start = np.array(START)
            start[[POWER_FALL, FALL, RISE]] = powers[k] if net.power else START[POWER_FALL], fall, rise
            start[[THRESHOLD, BELOW, ABOVE, MAKEUP]] = curve
            tried.append((error, start))
        best, second = sorted(tried, key=lambda each: each[0])[:2]
        soft = best[1].copy()
        soft[KNEE] = _SOFT
        return [best, (best[0], soft), second]

    def _drawn(self, gains: Floats, known: list[Fit]) -> list[tuple[float, Floats]]:
        """The best of many starts, after how far they are off; in most, one stage is one that was found elsewhere."""
        rng, net = np.random.default_rng(0), self.net
        count = _DRAWN // 4 if known else _DRAWN
        rows = np.tile(START, (count, net.stages, 1))
        for stage in rows.transpose(1, 0, 2):
            stage[:, [FALL, RISE]] = 10 ** rng.uniform((-4, -6), (-0.5, -2), (count, 2))
            stage[:, THRESHOLD] = rng.uniform(-3, 0, count)
            stage[:, ABOVE] = rng.choice(_SLOPES, count)
        for row in rows[count // 4 :] if known else ():
            stage = rng.integers(net.stages)
            row[stage] = known[rng.integers(len(known))].numbers.reshape(net.stages, -1)[stage]
        rows[:, :-1, MAKEUP] = 0
        rows = rows.reshape(count, -1)
        part = slice(0, round(_SHORT_S * self.rate))
        inputs = torch.from_numpy(self.noise[part]).float().expand(_AT_ONCE, -1)
        off = []
        for some in np.split(rows, count // _AT_ONCE):
            wet = net.render(inputs, torch.from_numpy(some)).numpy().astype(np.float64)
            left = gains[part] - np.log10(np.abs(wet / self.noise[part]) + 10**-_DEEPEST)
            some[:, MAKEUP - len(START)] += np.median(left, axis=1)
            off += list((left - np.median(left, axis=1, keepdims=True)).var(axis=1))
        return [(off[k], rows[k]) for k in np.argsort(off)[:_BEST]]

    def laws_through(self, points: Floats, fits: list[Fit]) -> list[Law]:
        """See `LawSearch`."""
        numbers, errors = (np.array([getattr(fit, name) for fit in fits]) for name in ("numbers", "errors"))
        return [self._law(k, points, numbers[:, k], errors[:, k]) for k in range(numbers.shape[1])]

    def _law(self, k: int, points: Floats, values: Floats, errors: Floats) -> Law:
        k = k % len(START)
        if k == KNEE and np.median(values) < _HARD:
            return _constant(START[KNEE], self.space)
        seen = np.isfinite(errors)
        floor = 1e-6 * np.abs(values[seen]).max(initial=0) + 1e-12
        known = points[seen], values[seen], np.maximum(errors[seen], floor)
        law = physical_law(self.space, _UNITS, *known)
        if law is None and seen.sum() <= FEW:
            law = _constant(float(np.median(values[seen] if seen.any() else values)), self.space)
        elif law is None:
            law = in_units(find_law(*known), self.space, _UNITS)
        neutral = {BELOW: 1.0, ABOVE: 1.0, MAKEUP: 0.0}.get(k)
        if neutral is not None and np.abs(law.at(points) - neutral).max() < _NEUTRAL:
            return _constant(neutral, self.space)
        return law


def _constant(value: float, space: Space) -> Law:
    one = np.eye(1, space.width + 1)[0]
    return Law(value * one, 1.0, 0 * one)


def _smoothed(level: Floats, fall: float, rise: float, rate: float) -> Floats:
    coefficients = [torch.tensor([-np.expm1(-1 / (rate * seconds))]).float() for seconds in (fall, rise)]
    return follow(torch.from_numpy(level).float()[None], torch.zeros(1), *coefficients)[0].double().numpy() + 1e-9


def _before(gains: Floats, fall: float, rise: float, rate: float) -> Floats:
    """What a gain would be from its second sample on, had it not been smoothed with these times."""
    moved = np.diff(gains)
    return gains[:-1] + moved / -np.expm1(-1 / (rate * np.where(moved < 0, fall, rise)))


def _bent(level: Floats, gain: Floats) -> tuple[float, tuple[float, float, float, float]]:
    """What a curve of one bend leaves of a gain over the level, and its threshold, slopes and makeup."""
    ends = float(level.min()), float(level.max()) + 1e-9
    place = ((level - ends[0]) / (ends[1] - ends[0]) * _BINS).astype(int)
    heard = gain > 0.9 - _DEEPEST
    count, total, squares = (np.bincount(place[heard], w, _BINS) for w in (None, gain[heard], gain[heard] ** 2))
    some = count > 0
    if some.sum() < FEW:
        return np.inf, (START[THRESHOLD], 1.0, 1.0, 0.0)
    middle = ends[0] + (np.flatnonzero(some) + 0.5) / _BINS * (ends[1] - ends[0])
    weight, mean = count[some], total[some] / count[some]
    scatter = float((squares[some] - weight * mean**2).sum())
    found = []
    for threshold in middle:
        over = middle - threshold
        basis = np.stack([np.ones_like(over), np.minimum(over, 0), np.maximum(over, 0)], axis=1)
        root = np.sqrt(weight)[:, None]
        curve = np.linalg.lstsq(basis * root, mean * root[:, 0], rcond=1e-9)[0]
        left = float((weight * np.square(basis @ curve - mean)).sum())
        slopes = np.maximum(curve[1:] + 1, 0)
        found.append((left, (float(threshold), float(slopes[0]), float(slopes[1]), float(curve[0]))))
    left, numbers = min(found)
    return (left + scatter) / float(weight.sum()), numbers
