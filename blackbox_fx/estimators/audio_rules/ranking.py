"""Ranks audio rules by probes that none of them is fitted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.operators import Wire
from blackbox_fx.estimators.audio_rules.probes import Noise

# What changing each does was measured as in `choosing`.
RANKING = 100  # seed of the probes that rank; those that certify have others
_SEGMENT = 512  # 64 and 4096 are the same within 0.03
_NOTHING = 0.55  # score of a model that says little more than silence does, which scores 0.5; 0.8 costs a rack 0.015


def _segments(signal: Signal) -> Signal:
    return np.add.reduceat(signal, np.arange(0, signal.shape[-1], _SEGMENT), axis=-1)


def alike(predicted: Signal, true: Signal, cotangent: Signal) -> float:
    """Agreement of the inner products of two answers with the cotangent, segment by segment; 1 if they are equal.

    An answer of the right size scores its cosine, and one of the wrong size less, so that a wire is not taken for a
    fader.
    """
    a, b = _segments(cotangent * predicted), _segments(cotangent * true)
    power, off = float(np.square(b).sum()), float(np.square(a - b).sum())
    return max(-1.0, 1 - off / (2 * power)) if power > 0 and np.isfinite(off) else 0.0


def rank(model: Model, site: Site, probes: Sequence[Probe], cotangent: Signal) -> float:
    """How well a model predicts the effect's answers to probes that it was not fitted to, on average; 1 is perfect.

    Noise and swells count the same: with a hundred times the weight for noise, a compressor before a steep shelf was
    taken for a filter, and the cosine at new settings was -0.27 in place of 0.996.
    """
    return float(np.mean([alike(model.push(u), ju, cotangent) for u, ju in (site[probe] for probe in probes)]))


def best(models: Sequence[Model], site: Site, probe: Probe, cotangent: Signal) -> Model:
    """The exact model, or else the one that predicts a probe best.

    If none predicts the probe at all, it is the wire, if that is among them: the fitted models are random then.
    """
    if len(models) == 1:
        return models[0]
    scores = [(model.exact, rank(model, site, (probe,), cotangent)) for model in models]
    exact, score = max(scores)
    wire = next((model for model in models if isinstance(model, Wire)), None)
    return wire if wire and not exact and score < _NOTHING else models[scores.index((exact, score))]


def union(rules: Sequence[Modelled]) -> tuple[Probe, ...]:
    """The probes of several rules, each once."""
    return tuple(dict.fromkeys(probe for rule in rules for probe in rule.probes()))


def cost(rules: Sequence[Modelled], channels: int) -> int:
    """Renders for one gradient: the probes of all rules, and one to choose between several."""
    return sum(probe.renders(channels) for probe in union(rules)) + (len(rules) > 1)


def ranking_probe(size: float) -> Noise:
    """The probe that chooses between rules on every call; none is fitted to it."""
    return Noise(RANKING, size, both=False)
