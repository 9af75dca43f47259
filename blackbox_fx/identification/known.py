"""Models of effects that layers find by themselves, kept in the user's cache by the effect's fingerprint."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from blackbox_fx.core import cache, system
from blackbox_fx.data.composer import compose
from blackbox_fx.data.song import Song
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError, ParameterError, RenderTimeout, WorkerDied
from blackbox_fx.identification.identify import identify
from blackbox_fx.identification.records import Identified
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.adapt import AdaptedProxy
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.nets import Measured, make_net
from blackbox_fx.proxy.nets.laws import Law
from blackbox_fx.runtime import Inline, Pool, Processes

_log = logging.getLogger("blackbox_fx")
NAME = "identified"
_FOLDER, _FORMAT = "identified", 1
_SONGS, _SONG_S = 2, 6.0
_SECONDS, _BATCH = 0.75, 8  # clips on which a net is verified
_DEADLINE_S = 10.0  # for a render
_TRIED, _SAME = 99, 1e-3  # number of a batch of those; error-to-signal ratio of what is right in any case

_seen_right: set[tuple[str, float]] = set()  # fingerprints and sample rates of what was tried in this process


def identified_proxy(effect: Effect, sample_rate: float) -> AdaptedProxy | None:
    """A model of an effect whose net and laws were identified; None if it is of no kind that is known.

    What was found, also that nothing was, is kept in the user's cache. What is kept is tried on a few clips before it
    is used, and found again if the effect has become another.

    Args:
        effect: with free parameters; its output has as many channels as its input.
        sample_rate: in Hz.
    """
    key = {"format": _FORMAT, "effect": effect.fingerprint, "sample_rate": sample_rate}
    with as_in_a_fresh_process():
        kept: dict[str, Any] | None = cache.load(_FOLDER, key)
        proxy = None if kept is None else restored(kept, effect, sample_rate)
        here = effect.fingerprint, sample_rate
        if kept and proxy is not None and (here in _seen_right or _is_right(proxy, kept, effect, sample_rate)):
            _seen_right.add(here)
            return proxy
        if kept == {}:
            return None
        plain = identified(effect, sample_rate)
        if plain is None:
            return None
        cache.save(_FOLDER, key, plain)
        return restored(plain, effect, sample_rate)


@contextlib.contextmanager
def as_in_a_fresh_process() -> Iterator[None]:
    """Makes nets that train and run as usual, whatever the caller has set of torch's modes, devices and types."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), _on_cpu(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(dtype)


def _on_cpu() -> contextlib.AbstractContextManager[Any]:
    """Makes new tensors on the CPU; nothing where they are anyway, since it slows every call of torch."""
    here = torch.get_default_device().type == "cpu"
    return contextlib.nullcontext() if here else torch.device("cpu")


def identified(effect: Effect, sample_rate: float) -> dict[str, Any] | None:
    """The net that an effect is and its laws, as JSON: empty if it is of no known kind, None if it could not be seen.

    For the arguments see `identified_proxy`.
    """
    try:
        with _stream(effect, sample_rate) as stream:
            found = identify(stream, progress=lambda done, total, words: _say(effect, words))
            return {} if found is None else _kept(found, stream)
    except (EffectError, WorkerDied, RenderTimeout) as error:
        _log.warning("%s could not be identified: %s", effect.name, error)
        return None


def _kept(found: Identified, stream: ClipStream) -> dict[str, Any]:
    """What is kept of a net, with its error-to-signal ratio for some clips."""
    laws = [[law.base.tolist(), law.power, law.exponent.tolist(), law.spread] for law in found.laws]
    plain: dict[str, Any] = {"net": found.config, "laws": laws}
    proxy = restored(plain, stream.effect, stream.clips.sample_rate)
    assert proxy is not None
    off = _off(proxy, stream)
    _log.warning("%s is identified: the error-to-signal ratio is %.2g for clips.", stream.effect.name, off)
    return plain | {"off": off}


@torch.no_grad()
def _off(proxy: AdaptedProxy, stream: ClipStream) -> float:
    """The median error-to-signal ratio of a proxy for the same clips and settings each time."""
    batch = stream.batch(_TRIED)
    return float(esr(proxy(batch.audio, batch.params, stream.clips.sample_rate), batch.wet).median())


def _say(effect: Effect, words: str) -> None:
    _log.warning("%s has no proxy and may be %s: it is identified, for up to a minute.", effect.name, words)


@contextlib.contextmanager
def _stream(effect: Effect, sample_rate: float) -> Iterator[ClipStream]:
    """Clips of an effect, in a pool that no other renders share: probes may fail where music does not."""
    with _pool(effect) as pool:
        yield ClipStream(effect, _songs(sample_rate), pool, _SECONDS, _BATCH, seed=0)
        if pool.counters.has_failures:
            _log.warning("While %s was identified: %s", effect.name, pool.counters)


@functools.lru_cache(maxsize=1)
def _songs(sample_rate: float) -> list[Song]:
    return [compose(k, _SONG_S, sample_rate) for k in range(_SONGS)]


def _pool(effect: Effect) -> Pool:
    if effect.native and system.has_worker_processes():
        return Processes(1, deadline=_DEADLINE_S, on_failure="skip")
    return Inline()


def _is_right(proxy: AdaptedProxy, plain: dict[str, Any], effect: Effect, sample_rate: float) -> bool:
    """Whether what was kept is still what the effect does; also if that cannot be seen now."""
    try:
        with _stream(effect, sample_rate) as stream:
            off = _off(proxy, stream)
    except (EffectError, WorkerDied, RenderTimeout):
        return True
    before = plain.get("off")
    same = off < max(_SAME, 10 * before if isinstance(before, float) else 0.0)
    if not same:
        _log.warning("%s is not what it was when it was identified; it is identified again.", effect.name)
    return same


def restored(plain: dict[str, Any], effect: Effect, sample_rate: float) -> AdaptedProxy | None:
    """The proxy of what `identified` gave; None if that is empty, or cannot be read."""
    if not plain:
        return None
    try:
        laws = tuple(
            Law(np.array(base), float(power), np.array(more), float(s)) for base, power, more, s in plain["laws"]
        )
        net = make_net(plain["net"], effect.space.width, sample_rate)
        net.start_from(Measured(torch.zeros(1), laws))
        if not all(math.isfinite(float(tensor.sum())) for tensor in net.state_dict().values()):
            raise ValueError("numbers that are not finite")
    except (ParameterError, ValueError, TypeError, KeyError, RuntimeError) as error:
        _log.warning("What was kept of %s cannot be used (%s); it is identified again.", effect.name, error)
        return None
    proxy = Proxy(net, effect.space, effect.name, effect.fingerprint).requires_grad_(False)
    return AdaptedProxy(proxy, effect.space, NAME, hashlib.sha256(json.dumps(plain).encode()).hexdigest())
