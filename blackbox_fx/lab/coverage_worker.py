"""Prepares one effect and measures a layer of it, in the process that `isolation.call` starts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from blackbox_fx import isolation
from blackbox_fx.effects import load
from blackbox_fx.lab.step import layer_way, measure
from blackbox_fx.learning.prepare import prepare
from blackbox_fx.proxy.card import DRY

_ITEMS, _SECONDS = 24, 1.5


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    torch.set_num_threads(1)
    began = time.perf_counter()
    effect = load(question["address"])
    ready = prepare(
        effect,
        question["minutes"],
        seed=question["seed"],
        progress=lambda done, total, words: report({}),
    )
    scores, dry = ready.card.scores, ready.card.baselines.get(DRY)
    found = {
        "refused": ready.failure,
        "esr": scores.sound.esr,
        "dry": None if dry is None else dry.esr,
        "params": scores.parameters.mean,
        "audio": scores.audio.mean,
    }
    report(found)
    (step,) = measure([layer_way(effect)], _ITEMS, _SECONDS)
    found |= {"layer_params": step.params_cosine, "layer_audio": step.audio_cosine}
    found |= {"forward": step.forward, "backward": step.both, "by": step.by, "seconds": time.perf_counter() - began}
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in found.items()}


if __name__ == "__main__":
    isolation.answer(_reply)
