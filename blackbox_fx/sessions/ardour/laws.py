"""Faders and places as Ardour has them: its panners have laws of their own, and its fader makes up for the level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.sessions.points import amplitude
from blackbox_fx.sessions.session import Points, SessionSend, SessionTrack

Levels = NDArray[np.float64]
PANNERS = {1: "http://ardour.org/plugin/panner_1in2out", 2: "http://ardour.org/plugin/panner_balance"}
_SCALE = 2 - 4 * 10 ** (-3 / 20)  # of the panner of mono tracks, which is 3 dB down in the middle
LAG_SECONDS = 1 / 156.825  # of a fader that moves
_FINE = 1 / 256  # of the way from one side to the other: how far places may be apart where they move


def panned(place: Levels, channels: int) -> tuple[Levels, Levels]:
    """The gains of left and right at a place of Ardour, from 0 (left) to 1 (right).

    Args:
        place: any shape.
        channels: 1 for the panner of mono tracks, 2 for the balance of stereo tracks.
    """
    other = 1 - place
    if channels == 2:
        return np.minimum(1, 2 * other), np.minimum(1, 2 * place)
    return other * (_SCALE * other + 1 - _SCALE), place * (_SCALE * place + 1 - _SCALE)


def to_ardour(gain: Levels, pan: Levels, channels: int) -> tuple[Levels, Levels]:
    """The fader and the place with which Ardour gives left and right what the console's law gives them.

    Args:
        gain: of the fader, as a factor.
        pan: in [-1, 1].
        channels: of the track, 1 or 2.

    Returns:
        A factor of amplitude, and a place in [0, 1].
    """
    angle = (pan + 1) * (math.pi / 4)
    left, right = np.cos(angle), np.sin(angle)
    if channels == 2:
        place = np.where(left >= right, right / np.maximum(left, right) / 2, 1 - left / np.maximum(left, right) / 2)
        return gain * math.sqrt(2) * np.maximum(left, right), place
    half = (1 - _SCALE) * left + (1 + _SCALE) * right
    place = 2 * right / (half + np.sqrt(half**2 + 4 * _SCALE * (left - right) * right))
    return gain * (left + right) / sum(panned(place, 1)), place


def from_ardour(fader: Levels, place: Levels, channels: int) -> tuple[Levels, Levels]:
    """The gain and the pan of the console's law; the inverse of `to_ardour`."""
    left, right = panned(place, channels)
    pan = np.arctan2(right, left) * (4 / math.pi) - 1
    return fader * np.hypot(left, right) / math.sqrt(channels), pan


def fader_lines(track: SessionTrack, dense: bool) -> list[Points]:
    """What moves of a track, as points of Ardour's fader and of its place, with straight lines between them.

    Args:
        track: with points of the console's law.
        dense: whether places that move get points in between, so that lines between them follow the console's law.
    """
    return _lines(track.volume_points, track.gain_db, track, dense)


def send_line(send: SessionSend, track: SessionTrack, dense: bool) -> Points:
    """What moves of a send of a track, as points of its gain; before the fader, that makes up for the place, too."""
    return _lines(send.volume_points, send.gain_db, track, dense)[0] if send.pre else send.volume_points


def _lines(gain: Points, gain_db: float, track: SessionTrack, dense: bool) -> list[Points]:
    pan, place = track.pan_points, track.pan
    return _converted(to_ardour, gain, amplitude(gain_db), pan, place, track.channels, dense)


def console_lines(fader: Points, still_fader: float, place: Points, still_place: float, channels: int) -> list[Points]:
    """What moves of a track of Ardour, as points of factors and in [-1, 1]; see `fader_lines`."""
    return _converted(from_ardour, fader, still_fader, place, still_place, channels, False)


def _converted(
    convert: Callable[[Levels, Levels, int], tuple[Levels, Levels]],
    gain: Points,
    still_gain: float,
    pan: Points,
    still_pan: float,
    channels: int,
    dense: bool,
) -> list[Points]:
    known = [time for time, _ in gain] + (_between(pan) if dense else [time for time, _ in pan])
    times = np.array(sorted(set(known)))
    gains, pans = _at(times, gain, still_gain), _at(times, pan, still_pan)
    found = convert(gains, pans, channels)
    moves = bool(gain or pan), bool(pan)
    return [
        tuple(zip(times.tolist(), each.tolist(), strict=True)) if moving else ()
        for each, moving in zip(found, moves, strict=True)
    ]


def _at(times: Levels, points: Points, still: float) -> Levels:
    if not points:
        return np.full(len(times), still)
    found = np.array(points)
    return np.interp(times, found[:, 0], found[:, 1])


def _between(pan: Points) -> list[float]:
    """The times of points, with so many between them that no place is far from the next."""
    found = [time for time, _ in pan[-1:]]
    for (time, place), (then, other) in itertools.pairwise(pan):
        parts = max(math.ceil(abs(other - place) / 2 / _FINE), 1)
        found += [time + (then - time) * k / parts for k in range(parts)]
    return found


def lag(points: Sequence[tuple[float, float]], sample_rate: float) -> float:
    """By how much the gain that Ardour gives is at most off while a fader moves along straight lines of amplitude.

    Ardour smooths automation of gains by a low-pass of 25 Hz, and reads it up to one sample off its time.
    """
    steps = itertools.pairwise(points)
    slopes = [abs(b - a) / (then - time) for (time, a), (then, b) in steps if then > time]
    return max(slopes, default=0.0) * (LAG_SECONDS + 1 / sample_rate)
