"""The audio rule that suits the effect, chosen by measurement."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
import warnings
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.core import checks
from blackbox_fx.core.tables import align
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.audio_rules import certificate
from blackbox_fx.estimators.audio_rules.base import Modelled, Signal, to_input, visit
from blackbox_fx.estimators.audio_rules.certificate import Certificate
from blackbox_fx.estimators.audio_rules.certifying import certify
from blackbox_fx.estimators.audio_rules.choosing import choose, chosen_rules
from blackbox_fx.estimators.audio_rules.portfolio import portfolio
from blackbox_fx.estimators.audio_rules.probes import SMALL
from blackbox_fx.estimators.audio_rules.ranking import best, cost, ranking_probe, union
from blackbox_fx.estimators.audio_rules.standing import certify_surrogates
from blackbox_fx.estimators.audio_rules.trial import make_trial
from blackbox_fx.estimators.autodiff import pull
from blackbox_fx.estimators.base import AudioRule
from blackbox_fx.estimators.call import Call, require_surrogates
from blackbox_fx.estimators.decision import EXACT
from blackbox_fx.estimators.surrogates import Differentiable, surrogate_name
from blackbox_fx.estimators.tensors import to_numpy

_log = logging.getLogger("blackbox_fx")
_RIGHT = 0.98  # cosine of a surrogate for which no rule is tried
_FORWARDS = 6  # a gradient of audio may take as long as this many renders; longer counts as error


def _report(done: int, total: int, words: str) -> None:
    _log.info("Audio rule %d of %d: %s", done, total, words)


@final
class Verified(AudioRule):
    """Tries proxies and rules on the effect itself, and uses what predicts the effect best for its time.

    Where the effect has proxies, see `BlackBox`, they are tried first, by the probes that certify, on excerpts of the
    batch's audio at random settings. One with a cosine of .98 is used: it takes no renders. Otherwise rules are tried.

    For rules, the effect renders probes there, at the first backward pass. All rules are fitted to the same probes. Two
    further probes rank them: one of noise and one that swells, since a rule may be right for noise and wrong for the
    level of a passage. Eight more certify the winner: `certificate` has the cosine of its gradient to the true one,
    with a standard error. All this takes at most 50 renders of 0.7 s at each of 6 random settings and up to two of the
    batch: rules are compared at three settings first, and only the leading ones at all. It is done once, and the result
    is kept in the user's cache under the effect's fingerprint.

    The chosen rules start each search at what was found at other settings, in the trial, too, so that the calls after
    the first few cost little. A copy of the layer, or a resumed run, searches again and finds the same within its
    tolerance where there is sound; in digital silence, outputs say nothing of what a small change would do.

    Where the best rule changes with the settings, up to three rules share one set of probes. Every call then chooses
    between them and a plain wire, by a probe that none was fitted to. Every `recheck` calls, the winner is certified
    again at the settings that training visits; if it has become worse, all rules are tried again. Rules give way there
    to a proxy that has got right in the meantime, see `Refresh`.

    The response of some effects to small changes is not proportional to them: bit crushers, pitch shifters and codecs
    have no derivative. This is distinguished from a lack of rules. The rules are then fitted to larger changes, which
    gives a smoothed gradient.

    A blend of all rules by least squares on the ranking probe was tried. It gained 0.005 of cosine on average over
    racks of two and three effects, at thirteen times the computing.

    Args:
        threshold: a certified cosine below this causes one warning.
        recheck: calls between certifications; 0 for none.
        choice: "surrogate" or "rules" fixes the choice; "error" goes by measured cosines alone, so that no measured
            time decides; None goes by both.

    Attributes:
        certificate: the result, after the first backward pass; None before. It is part of `state_dict`.

    Raises:
        ParameterError: a threshold outside [0, 1], a negative recheck, or `choice="surrogate"` for an effect without.
    """

    wants_surrogates = True

    def __init__(
        self, threshold: float = 0.9, recheck: int = 500, choice: Literal["surrogate", "rules", "error"] | None = None
    ) -> None:
        super().__init__()
        self.fixed = checks.one_of("choice", choice, (None, "surrogate", "rules", "error"))
        if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise ParameterError(f"threshold must be a cosine in [0, 1], got {threshold!r}.")
        if not isinstance(recheck, int) or recheck < 0:
            raise ParameterError(f"recheck must be a number of calls, 0 for none, got {recheck!r}.")
        self.threshold, self.recheck = threshold, recheck
        self.certificate: Certificate | None = None
        self._calls = 0
        self._chosen: list[Modelled] = []  # with what they have found so far

    @property
    def pulls(self) -> bool:
        """Whether a surrogate was chosen."""
        return self.certificate is not None and bool(self.certificate.surrogate)

    @property
    def in_use(self) -> str:
        """The rules or the surrogate that were chosen."""
        return "Verified" if self.certificate is None else self.certificate.what

    def explain(self) -> str:
        """The certificate, and the scores of all that was tried."""
        found = self.certificate
        return self.extra_repr() if found is None else f"{found}\n{align(found.lines())}"

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to audio; see `AudioRule.vjp`."""
        if not len(call.audio):
            return torch.zeros_like(call.audio)
        if self.certificate is None or not (self._chosen or self._surrogate(call)):
            self._certify(call, cotangent, again=False)  # nothing was chosen, or what was chosen is not there
        elif self.recheck and self._calls % self.recheck == 0:
            self._certify(call, cotangent, again=True)
        self._calls += 1
        pulled = self._by_surrogate(call, cotangent)
        return self._by_rules(call, cotangent) if pulled is None else pulled

    def _by_surrogate(self, call: Call, cotangent: Tensor) -> Tensor | None:
        """What a surrogate gives if one was chosen; None where rules were, or take its place since it fails."""
        surrogate = self._surrogate(call)
        if surrogate is None:
            return None
        try:
            return pull(surrogate, call, cotangent, audio=True)[0]
        except AudioError as error:
            if self.fixed == "surrogate":
                raise
            _log.warning("%s: %s Rules take its place.", call.effect.name, error)
            self._certify(dataclasses.replace(call, surrogates=()), cotangent, again=False)
            return None

    def _by_rules(self, call: Call, cotangent: Tensor) -> Tensor:
        rules = self._chosen
        cotangents = to_numpy(cotangent).astype(np.float64)
        if len(rules) == 1:
            return rules[0].vjp(call, cotangent)
        probe = ranking_probe(self.certificate.size if self.certificate else SMALL)
        pulled = []
        for site, v in zip(visit(call, (*union(rules), probe)), cotangents, strict=True):
            pulled.append(to_input(best([rule.fit(site) for rule in rules], site, probe, v).pull(v), site.x))
        return torch.from_numpy(np.stack(pulled))

    def cost(self, channels: int) -> int:
        """Renders of the chosen rules' probes; before the first backward pass, of the most that may be chosen."""
        if self.certificate is None:
            return max(6, channels + 4)
        return cost(self._chosen, channels)

    def _surrogate(self, call: Call) -> Differentiable | None:
        """The surrogate that was chosen, if the call has it."""
        if self.certificate is None or not self.certificate.surrogate:
            return None
        known = {surrogate_name(surrogate): surrogate for surrogate in call.surrogates}
        return known.get(self.certificate.surrogate)

    def _certify(self, call: Call, cotangent: Tensor, again: bool) -> None:
        if again and self.certificate is not None:
            trial, v = make_trial(call, cotangent, random=False)
            surrogate = self._surrogate(call)
            if surrogate is not None:
                cosine, error, _ = certify_surrogates(trial, v, [surrogate], call.audio.device)[0]
            else:
                better = self._best_surrogate(call, trial, v)
                if better is not None and better.cosine >= _RIGHT:
                    self._take(better)
                    _log.info("Audio rule of %s: %s", call.effect.name, better)
                    return
                cosine, error = certify(trial, v, self._chosen, self.certificate.size)
            if cosine >= self.certificate.cosine - 0.1 - error:
                return
            _log.info("%s: the audio gradient has fallen to %.3f here; all are tried again.", call.effect.name, cosine)
        self._take(*self._found(call, cotangent, again))
        _log.info("Audio rule of %s: %s", call.effect.name, self.certificate)
        if self.certificate is not None and self.certificate.cosine < self.threshold and not again:
            warnings.warn(
                f"The audio gradient of {call.effect.name} is uncertain ({self.certificate}); train a proxy of it with "
                "bfx.prepare, for longer if there is one, or split a Rack into a Chain.",
                stacklevel=2,
            )

    def _take(self, found: Certificate | None, rules: list[Modelled] | None = None) -> None:
        """Uses what a certificate names from now on; of rules, those that have found something, if they are given."""
        self.certificate = found
        self._chosen = rules or ([] if found is None else chosen_rules(found))

    def _found(self, call: Call, cotangent: Tensor, again: bool) -> tuple[Certificate, list[Modelled]]:
        """The certificate of the best there is, from the cache unless it is wanted again, and rules that were tried."""
        if self.fixed == "surrogate":
            require_surrogates(call, self.fixed)
        key = _key(call, self.fixed)
        found = None if again or key is None else certificate.load(key)
        if found is not None and (chosen_rules(found) or found.surrogate):
            return found, []
        trial, vs = make_trial(call, cotangent, random=True)
        best = self._best_surrogate(call, trial, vs)
        rules: list[Modelled] = []
        if best is not None and (self.fixed == "surrogate" or best.cosine >= _RIGHT):
            found = best
        else:
            why = "`blackbox-fx prepare` trains a proxy of it that takes no renders"
            if best is not None:
                why = f"its best proxy has a cosine of {best.cosine:.3f} only; `blackbox-fx prepare` may do better"
            _log.warning("Audio rules are tried on %s, once; %s.", call.effect.name, why)
            found, rules = choose(trial, vs, progress=_report)
            found = self._better(found, rules, best, trial, vs)
        if key is not None:
            certificate.save(key, found)
        return found, [] if found.surrogate else rules

    def _best_surrogate(self, call: Call, trial: Call, vs: list[Signal]) -> Certificate | None:
        if not call.surrogates or self.fixed == "rules":
            return None
        names = [surrogate_name(surrogate) for surrogate in call.surrogates]
        standings = certify_surrogates(trial, vs, call.surrogates, call.audio.device)
        k = max(range(len(names)), key=lambda k: standings[k].cosine)
        scores = {name: standing.cosine for name, standing in zip(names, standings, strict=True)}
        times = {name: 1e3 * standing.seconds for name, standing in zip(names, standings, strict=True)}
        cosine, error, _ = standings[k]
        return Certificate(call.effect.name, (), scores, cosine, error, True, SMALL, names[k], times)

    def _better(
        self, own: Certificate, rules: list[Modelled], other: Certificate | None, trial: Call, vs: list[Signal]
    ) -> Certificate:
        """That of the rules or of a surrogate, by squared error at equal time, with the scores of both."""
        if other is None:
            return own
        began = time.perf_counter()
        certify(trial, vs, rules, own.size)
        spent = 1e3 * (time.perf_counter() - began) / len(vs)
        began = time.perf_counter()
        trial.respond(to_numpy(trial.audio), np.arange(len(vs)))
        budget = _FORWARDS * 1e3 * (time.perf_counter() - began) / len(vs)

        def score(found: Certificate, ms: float) -> float:
            late = 1.0 if self.fixed == "error" else max(1.0, ms / budget)
            return max(1 - found.cosine**2, EXACT) * late

        quicker = score(other, other.milliseconds[other.surrogate]) < score(own, spent)
        both = dict(scores=own.scores | other.scores, milliseconds={own.what: spent} | other.milliseconds)
        return dataclasses.replace(other if quicker else own, **both)

    def get_extra_state(self) -> Tensor:
        """The certificate and the number of calls, as the bytes of a JSON text: part of `state_dict`."""
        plain = None if self.certificate is None else dataclasses.asdict(self.certificate)
        text = json.dumps({"calls": self._calls, "certificate": plain})
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores what `get_extra_state` gave."""
        plain = json.loads(bytes(state.cpu().tolist()))
        self._calls = int(plain["calls"])
        found = None if plain["certificate"] is None else certificate.from_plain(plain["certificate"])
        other = found is not None and self.fixed == ("rules" if found.surrogate else "surrogate")
        self._take(None if other else found)

    def extra_repr(self) -> str:
        """The certificate."""
        return str(self.certificate or "not tried yet")


def _key(call: Call, fixed: str | None) -> str | None:
    """What a certificate is kept under; None where a surrogate cannot be told from another one."""
    surrogates = [getattr(surrogate, "digest", None) for surrogate in call.surrogates]
    if None in surrogates:
        return None
    rules = [repr(rule) for rule in portfolio()]
    text = f"{call.effect.fingerprint} {call.sample_rate} {call.audio.shape[1]} {rules} {surrogates} {fixed}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
