"""Effects with a further input, which tests send to workers, too; they import nothing slow."""

import numba
import numpy as np


@numba.njit(cache=True)
def follow(x, attack, release):
    found, state = np.zeros_like(x), 0.0
    for t in range(len(x)):
        keep = attack if x[t] > state else release
        state = keep * state + (1 - keep) * x[t]
        found[t] = state
    return found


def compress(x, sr, sidechain, threshold_db, ratio):
    level = np.abs(sidechain.astype(np.float64)).max(axis=0)
    envelope = follow(level, np.exp(-1 / (0.002 * sr)), np.exp(-1 / (0.1 * sr)))
    over = np.maximum(0, 20 * np.log10(envelope + 1e-7) - threshold_db)
    return x * 10 ** (-over * (1 - 1 / ratio) / 20)


def modulate(x, sr, modulator, depth):
    return x * (1 - depth + depth * modulator)


def duck(x, sr, key, depth):
    return x / (1 + 20 * depth * np.abs(key).sum(axis=0, keepdims=True))
