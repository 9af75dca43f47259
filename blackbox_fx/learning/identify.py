"""Identifies the delay, or the moving filter, of an effect at many settings, and how it follows from the parameters."""

from __future__ import annotations

import dataclasses
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.estimators.audio_rules.probes import Train
from blackbox_fx.learning.clips import ClipStream
from blackbox_fx.learning.families import MOVING, STILL, Family, Probed
from blackbox_fx.learning.laws import find_law, in_units
from blackbox_fx.learning.numbers import Fit, coarse_to_fine, fit_numbers
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy.nets.laws import Law
from blackbox_fx.proxy.nets.modulated import CENTRE, HIGH, LOW, NUMBERS, Modulated
from blackbox_fx.runtime import Job
from blackbox_fx.space import Space

Floats = NDArray[np.float64]
_TRAIN = Train()
_SIZE = 0.25  # of impulses and noise
_SETTINGS, _FIRST, _FEW = 36, 20, 4  # all; those that are searched; those by which nets are compared
_SECONDS, _LISTENED_S = 1.5, 2.5  # of noise, and of an impulse response
_SEARCHED_S = 0.5  # of noise to which guesses are fitted
_PROMISING = 3  # guesses that are fitted further
_LINEAR = 0.02  # largest error of superposition
_STILL = 1e-3  # error of a shift below which nothing moves
_SHORT_S = 0.09  # response of what does not move and is learned as a filter
_TELLING = 0.01  # power of the path against that of the output
_GOOD, _PASSABLE = 0.01, 0.15  # error-to-signal ratios of fits near the truth, and of those that count if these are few
_HOPELESS = -2.5  # mean logarithm of these ratios at a few settings
_WHOLE = 1e-3  # samples that a delay may be off a whole number
_SURE = 1e-6  # relative error of a number at best
_ROUNDS = 2
_SHIFTS = (-0.12, -0.08, -0.04, 0.0, 0.04)  # of ends of a sweep, from which they are fitted; logarithms


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
    still = profile.time_invariant < _STILL
    if not profile.linear < _LINEAR or (still and profile.tail_seconds < _SHORT_S):
        return None
    noise = _SIZE * np.random.default_rng(0).choice((-1.0, 1.0), round(_SECONDS * stream.clips.sample_rate))
    probed = _probe(stream, stream.settings(_SETTINGS, np.random.default_rng([stream.seed, 3])), noise)
    if len(probed) < _FEW:
        return None
    for family in STILL if still else STILL + MOVING:
        found = _Search(family, stream.effect.space, stream.clips.sample_rate, probed, noise).run()
        if found is not None and found.residual < family.enough:
            return found
    return None


def _probe(stream: ClipStream, points: Floats, noise: Floats) -> list[Probed]:
    """The answers at points (n, width), without those that failed or have hardly a path."""
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
        Probed(point, y[0, 0], _TRAIN.read(silence, silence, y[1:] / scale), response.astype(np.float64))
        for point, y, response, fine in zip(points, outputs, responses, ok, strict=True)
        if fine and _is_telling(noise, y[0, 0])
    ]


def _is_telling(noise: Floats, output: Floats) -> bool:
    """Whether the output is more than the noise at another level."""
    dry = (noise @ output) ** 2 / (noise @ noise)
    return bool(dry < (1 - _TELLING) * (output @ output))


@final
class _Search:
    """Looks for a net of a family and its laws: fits at a few settings give first laws, and these all other fits."""

    def __init__(self, family: Family, space: Space, rate: float, probed: list[Probed], noise: Floats) -> None:
        self.family, self.space, self.rate = family, space, rate
        self.probed, self.noise = probed, noise
        self.config: dict[str, Any] = {}

    def run(self) -> Identified | None:
        """The net and its laws; None if the effect is not of this family."""
        fits = self._first_fits()
        laws = self._laws(fits)
        if laws is None:
            return None
        for _ in range(_ROUNDS):
            self._choose_variants(laws)
            fits = self._refitted(laws, fits)
            laws = self._laws(fits) or laws
        self._choose_variants(laws)
        laws = self._ends_fitted(laws)
        residual = float(np.median(self._residuals(self.config, laws)))
        return Identified({"kind": "modulated", **self.config}, tuple(laws), residual)

    def _net(self, config: dict[str, Any]) -> Modulated:
        return Modulated(self.space.width, self.rate, **config)

    def _first_fits(self) -> list[Fit]:
        """Fits at some settings, with the best net of the family; none if it is hopeless."""
        tried = []
        for config in self.family.configs:
            self.config = dict(config)
            fits = [self._searched(probed) for probed in self.probed[:_FEW]]
            worth = float(np.mean([np.log(min(fit.residual, 1.0) + 1e-6) for fit in fits]))
            tried.append((worth, fits, self.config))
        score, fits, self.config = min(tried, key=lambda each: each[0])
        if score > _HOPELESS:
            return []
        return fits + [self._searched(probed) for probed in self.probed[_FEW:_FIRST]]

    def _searched(self, probed: Probed) -> Fit:
        """The best fit from any guess."""
        net, free = self._net(self.config), self.family.free
        guesses = self.family.guesses(probed, self.noise, self.rate)
        if not guesses:
            return Fit(np.zeros(len(NUMBERS)), np.full(len(NUMBERS), np.inf), np.inf)
        if self.family.coarse:
            fits = [coarse_to_fine(net, self.noise, probed.noise, guess, free) for guess in guesses]
        else:
            part = slice(0, round(_SEARCHED_S * self.rate))
            short = [fit_numbers(net, self.noise[part], probed.noise[part], guess, free, 4) for guess in guesses]
            short.sort(key=lambda fit: fit.residual)
            fits = [fit_numbers(net, self.noise, probed.noise, f.numbers, free) for f in short[:_PROMISING]]
        return min(fits, key=lambda fit: fit.residual)

    def _at(self, laws: list[Law]) -> Floats:
        points = np.array([each.point for each in self.probed])
        return np.stack([law.at(points) for law in laws], axis=1)

    def _residuals(self, config: dict[str, Any], laws: list[Law]) -> Floats:
        """Error-to-signal ratios of a net with these laws, at all settings."""
        net, pairs = self._net(config), zip(self.probed, self._at(laws), strict=True)
        return np.array([fit_numbers(net, self.noise, probed.noise, at, ()).residual for probed, at in pairs])

    def _choose_variants(self, laws: list[Law]) -> None:
        """Keeps the variants of the net that do best with the laws as they are."""
        for name, values in self.family.variants.items():
            configs = [self.config | {name: value} for value in values]
            worth = [float(np.median(np.log(self._residuals(config, laws) + 1e-12))) for config in configs]
            self.config = configs[int(np.argmin(worth))]

    def _refitted(self, laws: list[Law], fits: list[Fit]) -> list[Fit]:
        """The fits that begin from the laws, or those before where these are better."""
        net, pairs = self._net(self.config), zip(self.probed, self._at(laws), strict=True)
        new = [fit_numbers(net, self.noise, probed.noise, at, self.family.free) for probed, at in pairs]
        kept = [min(pair, key=lambda fit: fit.residual) for pair in zip(new, fits, strict=False)]
        return kept + new[len(fits) :]

    def _laws(self, fits: list[Fit]) -> list[Law] | None:
        """Laws through the good fits; None if they are too few."""
        order = np.argsort([fit.residual for fit in fits])
        many = self.space.width + _FEW
        good = [k for n, k in enumerate(order) if fits[k].residual < (_PASSABLE if n < many else _GOOD)]
        if len(good) < _FEW:
            return None
        points = np.array([self.probed[k].point for k in good])
        numbers = np.array([fits[k].numbers for k in good])
        errors = np.array([fits[k].errors * np.sqrt(1 + fits[k].residual / _GOOD**2) for k in good])
        # where nothing but an end of the path is heard, that stands for the centre
        errors[np.isinf(errors[:, CENTRE])[:, None] & np.isin(np.arange(len(NUMBERS)), (LOW, HIGH))] = np.inf
        if self.family in STILL:
            self._round_delays(numbers[:, CENTRE], errors[:, CENTRE])
        return [self._law(points, *columns) for columns in zip(numbers.T, errors.T, strict=True)]

    def _ends_fitted(self, laws: list[Law]) -> list[Law]:
        """The laws with other ends of a sweep, which few settings reach, if these do better."""
        net = self._net(self.config)
        for k in (LOW, HIGH) if self.config.get("sections") else ():
            residuals = self._residuals(self.config, laws)
            n = int(residuals.argmax())
            for shift in _SHIFTS:
                start = self._at(laws)[n]
                start[k] += shift
                fit = fit_numbers(net, self.noise, self.probed[n].noise, start, (k,))
                end = Law(np.eye(1, len(laws[k].base))[0] * fit.numbers[k], 1.0, np.zeros(len(laws[k].base)))
                tried = [*laws[:k], end, *laws[k + 1 :]]
                if (now := self._residuals(self.config, tried)).mean() < residuals.mean():
                    laws, residuals = tried, now
        return laws

    def _round_delays(self, delays: Floats, errors: Floats) -> None:
        """Takes delays that are all whole as cut off: those before that are half a sample longer on average."""
        whole = float(np.mean(np.abs(delays - np.round(delays)) < _WHOLE)) > 0.8
        if self.config.get("whole") or whole:
            self.config["whole"] = True
            delays[:] = np.floor(delays + _WHOLE) + 0.5
            errors[:] = 0.3

    def _law(self, points: Floats, values: Floats, errors: Floats) -> Law:
        seen = np.isfinite(errors)
        if seen.sum() <= _FEW:
            one = np.eye(1, points.shape[1] + 1)[0]
            constant = values[int(errors.argmin())] if seen.any() else np.median(values)
            return Law(constant * one, 1.0, 0 * one)
        errors = np.maximum(errors[seen], _SURE * np.abs(values[seen]).max() + 1e-12)
        law = find_law(points[seen], values[seen], errors)
        return in_units(law, self.space, [1.0, self.rate, self.rate / 1000, 0.01])
