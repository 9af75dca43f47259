"""The differentiable models that a user gives to a layer."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.autodiff import check_surrogate
from blackbox_fx.estimators.surrogates import Differentiable
from blackbox_fx.proxy.adapt import AdaptedProxy
from blackbox_fx.proxy.model import Proxy


@runtime_checkable
class ProxyLike(Protocol):
    """A differentiable model of an effect that knows which effect it is for, such as a `Proxy`."""

    def require(self, effect: Effect) -> None:
        """Warns if this was made for another effect; raises ParameterError if that has other columns of params."""


def usable(surrogates: Any, effect: Effect, sample_rate: float) -> tuple[Differentiable, ...]:
    """Surrogates for an effect; a proxy is adapted to its columns. Raises ParameterError if one cannot be used."""
    if not isinstance(surrogates, (list, tuple)):
        raise ParameterError(
            f"surrogates must be a list of proxies or functions, such as [proxy], got {surrogates!r:.80}."
        )
    found: list[Differentiable] = []
    for surrogate in surrogates:
        check_surrogate("A surrogate", surrogate)
        if isinstance(surrogate, Proxy) and surrogate.sample_rate != sample_rate:
            raise ParameterError(
                f"The proxy of {surrogate.effect_name} is for {surrogate.sample_rate:g} Hz, and the layer for "
                f"{sample_rate:g} Hz; train one at that rate."
            )
        if isinstance(surrogate, Proxy) and surrogate.space != effect.space:
            found.append(AdaptedProxy(surrogate, effect.space))
            continue
        made_for: object = surrogate
        if isinstance(made_for, ProxyLike):
            made_for.require(effect)
        found.append(surrogate)
    return tuple(found)
