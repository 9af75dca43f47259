"""The rule that fits the effect, found by trying."""

from __future__ import annotations

import hashlib
import itertools
import logging
import warnings
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.audio_rules import certificate
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site, visit
from blackbox_fx.estimators.audio_rules.certificate import Certificate
from blackbox_fx.estimators.audio_rules.pointwise import Pointwise
from blackbox_fx.estimators.audio_rules.portfolio import portfolio
from blackbox_fx.estimators.audio_rules.probes import SMALL, Noise, Swell
from blackbox_fx.estimators.base import AudioRule, Call, to_numpy

_log = logging.getLogger("blackbox_fx")
_SETTINGS = 8  # at random, at which an effect is tried, and the settings of up to two items of the call besides
_PEAK = 0.5  # of those clips
_LENGTH = 44100  # samples of the clips it is tried on
_SIZES = (7e-4, SMALL, 6e-3, 2e-2)
_LARGE = 0.3  # size of probes for effects without a derivative
_RANKING = 100  # seeds of the probes: one that ranks, and others that certify
_CERTIFYING = range(101, 109)
_SEGMENT = 512
_WEIGHTS = (100.0, 1.0)  # of noise and of swells
_GOOD, _CLOSE = 0.995, 0.005
_FINALISTS = 7  # rules that are tried at more than two settings


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The cosine of two arrays; 0 where either is nothing."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a.ravel() @ b.ravel()) / norm if norm > 0 and np.isfinite(norm) else 0.0


def _segments(signal: Signal) -> Signal:
    return np.add.reduceat(signal, np.arange(0, signal.shape[-1], _SEGMENT), axis=-1)


def _alike(predicted: Signal, true: Signal, g: Signal) -> float:
    """How nearly two answers have the same inner product with g, segment by segment; 1 is the same.

    An answer of the right size scores its cosine; one of the wrong size less, so that a wire does not pass for a fader.
    """
    a, b = _segments(g * predicted), _segments(g * true)
    power, off = float(np.square(b).sum()), float(np.square(a - b).sum())
    return max(-1.0, 1 - off / (2 * power)) if power > 0 and np.isfinite(off) else 0.0


def rank(model: Model, site: Site, probes: Sequence[Probe], g: Signal) -> float:
    """How well a model predicts the effect's answers to probes that it was not fitted to; 1 is perfect.

    The first probe counts most: the second decides between what is equally right for noise.
    """
    found = [_alike(model.push(u), ju, g) for u, ju in (site[probe] for probe in probes)]
    return float(np.average(found, weights=_WEIGHTS[: len(found)]))


def _best(models: Sequence[Model], site: Site, probe: Probe, g: Signal) -> Model:
    return models[0] if len(models) == 1 else max(models, key=lambda model: rank(model, site, (probe,), g))


def _union(rules: Sequence[Modelled]) -> tuple[Probe, ...]:
    return tuple(dict.fromkeys(probe for rule in rules for probe in rule.probes()))


@final
class Verified(AudioRule):
    """Tries every rule on the effect itself, and goes by the one whose predictions come true.

    On the first backward pass, an effect is rendered with probes on stretches of the very audio, at random settings.
    All rules fit themselves to the same probes; two more rank them, one of noise and one that swells, since what is
    right for noise may be wrong for the level of a passage; and eight more certify the winner: the cosine of its
    gradient to the true one, with an error, in `certificate`. That takes about 50 renders of 1 s at each of 8 settings,
    once: the result is kept in the user's cache under the effect's fingerprint. Where the best rule
    changes with the settings, up to three share one set of probes, and every call picks among them and a plain wire by
    one probe kept aside. Every `recheck` calls the winner is certified again, at the settings that training visits, and
    gives way to a new trial if it has become worse.

    An effect whose answers to small changes are not proportional to them has no derivative (bit crushers, pitch
    shifters, codecs). That is told apart from a lack of rules, and rules are then fitted to larger changes: a smoothed
    gradient.

    Tried before: to blend all rules by least squares on the ranking probe. It gained 0.005 of cosine on average over
    racks of two and three effects, for thirteen times the computing.

    Args:
        threshold: a certified cosine below this is warned about, once.
        recheck: calls between certifications; 0 for none.

    Attributes:
        certificate: what was found, once there was a backward pass; None before.

    Raises:
        ParameterError: a threshold outside [0, 1], or a negative recheck.
    """

    def __init__(self, threshold: float = 0.9, recheck: int = 500) -> None:
        super().__init__()
        if not 0 <= threshold <= 1 or recheck < 0:
            raise ParameterError(
                f"threshold must lie in [0, 1] and recheck be at least 0, got {threshold!r} and {recheck!r}."
            )
        self.threshold, self.recheck = threshold, recheck
        self.certificate: Certificate | None = None
        self._calls = 0

    def vjp(self, call: Call, g: Tensor) -> Tensor:
        """The gradient with respect to audio; see `AudioRule.vjp`."""
        if not len(call.audio):
            return torch.zeros_like(call.audio)
        if self.certificate is None:
            self._certify(call, g, again=False)
        elif self.recheck and self._calls % self.recheck == 0:
            self._certify(call, g, again=True)
        self._calls += 1
        rules = self._chosen
        cotangents = to_numpy(g).astype(np.float64)
        if len(rules) == 1:
            return rules[0].vjp(call, g)
        probe = Noise(_RANKING, self.certificate.size if self.certificate else SMALL)
        pulled = []
        for site, v in zip(visit(call, (*_union(rules), probe)), cotangents, strict=True):
            pulled.append(_best([rule.fit(site) for rule in rules], site, probe, v).pull(v))
        return torch.from_numpy(np.stack(pulled))

    def cost(self, channels: int) -> int:
        """Renders of the chosen rules' probes; before the first backward pass, of the most that may be chosen."""
        if self.certificate is None:
            return max(6, channels + 4)
        rules = self._chosen
        return sum(probe.renders(channels) for probe in _union(rules)) + 2 * (len(rules) > 1)

    @property
    def _chosen(self) -> list[Modelled]:
        return _rules(self.certificate) if self.certificate else []

    def _certify(self, call: Call, g: Tensor, again: bool) -> None:
        trial, v = _trial(call, g, random=not again)
        key = hashlib.blake2b(
            f"{call.effect.fingerprint} {call.sample_rate} {call.audio.shape[1]} "
            f"{[repr(rule) for rule in portfolio()]}".encode(),
            digest_size=12,
        ).hexdigest()
        if not again and (kept := certificate.load(key)) is not None and kept.rules and _rules(kept):
            self.certificate = kept
        elif again and self.certificate is not None:
            cosine, error = _cosine(trial, v, self._chosen, self.certificate.size)
            if cosine >= self.certificate.cosine - 0.1 - error:
                return
            _log.info("%s: the audio rule has fallen to %.3f here; all are tried anew.", call.effect.name, cosine)
            trial, v = _trial(call, g, random=True)
            self.certificate = _choose(trial, v)
            certificate.save(key, self.certificate)
        else:
            self.certificate = _choose(trial, v)
            certificate.save(key, self.certificate)
        _log.info("Audio rule of %s: %s", call.effect.name, self.certificate)
        if self.certificate.cosine < self.threshold and not again:
            warnings.warn(
                f"The audio gradient of {call.effect.name} is uncertain ({self.certificate}); train a proxy of it, or "
                "split a Rack into a Chain.",
                stacklevel=2,
            )

    def extra_repr(self) -> str:
        """What was found."""
        return str(self.certificate or "not tried yet")


def _rules(found: Certificate) -> list[Modelled]:
    return [rule for rule in portfolio(found.size) if repr(rule) in found.rules]


def _trial(call: Call, g: Tensor, random: bool) -> tuple[Call, list[Signal]]:
    """The effect at some settings on stretches of the call's own audio, with the cotangents there."""
    space, batch = call.effect.space, len(call.audio)
    rng = np.random.default_rng(0)
    rows = call.rows[: min(batch, 2)]
    if random:
        rows = np.concatenate([space.snap(space.sample(_SETTINGS, rng)), rows])
    length = min(_LENGTH, call.audio.shape[-1])
    audio, cotangents = to_numpy(call.audio), to_numpy(g)
    cuts, vs = [], []
    for k in range(len(rows)):
        item = k % batch
        power = np.cumsum(np.square(audio[item]).sum(axis=0))
        starts = rng.integers(0, audio.shape[-1] - length + 1, 8)
        start = max(starts, key=lambda s: power[s + length - 1] - power[s])  # somewhere loud
        cut, v = (part[item, :, start : start + length].astype(np.float64) for part in (audio, cotangents))
        if random:
            # what is found must not depend on how loud the first batch happens to be, nor on its first loss
            cut = cut * (_PEAK / np.abs(cut).max()) if np.abs(cut).max() > 1e-9 else _PEAK * _bursts(rng, cut.shape)
            v = v if v.any() else rng.standard_normal(v.shape)
        cuts.append(cut.astype(np.float32))
        vs.append(v)
    clips = torch.from_numpy(np.stack(cuts))
    params = torch.from_numpy(rows).float()
    trial = Call(call.effect, call.pool, call.sample_rate, clips, params, clips)
    wet = torch.from_numpy(trial.respond(clips.numpy(), np.arange(len(rows))))
    return Call(call.effect, call.pool, call.sample_rate, clips, params, wet), vs


def _bursts(rng: np.random.Generator, shape: tuple[int, ...]) -> Signal:
    """Noise that swells and fades, at most 1: what an effect is tried on where there is only silence."""
    noise = rng.uniform(-1, 1, shape)
    return noise * np.interp(
        np.arange(shape[1]) / 4410, np.arange(shape[1] // 4410 + 2), rng.uniform(0, 1, shape[1] // 4410 + 2)
    )


def _choose(trial: Call, vs: list[Signal]) -> Certificate:
    size, heard, doubt = _size(trial, vs)
    rules, probes = portfolio(size), (Noise(_RANKING, size), Swell(_RANKING, size))
    sites = visit(trial, (*_union(rules), *probes))
    scores: dict[str, list[float]] = {repr(rule): [] for rule in rules}

    def score(rule: Modelled, upto: int) -> list[float]:
        """The rule's scores at the first so many sites."""
        own = scores[repr(rule)]
        own += [rank(rule.fit(sites[k]), sites[k], probes, vs[k]) for k in heard[len(own) : upto]]
        return own

    def mean(rule: Modelled) -> float:
        return float(np.mean(scores[repr(rule)] or 0.0))

    for done, rule in enumerate(rules, 1):
        # in this order: what does for some settings only must not end the search
        if heard and done > 1 and all(np.all(np.array(score(rule, n)) > _GOOD - doubt[:n]) for n in (2, len(heard))):
            rules = rules[:done]
            break
    rules = [rule for rule in rules if rule in (rules[0], *sorted(rules, key=mean)[-_FINALISTS:])]
    for rule in rules:
        score(rule, len(heard))
    scores = {repr(rule): scores[repr(rule)] for rule in rules}
    found = {name: np.array(values) for name, values in scores.items()}
    # an effect that puts nothing out: what measures its gain sees that
    chosen = _shortlist(rules, found, doubt, trial.audio.shape[1]) if heard else [Pointwise(1, size)]
    cosine, error = _cosine(trial, vs, chosen, size)
    return Certificate(
        trial.effect.name,
        tuple(repr(rule) for rule in chosen),
        {repr(rule): mean(rule) for rule in rules},
        cosine,
        error,
        size != _LARGE,
        size,
    )


def _size(trial: Call, vs: list[Signal]) -> tuple[float, list[int], NDArray[np.float64]]:
    """The size of change at which answers are most nearly proportional, the sites that answer, and their doubt.

    Rounding hides smaller changes in low filters, curvature bends larger ones in steep distortions. If answers are
    proportional at no size, a large one. The doubt of a site is how far two sizes disagree there, which no rule can do
    better than.
    """
    probes = [Noise(0, size) for size in _SIZES]
    sites = visit(trial, probes)
    pairs = list(itertools.pairwise(probes))
    loud = [k for k, site in enumerate(sites) if np.abs(site[probes[-1]].ju).max() > 1e-7]
    if not loud:
        return SMALL, [], np.zeros(0)
    agreements = np.array([[correlation(sites[k][a].ju, sites[k][b].ju) for k in loud] for a, b in pairs])
    best = int(np.argmax(agreements.mean(axis=1)))
    if np.mean(agreements[best] > 0.8) <= 0.6:
        return _LARGE, loud, np.zeros(len(loud))
    a, b = pairs[best]
    return _SIZES[best], loud, 1 - np.array([_alike(sites[k][a].ju, sites[k][b].ju, vs[k]) for k in loud])


def _shortlist(
    rules: list[Modelled], scores: dict[str, NDArray[np.float64]], doubt: NDArray[np.float64], channels: int
) -> list[Modelled]:
    """The best rule, or up to three and a wire that share six renders, if that is clearly better."""

    def mean(chosen: Sequence[Modelled]) -> float:
        return float(np.max([scores[repr(rule)] for rule in chosen], axis=0).mean())

    def cost(chosen: Sequence[Modelled]) -> int:
        return sum(probe.renders(channels) for probe in _union(chosen))

    best_anywhere = np.max(list(scores.values()), axis=0)
    # effects that do nothing at most settings look like a wire there: what is cheap must do as well at every setting
    close = [r for r in rules[1:] if np.all(best_anywhere - scores[repr(r)] <= 0.01 + doubt)]
    best = min(close, key=lambda r: cost([r])) if close else max(rules, key=lambda r: mean([r]))
    chosen = [best]
    for _ in range(2):
        more = [r for r in rules if r not in chosen and cost([*chosen, r]) + 2 <= max(6, channels + 4)]
        if not more:
            break
        chosen.append(max(more, key=lambda r: mean([*chosen, r])))
    wire = [rules[0]] if rules[0] not in chosen and len(chosen) > 1 else []
    return [*chosen, *wire] if mean([*chosen, *wire]) > mean([best]) + _CLOSE else [best]


def _cosine(trial: Call, vs: list[Signal], rules: Sequence[Modelled], size: float) -> tuple[float, float]:
    """The cosine of the chosen gradient to the true one, from random directions, and its standard error."""
    ranking, certifying = Noise(_RANKING, size), [Noise(seed, size) for seed in _CERTIFYING]
    found, true = [], []
    for site, v in zip(visit(trial, (*_union(rules), ranking, *certifying)), vs, strict=True):
        gradient = _best([rule.fit(site) for rule in rules], site, ranking, v).pull(v)
        products = np.array([((v * site[p].ju).sum(), (gradient * site[p].u).sum()) for p in certifying])
        scale = np.linalg.norm(products[:, 0]) or 1.0
        true.append(products[:, 0] / scale)
        found.append(products[:, 1] / scale)
    cosine = correlation(np.concatenate(found), np.concatenate(true))
    return cosine, (1 - cosine**2) / np.sqrt(len(certifying) * len(found))
