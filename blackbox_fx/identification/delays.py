"""Identifies the delay, or the moving filter, of an effect at many settings, and how it follows from the parameters."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.estimators.audio_rules.probes import Train
from blackbox_fx.identification.families import MOVING, STILL, Family, Probed
from blackbox_fx.identification.growing import FEW, LawSearch
from blackbox_fx.identification.laws import find_law, in_units, physical_law
from blackbox_fx.identification.numbers import Fit, coarse_to_fine, fit_numbers
from blackbox_fx.identification.records import Identified
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.nets import Measured, make_net
from blackbox_fx.proxy.nets.laws import Law
from blackbox_fx.proxy.nets.modulated import CENTRE, DEPTH, HIGH, LOW, NUMBERS, START, Modulated
from blackbox_fx.runtime import Job
from blackbox_fx.space import Space

Floats = NDArray[np.float64]
_TRAIN = Train()
_SIZE = 0.25  # of impulses and noise
_SETTINGS, _COMPARED = 36, 3  # all; those by which nets are compared
_SECONDS, _LISTENED_S = 1.5, 2.5  # of noise, and of an impulse response
_SEARCHED_S = 0.25  # of noise to which guesses are fitted
_TRIED = 3  # guesses that are fitted further
_TELLING = 0.01  # power of the path against that of the output
_GOOD, _PASSABLE = 0.01, 0.15  # error-to-signal ratios of fits near the truth, and of those that count if these are few
_HOPELESS, _CERTAIN = -2.0, -4.0  # mean logarithm of these ratios where nets are compared
_FUTILE = 0.9  # of what the dry sound leaves, above which a net does nothing for an effect
_TELLS = 0.5  # by how much the logarithm of a ratio falls if another variant is right
_BATCHES, _MOST = 3, 0.8  # of clips; part of them for which a net has to be right
_EXACT = 3e-4  # ratio at other settings with which laws are right
_PASSED = 1e-3  # relative distance by which a path is beyond an end
_WHOLE = 1e-3  # samples that a delay may be off a whole number
_SURE = 1e-6  # relative error of a number at best
_SHIFTS = (-0.12, -0.08, -0.04, 0.0, 0.04)  # of ends of a sweep, from which they are fitted; logarithms


def identify_delays(stream: ClipStream, moves: bool) -> Identified | None:
    """The modulated net that a linear effect is, with laws for its numbers; None if it is none.

    Args:
        stream: of the effect.
        moves: whether the effect varies in time.

    Raises:
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    noise = _SIZE * np.random.default_rng(0).choice((-1.0, 1.0), round(_SECONDS * stream.clips.sample_rate))
    probed = _probe(stream, stream.settings(_SETTINGS, np.random.default_rng([stream.seed, 3])), noise)
    if len(probed) < FEW:
        return None
    for family in STILL + MOVING if moves else STILL:
        found = _Search(family, stream.effect.space, stream.clips.sample_rate, probed, noise).run()
        if found is not None and found.residual < family.enough and _holds(found, stream, family):
            return found
    return None


@torch.no_grad()
def _holds(found: Identified, stream: ClipStream, family: Family) -> bool:
    """Whether the net is right for most clips at other settings, also where there is no path."""
    net = make_net(found.config, stream.effect.space.width, stream.clips.sample_rate)
    net.start_from(Measured(torch.zeros(1), found.laws))
    batches = [stream.batch(number) for number in range(_BATCHES)]
    off = torch.cat([esr(net(b.audio, b.params, stream.clips.sample_rate), b.wet) for b in batches])
    return float(off.nan_to_num(nan=np.inf).quantile(_MOST)) < family.enough


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


def _leave_out_ends(numbers: Floats, errors: Floats) -> None:
    """Makes ends unknown that the path passes at other settings: where it stands still, an end is the centre there."""
    for end, sign in ((LOW, 1), (HIGH, -1)):
        free = np.isinf(errors[:, end])
        if free.any():
            reached = np.min(sign * numbers[free, CENTRE] - np.abs(numbers[free, DEPTH]))
            errors[sign * numbers[:, end] > reached + np.abs(reached) * _PASSED, end] = np.inf


@final
class _Search(LawSearch):
    """Compares the nets of a family at a few settings, and looks for the laws of the best one."""

    good, passable, enough = _GOOD, _PASSABLE, _EXACT

    def __init__(self, family: Family, space: Space, rate: float, probed: list[Probed], noise: Floats) -> None:
        self.family, self.space, self.rate = family, space, rate
        self.probed, self.noise = probed, noise
        self.points = np.array([each.point for each in probed])
        self.config: dict[str, Any] = {}

    def run(self) -> Identified | None:
        """The net and its laws; None if the effect is not of this family."""
        if not self._compare():
            return None
        fits: list[Fit] = []
        for k in range(FEW):
            fits.append(self.search(k, self.known(fits)))
        laws = self.grow(fits)
        if not laws:
            return None
        laws = self._ends_fitted(laws)
        residual = float(np.median(self.residuals(self.at(laws))))
        return Identified({"kind": "modulated", **self.config}, tuple(laws), residual)

    def _compare(self) -> bool:
        """Takes the best net of the family; False if it is hopeless."""
        tried: list[tuple[float, dict[str, Any]]] = []
        for config in self.family.configs:
            self.config = dict(config)
            found = np.array([self._promising(k)[0].residual for k in range(_COMPARED)])
            if not tried and np.all(found > _FUTILE * self._dry):
                return False
            tried.append((float(np.mean(np.log(np.minimum(found, 1) + 1e-6))), self.config))
            if tried[-1][0] < _CERTAIN:
                break
        score, self.config = min(tried, key=lambda each: each[0])
        return score < _HOPELESS

    @functools.cached_property
    def _dry(self) -> Floats:
        """What the noise at another level leaves of the outputs by which nets are compared, against their power."""
        wet = np.stack([each.noise for each in self.probed[:_COMPARED]])
        return 1 - (wet @ self.noise) ** 2 / (self.noise @ self.noise) / np.square(wet).sum(axis=1)

    @property
    def net(self) -> Modulated:
        """The net as it is so far."""
        return Modulated(self.space.width, self.rate, **self.config)

    def _promising(self, k: int, known: Sequence[Fit] = ()) -> list[Fit]:
        """Fits from all guesses, to low frequencies first or to a part of the noise, the best first."""
        net, free, probed = self.net, self.family.free, self.probed[k]
        guesses = self.family.guesses(probed, self.noise, self.rate)
        for guess in guesses if len(known) > 1 else ():  # most oscillators start at the same place at all settings
            guess[START] = float(np.median([fit.numbers[START] for fit in known]))
        guesses = list({tuple(guess): guess for guess in guesses}.values())
        part = slice(0, round(_SEARCHED_S * self.rate))
        fits: list[Fit] = []
        for guess in guesses:
            if self.family.coarse:
                fits.append(coarse_to_fine(net, self.noise, probed.noise, guess, free))
            else:
                fits.append(fit_numbers(net, self.noise[part], probed.noise[part], guess, free, 4))
            if fits[-1].residual < self.good:
                break
        nothing = Fit(np.zeros(len(NUMBERS)), np.full(len(NUMBERS), np.inf), np.inf)
        return sorted([*fits, nothing], key=lambda fit: fit.residual)

    def search(self, k: int, known: list[Fit]) -> Fit:
        """See `LawSearch`."""
        found = self._promising(k, () if self.family.coarse else known)
        if self.family.coarse:
            return found[0]
        fits = found[-1:]
        for start in found[: min(_TRIED, len(found) - 1)]:
            fits.append(self.fit(k, start.numbers))
            if fits[-1].residual < self.good:
                break
        return min(fits, key=lambda fit: fit.residual)

    def fit(self, k: int, start: Floats) -> Fit:
        """See `LawSearch`."""
        return fit_numbers(self.net, self.noise, self.probed[k].noise, start, self.family.free)

    def residuals(self, numbers: Floats) -> Floats:
        """Error-to-signal ratios; see `LawSearch`."""
        wet = np.stack([probed.noise for probed in self.probed[: len(numbers)]])
        own = self.net.render(torch.from_numpy(self.noise).float().expand(len(numbers), -1), torch.from_numpy(numbers))
        ratios = np.square(own.numpy() - wet).sum(axis=1) / np.square(wet).sum(axis=1).clip(1e-30)
        return np.nan_to_num(ratios, nan=np.inf).astype(np.float64)

    def choose_variants(self, laws: list[Law], fits: int) -> tuple[bool, list[Law]]:
        """Takes the variants of the net that do best with the laws, once these are nearly right, and fits the ends."""
        before, numbers = self.config, self.at(laws)[:fits]
        for name, values in self._variants.items():
            here, worth = self.config, list[tuple[float, dict[str, Any]]]()
            for self.config in [here, *(here | {name: value} for value in values)]:
                worth.append((float(np.log(self.residuals(numbers).clip(1e-12, 2.0)).mean()), self.config))
                if worth[0][0] > np.log(_PASSABLE):
                    break
            best = min(worth, key=lambda each: each[0])
            self.config = best[1] if best[0] < worth[0][0] - _TELLS else here
        return self.config != before, self._ends_fitted(laws)

    @property
    def _variants(self) -> dict[str, tuple[Any, ...]]:
        return self.family.variants if self.family in MOVING or self.config.get("whole") else {}

    def laws_through(self, points: Floats, fits: list[Fit]) -> list[Law]:
        """See `LawSearch`."""
        numbers = np.array([fit.numbers for fit in fits])
        errors = np.array([fit.errors * np.sqrt(1 + fit.residual / _GOOD**2) for fit in fits])
        # where nothing but an end of the path is heard, that stands for the centre
        errors[np.isinf(errors[:, CENTRE])[:, None] & np.isin(np.arange(len(NUMBERS)), (LOW, HIGH))] = np.inf
        _leave_out_ends(numbers, errors)
        if self.family in STILL:
            self._round_delays(numbers[:, CENTRE], errors[:, CENTRE])
        return [self._law(points, *columns) for columns in zip(numbers.T, errors.T, strict=True)]

    def _ends_fitted(self, laws: list[Law]) -> list[Law]:
        """The laws with other ends of a sweep, which few settings reach, if these do better."""
        net = self.net
        for k in (LOW, HIGH) if self.config.get("sections") else ():
            residuals = self.residuals(self.at(laws))
            if np.median(residuals) > _PASSABLE:
                break
            n = int(residuals.argmax())
            for shift in _SHIFTS:
                start = self.at(laws)[n]
                start[k] += shift
                fit = fit_numbers(net, self.noise, self.probed[n].noise, start, (k,))
                end = Law(np.eye(1, len(laws[k].base))[0] * fit.numbers[k], 1.0, np.zeros(len(laws[k].base)))
                tried = [*laws[:k], end, *laws[k + 1 :]]
                if (now := self.residuals(self.at(tried))).mean() < residuals.mean():
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
        scales = 1.0, self.rate, self.rate / 1000, 0.01
        physical = physical_law(self.space, scales, points[seen], values[seen], errors[seen])
        if physical is not None:
            return physical
        if seen.sum() <= FEW:
            one = np.eye(1, points.shape[1] + 1)[0]
            constant = values[int(errors.argmin())] if seen.any() else np.median(values)
            return Law(constant * one, 1.0, 0 * one)
        errors = np.maximum(errors[seen], _SURE * np.abs(values[seen]).max() + 1e-12)
        return in_units(find_law(points[seen], values[seen], errors), self.space, scales)
