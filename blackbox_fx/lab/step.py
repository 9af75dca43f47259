"""What a training step costs: forward, and backward for params and for audio, beside the accuracy of both gradients."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import Effect, Rack, load
from blackbox_fx.estimators import SPSA, Identity
from blackbox_fx.estimators.audio_rules.certifying import correlation
from blackbox_fx.estimators.call import Call
from blackbox_fx.estimators.truth import AudioTruth
from blackbox_fx.identification.known import identified, restored
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import Chain
from blackbox_fx.learning.scoring.held_out import HeldOutSet
from blackbox_fx.learning.scoring.scores import render_held_out
from blackbox_fx.proxy.store import list_proxies, load_proxy
from blackbox_fx.runtime import Inline, Pool

RATE = 44100
DEFAULT, UNPREPARED = "default", "unprepared"
_TIMES = 5
_MOVE = 0.02  # of every parameter's range, from one timed step to the next
_AUDIO_ITEMS, _DIRECTIONS = 3, 24


@final
@dataclasses.dataclass(frozen=True)
class Step:
    """One way to render an effect and to differentiate it; times in ms for each clip.

    Args:
        effect: its name.
        way: what gives the gradients.
        forward: without gradients.
        first: the first pass forward and backward, which may measure the effect.
        params: what a gradient of params alone adds to the forward pass.
        audio: what a gradient of audio alone adds.
        both: what both add.
        params_cosine: to central differences, mean over items where these are known; nan if there is none.
        audio_cosine: to the effect's answers in random directions.
        by: what was chosen for params and for audio.
    """

    effect: str
    way: str
    forward: float
    first: float
    params: float
    audio: float
    both: float
    params_cosine: float
    audio_cosine: float
    by: str


Way = tuple[str, Effect, Callable[[Pool], nn.Module]]


def ways(addresses: Sequence[str], unprepared: bool = False) -> list[Way]:
    """What is compared: layers as they come for addresses, or for the shipped proxies' effects, chains and twins.

    Args:
        addresses: of effects.
        unprepared: whether layers know nothing of the effect yet: no proxy, and nothing that is kept of earlier runs.
    """
    named = [load(address) for address in addresses] or shipped_effects()
    if unprepared:
        return [(UNPREPARED, effect, _unprepared(effect)) for effect in named]
    found = [layer_way(effect) for effect in named]
    if addresses:
        return found
    eq, comp, reverb = (load_proxy(f"pedalboard-{name}").effect() for name in ("eq", "compressor", "reverb"))
    strip = Rack({"eq": eq, "comp": comp}, name="EQ + compressor")
    long = Rack({"eq": eq, "comp": comp, "reverb": reverb}, name="EQ + compressor + reverb")
    twins = [TWINS[name] for name in ("parametric_eq", "compressor", "reverberation")]
    both, all_three = (
        Rack({twin.name: twin.effect() for twin in twins[:n]}, name=f"twins: {name}")
        for n, name in ((2, "EQ + compressor"), (3, "EQ + compressor + reverb"))
    )
    return [
        *found,
        ("Chain", strip, _chain(strip)),
        ("SPSA(1), audio by Identity", strip, _layer(strip, estimator=SPSA(1), audio_rule=Identity())),
        ("Chain", long, _chain(long)),
        ("autodiff", TWINS["compressor"].effect(), lambda pool: Chain([TWINS["compressor"]])),
        ("autodiff", both, lambda pool: Chain(twins[:2])),
        ("autodiff", all_three, lambda pool: Chain(twins)),
    ]


def shipped_effects() -> list[Effect]:
    """The effects of the shipped proxies, with the ranges that these learnt."""
    return [load_proxy(item.name).effect() for item in list_proxies() if item.shipped]


def layer_way(effect: Effect) -> Way:
    """A layer of an effect as it comes."""
    return DEFAULT, effect, _layer(effect)


def _layer(effect: Effect, **how: Any) -> Callable[[Pool], nn.Module]:
    return lambda pool: BlackBox(effect, **how, pool=pool, sample_rate=RATE)


def _unprepared(effect: Effect) -> Callable[[Pool], nn.Module]:
    """A layer that identifies its effect anew."""

    def make(pool: Pool) -> BlackBox:
        found = restored(identified(effect, RATE) or {}, effect, RATE)
        return BlackBox(effect, pool=pool, sample_rate=RATE, surrogates=() if found is None else (found,))

    return make


def _chain(rack: Rack) -> Callable[[Pool], nn.Module]:
    return lambda pool: Chain(
        {label: BlackBox(member, pool=pool, sample_rate=RATE) for label, member in rack.members.items()}
    )


def measure(listed: Sequence[Way], items: int, seconds: float, progress: Progress = quiet) -> Iterator[Step]:
    """Measures ways one after the other, on held-out clips at random settings, with a multi-resolution STFT loss.

    Args:
        listed: see `ways`.
        items: clips, with a setting each.
        seconds: of each clip.
        progress: called with ways done, all ways, and the present one.

    Everything renders in this process, so that times are those of the effect and of the gradient alone. As in training,
    settings move a little from one step to the next.
    """
    pool = Inline()
    for done, (way, effect, make) in enumerate(listed):
        progress(done, len(listed), f"{effect.name}, {way}")
        held_out = render_held_out(effect, pool, RATE, seconds, items)
        yield _measure(way, partial(make, pool), held_out)


def _measure(way: str, make: Callable[[], nn.Module], held_out: HeldOutSet) -> Step:
    name, settings = held_out.stream.effect.name, held_out.batch.params
    items, draw, began = len(settings), torch.Generator().manual_seed(0), time.perf_counter()
    module = make()
    made = time.perf_counter() - began

    def timed(audio: bool, params: bool) -> float:
        moved = (settings + _MOVE * torch.randn(settings.shape, generator=draw)).clamp(0, 1)
        return _backward(module, held_out, moved, audio, params)[0]

    first = made + _backward(module, held_out, settings, True, True)[0]
    spent: dict[str, list[float]] = {what: [] for what in ("forward", "params", "audio", "both")}
    for _ in range(_TIMES):
        began = time.perf_counter()
        with torch.no_grad():
            module(held_out.batch.audio, held_out.batch.params)
        forward = time.perf_counter() - began
        spent["forward"].append(forward)
        for what, asked in (("params", (False, True)), ("audio", (True, False)), ("both", (True, True))):
            spent[what].append(timed(*asked) - forward)
    _, grads = _backward(module, held_out, settings, True, True)
    ms = {what: 1e3 * statistics.median(times) / items for what, times in spent.items()}
    cosines = _params_cosine(grads[1], held_out), _audio_cosine(grads[0], held_out)
    return Step(name, way, ms["forward"], 1e3 * first, ms["params"], ms["audio"], ms["both"], *cosines, _by(module))


def _backward(
    module: nn.Module, held_out: HeldOutSet, settings: Tensor, audio: bool, params: bool
) -> tuple[float, tuple[Tensor, Tensor]]:
    """Seconds of a pass forward and backward, and the gradients of audio and params."""
    x = held_out.batch.audio.clone().requires_grad_(audio)
    p = settings.clone().requires_grad_(params)
    began = time.perf_counter()
    module(x, p).backward(held_out.cotangents)
    seconds = time.perf_counter() - began
    return seconds, (torch.zeros(0) if x.grad is None else x.grad, torch.zeros(0) if p.grad is None else p.grad)


def _params_cosine(grad: Tensor, held_out: HeldOutSet) -> float:
    pairs = zip(grad.double().numpy()[held_out.active], held_out.gradients[held_out.active], strict=True)
    found = [correlation(own, true) for own, true in pairs]
    return float(np.mean(found)) if found else float("nan")


def _audio_cosine(grad: Tensor, held_out: HeldOutSet) -> float:
    call, found = held_out.call(), []
    for k in np.flatnonzero(held_out.active)[:_AUDIO_ITEMS]:
        one = Call(call.effect, call.pool, call.sample_rate, *(part[k : k + 1] for part in held_out.batch))
        v = held_out.cotangents[k].double().numpy()
        truth = AudioTruth(one, v, held_out.stream.seed + int(k), 4)
        us = np.random.default_rng(int(k)).standard_normal((_DIRECTIONS, *v.shape))
        found.append(correlation(np.einsum("ct,nct->n", grad[k].double().numpy(), us), truth(us)))
    return float(np.mean(found)) if found else float("nan")


def _by(module: nn.Module) -> str:
    """What gives the gradients of the layers in a module."""
    layers = [part for part in module.modules() if isinstance(part, BlackBox)]
    return "; ".join(
        dict.fromkeys(f"params {layer.estimator.in_use}, audio {layer.audio_rule.in_use}" for layer in layers)
    )
