"""Proxies that are not what they could be: trained for seconds only, or of another version of their effect."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import final

from torch import Tensor

from blackbox_fx.core.hints import override
from blackbox_fx.effects import Effect
from blackbox_fx.lab.tasks import train_here
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.nets.base import ProxyNet

_ROUGH_S = 8.0  # of training
_REACH = 0.8  # of the ranges of parameters that another version has


@final
class _OtherVersion(ProxyNet):
    """A net whose parameters reach less far from their middles than those of the effect today."""

    def __init__(self, net: ProxyNet) -> None:
        super().__init__(net.width, net.sample_rate)
        self.net = net

    @override
    def process(self, x: Tensor, p: Tensor) -> Tensor:
        return self.net.process(x, _REACH * p)


@functools.lru_cache(maxsize=16)
def _rough(effect: Effect) -> Proxy:
    return train_here(effect, _ROUGH_S)


def rough(effect: Effect, good: Proxy) -> Proxy:
    """A proxy that was trained for eight seconds; trained once for each effect."""
    return _rough(effect)


def other_version(effect: Effect, good: Proxy) -> Proxy:
    """A good proxy of a version of the effect whose parameters reach a fifth less far on either side."""
    return Proxy(_OtherVersion(good.net), effect.space, effect.name, effect.fingerprint)


# what is made of an effect and its good proxy
IMPERFECT: dict[str, Callable[[Effect, Proxy], Proxy]] = {"rough proxies": rough, "another version": other_version}
