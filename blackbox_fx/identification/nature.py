"""What an effect does to noise at a few settings: whether it is linear, moves, rings, or follows the level."""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.runtime import Job

Floats = NDArray[np.float64]
_LINEAR = 0.02  # largest relative error of superposition
_SETTINGS = 8
_LENGTHS_S = (0.002, 0.01, 0.05, 0.2)  # of pieces of noise
_QUIETEST = -4.0  # level of the softest piece, in units of 20 dB
_NOISE_S, _SILENCE_S, _SHIFT = 1.0, 0.5, 1237  # of each clip; samples
_LONG_S, _HEARD = 0.02, 1e-6  # after the noise; power against all
_MOST = 0.8  # part of the settings that are linear if an effect is
_MOVES, _PLAIN = 1e-3, 1e-3  # relative errors of a shift, and of a function of the sample


@final
class Nature(NamedTuple):
    """What an effect is like at random settings.

    Args:
        linear: whether its answer to a sum is that of the answers.
        moves: whether its answer depends on when the sound comes.
        rings: whether it goes on for 20 ms after the sound.
        follows: whether its answer to a sample depends on those before, in a way that is not linear.
    """

    linear: bool
    moves: bool
    rings: bool
    follows: bool


def jumping(length: int, rate: float) -> Floats:
    """Noise of one size whose level jumps, (time,)."""
    rng, pieces = np.random.default_rng(0), []
    while sum(map(len, pieces)) < length:
        pieces.append(np.full(round(rate * rng.choice(_LENGTHS_S)), 10 ** rng.uniform(_QUIETEST, 0)))
    return np.concatenate(pieces)[:length] * rng.choice((-1.0, 1.0), length)


def find_nature(stream: ClipStream) -> Nature | None:
    """What the effect of a stream is like; None if it is silent at all of a few settings.

    Raises:
        EffectError, WorkerDied, RenderTimeout: the effect failed; in a pool that skips failures, at all settings.
    """
    rate = stream.clips.sample_rate
    noise = jumping(round(_NOISE_S * rate), rate)
    whole = np.pad(noise, (0, round(_SILENCE_S * rate)))
    inputs = np.stack([whole, whole / 2, np.roll(whole, _SHIFT)])
    points = stream.settings(_SETTINGS, np.random.default_rng([stream.seed, 5]))
    job = Job(
        stream.effect, inputs[:, None].astype(np.float32), np.repeat(points, 3, 0), np.tile(range(3), len(points)), rate
    )
    wet = stream.pool.map(job)[:, 0].astype(np.float64).reshape(-1, 3, len(whole))
    if job.failed.all():
        raise stream.refusal(_SETTINGS)
    wet = wet[~job.failed.reshape(-1, 3).any(axis=1) & (np.abs(wet).max(axis=(1, 2)) > 0)]
    if not len(wet):
        return None
    full, half, late = wet.swapaxes(0, 1)
    size = np.linalg.norm(full, axis=1)
    curved = np.linalg.norm(full - 2 * half, axis=1) / size
    moved = np.linalg.norm(late[:, _SHIFT:] - full[:, :-_SHIFT], axis=1) / size
    tail = np.linalg.norm(full[:, len(noise) + round(_LONG_S * rate) :], axis=1) / size
    linear = bool((curved < _LINEAR).mean() > _MOST)
    follows = not linear and max(_scatter(noise, each[: len(noise)]) for each in full) > _PLAIN
    return Nature(linear, bool(np.median(moved) > _MOVES), bool((tail**2).max() > _HEARD), follows)


def _scatter(noise: Floats, wet: Floats) -> float:
    """What a function of the sample leaves of the output, against the output: equal samples should give the same."""
    _, place = np.unique(noise, return_inverse=True)
    count = np.bincount(place)
    mean = np.bincount(place, wet) / count
    return float(np.linalg.norm(wet - mean[place]) / max(np.linalg.norm(wet), 1e-30))
