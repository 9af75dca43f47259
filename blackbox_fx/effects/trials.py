"""Settings at which it is tried what a plugin does with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from blackbox_fx.effects.request import Settings
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Space, Toggle, Value


def _other(parameter: Parameter, value: Value) -> Value:
    """A value far from this one; of options, the default wherever that is another."""
    if isinstance(parameter, Toggle | Choice) and value != parameter.default:
        return parameter.default
    if isinstance(parameter, Toggle):
        return not value
    if isinstance(parameter, Choice):
        return parameter.options[-1] if value != parameter.options[-1] else parameter.options[0]
    assert isinstance(parameter, Continuous | Integer) and isinstance(value, int | float)
    return max((parameter.low, parameter.high), key=lambda end: abs(end - value))


def rows(space: Space) -> list[Settings]:
    """Settings at which it is heard what is forgotten: options at their defaults, since some mute; and elsewhere."""
    rng = np.random.default_rng(0)
    drawn = [space.defaults | space.decode(row) for row in space.sample(2, rng)]
    options = {name: p for name, p in space.parameters.items() if isinstance(p, Toggle | Choice | Integer)}
    calm = drawn[0] | {name: p.default for name, p in options.items()}
    moved = calm | {name: _other(p, p.default) for name, p in options.items()}
    return [calm, moved, drawn[1]] if options else [calm]


def moved(space: Space) -> Callable[[Settings, str], Settings]:
    """What puts one parameter of some settings far away."""
    return lambda row, name: {**row, name: _other(space.parameters[name], row[name])}
