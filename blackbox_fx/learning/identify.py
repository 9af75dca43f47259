"""Identifies the delay, or the moving filter, of an effect at many settings, and how it follows from the parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.estimators.audio_rules.modulated_delay import oscillator, sightings
from blackbox_fx.estimators.audio_rules.moving_filter import cycle
from blackbox_fx.estimators.audio_rules.probes import Echoes, Train
from blackbox_fx.learning.clips import ClipStream
from blackbox_fx.learning.laws import find_law, in_units
from blackbox_fx.learning.numbers import BACK, CENTRE, DEPTH, HIGH, LOW, POLE, RATE, START, Fit, coarse_to_fine, fit_numbers
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy.nets.laws import Law
from blackbox_fx.proxy.nets.modulated import NUMBERS, Modulated
from blackbox_fx.runtime import Job

Floats = NDArray[np.float64]
_TRAIN = Train()
_SIZE = 0.25  # of impulses and noise
_FIRST, _SETTINGS = 20, 36  # settings that are searched, and all
_SECONDS, _LISTENED_S = 1.5, 2.5  # of noise, and of an impulse response
_SEARCHED_S = 0.5  # of noise to which guesses are fitted
_LINEAR = 0.02  # largest error of superposition
_STILL = 1e-3  # error of a shift below which nothing moves
_GOOD = 0.01  # error-to-signal ratio of a fit that is near the truth
_USABLE = 0.15  # median of a net that is worth starting from
_NEAR = 24  # samples after an impulse that belong to the dry path
_TELLING = 0.01  # power of the path against that of the output
_HOPELESS = -2.5  # mean logarithm of the error-to-signal ratio at a few settings
_FEW = 4  # settings by which variants are compared


class Probed(NamedTuple):
    """What an effect answers at one setting.

    Args:
        point: (width,).
        noise: its output for the noise, (time,).
        echoes: of impulses.
        response: to one impulse, (time,).
    """

    point: Floats
    noise: Floats
    echoes: Echoes
    response: Floats


@final
@dataclasses.dataclass(frozen=True)
class Identified:
    """A net that was identified.

    Args:
        config: of the net, as `make_net` takes it.
        laws: of its numbers.
        residual: median error-to-signal ratio for white noise.
    """

    config: dict[str, Any]
    laws: tuple[Law, ...]
    residual: float


def identify(stream: ClipStream, profile: Profile) -> Identified | None:
    """The modulated net that an effect is, with laws for its numbers; None if it is none.

    Args:
        stream: of the effect.
        profile: of the effect.

    Raises:
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    if not profile.linear < _LINEAR:
        return None
    noise = _SIZE * np.random.default_rng(0).choice((-1.0, 1.0), round(_SECONDS * stream.clips.sample_rate))
    points = stream.settings(_SETTINGS, np.random.default_rng([stream.seed, 3]))
    probed = _probe(stream, points, noise)
    still = profile.time_invariant < _STILL
    for family in (_StillDelay(), *(() if still else (_MovingDelay(), _Phaser()))):
        found = _Search(family, stream, probed, noise).run()
        if found is not None and found.residual < family.enough:
            return found
    return None


def _probe(stream: ClipStream, points: Floats, noise: Floats) -> list[Probed]:
    rate = stream.clips.sample_rate
    silence = np.zeros((1, len(noise)))
    trains = _TRAIN.inputs(silence)
    scale = _SIZE / trains.max()
    inputs = np.concatenate([noise[None, None], trains * scale]).astype(np.float32)
    each = len(inputs)
    items = np.tile(np.arange(each), len(points))
    job = Job(stream.effect, inputs, np.repeat(points, each, 0), items, rate)
    outputs = stream.pool.map(job).astype(np.float64).reshape(-1, each, *silence.shape)
    responses, ok = stream.respond(points, round(_LISTENED_S * rate))
    ok &= ~job.failed.reshape(-1, each).any(axis=1)
    return [
        Probed(point, y[0, 0], _TRAIN.read(silence, silence, y[1:] / scale), h.astype(np.float64))
        for point, y, h, fine in zip(points, outputs, responses, ok, strict=True)
        if fine and _telling(noise, y[0, 0])
    ]


def _telling(noise: Floats, output: Floats) -> bool:
    """Whether the output is more than the noise at another level."""
    dry = (noise @ output) ** 2 / (noise @ noise)
    return dry < (1 - _TELLING) * (output @ output)


class _Family:
    """Effects with the same net, but for variants, and where to begin with their numbers."""

    configs: list[dict[str, Any]]
    variants: dict[str, tuple[Any, ...]]
    free: list[int]
    smooth = False  # whether low frequencies are fitted first
    enough = 0.03  # median error-to-signal ratio with which no other net is better

    def guesses(self, probed: Probed, rate: float) -> Iterator[Floats]:
        """Numbers to begin with."""
        raise NotImplementedError


@final
class _StillDelay(_Family):
    configs = [{"moves": False, "lag": lag} for lag in (0, 1)]
    variants = {}
    enough = 1e-3  # a filter is learnt as well
    free = [0, 1, BACK, POLE, CENTRE]

    def guesses(self, probed: Probed, rate: float) -> Iterator[Floats]:
        h = probed.response
        top = _NEAR + int(np.abs(h[_NEAR:]).argmax())
        near = slice(max(top - 2, 0), top + 3)
        wet, echo = h[near].sum(), h[2 * top - 2 : 2 * top + 4].sum()
        centre = float(top)
        back = float(np.clip(echo / wet, -0.95, 0.95)) if abs(wet) > 1e-6 else 0.0
        for pole in (0.0, 0.5):
            yield np.array([h[0], wet, back, pole, centre, 0.0, 0.0, 0.0, 1.0, 1e9])


@final
class _MovingDelay(_Family):
    configs = [{"lag": lag} for lag in (0, 1)]
    variants = {"single": (False, True)}
    free = [0, 1, BACK, CENTRE, DEPTH, RATE, START, LOW]
    smooth = True

    def guesses(self, probed: Probed, rate: float) -> Iterator[Floats]:
        when, delays = sightings(probed.echoes)
        found = oscillator(when, delays, len(probed.noise), None) if len(when) >= 8 else None
        if found is None:
            return
        cosine, sine = found.weights[1], found.weights[4]
        depth, start = np.hypot(cosine, sine), np.arctan2(cosine, sine) / (2 * np.pi) % 1
        moving = [found.weights[0], depth, found.frequency * rate, start, max(found.floor, 1.0), 1e9]
        for back in (0.0, 0.5, -0.5):
            yield np.array([0.5, 0.5, back, 0.0, *moving])


@final
class _Phaser(_Family):
    configs = [{"sections": sections} for sections in (2, 4, 6, 8, 10, 12)]
    variants = {"hold": (1, 2, 4, 8, 16, 32, 64), "single": (False, True)}
    free = [0, 1, BACK, CENTRE, DEPTH, RATE, START, LOW, HIGH]

    def guesses(self, probed: Probed, rate: float) -> Iterator[Floats]:
        found = cycle(probed.echoes, len(probed.noise)) * rate
        rates = [found] if found * _SECONDS > 1 else [0.1, 0.4]
        for hz in rates:
            for centre in (400.0, 2000.0, 7000.0):
                for start in (0.0, 0.25, 0.5, 0.75):
                    ends = np.log([30.0, 0.49 * rate])
                    yield np.array([0.5, 0.5, 0.0, 0.0, np.log(centre), 0.7, hz, start, *ends])


@final
class _Search:
    """The fits of a family at all settings, and their laws."""

    def __init__(self, family: _Family, stream: ClipStream, probed: list[Probed], noise: Floats) -> None:
        self.family, self.space, self.rate = family, stream.effect.space, stream.clips.sample_rate
        self.probed, self.noise = probed, noise
        self.config: dict[str, Any] = {}

    def net(self, config: dict[str, Any]) -> Modulated:
        return Modulated(self.space.width, self.rate, **config)

    def run(self) -> Identified | None:
        """The net and its laws; None if the family is another."""
        fits = self.first()
        laws = self.laws(fits)
        if laws is None:
            return None
        for _ in range(2):
            self.choose_variants(laws)
            fits = self.refitted(laws, fits)
            laws = self.laws(fits) or laws
        self.choose_variants(laws)
        residual = float(np.median(self.residuals(self.config, laws)))
        print(type(self.family).__name__, self.config, residual, [f"{f.residual:.1e}" for f in fits])
        for name, law in zip(NUMBERS, laws): print("  ", name, "%.1e" % law.spread, np.round(law.base, 5), law.power, np.round(law.exponent, 5))
        return Identified({"kind": "modulated", **self.config}, tuple(laws), residual)

    def first(self) -> list[Fit]:
        """Fits at some settings, with the best of the family's nets."""
        few = self.probed[:_FEW]
        tried = []
        for config in self.family.configs:
            self.config = dict(config)
            fits = [self.searched(probed) for probed in few]
            tried.append((float(np.mean([np.log(fit.residual + 1e-6) for fit in fits])), fits, self.config))
            print(config, tried[-1][0])
        score, fits, self.config = min(tried, key=lambda each: each[0])
        if score > _HOPELESS:
            return []
        return fits + [self.searched(probed) for probed in self.probed[_FEW:_FIRST]]

    def residuals(self, config: dict[str, Any], laws: list[Law]) -> Floats:
        """Error-to-signal ratios at all settings, of a net with these laws."""
        net = self.net(config)
        pairs = zip(self.probed, self.at(laws), strict=True)
        return np.array([fit_numbers(net, self.noise, one.noise, start, []).residual for one, start in pairs])

    def choose_variants(self, laws: list[Law]) -> None:
        """Keeps those variants with which laws that are the same for all do best."""
        def worth(config: dict[str, Any]) -> float:
            return float(np.median(np.log(self.residuals(config, laws) + 1e-12)))

        for name, values in self.family.variants.items():
            configs = [self.config | {name: value} for value in values]
            self.config = min(configs, key=worth)
            print([worth(c) for c in configs], self.config)

    def searched(self, probed: Probed) -> Fit:
        """The best of the fits from all guesses at a setting."""
        net = self.net(self.config)
        guesses = list(self.family.guesses(probed, self.rate))
        if not guesses:
            return Fit(np.zeros(len(NUMBERS)), np.full(len(NUMBERS), np.inf), np.inf)
        if self.family.smooth:
            fits = [coarse_to_fine(net, self.noise, probed.noise, guess, self.family.free) for guess in guesses]
            return min(fits, key=lambda each: each.residual)
        part = slice(0, round(_SEARCHED_S * self.rate))
        fits = [fit_numbers(net, self.noise[part], probed.noise[part], guess, self.family.free, 4) for guess in guesses]
        fits = sorted(fits, key=lambda each: each.residual)[:3]
        fits = [fit_numbers(net, self.noise, probed.noise, fit.numbers, self.family.free) for fit in fits]
        return min(fits, key=lambda each: each.residual)

    def at(self, laws: list[Law]) -> Floats:
        points = np.array([each.point for each in self.probed])
        return np.stack([law.at(points) for law in laws], axis=1)

    def refitted(self, laws: list[Law], fits: list[Fit]) -> list[Fit]:
        net = self.net(self.config)
        starts = self.at(laws)
        new = [fit_numbers(net, self.noise, one.noise, start, self.family.free) for one, start in zip(self.probed, starts)]
        return [min(pair, key=lambda fit: fit.residual) for pair in zip(new, fits)] + new[len(fits):]

    def laws(self, fits: list[Fit]) -> list[Law] | None:
        order = np.argsort([fit.residual for fit in fits])
        good = [k for n, k in enumerate(order) if fits[k].residual < (_GOOD if n > self.space.width + 3 else _USABLE)]
        if len(good) < _FEW:
            return None
        points = np.array([self.probed[k].point for k in good])
        numbers = np.array([fits[k].numbers for k in good])
        errors = np.array([fits[k].errors * np.sqrt(1 + fits[k].residual / 1e-4) for k in good])
        scales = [1.0, self.rate, self.rate / 1000, 0.01]
        centres = numbers[:, CENTRE]
        if self.config.get("whole") or (np.mean(np.abs(centres - np.round(centres)) < 1e-3) > 0.8 and not self.family.smooth):
            self.config["whole"] = True
            # a delay that is cut off to whole samples is half a sample longer on average
            numbers[:, CENTRE], errors[:, CENTRE] = np.floor(centres + 1e-3) + 0.5, 0.3
        return [self.law(points, *columns, scales) for columns in zip(numbers.T, errors.T, strict=True)]

    def law(self, points: Floats, values: Floats, errors: Floats, scales: list[float]) -> Law:
        seen = np.isfinite(errors)
        if seen.sum() <= _FEW:
            one = np.eye(1, points.shape[1] + 1)[0]
            return Law(values[int(errors.argmin())] * one, 1.0, 0 * one)
        errors = np.maximum(errors[seen], 1e-6 * np.abs(values[seen]).max() + 1e-12)
        return in_units(find_law(points[seen], values[seen], errors), self.space, scales)
