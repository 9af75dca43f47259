"""Spectrum, place and width moved to where they should be, by one filter for each way from side to side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.data.normalising.features import SIGNIFICANT_DB, balance
from blackbox_fx.data.normalising.frames import OCTAVES_HZ, Array, Grid, extended

LIFT_DB, CUT_DB = 30.0, 36.0  # most that an octave is lifted and lowered by, relative to the strongest
_PAN_DB = 12.0  # the same of a side
_WIDTH_DB = 12.0  # and of the difference between the sides
_NOISE_DB = -80.0  # of an octave, relative to the whole; up to here nothing is lifted
_TURNED_DB = 15.0  # by how much a side is louder where the other cannot be lifted instead
LEAST_DB = SIGNIFICANT_DB - LIFT_DB  # of an octave, below which it is left as it is
_ROUNDS = 10
_NOTHING_DB, _FIRST_DB, _LEAST_SPREAD_DB, _MOST_SPREAD_DB = -100.0, -20.0, -50.0, 6.0
_NARROW_DB = 60.0
_ALIKE_DB = 28.0  # of the middle over the sides, from which on the sides are nothing to lift

Matrix = NDArray[np.complex128]  # (to side, from side, bin)


class Moves(NamedTuple):
    """What is done to each octave, (octave,) each, in dB.

    Args:
        spectrum: gain of both sides.
        centre: gain of the left side that makes both equally loud; that of the right is the opposite.
        width: gain of the difference between the sides, once they are equally loud.
        spread: level of what is added to that difference, made from the middle and relative to it; -100 is nothing.
        pan: gain of the left side in the end; that of the right is the opposite.
    """

    spectrum: Array
    centre: Array
    width: Array
    spread: Array
    pan: Array


def stay() -> Moves:
    """Moves that change nothing."""
    zeros = np.zeros(len(OCTAVES_HZ))
    return Moves(zeros, zeros, zeros, np.full_like(zeros, _NOTHING_DB), zeros)


class Aim(NamedTuple):
    """Where to move: as in `StemFeatures`, (octave,) each; a feature that is NaN in all octaves is left as it is."""

    spectrum: Array
    pan: Array
    width: Array


def angle(spectra: Array) -> float:
    """By how much to turn left and right, in radians, so that both are equally loud; 0 if gains can do that."""
    left, right, shared = spectra.sum(axis=1)
    if abs(10 * np.log10(max(left, 1e-20) / max(right, 1e-20))) < _TURNED_DB:
        return 0.0
    return float(np.arctan2(left - right, 2 * shared) / 2)


def _by_bin(octaves: Array, cut: Grid) -> Array:
    """Values of octaves at every bin; between their centres, in between."""
    weights = cut.coarse.copy()
    lowest = int(np.argmax(weights.any(axis=0)))
    weights[:, :lowest] = weights[:, [lowest]]
    return octaves @ weights


def matrix(moves: Moves, turn: float, cut: Grid) -> Matrix:
    """The responses from each side to each, (to, from, bin)."""
    both, centre, width, spread, pan = (10 ** (_by_bin(each, cut) / 20) for each in moves)
    added = 1j * spread  # a quarter of a period apart, so that neither side gets louder
    middle = np.stack([centre, 1 / centre]) / 2
    sides = np.stack([centre, -1 / centre]) / 2 * width
    left = both * pan * (middle * (1 + added) + sides)
    right = both / pan * (middle * (1 - added) - sides)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.einsum("tfb,fs->tsb", np.stack([left, right]), turned)


def predict(spectra: Array, ways: Matrix) -> Array:
    """The spectra after the filters."""
    left, right, shared = spectra
    own = np.abs(ways) ** 2
    cross = 2 * (ways[:, 0] * ways[:, 1].conj()).real * shared
    powers = own[:, 0] * left + own[:, 1] * right + cross
    between = ways[0, 0] * ways[1, 0].conj() * left + ways[0, 1] * ways[1, 1].conj() * right
    between += (ways[0, 0] * ways[1, 1].conj() + ways[0, 1] * ways[1, 0].conj()) * shared
    return np.stack([*powers, between.real])


def solve(spectra: Array, aim: Aim, turn: float, cut: Grid) -> Moves:
    """Moves after which the spectra of an `Analysis` are at their aim, as far as the limits let them."""
    moves, zeros = stay(), np.zeros(len(OCTAVES_HZ))
    level = balance(spectra, cut)[0]
    highest = np.clip(level - _NOISE_DB, 0.0, LIFT_DB)
    anchor = int(np.argmax(np.minimum(level, aim.spectrum)))  # the whole gets its level later
    for _ in range(_ROUNDS if np.isfinite(aim.pan).any() else 0):
        pan = balance(predict(spectra, matrix(moves, turn, cut)), cut)[1]
        moves = moves._replace(centre=np.clip(moves.centre + _off(zeros, pan) / 2, -_PAN_DB, _PAN_DB))
    widest = np.clip(
        _ALIKE_DB + np.nan_to_num(balance(predict(spectra, matrix(moves, turn, cut)), cut)[2]), 0.0, _WIDTH_DB
    )
    for _ in range(_ROUNDS):
        spectrum, pan, width = balance(predict(spectra, matrix(moves, turn, cut)), cut)
        moves = moves._replace(pan=np.clip(moves.pan + _off(aim.pan, pan) / 2, -_PAN_DB, _PAN_DB))
        moves = _widen(moves, _off(aim.width, width), widest)
        step = np.where(level > LEAST_DB, _off(aim.spectrum, spectrum), 0.0)
        gains = moves.spectrum + step
        moves = moves._replace(spectrum=np.clip(gains - gains[anchor], -CUT_DB, highest))
    return moves


def _off(aim: Array, found: Array) -> Array:
    """How far octaves are from their aim; those of which it is not known are as far as their neighbours."""
    off = aim - found
    known = np.flatnonzero(np.isfinite(off))
    return np.interp(np.arange(len(off)), known, off[known]) if len(known) else np.zeros_like(off)


def _widen(moves: Moves, off: Array, most: Array) -> Moves:
    """Lifts or lowers the sides; where that is not enough, more is made from the middle."""
    spread = np.where(moves.spread > _NOTHING_DB, moves.spread + off, moves.spread)
    width = moves.width + np.where((moves.spread > _NOTHING_DB) & (off > 0), 0.0, off)
    begins = (width > most) & (moves.spread <= _NOTHING_DB)
    spread = np.where(begins, _FIRST_DB, spread)
    spread = np.where(spread < _LEAST_SPREAD_DB, _NOTHING_DB, spread)
    return moves._replace(width=np.clip(width, -_NARROW_DB, most), spread=np.minimum(spread, _MOST_SPREAD_DB))


def place(audio: Audio, ways: Matrix, cut: Grid) -> Audio:
    """Stereo audio (2, time) through the filters."""
    from blackbox_fx.core.lazy import scipy

    half = cut.size // 2
    shift = np.exp(-2j * np.pi * np.arange(half + 1) * half / cut.size)
    responses = scipy.fft.irfft(ways * shift, cut.size, axis=2) * np.hanning(cut.size + 1)[:-1]
    length = audio.shape[1]
    longer = extended(audio, half, half)
    out = np.zeros_like(audio)
    for to, row in enumerate(responses.astype(np.float32)):
        for source, response in enumerate(row):
            out[to] += scipy.signal.oaconvolve(longer[source], response)[2 * half : 2 * half + length]
    return out
