"""One-pole followers with an attack and a release, forwards and backwards; compiled on first use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.compiled import compiled

Floats = NDArray[np.float64]


@compiled
def follow(level: Floats, attack: float, release: float) -> tuple[Floats, Floats]:
    """The envelope e(t) = c(t) e(t-1) + (1 - c(t)) level(t), and c(t).

    c(t) is `attack` while the level is above the envelope, else `release`, both in [0, 1). All (channel, time).
    """
    envelope, keeps = np.empty_like(level), np.empty_like(level)
    for channel in range(level.shape[0]):
        e = 0.0
        for t in range(level.shape[1]):
            keep = attack if level[channel, t] > e else release
            e = keep * e + (1.0 - keep) * level[channel, t]
            envelope[channel, t], keeps[channel, t] = e, keep
    return envelope, keeps


@compiled
def fall(power: Floats, release: float) -> tuple[Floats, Floats]:
    """The envelope of one that rises at once, and its derivative by the logarithm of the release time."""
    envelope, moves = np.empty_like(power), np.empty_like(power)
    by_release = -np.log(release) if release > 0 else 0.0
    for channel in range(power.shape[0]):
        e, r = 0.0, 0.0
        for t in range(power.shape[1]):
            now = power[channel, t]
            rises = now > e
            e = now if rises else release * e + (1.0 - release) * now
            r = 0.0 if rises else release * r + (e - now) * by_release
            envelope[channel, t], moves[channel, t] = e, r
    return envelope, moves


def running(signal: Floats) -> Floats:
    """The sums of all samples before each, (channel, time + 1)."""
    return np.pad(np.cumsum(signal, axis=-1), ((0, 0), (1, 0)))


@compiled
def slid(total: Floats, samples: float) -> Floats:
    """What `slide` does to a signal whose sums are `running`."""
    channels, length = total.shape[0], total.shape[1] - 1
    out = np.empty((channels, length))
    whole = int(samples)
    part = samples - whole
    for channel in range(channels):
        sums, mean = total[channel], out[channel]
        ends = sums[1:]
        for t in range(min(whole, length)):
            mean[t] = ((1 - part) * ends[t] + part * ends[t]) / samples
        later, now = mean[whole:], ends[whole:]
        for t in range(length - whole):
            later[t] = ((1 - part) * (now[t] - ends[t]) + part * (now[t] - sums[t])) / samples
    return out


def slide(signal: Floats, samples: float) -> Floats:
    """The running mean over so many samples, 1 or more, of which a part counts in part; (channel, time)."""
    return slid(running(signal), samples)


def slide_back(signal: Floats, samples: float) -> Floats:
    """The transpose of `slide`."""
    return slide(signal[:, ::-1], samples)[:, ::-1]


@compiled
def follow_many(level: Floats, attacks: Floats, releases: Floats, at: NDArray[np.int64]) -> Floats:
    """The envelopes of several followers at some samples, in order: (follower, channel, sample)."""
    count = len(attacks)
    out = np.empty((count, level.shape[0], len(at)))
    for channel in range(level.shape[0]):
        e = np.zeros(count)
        n = 0
        for t in range(at[-1] + 1):
            now = level[channel, t]
            for k in range(count):
                keep = attacks[k] if now > e[k] else releases[k]
                e[k] = keep * e[k] + (1.0 - keep) * now
            if t == at[n]:
                out[:, channel, n] = e
                n += 1
    return out


@compiled
def follow_moved(level: Floats, moves: Floats, attack: float, release: float, at: NDArray[np.int64]) -> Floats:
    """The envelope at some samples, in order, and its derivatives: (4, channel, sample).

    The derivatives are those by the logarithms of the attack time and of the release time, and the one that `moves`,
    a derivative of the level, gives.
    """
    out = np.empty((4, level.shape[0], len(at)))
    by_attack = -attack * np.log(attack) if attack > 0 else 0.0
    by_release = -release * np.log(release) if release > 0 else 0.0
    for channel in range(level.shape[0]):
        e, a, r, m, n = 0.0, 0.0, 0.0, 0.0, 0
        for t in range(at[-1] + 1):
            now = level[channel, t]
            rises = now > e
            keep = attack if rises else release
            off = e - now
            a = keep * a + (off * by_attack if rises else 0.0)
            r = keep * r + (0.0 if rises else off * by_release)
            m = keep * m + (1.0 - keep) * moves[channel, t]
            e = now + keep * off
            if t == at[n]:
                out[0, channel, n], out[1, channel, n], out[2, channel, n], out[3, channel, n] = e, a, r, m
                n += 1
    return out


@compiled
def smooth(change: Floats, keeps: Floats) -> Floats:
    """What a change of the level does to the envelope."""
    out = np.empty_like(change)
    for channel in range(change.shape[0]):
        e = 0.0
        for t in range(change.shape[1]):
            keep = keeps[channel, t]
            e = keep * e + (1.0 - keep) * change[channel, t]
            out[channel, t] = e
    return out


@compiled
def smooth_back(cotangent: Floats, keeps: Floats) -> Floats:
    """The transpose of `smooth`."""
    out = np.empty_like(cotangent)
    for channel in range(cotangent.shape[0]):
        carried = 0.0
        for t in range(cotangent.shape[1] - 1, -1, -1):
            carried += cotangent[channel, t]
            out[channel, t] = (1.0 - keeps[channel, t]) * carried
            carried *= keeps[channel, t]
    return out


@compiled
def curves_left(axes: Floats, x: Floats, y: Floats, knots: int) -> Floats:
    """What the best curves leave of y = x * curve(axis): the sum of squares for each of several axes, (axis, sample).

    A curve is straight between knots, which lie evenly where x is audible.
    """
    left = np.empty(len(axes))
    for k in range(len(axes)):
        low, high = np.inf, -np.inf
        for t in range(len(x)):
            if abs(x[t]) > 1e-6:
                low, high = min(low, axes[k, t]), max(high, axes[k, t])
        main, side, wanted = np.zeros(knots), np.zeros(knots), np.zeros(knots)
        scale, power = (knots - 1) / max(high - low, 1e-3), 0.0
        for t in range(len(x)):
            place = min(max((axes[k, t] - low) * scale, 0.0), knots - 1.000001)
            n = int(place)
            above = x[t] * (place - n)
            below = x[t] - above
            main[n] += below * below
            main[n + 1] += above * above
            side[n] += below * above
            wanted[n] += below * y[t]
            wanted[n + 1] += above * y[t]
            power += y[t] * y[t]
        # hats overlap only with their neighbours, so the normal equations have three diagonals
        main += 1e-9 * main.mean() + 1e-30
        for n in range(1, knots):
            share = side[n - 1] / main[n - 1]
            main[n] -= share * side[n - 1]
            wanted[n] -= share * wanted[n - 1]
            power -= wanted[n - 1] * wanted[n - 1] / main[n - 1]
        left[k] = max(power - wanted[-1] * wanted[-1] / main[-1], 0.0)
    return left
