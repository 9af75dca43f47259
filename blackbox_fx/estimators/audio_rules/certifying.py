"""Certifies gradients of audio by random directions to which no rule is fitted, and by which none is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.effects.request import AUDIO
from blackbox_fx.estimators.audio_rules.base import Modelled, Probe, Signal, Site, to_input, visit
from blackbox_fx.estimators.audio_rules.probes import Noise, Swell
from blackbox_fx.estimators.audio_rules.ranking import best, ranking_probe, union
from blackbox_fx.estimators.call import Call

_UNHEARD = 1e-2  # of the largest answer at any site
_CERTIFYING = range(101, 109)  # 6 directions at a single setting missed that a filter had become a distortion


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The cosine of two arrays; 0 where either is nothing."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a.ravel() @ b.ravel()) / norm if norm > 0 and np.isfinite(norm) else 0.0


def certify(trial: Call, vs: list[Signal], rules: Sequence[Modelled], size: float) -> tuple[float, float]:
    """The cosine of the chosen gradient to the true one, from random directions, and its standard error."""
    ranking, certifying = ranking_probe(size), certifying_probes(size, AUDIO in trial.effect.inputs)
    sites = visit(trial, (*union(rules), ranking, *certifying))
    pairs = zip(sites, vs, strict=True)
    gradients = [
        to_input(best([rule.fit(site) for rule in rules], site, ranking, v).pull(v), site.x) for site, v in pairs
    ]
    return agreement(sites, vs, gradients, certifying)


def certifying_probes(size: float, is_keyed: bool = False) -> list[Probe]:
    """Random directions to which no rule is fitted, and by which none is chosen; swells, too, for a key.

    Noise on a key often moves a gain by less than the effect rounds.
    """
    return [Swell(seed, size) if is_keyed and seed % 2 else Noise(seed, size) for seed in _CERTIFYING]


def agreement(
    sites: Sequence[Site], vs: Sequence[Signal], gradients: Sequence[Signal], certifying: Sequence[Probe]
) -> tuple[float, float]:
    """The cosine of gradients to the true ones, by certifying probes that were made, and its standard error.

    All sites count the same, but those that hardly hear a key are left out: there are only the effect's roundings.
    """
    pairs = [
        np.array([((v * site[p].ju).sum(), (gradient * site[p].u).sum()) for p in certifying])
        for site, v, gradient in zip(sites, vs, gradients, strict=True)
    ]
    norms = np.array([np.linalg.norm(products[:, 0]) for products in pairs])
    least = _UNHEARD * norms.max() if AUDIO in sites[0].inputs else 0.0
    heard = [products / (norm or 1.0) for products, norm in zip(pairs, norms, strict=True) if norm >= least]
    true, found = np.concatenate(heard).T
    cosine = correlation(found, true)
    return cosine, (1 - cosine**2) / np.sqrt(len(true))
