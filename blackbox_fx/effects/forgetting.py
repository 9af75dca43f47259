"""Plugins that go back to their defaults when a render begins, so that they have to be set once more after that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects.request import Settings
from blackbox_fx.effects.settling import difference
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Space, Toggle, Value

_NEAR = 1e-3  # relative to the largest sample
Row = TypeVar("Row")
Name = TypeVar("Name")


def other(parameter: Parameter, value: Value) -> Value:
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
    moved = calm | {name: other(p, p.default) for name, p in options.items()}
    return [calm, moved, drawn[1]] if options else [calm]


def moved(space: Space) -> Callable[[Settings, str], Settings]:
    """What puts one parameter of some settings far away."""
    return lambda row, name: {**row, name: other(space.parameters[name], row[name])}


def forgets(
    wet: Callable[[Row, bool], Audio],
    tried: Sequence[Row],
    names: Sequence[Name],
    moved: Callable[[Row, Name], Row],
    least: float = 0.0,
) -> bool:
    """Whether some parameter is heard only if it is set once more after the render has begun.

    Args:
        wet: the output at some settings, set only before the render or once more after it has begun.
        tried: settings at which that is compared; at none of them a forgotten parameter is heard otherwise.
        names: of the parameters that may be forgotten.
        moved: settings with one parameter elsewhere.
        least: difference that is heard, relative to the largest sample.
    """

    def is_heard(name: Name, row: Row) -> bool:
        return difference(wet(row, False), wet(moved(row, name), False)) > least

    def is_lost(name: Name, row: Row, after: Audio) -> bool:
        if is_heard(name, row) or difference(after, wet(moved(row, name), True)) <= _NEAR:
            return False
        return not any(is_heard(name, one) for one in tried)

    for row in tried:
        after = wet(row, True)
        if difference(wet(row, False), after) > _NEAR and any(is_lost(name, row, after) for name in names):
            return True
    return False
