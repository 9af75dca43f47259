"""Parameters that overwrite others: found by what is heard when they are set in other orders, and set before these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.effects.settling import difference

Raws = Mapping[int, float]  # positions in [0, 1] by the index of the parameter
Moves = Sequence[Raws]
_HEARD = 1e-3  # relative to the largest sample
_MOST = 64  # positions of a parameter that are tried
_NEAR = 1e-4  # how far a range is moved away


class Hear(Protocol):
    """A plugin that is set and heard."""

    def __call__(self, row: Raws, moves: Moves, new: bool) -> NDArray[np.float32]:
        """The output after it was set.

        Args:
            row: what all parameters are set to, at once.
            moves: what some are set to then; each move is passed on before the next.
            new: whether the instance has to be one that stood at its defaults before.
        """
        ...


def is_stepped(steps: int) -> bool:
    """Whether a parameter has a number of positions, rather than a range."""
    return 2 <= steps <= 1000


def positions(steps: int) -> list[float]:
    """Where a parameter is tried: all its positions, or as many as are allowed; the ends and the middle of a range."""
    if not is_stepped(steps):
        return [0.0, 0.5, 1.0]
    count = min(steps, _MOST)
    return [round(j * (steps - 1) / (count - 1)) / (steps - 1) for j in range(count)]


def away(raw: float, steps: int) -> float:
    """Another position near to this one."""
    step = 1 / (steps - 1) if is_stepped(steps) else _NEAR
    return raw + step if raw + step <= 1 else raw - step


def passes(raws: Raws, first: Iterable[int], steps: Raws) -> list[dict[int, float]]:
    """What is set one after another, each with some silence, where some parameters overwrite others.

    Those come first, and what they may have overwritten is then moved away and back, since wrappers pass on only what
    differs from what they passed on before.

    Args:
        raws: where all parameters shall stand.
        first: those that overwrite others, in the order in which they are set.
        steps: how many positions each has.
    """
    moved = {index: away(raw, int(steps[index])) for index, raw in raws.items()}
    leading = [index for index in first if index in raws]
    others = [index for index in raws if index not in leading]
    groups = [*([index] for index in leading), *([others] if others else [])]
    return [{index: at[index] for index in group} for group in groups for at in (moved, raws)]


def sorted_movers(overwritten: Mapping[int, Iterable[int]]) -> list[int]:
    """Those that overwrite anything, each before what it overwrites, where they do not overwrite each other.

    Args:
        overwritten: what each parameter overwrites.
    """
    left = [index for index, others in overwritten.items() if others]
    found: list[int] = []
    while left:
        free = (k for k in left if not any(k in overwritten[other] for other in left if other != k))
        found.append(next(free, left[0]))
        left.remove(found[-1])
    return found


def random_row(steps: Mapping[int, int]) -> dict[int, float]:
    """Settings at which the order is tried."""
    rng = np.random.default_rng(0)
    return {k: float(rng.choice(positions(count)) if is_stepped(count) else rng.random()) for k, count in steps.items()}


def find_first(
    hear: Hear, steps: Mapping[int, int], defaults: Raws, row: Raws, forth: NDArray[np.float32] | None = None
) -> list[int]:
    """The parameters that overwrite others, in the order in which they are to be set before all else.

    All are taken through their positions and back one by one, and then in the opposite order. Only if that is heard,
    each is compared with each other one; a plugin whose output does not repeat is left alone.

    Args:
        hear: the plugin.
        steps: how many positions each parameter has, by index.
        defaults: where each stands in a new instance.
        row: the settings at which all this is done; if nothing is heard there, also with options at their defaults.
        forth: what is heard after the way through all positions, if that is known.
    """
    calm = {k: defaults[k] if is_stepped(steps[k]) else raw for k, raw in row.items()}
    for one, known in ((row, forth), *([(calm, None)] if calm != row else [])):  # some options mute
        search = _Search(hear, steps, defaults, one)
        if search.is_ordered(known):
            return sorted_movers({k: search.overwritten(k) for k in steps})
    return []


@final
class _Search:
    """The search at one row of settings; see `find_first`."""

    def __init__(self, hear: Hear, steps: Mapping[int, int], defaults: Raws, row: Raws) -> None:
        self._hear, self._steps, self._defaults, self._row = hear, steps, defaults, row
        self._where = {k: positions(count) for k, count in steps.items()}

    def _heard(self, *order: int, row: Raws | None = None, new: bool = False) -> NDArray[np.float32]:
        """The output after parameters went through their positions and back, in this order."""
        back = self._row if row is None else row
        return self._hear(back, [{k: at} for k in order for at in (*self._where[k], back[k])], new)

    def _elsewhere(self, k: int) -> Raws:
        return {**self._row, k: max(self._where[k], key=lambda at: abs(at - self._row[k]))}

    def is_ordered(self, forth: NDArray[np.float32] | None) -> bool:
        """Whether the order of all is heard."""
        forth = self._heard(*self._where) if forth is None else forth
        again = [*self._row][-2::-1]  # nothing has overwritten the last
        heard = self._heard(*again)
        return _differ(forth, heard) and not _differ(heard, self._heard(*again))

    def overwritten(self, mover: int) -> set[int]:
        """What a parameter overwrites."""
        others = [k for k in self._where if k != mover]
        if not _differ(self._heard(mover, *others), self._heard(*others, mover)):
            return set()
        return {k for k in others if self._overwrites(mover, k)}

    def _overwrites(self, mover: int, other: int) -> bool:
        """Whether `other` is right only if it is set after `mover`, and not the other way round."""
        right, wrong = self._heard(mover, other), self._heard(other, mover)
        if not _differ(right, wrong) or _differ(right, self._heard(mover, other)):
            return False
        # where all are put back to their defaults in the right order, it sounds as if new
        count = len(self._where[mover]) + len(self._where[other]) + 2
        new = self._hear(self._defaults, [{other: self._defaults[other]}] * count, True)
        orders = ((mover, other), (other, mover))
        as_new = [not _differ(new, self._heard(*order, row=self._defaults, new=True)) for order in orders]
        if as_new[0] != as_new[1]:
            return as_new[0]
        # what is overwritten is not heard any more
        lost = not _differ(wrong, self._heard(other, mover, row=self._elsewhere(other)))
        both = lost and not _differ(right, self._heard(mover, other, row=self._elsewhere(mover)))
        return other < mover if both else lost


def _differ(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return difference(a, b) > _HEARD
