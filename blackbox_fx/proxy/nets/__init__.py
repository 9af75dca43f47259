"""Nets for proxies of effects."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from blackbox_fx.errors import ParameterError
from blackbox_fx.proxy.nets.ballistics import Ballistics
from blackbox_fx.proxy.nets.base import Measured, ProxyNet
from blackbox_fx.proxy.nets.dynamics import Dynamics
from blackbox_fx.proxy.nets.modulated import Modulated
from blackbox_fx.proxy.nets.recurrent import Recurrent
from blackbox_fx.proxy.nets.structured import Structured
from blackbox_fx.proxy.nets.tcn import TCN

__all__ = [
    "NETS",
    "TCN",
    "Ballistics",
    "Dynamics",
    "Measured",
    "Modulated",
    "ProxyNet",
    "Recurrent",
    "Structured",
    "make_net",
]

NETS: dict[str, type[ProxyNet]] = {
    "structured": Structured,
    "dynamics": Dynamics,
    "modulated": Modulated,
    "ballistics": Ballistics,
    "tcn": TCN,
    "recurrent": Recurrent,
}


def make_net(config: Mapping[str, Any], width: int, sample_rate: float) -> ProxyNet:
    """The net of a recipe: {"kind": "structured", "bands": 3}, with the arguments of its class.

    Raises:
        ParameterError: an unknown kind or argument, or a value of another type than the default.
    """
    options = dict(config)
    kind = options.pop("kind", None)
    if kind not in NETS:
        raise ParameterError(f"There is no net of kind {kind!r}; known are {', '.join(NETS)}.")
    known = {name: p.default for name, p in list(inspect.signature(NETS[kind]).parameters.items())[2:]}
    for name, value in options.items():
        if name not in known:
            raise ParameterError(f"A {kind} net has no {name!r}; known are {', '.join(known)}.")
        wanted = (int, float) if isinstance(known[name], float) else (type(known[name]),)
        if type(value) not in wanted:
            raise ParameterError(f"{name} of a {kind} net must be like {known[name]!r}, got {value!r}.")
    return NETS[kind](width, sample_rate, **options)
