"""Plugins that go back to their defaults when a render begins, so that they have to be set once more after that."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.effects.settling import difference

_NEAR = 1e-3  # relative to the largest sample
_MOST = 64  # parameters that are moved alone
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
        names: of the parameters that may be forgotten; of many, some.
        moved: settings with one parameter elsewhere.
        least: difference that is heard, relative to the largest sample.
    """
    some = names[:: -(-len(names) // _MOST) or 1]

    @functools.cache
    def before(k: int) -> NDArray[np.float32]:
        return wet(tried[k], False)

    def is_heard(name: Name, k: int) -> bool:
        return difference(before(k), wet(moved(tried[k], name), False)) > least

    def is_lost(name: Name, k: int, after: NDArray[np.float32]) -> bool:
        if is_heard(name, k) or difference(after, wet(moved(tried[k], name), True)) <= _NEAR:
            return False
        return not any(is_heard(name, j) for j in range(len(tried)))

    for k, row in enumerate(tried):
        after = wet(row, True)
        if difference(before(k), after) > _NEAR and any(is_lost(name, k, after) for name in some):
            return True
    return False
