"""Models of effects that layers find by themselves, kept in the user's cache by the effect's fingerprint."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from typing import Any

import numpy as np
import torch

from blackbox_fx.core import cache
from blackbox_fx.data.composer import compose
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError, ParameterError, RenderTimeout, WorkerDied
from blackbox_fx.identification.identify import identify
from blackbox_fx.proxy.adapt import AdaptedProxy
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.nets import Measured, make_net
from blackbox_fx.proxy.nets.laws import Law
from blackbox_fx.runtime import Pool

_log = logging.getLogger("blackbox_fx")
NAME = "identified"
_FOLDER, _FORMAT = "identified", 1
_SONGS, _SONG_S = 2, 6.0
_SECONDS, _BATCH = 0.75, 8  # clips on which a net is verified


def identified_proxy(effect: Effect, sample_rate: float, pool: Pool) -> AdaptedProxy | None:
    """A model of an effect whose net and laws were identified; None if it is of no kind that is known.

    What was found, also that nothing was, is kept in the user's cache.

    Args:
        effect: with free parameters.
        sample_rate: in Hz.
        pool: where it renders, the first time for up to half a minute.
    """
    key = {"format": _FORMAT, "effect": effect.fingerprint, "sample_rate": sample_rate}
    plain = cache.load(_FOLDER, key)
    proxy = None if plain is None else restored(plain, effect, sample_rate)
    if plain is None or (plain and proxy is None):
        plain = identified(effect, sample_rate, pool)
        cache.save(_FOLDER, key, plain)
        proxy = restored(plain, effect, sample_rate)
    return proxy


def identified(effect: Effect, sample_rate: float, pool: Pool) -> dict[str, Any]:
    """The net that an effect is and its laws, as JSON; empty if there is none. For arguments see `identified_proxy`."""
    _log.warning("%s is identified, once: this takes up to half a minute.", effect.name)
    songs = [compose(k, _SONG_S, sample_rate) for k in range(_SONGS)]
    try:
        found = identify(ClipStream(effect, songs, pool, _SECONDS, _BATCH, seed=0))
    except (EffectError, WorkerDied, RenderTimeout) as error:
        _log.warning("%s could not be identified: %s", effect.name, error)
        found = None
    if found is None:
        _log.warning("%s is of no kind that can be identified.", effect.name)
        return {}
    _log.warning("%s is identified, with an error-to-signal ratio of %.2g.", effect.name, found.residual)
    laws = [[law.base.tolist(), law.power, law.exponent.tolist(), law.spread] for law in found.laws]
    return {"net": found.config, "laws": laws}


def restored(plain: dict[str, Any], effect: Effect, sample_rate: float) -> AdaptedProxy | None:
    """The proxy of what `identified` gave; None if that is empty, or cannot be read."""
    if not plain:
        return None
    try:
        laws = tuple(
            Law(np.array(base), float(power), np.array(more), float(s)) for base, power, more, s in plain["laws"]
        )
        with torch.random.fork_rng(devices=[]):  # keeps the caller's random state
            net = make_net(plain["net"], effect.space.width, sample_rate)
            net.start_from(Measured(torch.zeros(1), laws))
        if not all(math.isfinite(float(tensor.sum())) for tensor in net.state_dict().values()):
            raise ValueError("numbers that are not finite")
    except (ParameterError, ValueError, TypeError, KeyError, RuntimeError) as error:
        _log.warning("What was kept of %s cannot be used (%s); it is identified again.", effect.name, error)
        return None
    proxy = Proxy(net, effect.space, effect.name, effect.fingerprint).requires_grad_(False)
    return AdaptedProxy(proxy, effect.space, NAME, hashlib.sha256(json.dumps(plain).encode()).hexdigest())
