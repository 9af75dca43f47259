"""Certifies surrogates as audio rules, by the probes that certify the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.audio_rules.base import Signal, visit
from blackbox_fx.estimators.audio_rules.probes import SMALL, Noise
from blackbox_fx.estimators.autodiff import pull
from blackbox_fx.estimators.base import Call, Differentiable

_SEEDS = range(101, 109)


class Standing(NamedTuple):
    """How good the audio gradient of a surrogate is.

    Args:
        cosine: of its gradient to the true one, from random directions.
        error: standard error of the cosine.
        seconds: that a gradient takes for each item.
    """

    cosine: float
    error: float
    seconds: float


def certify_surrogates(
    trial: Call, vs: Sequence[Signal], surrogates: Sequence[Differentiable], size: float = SMALL
) -> list[Standing]:
    """The standing of each surrogate at the sites of a trial, see `make_trial`; a cosine of 0 where it fails."""
    probes = [Noise(seed, size) for seed in _SEEDS]
    sites = visit(trial, probes)
    cotangent = torch.from_numpy(np.stack(vs)).to(trial.audio)
    true = np.array([[(v * site[p].ju).sum() for p in probes] for site, v in zip(sites, vs, strict=True)])
    scale = np.maximum(np.linalg.norm(true, axis=1, keepdims=True), 1e-300)
    found = []
    for surrogate in surrogates:
        began = time.perf_counter()
        try:
            grad = pull(surrogate, trial, cotangent, audio=True)[0]
        except (AudioError, ParameterError):
            found.append(Standing(0.0, 0.0, 0.0))
            continue
        assert grad is not None
        pulled = grad.double().cpu().numpy()
        seconds = (time.perf_counter() - began) / len(vs)
        said = np.array([[(g * site[p].u).sum() for p in probes] for site, g in zip(sites, pulled, strict=True)])
        cosine = _cosine(said / scale, true / scale)
        found.append(Standing(cosine, (1 - cosine**2) / np.sqrt(true.size), seconds))
    return found


def _cosine(a: Signal, b: Signal) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a.ravel() @ b.ravel()) / norm if norm > 0 and np.isfinite(norm) else 0.0
