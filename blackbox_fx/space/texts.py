"""Settings as a person writes them: name=value, in physical units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blackbox_fx.errors import ParameterError
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Space, Toggle


def parse_settings(space: Space, settings: Sequence[str]) -> dict[str, Any]:
    """name=value, in physical units, to values by name. Raises ParameterError on anything else."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ParameterError(f"--set takes name=value, got {setting!r}.")
        space.require([name])
        values[name] = _value(name, space.parameters[name], text)
    return values


def _value(name: str, parameter: Parameter, text: str) -> Any:
    if isinstance(parameter, Choice):
        return text
    words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    try:
        if isinstance(parameter, Toggle):
            return words[text.lower()]
        if isinstance(parameter, Continuous | Integer):
            return float(text)
    except (KeyError, ValueError):
        pass
    raise ParameterError(f"{name}={text!r} is not allowed; allowed is {parameter.describe()}.")
