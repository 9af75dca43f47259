"""Fits the numbers of a modulated net to what an effect answers at one setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.core.lazy import scipy
from blackbox_fx.proxy.nets.modulated import NUMBERS, Modulated

Floats = NDArray[np.float64]
_BANDS = (0.03, 0.15, None)  # cycles per sample up to which the first fits listen
_ITERATIONS = 12
DRY, WET, BACK, POLE, CENTRE, DEPTH, RATE, START, LOW, HIGH = range(len(NUMBERS))


@final
class Fit(NamedTuple):
    """Numbers of a net at one setting.

    Args:
        numbers: (10,), see `NUMBERS`.
        errors: their standard errors, (10,); infinite for those that were not fitted.
        residual: error-to-signal ratio for white noise.
    """

    numbers: Floats
    errors: Floats
    residual: float


def fit_numbers(
    net: Modulated, x: Floats, y: Floats, start: Floats, free: Sequence[int], most: int = _ITERATIONS
) -> Fit:
    """Numbers by the method of Levenberg and Marquardt.

    Args:
        net: whose numbers they are.
        x, y: input and output, (time,).
        start: (10,).
        free: indices of the numbers that are fitted.
        most: iterations.
    """
    inputs = torch.from_numpy(x).float()[None]
    steps = _steps(net, start, len(x))[list(free)]

    def outputs(numbers: Floats) -> Floats:
        rows = torch.from_numpy(np.atleast_2d(numbers))
        return net.render(inputs.expand(len(rows), -1), rows).numpy().astype(np.float64)

    numbers, damping = start.copy(), 1e-3
    residual = y - outputs(numbers)[0]
    gram = np.eye(len(free))
    for _ in range(most if free else 0):
        moved = np.repeat(numbers[None], len(free), 0)
        moved[np.arange(len(free)), list(free)] += steps
        slopes = outputs(moved) - (y - residual)
        if not np.isfinite(slopes).all():
            break
        gram, goal = slopes @ slopes.T, slopes @ residual
        gram += 1e-12 * max(np.trace(gram), 1e-30) * np.eye(len(free))
        before = residual @ residual
        for _ in range(6):
            change = np.linalg.solve(gram + damping * np.diag(np.diag(gram)), goal) * steps
            tried = numbers.copy()
            tried[list(free)] += change
            tried = _kept(net, tried)
            left = y - outputs(tried)[0]
            if left @ left < before:
                numbers, residual, damping = tried, left, damping / 5
                break
            damping *= 5
        else:
            break
        if residual @ residual > (1 - 1e-4) * before:
            break
    errors = np.full(len(start), np.inf)
    if not free:
        return Fit(numbers, errors, _ratio(residual, y))
    variance = max(float(residual @ residual) / len(y), 1e-16)
    seen = np.diag(gram) > 1e-9 * np.diag(gram).max()
    spread = np.full(len(free), np.inf)
    spread[seen] = np.sqrt(np.maximum(np.diag(np.linalg.pinv(gram[np.ix_(seen, seen)])), 0) * variance)
    errors[list(free)] = spread * steps
    return Fit(numbers, errors, _ratio(residual, y))


def _ratio(residual: Floats, y: Floats) -> float:
    ratio = float(residual @ residual / max(y @ y, 1e-30))
    return ratio if np.isfinite(ratio) else np.inf


def _steps(net: Modulated, numbers: Floats, time: int) -> Floats:
    """Steps for slopes: such that the place moves by a small part of a sample, or a filter by a tenth of a percent."""
    grain = 1e-3 if net.sections else 0.05
    turns = grain / (2 * np.pi * max(abs(numbers[DEPTH]), grain))
    return np.array([1e-3, 1e-3, 1e-3, 1e-3, grain, grain, turns * net.sample_rate / time, turns, grain, grain])


def _kept(net: Modulated, numbers: Floats) -> Floats:
    """The numbers within what makes sense."""
    numbers[[BACK, POLE]] = numbers[[BACK, POLE]].clip(-0.995, 0.995)
    numbers[RATE] = np.clip(numbers[RATE], 1e-3, net.sample_rate / 4)
    return numbers


def coarse_to_fine(net: Modulated, x: Floats, y: Floats, start: Floats, free: Sequence[int]) -> Fit:
    """`fit_numbers` to low frequencies first, which forgive a wrong delay."""
    found = Fit(start, start, 1.0)
    for band in _BANDS:
        most = _ITERATIONS if band is None else _ITERATIONS // 2
        found = fit_numbers(net, *(_lowpass(z, band) for z in (x, y)), found.numbers, free, most)
    return found


def _lowpass(x: Floats, band: float | None) -> Floats:
    if band is None:
        return x
    spectrum = scipy.fft.rfft(x)
    spectrum[int(band * len(x)) :] = 0
    return scipy.fft.irfft(spectrum, len(x))
