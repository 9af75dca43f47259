"""Curves of a console as the points of a DAW, which draws straight lines of amplitude and of place between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from blackbox_fx.layers.automation import Curve
from blackbox_fx.sessions.session import Points, SessionTrack

_NEAR = 2e-6  # of an amplitude, from which straight lines between points may differ
_USUAL_TOP_DB = 6.02  # of faders
_STEP_DB = math.sqrt(8 * _NEAR) * 20 / math.log(10)


def amplitude(db: float) -> float:
    """A level in dB as a factor."""
    return 10 ** (db / 20)


def decibels(factor: float) -> float:
    """A factor as a level in dB; -inf for 0."""
    return 20 * math.log10(factor) if factor > 0 else -math.inf


def above(tracks: Sequence[SessionTrack]) -> list[str]:
    """The names of tracks whose faders go higher than those of most DAWs, which end at 6 dB."""
    levels = [(track.name, track.gain_db, track.volume_points) for track in tracks]
    return [n for n, db, points in levels if max([db, *(decibels(v) for _, v in points)]) > _USUAL_TOP_DB]


def level(column: float, level_db: tuple[float, float]) -> float:
    """The level in dB of a column in [0, 1]."""
    low, high = level_db
    return low + (high - low) * min(max(column, 0.0), 1.0)


def volume_points(curve: Curve, row: int, level_db: tuple[float, float], seconds: float, dense: bool) -> Points:
    """The amplitudes of a level that moves.

    Levels are straight lines in dB, and those of a DAW in amplitude, so that points in between are needed.

    Args:
        curve: of a column in [0, 1].
        row: of the curve.
        level_db: the range of the column.
        seconds: how long the song is.
        dense: whether there are so many points that lines between them differ by less than 2e-6 of the amplitude;
            else there are only those of the curve.
    """
    levels = [(time, level(value, level_db)) for time, value in _shown(curve, row, seconds)]
    if dense:
        levels = list(_filled(levels))
    return tuple((time, amplitude(db)) for time, db in levels)


def pan_points(curve: Curve, row: int, seconds: float) -> Points:
    """The places in [-1, 1] of a place that moves.

    Args:
        curve: of a column in [0, 1].
        row: of the curve.
        seconds: how long the song is.
    """
    return tuple((time, 2 * min(max(value, 0.0), 1.0) - 1) for time, value in _shown(curve, row, seconds))


def _shown(curve: Curve, row: int, seconds: float) -> list[tuple[float, float]]:
    """The break points of a curve up to the first one behind the song."""
    values: list[float] = curve.points[row].detach().double().tolist()
    last = math.ceil(seconds * curve.rate_hz)
    return [(k / curve.rate_hz, value) for k, value in enumerate(values[: last + 1])]


def _filled(levels: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Levels in dB with so many between them that no step is large."""
    for (time, db), (then, other) in itertools.pairwise(levels):
        parts = max(math.ceil(abs(other - db) / _STEP_DB), 1)
        for k in range(parts):
            yield time + (then - time) * k / parts, db + (other - db) * k / parts
    yield levels[-1]
