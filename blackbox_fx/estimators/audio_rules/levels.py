"""Levels that a gain follows: of single samples, of means of squares, or of powers, and of one or several channels."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple, final

import numpy as np

from blackbox_fx.estimators.audio_rules.envelopes import (
    Floats,
    fall,
    follow,
    running,
    slid,
    slide,
    slide_back,
    smooth,
    smooth_back,
)

OWN, LOUDEST, MEAN = range(3)  # of which channel the level is
_FLOOR = 1e-7  # of levels, and the root of that of powers
_LONGER = 1.02  # of windows, for a derivative by differences


def keep(ms: float, sample_rate: float) -> float:
    """The coefficient of a one-pole follower with this time constant."""
    return float(np.exp(-1000.0 / (ms * sample_rate))) if ms > 0 else 0.0


class Level(NamedTuple):
    """The input of an envelope follower.

    Args:
        level: the momentary level, above 0; (channel, time) or, where channels are linked, (1, time).
        each: the level of every channel.
        link: `OWN`, `LOUDEST` or `MEAN`.
        is_power: whether it is the square of single samples.
        keeps: coefficients of the mean square, or None where there is none.
        samples: of the window of a sliding mean square; 0 where there is none.
    """

    level: Floats
    each: Floats
    link: int = OWN
    is_power: bool = False
    keeps: Floats | None = None
    samples: float = 0.0

    @property
    def is_square(self) -> bool:
        """Whether the level is the root of a mean square, and not that of single samples."""
        return self.keeps is not None or self.samples > 0

    @property
    def share(self) -> Floats:
        """The derivative of the level by that of every channel."""
        if self.link == MEAN:
            return np.full_like(self.each, 1 / len(self.each))
        loudest = self.each >= self.level
        # channels that are equally loud share the gain
        return loudest / loudest.sum(axis=0) if self.link == LOUDEST else loudest.astype(np.float64)

    def push(self, x: Floats, u: Floats) -> Floats:
        """What a change of x does to the level of every channel."""
        if self.is_square:
            return self._mean(x * u) / self.each
        return 2 * x * u if self.is_power else np.sign(x) * u

    def pull(self, x: Floats, v: Floats) -> Floats:
        """The transpose of `push`."""
        if self.is_square:
            return x * self._mean_back(v / self.each)
        return 2 * x * v if self.is_power else np.sign(x) * v

    def _mean(self, signal: Floats) -> Floats:
        """The mean over time that the square undergoes."""
        return slide(signal, self.samples) if self.keeps is None else smooth(signal, self.keeps)

    def _mean_back(self, signal: Floats) -> Floats:
        return slide_back(signal, self.samples) if self.keeps is None else smooth_back(signal, self.keeps)


@final
@dataclasses.dataclass(frozen=True)
class Times:
    """Time constants of an envelope follower, in ms, and what level it follows.

    Args:
        attack: while the level rises.
        release: while the level falls.
        link: `OWN`, or that all channels get the gain of the `LOUDEST` or of the `MEAN` level.
        window: 0 if the level is that of single samples. Otherwise the level is the root of a mean square that rises at
            once and falls with this time constant.
        sliding: whether it is the mean over a window of this length instead.
        power: whether the level of single samples is their square.
    """

    attack: float
    release: float
    link: int = OWN
    window: float = 0.0
    sliding: bool = False
    power: bool = False

    @property
    def instant(self) -> Times:
        """The same level without a follower."""
        return dataclasses.replace(self, attack=0.0, release=0.0)

    def level(self, x: Floats, rate: float) -> Level:
        """The level of a clip (channel, time)."""
        each, keeps, samples = (np.square(x) + _FLOOR**2 if self.power else np.abs(x)), None, 0.0
        if self.window and self.sliding:
            samples = self.samples(rate)
            each = np.sqrt(np.maximum(slide(np.square(x), samples), 0.0))
        elif self.window:
            mean, keeps = follow(np.square(x), 0.0, keep(self.window, rate))
            each = np.sqrt(mean)
        if not self.power:
            each = each + _FLOOR
        return Level(self.linked(each), each, self.link, self.power, keeps, samples)

    def samples(self, rate: float) -> float:
        """Of a sliding window."""
        return max(1.0, 1e-3 * self.window * rate)

    def linked(self, each: Floats) -> Floats:
        """The level of those of all channels; (channel, time) or (1, time)."""
        if self.link == OWN:
            return each
        return (each.max if self.link == LOUDEST else each.mean)(axis=0, keepdims=True)

    def follow(self, level: Level, rate: float) -> tuple[Floats, Floats]:
        """The envelope, and the coefficient of the follower at every sample."""
        return follow(level.level, keep(self.attack, rate), keep(self.release, rate))

    @property
    def logs(self) -> Floats:
        """Logarithms of attack, release and, where there is one, window."""
        return np.log([max(self.attack, 0.01), self.release, *([self.window] if self.window else [])])

    def at(self, logs: Floats) -> Times:
        """With the times that `logs` gives."""
        times = np.exp(np.clip(logs, -7, 9)).tolist()
        return dataclasses.replace(self, attack=times[0], release=times[1], window=times[2] if self.window else 0.0)


@final
class Windows:
    """The levels of a clip over windows of many lengths, which share its squares and their sums.

    Args:
        x: the clip, (channel, time).
        rate: in Hz.
    """

    def __init__(self, x: Floats, rate: float) -> None:
        self._x, self._rate = x, rate

    @functools.cached_property
    def _powers(self) -> Floats:
        return np.square(self._x)

    @functools.cached_property
    def _sums(self) -> Floats:
        return running(self._powers)

    def level(self, times: Times) -> Floats:
        """That of `Times.level`, (channel, time) or (1, time)."""
        if not times.window:
            return times.level(self._x, self._rate).level
        mean = slid(self._sums, times.samples(self._rate)) if times.sliding else self._fallen(times)[0]
        return times.linked(_roots(mean))

    def moved(self, times: Times) -> tuple[Floats, Floats]:
        """The level, and its derivative by the logarithm of the window."""
        if times.sliding:
            level = self.level(times)
            longer = self.level(dataclasses.replace(times, window=times.window * _LONGER))
            return level, (longer - level) / np.log(_LONGER)
        mean, moves = self._fallen(times)
        each = _roots(mean)
        moves /= 2 * each
        if times.link == LOUDEST:
            moves = np.take_along_axis(moves, each.argmax(axis=0)[None], axis=0)
        elif times.link == MEAN:
            moves = moves.mean(axis=0, keepdims=True)
        return times.linked(each), moves

    def _fallen(self, times: Times) -> tuple[Floats, Floats]:
        return fall(self._powers, keep(times.window, self._rate))


def _roots(mean: Floats) -> Floats:
    """The levels of means of squares, in their place."""
    np.sqrt(np.maximum(mean, 0.0, out=mean), out=mean)
    mean += _FLOOR
    return mean
