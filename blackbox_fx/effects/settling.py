"""How long a plugin takes until it is ready, found by rendering new instances of some age."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

GROWN = 3.0  # seconds after which nearly all that is late is ready
_AGES, _YOUNG, _OLD = (0.8, 3.2), 0.05, 8.0  # seconds
_NEAR = 1e-3  # relative to the largest sample


T = TypeVar("T")


def difference(a: Any, b: Any) -> float:
    """Largest difference, relative to the largest sample if that is above 1."""
    return float(np.abs(a - b).max()) / max(1.0, float(np.abs(a).max()))


def settling(at: Callable[[float], Any]) -> float:
    """Seconds until the output of a new instance stays as it is, twice over; 0 if it does at once, or never repeats.

    Args:
        at: the output of a new instance that was given this many seconds.

    Raises:
        ValueError: it still changes after 8 seconds.
    """
    new = at(0)
    age, ready = next(((age, wet) for age in _AGES if difference(new, wet := at(age)) > _NEAR), (0.0, new))
    if not age or difference(new, at(0)) > difference(new, ready) / 4:
        return 0.0
    while difference(ready, older := at(2 * age)) > _NEAR:
        age, ready = 2 * age, older
        if age > _OLD:
            raise ValueError(f"it still changes {_OLD:g} seconds after it was loaded, so that no render repeats")
    age = _YOUNG
    while difference(at(age), ready) > _NEAR:
        age *= 2
    return 2 * age


def longest(rows: Iterable[T], at: Callable[[T, float], Any]) -> tuple[float, list[T]]:
    """Seconds until the output stays as it is at each of several settings, and at which of them it takes time.

    Args:
        rows: the settings.
        at: the output at some settings of a new instance that was given so many seconds.
    """
    settle, slow = 0.0, []
    for row in rows:
        if not settle or difference(at(row, settle), at(row, settle + GROWN)) > _NEAR:
            own = settling(lambda age, row=row: at(row, age))
            if not own:
                continue
            settle = max(settle, own)
        slow.append(row)
    return settle, slow
