"""A gain that follows the level of the clip itself."""

from __future__ import annotations

from typing import final

import numpy as np

from blackbox_fx.estimators.audio_rules.ballistics import HOPELESS, Level, identify
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.envelopes import smooth, smooth_back
from blackbox_fx.estimators.audio_rules.operators import Gain, Series
from blackbox_fx.estimators.audio_rules.pointwise import ratio
from blackbox_fx.estimators.audio_rules.probes import SMALL, Noise

_EXACT, _GOOD = 1e-4, 3e-3  # of the output: with a smaller residual, a stage needs no correction, or no second stage


@final
class _Level(Model):
    """The derivative of y = x * curve(envelope), through the gain and through the envelope.

    Args:
        x: the input.
        gain: curve(envelope).
        slope: x * curve'(envelope).
        level: the input of the follower.
        keeps: coefficient of the follower at every sample, (channel, time), or (1, time) where channels are linked.
    """

    def __init__(self, x: Signal, gain: Signal, slope: Signal, level: Level, keeps: Signal) -> None:
        self.gain, self.slope, self.keeps, self.squares = gain, slope, keeps, level.keeps
        loudest = level.each >= level.level
        self.drive = np.sign(x) if level.keeps is None else x
        self.share = loudest if level.keeps is None else loudest / level.each

    def _link(self, signal: Signal) -> Signal:
        return signal if len(self.keeps) == len(signal) else signal.sum(axis=0, keepdims=True)

    def push(self, u: Signal) -> Signal:
        """Forwards through both paths."""
        power = self.drive * u if self.squares is None else smooth(self.drive * u, self.squares)
        return self.gain * u + self.slope * smooth(self._link(self.share * power), self.keeps)

    def pull(self, v: Signal) -> Signal:
        """Backwards through both paths."""
        power = self.share * smooth_back(self._link(self.slope * v), self.keeps)
        return self.gain * v + self.drive * (power if self.squares is None else smooth_back(power, self.squares))


def _stage(x: Signal, y: Signal, rate: float) -> tuple[_Level, Signal, float]:
    """The level-dependent gain that turns x into y as well as it can: model, product and residual."""
    found = identify(x, y, rate)
    level = found.times.level(x, rate)
    shared, keeps = found.times.follow(level, rate)
    envelope = np.broadcast_to(shared, x.shape)
    gain, rise = found.curve(envelope)
    return _Level(x, gain, x * rise / envelope, level, keeps), gain * x, found.residual


@final
class Dynamics(Modelled):
    """For compressors, limiters, gates and expanders: a gain that follows the level, with an attack and a release.

    Attack, release and the curve from level to gain are fitted to the clip and its output, which takes no renders. If
    the residual is above 1e-4 of the output, one random probe corrects it by a slow factor. The response of a steep
    gate is out of proportion even for small probes, so only a fit to its output gives its derivative. Unlike
    `Pointwise`, this rule includes the influence of a sample on the gain of all later samples. This is small for noise,
    but it is most of the gradient for changes of the level of a passage, and for peaks that trigger a limiter.

    Args:
        size: of the probe, against the clip's root mean square.
    """

    identifies = True

    def __init__(self, size: float = SMALL) -> None:
        super().__init__()
        self.size = size

    def probes(self) -> tuple[Probe, ...]:
        """Random signs."""
        return (Noise(0, self.size),)

    def fit(self, site: Site) -> Model:
        """One stage, or two in series if their residual is clearly smaller."""
        x, y, rate = site.x, site.y, site.sample_rate
        power = np.sqrt(np.mean(np.square(y)))
        first, made, residual = _stage(x, y, rate)
        if residual <= _EXACT * power:
            first.exact = True
            return first
        model: Model = first
        if _GOOD < residual / (power + 1e-30) < HOPELESS:
            second, _, residual_of_two = _stage(made, y, rate)
            model = Series((first, second)) if residual_of_two < 0.7 * residual else first
        u, ju = site[Noise(0, self.size)]
        predicted = model.push(u)
        return Series((model, Gain(ratio(ju * predicted, predicted * predicted, 1024))))

    def extra_repr(self) -> str:
        """The size."""
        return f"size={self.size:g}"
