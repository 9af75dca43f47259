"""A gain that follows the level of the clip itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np

from blackbox_fx.effects.request import AUDIO
from blackbox_fx.estimators.audio_rules.ballistics import EXACT, HOPELESS, Clip, Fit, Found
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.curves import Hinge
from blackbox_fx.estimators.audio_rules.envelopes import smooth, smooth_back
from blackbox_fx.estimators.audio_rules.levels import Level, Times
from blackbox_fx.estimators.audio_rules.memory import Memory, Outcome
from blackbox_fx.estimators.audio_rules.operators import Gain, Mean, Series
from blackbox_fx.estimators.audio_rules.pointwise import ratio
from blackbox_fx.estimators.audio_rules.probes import SMALL, Noise

_PATIENCE, _HOPEFUL = 12, 0.25  # searches from nothing, and the share that must succeed for more of them
_CLOSE = 0.1  # of each parameter's range: so near to a setting without a hinge, there is no search from nothing
_SEEN = 0.5  # weight of a threshold that is on both sides of the clip's level
_FAINT = 1e-3  # of the loudest: silence, for a key
_GOOD = 3e-3  # of the output: with a smaller residual, there is no second stage


@final
class _Level(Model):
    """The derivative of y = x * curve(envelope), through the gain and through the envelope.

    Args:
        key: what the follower follows: x, or a key input.
        gain: curve(envelope).
        slope: x * curve'(envelope).
        level: the input of the follower, of the key.
        keeps: coefficient of the follower at every sample, (channel, time), or (1, time) where channels are linked.
        direct: whether key is x, so that the gain acts on it, too.
    """

    def __init__(
        self, key: Signal, gain: Signal, slope: Signal, level: Level, keeps: Signal, direct: bool = True
    ) -> None:
        self.gain, self.slope, self.keeps, self.level, self.direct = gain, slope, keeps, level, direct
        self.key, self.share = key, level.share

    def _link(self, signal: Signal) -> Signal:
        return signal if len(self.keeps) == len(signal) else signal.sum(axis=0, keepdims=True)

    def push(self, u: Signal) -> Signal:
        """Forwards through both paths."""
        moved = self.slope * smooth(self._link(self.share * self.level.push(self.key, u)), self.keeps)
        return self.gain * u + moved if self.direct else moved

    def pull(self, v: Signal) -> Signal:
        """Backwards through both paths."""
        moved = self.level.pull(self.key, self.share * smooth_back(self._link(self.slope * v), self.keeps))
        return self.gain * v + moved if self.direct else moved


@final
class _Seeker:
    """Looks for a level-dependent gain, from those that were found for the effect at other settings."""

    def __init__(self) -> None:
        self._hinges, self._others = Memory(), Memory()
        self._searches, self._successes = 0, 0

    def claim(self, *owner: object) -> None:
        """Forgets what was found for another effect."""
        if self._hinges.claim(*owner) | self._others.claim(*owner):
            self._searches, self._successes = 0, 0

    def seek(self, clip: Clip, point: Signal | None) -> Found:
        """The gain of a clip at a setting; if that is None, from nothing."""
        best = clip.flat()  # as of an open gate, which says nothing of its threshold
        if point is None:
            return best if _exact(best, clip) else clip.anywhere()
        for attempt in self._known(clip, point):
            if _exact(best, clip):
                break
            best = min(best, attempt(), key=lambda one: one.residual)
        soft = best.residual < _GOOD * clip.size and not isinstance(best.curve, Hinge)
        if not (soft or _exact(best, clip) or self._is_vain(point)):
            best = min(best, self._from_nothing(clip, point), key=lambda one: one.residual)
        if isinstance(best.curve, Hinge) and best.weights[0] > _SEEN and _exact(best, clip):
            kind, hinge = _kind(best.times), np.array(best.curve)
            self._hinges.add(Outcome(point, kind, _scaled(np.concatenate([hinge, best.times.logs])), best.weights))
        return best

    def _known(self, clip: Clip, point: Signal) -> list[Callable[[], Found]]:
        """Attempts from what was found at the nearest settings."""
        attempts = list[tuple[float, Callable[[], Found]]]()
        expected, hinge, other = self._hinges.expected(point), self._hinges.nearest(point), self._others.nearest(point)
        if expected is not None and hinge is not None:
            numbers, like, free = _unscaled(expected.vector), Times(0.0, 0.0, *expected.kind), expected.free
            attempts.append((hinge.away(point), lambda: clip.near(numbers, like, free)))
        if other is not None:
            attempts.append((other.away(point), lambda: clip.curve(other.kind)))
        return [attempt for _, attempt in sorted(attempts, key=lambda pair: pair[0])]

    def _is_vain(self, point: Signal) -> bool:
        """Whether searches from nothing have failed near here, or often."""
        other = self._others.nearest(point)
        hopeless = self._searches >= _PATIENCE and self._successes < _HOPEFUL * self._searches
        return other is not None and (hopeless or other.away(point) < _CLOSE)

    def _from_nothing(self, clip: Clip, point: Signal) -> Found:
        found = clip.anywhere()
        exact = _exact(found, clip)
        self._searches += 1
        self._successes += exact
        if not exact or not isinstance(found.curve, Hinge) or found.weights[0] <= _SEEN:
            self._others.add(Outcome(point, found.times, np.zeros(0), np.zeros(0)))
        return found


def _kind(times: Times) -> tuple[int, bool, bool, bool]:
    """Which level is followed, as `Times` take it."""
    return times.link, times.window > 0, times.sliding, times.power


def _exact(found: Found, clip: Clip) -> bool:
    return found.residual < EXACT * clip.size


def _scaled(numbers: Signal) -> Signal:
    """With slopes, which reach from 0 to 100, by their inverse sinh."""
    return np.concatenate([numbers[:2], np.arcsinh(numbers[2:4]), numbers[4:]])


def _unscaled(numbers: Signal) -> Fit:
    return Fit.guess(np.concatenate([numbers[:2], np.sinh(np.clip(numbers[2:4], -7, 7)), numbers[4:]]))


def _stage(clip: Clip, seeker: _Seeker, point: Signal | None) -> tuple[_Level, Signal, float]:
    """The level-dependent gain that suits a clip best: model, product and residual."""
    found, x, rate = seeker.seek(clip, point), clip.x, clip.rate
    level = found.times.level(clip.key, rate)
    shared, keeps = found.times.follow(level, rate)
    envelope = np.broadcast_to(shared, x.shape)
    gain, rise = found.curve(envelope)
    if clip.key is not clip.x:  # what the fit left would be amplified where there is nothing
        envelope = np.maximum(envelope, _FAINT ** (1 + level.is_power) * envelope.max())
        rise = found.curve(envelope)[1]
    return _Level(clip.key, gain, x * rise / envelope, level, keeps, clip.key is x), gain * x, found.residual


@final
class Dynamics(Modelled):
    """For compressors, limiters, gates and expanders: a gain that follows the level, with an attack and a release.

    Attack, release and the curve from level to gain are fitted to the clip and its output, which takes no renders. The
    search begins at what was found for the effect at other settings, whose regression soon says what to expect. If
    the residual is above 1e-4 of the output, one random probe corrects it by a slow factor. The response of a steep
    gate is out of proportion even for small probes, so only a fit to its output gives its derivative. Unlike
    `Pointwise`, this rule includes the influence of a sample on the gain of all later samples. This is small for noise,
    but it is most of the gradient for changes of the level of a passage, and for peaks that trigger a limiter.

    The level may be that of a key input, of one channel or of as many as the audio: for the gradient of the key input,
    and for that of the audio, which then passes through the gain alone.

    Args:
        size: of the probe, against the clip's root mean square.
    """

    identifies = True
    any_channels = True

    def __init__(self, size: float = SMALL) -> None:
        super().__init__()
        self.size = size
        self._seekers = _Seeker(), _Seeker()

    def probes(self) -> tuple[Probe, ...]:
        """Random signs."""
        return (Noise(0, self.size),)

    def fit(self, site: Site) -> Model:
        """One stage, or two in series if their residual is clearly smaller."""
        y, rate = site.y, site.sample_rate
        for seeker in self._seekers:
            seeker.claim(site.effect, rate)
        power = np.sqrt(np.mean(np.square(y)))
        if AUDIO in site.inputs:
            return self._by_key(site)
        passed, residual_by_key = self._passed(site)
        if passed.exact:
            return passed
        first, made, residual = _stage(Clip(site.x, y, rate), self._seekers[0], site.point)
        if residual <= EXACT * power:
            first.exact = True
            return first
        if residual_by_key < residual:
            return self._corrected(passed, site)
        model: Model = first
        if _GOOD < residual / (power + 1e-30) < HOPELESS:
            second, _, residual_of_two = _stage(Clip(made, y, rate), self._seekers[1], site.point)
            model = Series((first, second)) if residual_of_two < 0.7 * residual else first
        return self._corrected(model, site)

    def _corrected(self, model: Model, site: Site) -> Model:
        """The model times a slow factor that suits the probe."""
        u, ju = site[Noise(0, self.size)]
        predicted = model.push(u)
        return Series((model, Gain(ratio(ju * predicted, predicted * predicted, 1024))))

    def _scaled(self, model: Model, site: Site) -> Model:
        """The model times one factor that suits the probe: noise on a key says too little for a slow one."""
        u, ju = site[Noise(0, self.size)]
        predicted = model.push(u)
        power = float(np.vdot(predicted, predicted))
        factor = float(np.vdot(predicted, ju)) / power if power > 0 else 1.0
        return Series((model, Gain(np.full_like(predicted, factor))))

    def _by_key(self, site: Site) -> Model:
        """A gain of other audio that follows the level of the clip, or of the mean of its channels."""
        dry = site.inputs[AUDIO]
        if len(dry) != len(site.y):
            return Gain(np.zeros_like(site.y))
        found = list[tuple[float, bool, Model]]()
        mean = site.x.mean(axis=0, keepdims=True)
        for key, seeker in zip((site.x, mean)[: len(site.x)], self._seekers, strict=False):
            clip = Clip(dry, site.y, site.sample_rate, key)
            model, _, residual = _stage(clip, seeker, site.point)
            whole = Series((Mean(len(site.x)), model)) if len(key) < len(site.x) else model
            if residual <= EXACT * clip.size:
                whole.exact = True
                return whole
            found.append((residual, model.level.is_square, whole))
        _, is_mean, best = min(found, key=lambda one: one[0])
        return best if is_mean else self._scaled(best, site)  # noise hardly moves a mean

    def _passed(self, site: Site) -> tuple[Gain, float]:
        """The gain of audio whose gain follows a further input, and its residual, infinite where there is none."""
        best, least = Gain(np.ones_like(site.y)), np.inf
        for key in site.inputs.values():
            if len(site.x) == len(site.y) and len(key) in (1, len(site.y)) and key.any():
                clip = Clip(site.x, site.y, site.sample_rate, key)
                model, _, residual = _stage(clip, self._seekers[0], site.point)
                if residual < least:
                    best, least = Gain(model.gain), residual
                    best.exact = residual <= EXACT * clip.size
        return best, least

    def extra_repr(self) -> str:
        """The size."""
        return f"size={self.size:g}"
