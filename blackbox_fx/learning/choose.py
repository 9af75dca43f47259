"""Chooses the net and the objective of a proxy by the profile of its effect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from blackbox_fx.identification.records import Identified
from blackbox_fx.learning.audition import audition, follows_level
from blackbox_fx.learning.levels import LevelObjective
from blackbox_fx.learning.objectives import ClipObjective, Objective, ResponseObjective
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.nets import Dynamics, ProxyNet, Structured
from blackbox_fx.proxy.recipe import ProxyRecipe

_EXACT = 1e-3  # relative error below which an effect is linear, or memoryless
_STILL = 0.02  # error of a shift below which impulse responses say more than clips; ladspa:mbeq, by frames, has .007
_SHORT_S = 0.09  # the impulse response of a filter
_LONGEST_S = 2.0
_MOST_AHEAD = 2048  # samples
_LIMITERS: list[dict[str, Any]] = [{}, {"detector": "power"}, {"clip": True}]
_DYNAMICS: list[dict[str, Any]] = [
    {"detector": "power"},
    {"detector": "window"},
    {"stages": 2, "clip": True},
    {"detector": "window", "gate": True},
    {"gate": True, "hold": True},
]


def choose_net(profile: Profile, identified: Identified | None = None) -> dict[str, Any]:
    """Kind and arguments of a net, as `make_net` takes them.

    An effect whose delay or moving filter was identified gets that. Otherwise, a linear effect gets a filter, with a
    reverberation if it rings on; another without memory a curve; others get a gain that follows the level between two
    filters, and a curve.
    """
    if identified is not None:
        return identified.config
    net: dict[str, Any] = {"kind": "structured"}
    if profile.memoryless < _EXACT and profile.linear >= _EXACT:
        return net | {"filters": 0, "gain": False, "scaled": True}
    if profile.tail_seconds > _SHORT_S and not math.isinf(profile.tail_seconds):
        net["tail_seconds"] = round(min(profile.tail_seconds, _LONGEST_S), 2)
    if profile.linear < _EXACT:
        return net | {"filters": 1, "gain": False, "curve": False}
    return net


def choose_among(profile: Profile, usual: Mapping[str, Any], stream: ClipStream) -> Mapping[str, Any]:
    """The usual net, or one of those for dynamics if the effect may be of that kind and that one learns it better.

    Args:
        profile: of the effect.
        usual: what `choose_net` gave.
        stream: clips of the effect.

    Raises:
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    if profile.memoryless < _EXACT or "tail_seconds" in usual or not follows_level(stream):
        return usual
    ahead = min(profile.latency_reported, _MOST_AHEAD)
    listed = [{"ahead": ahead, **one} for one in _LIMITERS] if ahead > 0 else _DYNAMICS
    return audition(stream, [usual, *({"kind": "dynamics", **one} for one in listed)])


def choose_objective(recipe: ProxyRecipe, profile: Profile, net: ProxyNet, stream: ClipStream) -> Objective[Any]:
    """Impulse responses if they describe the effect completely and the net is a filter; else clips, or also bursts."""
    linear = profile.linear < _EXACT and profile.time_invariant < _STILL
    if recipe.impulses and linear and isinstance(net, Structured) and net.is_filter:
        return ResponseObjective(stream)
    if isinstance(net, Dynamics):
        return LevelObjective(stream, recipe.slopes)
    return ClipObjective(stream, recipe.slopes)
