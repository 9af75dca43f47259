"""How long a plugin takes until it is ready, found by rendering new instances of some age."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_YOUNG, _GROWN, _OLD = 0.05, 0.8, 8.0  # seconds
_NEAR = 1e-3  # relative to the largest sample


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
    new, grown = at(0), at(_GROWN)
    if difference(new, grown) <= _NEAR or difference(new, at(0)) > difference(new, grown) / 4:
        return 0.0
    age, ready = _GROWN, grown
    while difference(ready, older := at(2 * age)) > _NEAR:
        age, ready = 2 * age, older
        if age > _OLD:
            raise ValueError(f"it still changes {_OLD:g} seconds after it was loaded, so that no render repeats")
    age = _YOUNG
    while difference(at(age), ready) > _NEAR:
        age *= 2
    return 2 * age
