"""The rule that fits the effect, found by trying."""

from __future__ import annotations

import hashlib
import logging
import warnings
from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.audio_rules import certificate
from blackbox_fx.estimators.audio_rules.base import Modelled, visit
from blackbox_fx.estimators.audio_rules.certificate import Certificate
from blackbox_fx.estimators.audio_rules.portfolio import portfolio
from blackbox_fx.estimators.audio_rules.probes import SMALL
from blackbox_fx.estimators.audio_rules.trial import (
    best,
    certify,
    choose,
    chosen_rules,
    cost,
    make_trial,
    ranking_probe,
    union,
)
from blackbox_fx.estimators.base import AudioRule, Call, to_numpy

_log = logging.getLogger("blackbox_fx")


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
        if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise ParameterError(f"threshold must be a cosine in [0, 1], got {threshold!r}.")
        if not isinstance(recheck, int) or recheck < 0:
            raise ParameterError(f"recheck must be a number of calls, 0 for none, got {recheck!r}.")
        self.threshold, self.recheck = threshold, recheck
        self.certificate: Certificate | None = None
        self._calls = 0

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to audio; see `AudioRule.vjp`."""
        if not len(call.audio):
            return torch.zeros_like(call.audio)
        if self.certificate is None:
            self._certify(call, cotangent, again=False)
        elif self.recheck and self._calls % self.recheck == 0:
            self._certify(call, cotangent, again=True)
        self._calls += 1
        rules = self._chosen
        cotangents = to_numpy(cotangent).astype(np.float64)
        if len(rules) == 1:
            return rules[0].vjp(call, cotangent)
        probe = ranking_probe(self.certificate.size if self.certificate else SMALL)
        pulled = []
        for site, v in zip(visit(call, (*union(rules), probe)), cotangents, strict=True):
            pulled.append(best([rule.fit(site) for rule in rules], site, probe, v).pull(v))
        return torch.from_numpy(np.stack(pulled))

    def cost(self, channels: int) -> int:
        """Renders of the chosen rules' probes; before the first backward pass, of the most that may be chosen."""
        if self.certificate is None:
            return max(6, channels + 4)
        return cost(self._chosen, channels)

    @property
    def _chosen(self) -> list[Modelled]:
        return chosen_rules(self.certificate) if self.certificate else []

    def _certify(self, call: Call, cotangent: Tensor, again: bool) -> None:
        key = hashlib.blake2b(
            f"{call.effect.fingerprint} {call.sample_rate} {call.audio.shape[1]} "
            f"{[repr(rule) for rule in portfolio()]}".encode(),
            digest_size=12,
        ).hexdigest()
        if again and self.certificate is not None:
            trial, v = make_trial(call, cotangent, random=False)
            cosine, error = certify(trial, v, self._chosen, self.certificate.size)
            if cosine >= self.certificate.cosine - 0.1 - error:
                return
            _log.info("%s: the audio rule has fallen to %.3f here; all are tried anew.", call.effect.name, cosine)
        found = None if again else certificate.load(key)
        if found is None or not chosen_rules(found):
            _log.warning(
                "Audio rules are tried on %s, once: a few hundred renders of a second, up to a minute of computing.",
                call.effect.name,
            )
            found = choose(*make_trial(call, cotangent, random=True))
            certificate.save(key, found)
        self.certificate = found
        _log.info("Audio rule of %s: %s", call.effect.name, self.certificate)
        if found.cosine < self.threshold and not again:
            warnings.warn(
                f"The audio gradient of {call.effect.name} is uncertain ({self.certificate}); train a proxy of it, or "
                "split a Rack into a Chain.",
                stacklevel=2,
            )

    def extra_repr(self) -> str:
        """What was found."""
        return str(self.certificate or "not tried yet")
