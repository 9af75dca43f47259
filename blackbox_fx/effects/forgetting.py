"""Plugins that go back to their defaults when a render begins, so that they have to be set once more after that."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects.request import Settings
from blackbox_fx.effects.settling import difference
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Toggle, Value

_NEAR = 1e-3  # relative to the largest sample


def other(parameter: Parameter) -> Value:
    """A value far from the default."""
    if isinstance(parameter, Toggle):
        return not parameter.default
    if isinstance(parameter, Choice):
        return parameter.options[-1] if parameter.default != parameter.options[-1] else parameter.options[0]
    assert isinstance(parameter, Continuous | Integer)
    ends = (parameter.low, parameter.high)
    return max(ends, key=lambda end: abs(end - parameter.default))


def forgets(wet: Callable[[Settings, bool], Audio], row: Settings, parameters: Mapping[str, Parameter]) -> bool:
    """Whether some parameter is heard only if it is set once more after the render has begun.

    Args:
        wet: the output at some settings, set only before the render or once more after it has begun.
        row: settings away from the defaults, at which the plugin is heard.
        parameters: those that are tried.
    """
    before, after = wet(row, False), wet(row, True)

    def is_forgotten(name: str) -> bool:
        moved = {**row, name: other(parameters[name])}
        return np.array_equal(before, wet(moved, False)) and not np.array_equal(after, wet(moved, True))

    return difference(before, after) > _NEAR and any(map(is_forgotten, parameters))
