"""Checks of single values that users give: each returns the value in its own type, or says what is allowed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from blackbox_fx.errors import ParameterError

LONGEST_LATENCY = 2**24  # samples; float32, in which plugins report it, counts no further
LEAST_COSINE = 0.5  # of a surrogate's gradient to the effect's; below, it is wrong rather than rough


def is_number(value: Any) -> bool:
    """Whether it is a real number of Python or numpy, and no bool."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))


def is_whole(value: Any) -> bool:
    """Whether it is an integer of Python or numpy, and no bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`. Raises ParameterError otherwise."""
    if not is_whole(value) or value < least:
        raise ParameterError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def latency(value: Any) -> int:
    """Samples of latency. Raises ParameterError unless it is a whole number of 0 to 2**24."""
    if not is_whole(value) or not 0 <= value <= LONGEST_LATENCY:
        raise ParameterError(f"latency_samples must be a whole number of 0 to {LONGEST_LATENCY}, got {value!r}.")
    return int(value)


def positive(name: str, value: Any) -> float:
    """A finite number above 0. Raises ParameterError otherwise."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ParameterError(f"{name} must be a finite number above 0, got {value!r}.")
    return float(value)


def within(name: str, value: Any, low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> float:
    """A number between two ends. Raises ParameterError otherwise.

    Args:
        name: of the value, for the error.
        value: to check.
        low: the lower end.
        high: the upper end.
        open_low: whether the lower end itself is not allowed.
        open_high: the same of the upper end.
    """
    inside = is_number(value) and (low < value if open_low else low <= value)
    if not inside or not (value < high if open_high else value <= high):
        ends = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ParameterError(f"{name} must be a number in {ends}, got {value!r}.")
    return float(value)


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """One of several values. Raises ParameterError otherwise."""
    if value not in allowed:
        raise ParameterError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")
    return value
