"""Certifies surrogates as audio rules, by the probes that certify the others."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.audio_rules.base import Signal, visit
from blackbox_fx.estimators.audio_rules.certifying import agreement, certifying_probes
from blackbox_fx.estimators.audio_rules.probes import SMALL
from blackbox_fx.estimators.autodiff import pull
from blackbox_fx.estimators.call import Call
from blackbox_fx.estimators.surrogates import Differentiable


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
    trial: Call, vs: list[Signal], surrogates: Sequence[Differentiable], device: torch.device
) -> list[Standing]:
    """The standing of each surrogate at the sites of a trial, see `make_trial`; a cosine of 0 where it fails.

    Args:
        trial: on the CPU.
        vs: the cotangents.
        surrogates: of the effect.
        device: where they are.
    """
    certifying = certifying_probes(SMALL)
    sites = visit(trial, certifying)
    audio, params, output = (x.to(device) for x in (trial.audio, trial.params, trial.output))
    there = dataclasses.replace(trial, audio=audio, params=params, output=output)
    cotangent = torch.from_numpy(np.stack(vs)).to(audio)
    found = []
    for surrogate in surrogates:
        began = time.perf_counter()
        try:
            grad = pull(surrogate, there, cotangent, audio=True)[0]
        except (AudioError, ParameterError):
            found.append(Standing(0.0, 0.0, 0.0))
            continue
        assert grad is not None
        pulled = grad.double().cpu().numpy()
        seconds = (time.perf_counter() - began) / len(vs)
        found.append(Standing(*agreement(sites, vs, [*pulled], certifying), seconds))
    return found
