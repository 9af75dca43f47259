"""Measures one installed effect, in the process that `aside.ask` starts."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from blackbox_fx import aside
from blackbox_fx.effects import load
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.dawdreamer import Plugin
from blackbox_fx.effects.ladspa import LADSPA
from blackbox_fx.effects.vst3 import VST3
from blackbox_fx.profiling.measures import Subject, latency, purity, reset_of, safely
from blackbox_fx.profiling.signals import RATE

_BOUND = 1e-6
_ROUNDS = 7
_ERRORS = ("repeat_error", "fresh_error", "random_error", "aba_error", "leak")


def _bare(effect: Effect, s: Subject) -> Callable[[], Any]:
    """The call of the host that one render comes down to."""
    audio = np.pad(s.audio, ((0, 0), (0, -s.audio.shape[1] % 512)))
    effect.render(s.audio)
    if isinstance(effect, VST3):
        plugin = effect._load()
        rows = [audio] if effect.channels == 2 else [audio[:1], audio[1:]]
        return lambda: [plugin.process(row, RATE, buffer_size=512, reset=True) for row in rows]
    if isinstance(effect, Plugin):
        with effect._handle() as engines:
            loaded = engines[RATE, 512]
        feed = np.zeros((effect.inputs, audio.shape[1]), np.float32)
        feed[: effect.channels] = audio[: effect.channels]

        def render() -> None:
            for _ in range(2 if effect.channels == 1 else 1):
                loaded.player.set_data(feed)
                loaded.engine.render((feed.shape[1] + 0.5) / RATE)
                loaded.engine.get_audio()

        return render
    assert isinstance(effect, LADSPA)
    inputs, outputs = effect.ports
    feed = np.tile(audio, (2, 1))[: len(inputs)]

    def run() -> None:
        for _ in range(2 if len(outputs) == 1 else 1):
            with effect._instance(effect.defaults, RATE) as instance:
                instance.run(feed)

    return run


def _ratio(s: Subject) -> dict[str, Any]:
    """Time of a render over that of the bare call, in the same rounds."""
    bare = _bare(s.effect, s)
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


def _reply(question: dict[str, Any], tell: Callable[[Any], None]) -> dict[str, Any]:
    began = time.perf_counter()
    effect = load(question["address"])
    loaded = {
        "name": effect.name,
        "load_s": time.perf_counter() - began,
        "used": len(effect.space.parameters),
        "excluded": len(getattr(effect, "excluded", {})),
        "reset": reset_of(effect),
    }
    tell(loaded)
    s = Subject(effect, 4.0)
    values = safely(s, purity, "purity")
    if _worst(values) > _BOUND and loaded["reset"] not in ("", "reload"):
        # whatever was believed on loading: the strictest reset may still do
        strict = effect.fix()
        vars(strict).update(reset="reload")
        other = Subject(strict, 4.0)
        better = safely(other, purity, "purity")
        if _worst(better) <= _BOUND:
            s, values, loaded["reset"] = other, better, "reload (by this measurement)"
    tell(loaded | values)
    values |= safely(s, latency, "latency")
    tell(loaded | values)
    values |= safely(s, _ratio, "overhead")
    return loaded | values | {"notes": s.notes}


if __name__ == "__main__":
    aside.answer(_reply)
