"""Plugins that go back to their defaults when a render begins, so that they have to be set once more after that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.effects.settling import difference

_NEAR = 1e-3  # relative to the largest sample
Row = TypeVar("Row")
Name = TypeVar("Name")


def forgets(
    wet: Callable[[Row, bool], NDArray[np.float32]],
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

    def is_lost(name: Name, row: Row, after: NDArray[np.float32]) -> bool:
        if is_heard(name, row) or difference(after, wet(moved(row, name), True)) <= _NEAR:
            return False
        return not any(is_heard(name, one) for one in tried)

    for row in tried:
        after = wet(row, True)
        if difference(wet(row, False), after) > _NEAR and any(is_lost(name, row, after) for name in names):
            return True
    return False
