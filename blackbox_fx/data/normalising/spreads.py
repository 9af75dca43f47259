"""How much stems of a role differ, before and after normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.data.normalising.features import StemFeatures
from blackbox_fx.data.normalising.frames import OCTAVES_HZ, Array
from blackbox_fx.errors import DataError

_DRAWS = 1000
_BANDS = len(OCTAVES_HZ)
_PARTS = {
    "loudness, LU": slice(0, 1),
    "spectrum, dB": slice(1, 1 + _BANDS),
    "place, dB": slice(1 + _BANDS, 1 + 2 * _BANDS),
    "width, dB": slice(1 + 2 * _BANDS, 1 + 3 * _BANDS),
    "crest factor, dB": slice(-3, -2),
    "range, dB": slice(-2, -1),
    "decay, octaves of s": slice(-1, None),
}


class Spread(NamedTuple):
    """The spread of a feature.

    Args:
        feature: with its unit.
        before: standard deviation of stems from the mean of their role; the root of the mean square over octaves.
        after: the same after normalisation.
        ratio: the second over the first.
        low: lower end of the 95 % bootstrap interval of the ratio, over stems.
        high: upper end.
    """

    feature: str
    before: float
    after: float
    ratio: float
    low: float
    high: float


def spreads(roles: Sequence[str], before: Sequence[StemFeatures], after: Sequence[StemFeatures]) -> tuple[Spread, ...]:
    """The spread of each feature before and after normalisation.

    Args:
        roles: of stems; those of which there is one only are left out.
        before: the features of each.
        after: the same after normalisation.

    Raises:
        DataError: no role has two stems.
    """
    kept = [k for k, role in enumerate(roles) if roles.count(role) > 1]
    if not kept:
        raise DataError(f"A spread needs two stems of a role, got {len(roles)} of {len(set(roles))} roles; add some.")
    names = np.array(roles)[kept]
    pairs = [_squares(np.array([found[k].vector() for k in kept]), names) for found in (before, after)]
    draws = np.random.default_rng(0).integers(len(kept), size=(_DRAWS, len(kept)))
    return tuple(_spread(name, pairs[0][:, part], pairs[1][:, part], draws) for name, part in _PARTS.items())


def _squares(rows: Array, roles: Array) -> Array:
    """Squared differences from the mean of the role, NaN where not known."""
    out = rows.copy()
    for role in set(roles.tolist()):
        own = rows[roles == role]
        known = np.isfinite(own)
        out[roles == role] -= np.where(known, own, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return out**2


def _spread(name: str, before: Array, after: Array, draws: NDArray[np.int64]) -> Spread:
    known = np.isfinite(before) & np.isfinite(after)
    was, now = (np.where(known, each, 0).sum(axis=1) for each in (before, after))
    count = max(int(known.sum()), 1)
    drawn = np.sqrt(now[draws].sum(axis=1) / np.maximum(was[draws].sum(axis=1), 1e-12))
    low, high = np.percentile(drawn, (2.5, 97.5))
    first, second = float(np.sqrt(was.sum() / count)), float(np.sqrt(now.sum() / count))
    return Spread(name, first, second, second / max(first, 1e-6), float(low), float(high))
