"""A gain that follows the level of the clip itself."""

from __future__ import annotations

import itertools
from typing import Any, final

import numpy as np
from scipy.optimize import minimize

from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.envelopes import Floats, follow, smooth, smooth_back
from blackbox_fx.estimators.audio_rules.operators import Gain, Series
from blackbox_fx.estimators.audio_rules.pointwise import ratio
from blackbox_fx.estimators.audio_rules.probes import SMALL, Noise

_ATTACKS_MS = (0.0, 0.05, 0.2, 1.0, 5.0, 20.0)
_RELEASES_MS = (0.2, 1.0, 5.0, 20.0, 80.0, 300.0)
_KNOTS = 48
_EXACT = 3e-3  # of the output: a stage that leaves no more needs no second one


@final
class _Level(Model):
    """y = x * curve(envelope), differentiated: through the gain, and through what the input does to the envelope.

    Args:
        gain: curve(envelope).
        slope: x * curve'(envelope).
        drive: what the input adds to the level: its sign, or 0 where another channel is louder.
        keeps: coefficient of the follower at every sample, (channel, time), or (1, time) where channels are linked.
    """

    def __init__(self, gain: Signal, slope: Signal, drive: Signal, keeps: Signal) -> None:
        self.gain, self.slope, self.drive, self.keeps = gain, slope, drive, keeps

    def _link(self, signal: Signal) -> Signal:
        return signal if len(self.keeps) == len(signal) else signal.sum(axis=0, keepdims=True)

    def push(self, u: Signal) -> Signal:
        """Forwards through both paths."""
        return self.gain * u + self.slope * smooth(self._link(self.drive * u), self.keeps)

    def pull(self, v: Signal) -> Signal:
        """Backwards through both paths."""
        return self.gain * v + self.drive * smooth_back(self._link(self.slope * v), self.keeps)


def _curve(level: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats, float]:
    """How y is x times a function of the logarithm of the level: its knots, its values, and what is left of y."""
    axis = np.log(level)
    heard = axis[np.abs(x) > 1e-6]
    spread = np.linspace(0, 1, _KNOTS)
    wide = np.ptp(heard) if len(heard) else 0.0
    if wide < 1e-3:
        return np.array([-1.0, 1.0]), np.ones(2), np.inf
    # where the level mostly is, and everywhere else too, but not on top of each other
    both = np.sort(np.append(np.quantile(heard, spread), heard.min() + wide * spread))
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
    values = np.linalg.solve(gram + 1e-12 * main.mean() * np.eye(count), wanted)
    left = y - x * (below * values[place] + above * values[place + 1])
    return knots, values, float(np.sqrt(np.mean(np.square(left))))


def _keep(ms: float, sample_rate: float) -> float:
    return float(np.exp(-1000.0 / (ms * sample_rate))) if ms > 0 else 0.0


def _stage(x: Signal, y: Signal, rate: float) -> tuple[_Level, Signal, float]:
    """The level-dependent gain that turns x into y as well as it can: its model, what it makes of x, and what is left.

    Attack and release are found by trial, the curve by least squares.
    """
    part = slice(0, min(x.shape[1], int(0.7 * rate)))
    links = (False, True) if len(x) > 1 else (False,)

    def level(linked: bool, cut: slice = slice(None)) -> Floats:
        found = np.abs(x[:, cut]) + 1e-7
        return found.max(axis=0, keepdims=True) if linked else found

    few = slice(0, part.stop, 4)  # of the samples do for a curve
    levels, dry, wet = {linked: level(linked, part) for linked in links}, x[:, few].ravel(), y[:, few].ravel()

    def left(attack: float, release: float, linked: bool) -> float:
        envelope = follow(levels[linked], _keep(attack, rate), _keep(release, rate))[0][:, ::4]
        return _curve(np.broadcast_to(envelope, x[:, few].shape).ravel(), dry, wet)[2]

    tried = sorted((left(*a), a) for a in itertools.product(_ATTACKS_MS, _RELEASES_MS, links))
    best = tried[0]
    for _, (attack, release, linked) in tried[:3]:
        if not np.isfinite(best[0]) or best[0] < _EXACT * np.sqrt(np.mean(np.square(wet))):
            break
        start = np.log([max(attack, 0.01), release])
        found: Any = minimize(
            lambda logs, linked=linked: left(float(np.exp(logs[0])), float(np.exp(logs[1])), linked),
            start,
            method="Nelder-Mead",
            options={"initial_simplex": start + 0.7 * np.eye(3, 2), "maxfev": 60, "xatol": 0.01, "fatol": 0},
        )
        best = min(best, (float(found.fun), (*np.exp(found.x).tolist(), linked)))
    attack, release, linked = best[1]
    loudest = level(linked)
    shared, keeps = follow(loudest, _keep(attack, rate), _keep(release, rate))
    envelope = np.broadcast_to(shared, x.shape)
    knots, values, unexplained = _curve(envelope.ravel(), x.ravel(), y.ravel())
    axis = np.log(envelope)
    gain = np.interp(axis, knots, values)
    place = np.clip(np.searchsorted(knots, axis) - 1, 0, len(knots) - 2)
    inside = (axis >= knots[0]) & (axis <= knots[-1])
    slope = x * inside * (np.diff(values) / np.diff(knots))[place] / envelope
    drive = np.sign(x) * (level(False) >= loudest)
    return _Level(gain, slope, drive, keeps), gain * x, unexplained


@final
class Dynamics(Modelled):
    """For compressors, limiters, gates and expanders: a gain that follows the level, with an attack and a release.

    Attack, release and the curve from level to gain are fitted to the clip and its output, which takes no renders; one
    random probe corrects what is left, as a slow factor. Unlike `Pointwise` it knows what a sample does to the gain of
    all later ones: small for noise, but most of the gradient for what changes the level of a passage, and for the peaks
    that set off a limiter.

    Args:
        size: of the probe, against the clip's root mean square.
    """

    def __init__(self, size: float = SMALL) -> None:
        super().__init__()
        self.size = size

    def probes(self) -> tuple[Probe, ...]:
        """Random signs."""
        return (Noise(0, self.size),)

    def fit(self, site: Site) -> Model:
        """One stage, or two in a row where those leave clearly less of the output unexplained."""
        x, y, rate = site.x, site.y, site.sample_rate
        first, made, left = _stage(x, y, rate)
        model: Model = first
        if left > _EXACT * np.sqrt(np.mean(np.square(y))):
            second, _, left_by_two = _stage(made, y, rate)
            model = Series((first, second)) if left_by_two < 0.7 * left else first
        u, ju = site[Noise(0, self.size)]
        predicted = model.push(u)
        return Series((model, Gain(ratio(ju * predicted, predicted * predicted, 1024))))

    def extra_repr(self) -> str:
        """The size."""
        return f"size={self.size:g}"
