"""What effects are, by their addresses: `isolation.call` runs this module in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blackbox_fx import isolation
from blackbox_fx.effects import load
from blackbox_fx.effects.hosts.host import Several
from blackbox_fx.errors import BlackBoxError, MissingHost


def _read(address: str) -> dict[str, Any]:
    try:
        effect: Any = load(address)
    except Several as error:
        return {"several": {each: _read(each) for each in error.addresses}, "why": "", "lasts": True}
    except BlackBoxError as error:
        return {"why": str(error), "lasts": not isinstance(error, MissingHost)}
    parameters = len(effect.space.parameters)
    return {"channels": effect.channels, "parameters": parameters, "latency": effect.latency, "why": "", "lasts": True}


def _reply(addresses: list[str], report: Callable[[Any], None]) -> None:
    for address in addresses:
        report(_read(address))


if __name__ == "__main__":
    isolation.answer(_reply)
