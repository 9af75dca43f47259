"""Measures one installed effect, in the process that `isolation.call` starts."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.effects import hosts, load
from blackbox_fx.profiling.measures import Subject, latency, purity, reset_of, safely
from blackbox_fx.profiling.signals import RATE

_BOUND = 1e-6
_ROUNDS = 7
_ERRORS = ("repeat_error", "fresh_error", "random_error", "aba_error", "leak")


def _ratio(s: Subject) -> dict[str, Any]:
    """Time of a render over that of the bare call, in the same rounds."""
    audio = np.pad(s.audio, ((0, 0), (0, -s.audio.shape[1] % 512)))
    s.effect.render(s.audio)
    host = hosts.find_host(s.effect.name.partition(":")[0])
    bare = host.bare(s.effect, audio, RATE)
    ratios, spent = [], []
    for _ in range(_ROUNDS if s.cost < 0.5 else 2):
        began = time.perf_counter()
        s.effect.render(s.audio)
        between = time.perf_counter()
        bare()
        ended = time.perf_counter()
        spent.append(between - began)
        ratios.append((between - began) / max(1e-7, ended - between))
    return {"ratio": statistics.median(ratios), "render_ms": 1e3 * statistics.median(spent)}


def _worst(values: dict[str, Any]) -> float:
    return max((values[name] for name in _ERRORS if name in values), default=math.nan)


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    began = time.perf_counter()
    effect = load(question["address"])
    loaded = {
        "name": effect.name,
        "load_s": time.perf_counter() - began,
        "used": len(effect.space.parameters),
        "excluded": len(getattr(effect, "excluded", {})),
        "reset": reset_of(effect),
    }
    report(loaded)
    s = Subject(effect, 4.0)
    values = safely(s, purity, "purity")
    if _worst(values) > _BOUND and loaded["reset"] not in ("", "reload"):
        # the strictest reset may suffice, whichever was chosen on loading
        strict = effect.fix()
        vars(strict).update(reset="reload")
        other = Subject(strict, 4.0)
        better = safely(other, purity, "purity")
        if _worst(better) <= _BOUND:
            s, values, loaded["reset"] = other, better, "reload (by this measurement)"
    report(loaded | values)
    values |= safely(s, latency, "latency")
    report(loaded | values)
    values |= safely(s, _ratio, "overhead")
    return loaded | values | {"notes": s.notes}


if __name__ == "__main__":
    isolation.answer(_reply)
