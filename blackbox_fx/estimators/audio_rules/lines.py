"""A delay line with a moving length, forwards and backwards, and what moves it; compiled on first use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.compiled import compiled
from blackbox_fx.estimators.audio_rules.envelopes import Floats


@compiled
def delayed(u: Floats, delay: Floats, feedback: float) -> Floats:
    """w(t) = p(t - delay(t)), where p(t) = u(t) + feedback * w(t - 1); delays are at least one sample."""
    out = np.zeros_like(u)
    line = np.zeros(u.shape[1])
    for channel in range(u.shape[0]):
        for t in range(u.shape[1]):
            line[t] = u[channel, t] + (feedback * out[channel, t - 1] if t else 0.0)
            place = t - delay[t]
            n = int(np.floor(place))
            if n >= 0:
                out[channel, t] = line[n] + (place - n) * (line[n + 1] - line[n])
            elif n == -1:
                out[channel, t] = (place - n) * line[0]
    return out


@compiled
def delayed_back(v: Floats, delay: Floats, feedback: float) -> Floats:
    """The transpose of `delayed`."""
    out = np.zeros_like(v)
    for channel in range(v.shape[0]):
        for t in range(v.shape[1] - 1, -1, -1):
            # all that is read from the line at t was read later, so the cotangent of p(t + 1) is complete
            into = v[channel, t] + (feedback * out[channel, t + 1] if t + 1 < v.shape[1] else 0.0)
            place = t - delay[t]
            n = int(np.floor(place))
            if n >= 0:
                out[channel, n] += (n + 1 - place) * into
            if n >= -1:
                out[channel, n + 1] += (place - n) * into
    return out


@compiled
def sine(frequency: float, weights: Floats, length: int) -> Floats:
    """A constant, and cosines and sines of a frequency, in cycles per sample, and two overtones."""
    out = np.empty(length)
    turn = np.exp(2j * np.pi * frequency)
    for start in range(0, length, 256):  # so that rounding does not add up
        first = np.exp(2j * np.pi * frequency * start)
        for t in range(start, min(start + 256, length)):
            second = first * first
            third = second * first
            out[t] = (
                weights[0]
                + weights[1] * first.real
                + weights[2] * second.real
                + weights[3] * third.real
                + weights[4] * first.imag
                + weights[5] * second.imag
                + weights[6] * third.imag
            )
            first *= turn
    return out


@compiled
def between(table: Floats, places: NDArray[np.int64], parts: Floats) -> Floats:
    """Every row of a table, interpolated from its columns at `places` towards the next ones, (row, time)."""
    out = np.empty((len(table), len(places)))
    for row in range(len(table)):
        for t in range(len(places)):
            n = places[t]
            out[row, t] = table[row, n] + parts[t] * (table[row, n + 1] - table[row, n])
    return out
