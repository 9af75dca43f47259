"""The net of a proxy before its training: of the kind that suits the effect, started from what is measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from blackbox_fx.audio import check_sample_rate
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import Source
from blackbox_fx.data.composer import ComposedSong
from blackbox_fx.effects import Effect, load
from blackbox_fx.errors import ParameterError
from blackbox_fx.identification.identify import KINDS, identify
from blackbox_fx.identification.records import Identified
from blackbox_fx.learning.choose import choose_among, choose_net
from blackbox_fx.profiling import Profile, profile
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.nets import Measured, ProxyNet, make_net
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.runtime import Inline, Pool, Processes

_RINGING_S = 2.0
_TRIED_S = 0.375  # of clips on which nets are tried
_AUDITION_MINUTES = 1.0  # of a training for which nets are tried
_SONGS, _SONG_S = 8, 6.0  # for a proxy that is trained elsewhere


def start_net(
    recipe: ProxyRecipe, found: Profile, stream: ClipStream, songs: Sequence[Source], progress: Progress
) -> tuple[dict[str, Any], ProxyNet]:
    """The configuration of a net, and the net.

    Args:
        recipe: its net, or none if the effect should decide; its seed draws the weights.
        found: profile of the effect.
        stream: of the effect.
        songs: on which nets are tried, in a training of a minute or more.
        progress: called with parts done, all parts, and a few words.

    Raises:
        ParameterError: a net that cannot be made.
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    identified = None
    kind = str(recipe.net.get("kind", ""))
    if kind in ("", *KINDS):
        progress(0, 1, "identifying")
        identified = identify(stream, kind)
    config = dict(recipe.net or _chosen(recipe, found, identified, stream, songs, progress))
    with torch.random.fork_rng(devices=[]):  # keeps the caller's random state
        torch.manual_seed(recipe.seed)
        net = make_net(config, stream.effect.space.width, recipe.sample_rate)
    laws = identified.laws if identified is not None and identified.config == config else ()
    net.start_from(Measured(stream.ringing(_RINGING_S), laws))
    return config, net


def _chosen(
    recipe: ProxyRecipe,
    found: Profile,
    identified: Identified | None,
    stream: ClipStream,
    songs: Sequence[Source],
    progress: Progress,
) -> Mapping[str, Any]:
    usual = choose_net(found, identified)
    if identified is not None or recipe.minutes < _AUDITION_MINUTES or recipe.steps:
        return usual
    progress(0, 1, "trying nets")
    return choose_among(
        found, usual, ClipStream(stream.effect, songs, stream.pool, _TRIED_S, recipe.batch, recipe.seed)
    )


def start_proxy(
    effect: Effect | str, *, sample_rate: float = 44100, seed: int = 0, progress: Progress = quiet
) -> Proxy:
    """An untrained proxy of an effect, for a `Refresh` that trains it on what a run renders anyway.

    Its net is of the kind that suits the effect, and starts from what is measured of it in a minute or less. A delay, a
    chorus, a phaser, a compressor or a gate may be right at once.

    Args:
        effect: or its address; its free parameters and ranges are what the proxy learns.
        sample_rate: in Hz.
        seed: of weights and clips.
        progress: called with parts done, all parts, and a few words.

    Raises:
        ParameterError: an effect without free parameters.
        EffectError, MissingHost, WorkerDied, RenderTimeout: the effect failed.
    """
    effect = as_effect(effect)
    if not effect.space.width:
        raise ParameterError(f"{effect.name} has no free parameters, so there is nothing for a proxy to learn.")
    rate = check_sample_rate(sample_rate)
    recipe = ProxyRecipe(effect.address or effect.name, sample_rate=rate, seed=seed)
    progress(0, 1, f"measuring {effect.name}")
    found = profile(effect)
    songs = [ComposedSong(seed * _SONGS + k, _SONG_S, rate) for k in range(_SONGS)]
    with training_pool(effect) as pool:
        stream = ClipStream(effect, songs, pool, recipe.seconds, recipe.batch, seed)
        _, net = start_net(recipe, found, stream, songs, progress)
    return Proxy(net, effect.space, effect.name, effect.fingerprint, address=recipe.effect)


def as_effect(given: Effect | str) -> Effect:
    """An effect, or that of an address. Raises ParameterError for anything else."""
    if isinstance(given, str):
        return load(given)
    if not isinstance(given, Effect):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ParameterError(f"effect must be an Effect or its address, got {given!r:.80}; make one with bfx.load.")
    return given


def training_pool(effect: Effect) -> Pool:
    """Where an effect renders for a training: native ones in a process of their own."""
    return Processes(1, on_failure="skip") if effect.native else Inline()
