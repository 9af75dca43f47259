"""Chooses the audio rules that suit an effect, by how well they predict its answers at the sites of a trial."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects.request import AUDIO
from blackbox_fx.estimators.audio_rules.base import Modelled, Probe, Signal, Site, visit
from blackbox_fx.estimators.audio_rules.certificate import Certificate
from blackbox_fx.estimators.audio_rules.certifying import certify, correlation
from blackbox_fx.estimators.audio_rules.pointwise import Pointwise
from blackbox_fx.estimators.audio_rules.portfolio import portfolio
from blackbox_fx.estimators.audio_rules.probes import SMALL, Noise, Swell
from blackbox_fx.estimators.audio_rules.ranking import RANKING, alike, cost, rank
from blackbox_fx.estimators.call import Call

# What changing each does to the cosine at settings that the trial has not seen, over single effects and racks of two.
# "The same" means a change of less than 0.003.
_SIZES = (7e-4, SMALL, 6e-3, 2e-2)  # from what float32 resolves to what bends steep curves
_KEY_SIZE = 6e-2  # for a key; sc3 answers at 2e-2 and 6e-2 alike (.99), and at 2e-3 by rounding alone (.58)
_LARGE = 0.3  # size of probes for effects without a derivative
_GOOD, _CLOSE = (
    0.995,
    0.005,
)  # 0.97 and 0.9999 are the same; without a margin a phaser loses 0.03, with 0.03 a rack 0.02
_SURE = 0.95  # mean score of a rule that needs no wire as an alternative; 0.8 and 1 are the same
_MOSTLY = 0.5  # share of settings where a model must be exact to be chosen without further trial; 0.2 is the same
_TRIVIAL = 0.998  # score of a wire where an effect does next to nothing; 0.9 and 1 are the same
_ABLE, _SLACK = 0.05, 0.02  # below the best mean, and below the best at any setting; 0.2 and 0 are the same
_FEW = 3  # sites at which all rules are tried; 2 and 5 are the same
_LEADERS = 4  # rules that are tried at all sites; 2 are the same, 8 cost more and a phaser 0.03
_DOUBT = 0.1  # at most, for a rule to be taken before others are tried; else ZamCompX2 is taken for a filter, at 0.47
_TOGETHER = 3  # rules that may share their probes, as many as are affordable


def chosen_rules(found: Certificate) -> list[Modelled]:
    """The rules that a certificate names, as far as they are known."""
    return [rule for rule in portfolio(found.size) if repr(rule) in found.rules]


def choose(trial: Call, vs: list[Signal], progress: Progress = quiet) -> tuple[Certificate, list[Modelled]]:
    """Tries all rules at the sites of a trial, and certifies the best; these have kept what they found there."""
    scores = _Scores(trial, vs)
    size, active, doubt = _size(scores)
    scores.begin(active, size)
    rules = [rule for rule in portfolio(size) if rule.any_channels or len(trial.audio[0]) == len(trial.output[0])]
    tried, identified = _try_in_order(rules, scores, doubt, progress)
    found = {repr(rule): scores.all(rule) for rule in tried}
    chosen: list[Modelled]
    if identified:
        chosen = [tried[-1]]
    elif active:
        chosen = _shortlist(tried, found, doubt, trial.audio.shape[1], AUDIO in trial.effect.inputs)
    else:
        chosen = [Pointwise(1, size)]  # it measures a gain, so it sees that the effect puts nothing out
    chosen = _add_solver(chosen, tried, scores, trial.audio.shape[1])
    cosine, error = certify(trial, vs, chosen, size)
    certificate = Certificate(
        trial.effect.name,
        tuple(repr(rule) for rule in chosen),
        {name: float(np.mean(own)) if len(own) else 0.0 for name, own in found.items()},
        cosine,
        error,
        size != _LARGE,
        size,
    )
    return certificate, chosen


@final
class _Scores:
    """How well rules predict the effect at the sites of a trial; probes are made, and models fitted, when needed.

    Args:
        trial: the effect at some settings.
        cotangents: at each site.
    """

    def __init__(self, trial: Call, cotangents: Sequence[Signal]) -> None:
        self.trial, self.cotangents = trial, cotangents
        self.active: list[int] = []
        self._sites = visit(trial, ())
        self._ranking: tuple[Probe, ...] = ()
        self._scores: dict[Modelled, list[tuple[float, bool]]] = {}

    def begin(self, active: list[int], size: float) -> None:
        """Says at which sites the effect puts something out, and how large the probes are that rank."""
        self.active, self._ranking = active, (Noise(RANKING, size), Swell(RANKING, size))

    def sites(self, probes: Sequence[Probe]) -> list[Site]:
        """All sites, with these probes made."""
        new = [probe for probe in probes if probe not in self._sites[0].responses]
        made = visit(self.trial, new) if new else self._sites
        self._sites = [
            dataclasses.replace(old, responses={**old.responses, **more.responses})
            for old, more in zip(self._sites, made, strict=True)
        ]
        return self._sites

    def first(self, rule: Modelled, count: int) -> NDArray[np.float64]:
        """The rule's scores at the first `count` active sites."""
        return np.array([score for score, _ in self._found(rule, count)])

    def all(self, rule: Modelled) -> NDArray[np.float64]:
        """The rule's scores at all active sites."""
        return self.first(rule, len(self.active))

    def exact(self, rule: Modelled, count: int) -> list[bool]:
        """Whether the rule's model is exact, at the first `count` active sites."""
        return [exact for _, exact in self._found(rule, count)]

    def _found(self, rule: Modelled, count: int) -> list[tuple[float, bool]]:
        own = self._scores.setdefault(rule, [])
        sites = self.sites((*rule.probes(), *self._ranking))
        for k in self.active[len(own) : count]:
            model = rule.fit(sites[k])
            own.append((rank(model, sites[k], self._ranking, self.cotangents[k]), model.exact))
        return own[:count]


def _try_in_order(
    rules: list[Modelled], scores: _Scores, doubt: NDArray[np.float64], progress: Progress
) -> tuple[list[Modelled], bool]:
    """The rules that are worth comparing, and whether the last one found the effect's equations.

    All are tried at few sites, until one suffices at all of them; then the best ones at the others too.
    """
    for done, rule in enumerate(rules, 1):
        progress(done, len(rules), repr(rule))
        if rule.identifies:
            # finite probes show little of steep effects; equations that reproduce the output are complete
            if any(scores.exact(rule, _FEW)) and np.mean(scores.exact(rule, len(doubt))) > _MOSTLY:
                return rules[:done], True
        elif done > 1 and len(doubt) and _suffices(rule, scores, doubt):
            akin = [other for other in rules[done:] if type(other) is type(rule)]  # it may do even better
            return _leading([*rules[:done], *akin], scores), False
    return _leading(rules, scores), False


def _suffices(rule: Modelled, scores: _Scores, doubt: NDArray[np.float64]) -> bool:
    """Whether a rule is as good as the probes can measure at every site; few sites often show that it is not."""
    enough = _GOOD - np.minimum(doubt, _DOUBT)
    return all(np.all(scores.first(rule, n) > enough[:n]) for n in (2, len(doubt)))


def _leading(rules: list[Modelled], scores: _Scores) -> list[Modelled]:
    """A wire, and the rules that are the best at few sites, on average or at one of them."""
    early = np.array([scores.first(rule, _FEW) for rule in rules])
    if early.shape[1] == 0:
        return rules
    means = np.argsort(-early.mean(axis=1), kind="stable")[:_LEADERS]
    kept = {0, *means.tolist(), *early.argmax(axis=0).tolist()}
    kept |= {k for k, rule in enumerate(rules) if rule.identifies and any(scores.exact(rule, _FEW))}
    return [rule for k, rule in enumerate(rules) if k in kept]


def _add_solver(chosen: list[Modelled], tried: list[Modelled], scores: _Scores, channels: int) -> list[Modelled]:
    """The chosen rules, with the one that finds equations where it is affordable and helps.

    That is so for a gate which is open at most settings: where it is not, its equations are found by the call.
    """
    solver = next((rule for rule in tried if rule.identifies), None)
    if solver is None or solver in chosen or not _affordable([*chosen, solver], channels):
        return chosen
    found = zip(scores.all(tried[0]), scores.exact(solver, len(scores.active)), strict=True)
    return [*chosen, solver] if any(exact and wire < _TRIVIAL for wire, exact in found) else chosen


def _size(scores: _Scores) -> tuple[float, list[int], NDArray[np.float64]]:
    """The size of change at which answers are most nearly proportional, the sites that answer, and their doubt.

    Rounding hides smaller changes in low filters, and curvature bends larger ones in steep distortions. Noise on a key
    hardly moves the gain, so there larger changes are tried, too. If answers are proportional at no size, the size is
    large. The doubt of a site is the disagreement of two sizes there; no rule can be more accurate.
    """
    sizes = (*_SIZES, _KEY_SIZE) if AUDIO in scores.trial.effect.inputs else _SIZES
    probes = [Noise(0, size) for size in sizes]
    sites, vs = scores.sites(probes), scores.cotangents
    pairs = list(itertools.pairwise(probes))
    loud = [k for k, site in enumerate(sites) if np.abs(site[probes[-1]].ju).max() > 1e-7]
    if not loud:
        return SMALL, [], np.zeros(0)
    agreements = np.array([[correlation(sites[k][a].ju, sites[k][b].ju) for k in loud] for a, b in pairs])
    best = int(np.argmax(agreements.mean(axis=1)))
    if np.mean(agreements[best] > 0.8) <= 0.6:
        return _LARGE, loud, np.zeros(len(loud))
    a, b = pairs[best]
    return sizes[best], loud, 1 - np.array([alike(sites[k][a].ju, sites[k][b].ju, vs[k]) for k in loud])


def _shortlist(
    rules: list[Modelled],
    scores: dict[str, NDArray[np.float64]],
    doubt: NDArray[np.float64],
    channels: int,
    is_keyed: bool,
) -> list[Modelled]:
    """The best rule, or up to three and a wire that share their renders, if that is clearly better.

    For a key there is one rule: noise on it moves too little to choose by on every call.
    """

    def mean(chosen: Sequence[Modelled]) -> float:
        return float(np.max([scores[repr(rule)] for rule in chosen], axis=0).mean())

    able = [scores[repr(r)] for r in rules if mean([r]) > max(mean([r]) for r in rules) - _ABLE]
    # effects that do nothing at most settings look like a wire there, so a cheap rule must be as good at every setting
    close = [r for r in rules[1:] if np.all(np.max(able, axis=0) - scores[repr(r)] <= _SLACK + doubt)]
    best = (
        min(close, key=lambda r: (cost([r], channels), r.identifies, -round(mean([r]), 2)))
        if close
        else max(rules, key=lambda r: mean([r]))
    )
    if is_keyed:
        return [best]
    # the wire costs nothing, but needs the probe that chooses
    several = [
        [*others, rules[0]]
        for n in range(1, _TOGETHER + 1)
        for others in itertools.combinations(rules[1:], n)
        if _affordable([*others, rules[0]], channels)
    ]
    together = max(several, key=mean, default=[best])
    if mean(together) > mean([best]) + _CLOSE:
        return next(chosen for chosen in several if mean(chosen) > mean(together) - _CLOSE / 2)
    with_wire = [best, rules[0]]
    return with_wire if with_wire in several and mean([best]) < _SURE else [best]


def _affordable(rules: Sequence[Modelled], channels: int) -> bool:
    return cost(rules, channels) <= max(6, channels + 4)
