"""Fits the numbers of a net to what an effect answers at one setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.core.lazy import scipy
from blackbox_fx.proxy.nets.laws import LawfulNet

Floats = NDArray[np.float64]
_BANDS = (0.03, 0.15, None)  # cycles per sample up to which the first fits listen
_ITERATIONS, _TRIES = 12, 6
_DAMPING, _EASING = 1e-3, 5.0  # at first; its change
_SETTLED = 1e-4  # relative improvement with which a fit ends
_UNSEEN = 1e-9  # power of a change, against the largest, that is taken for rounding
_SHARED = 1e7  # variance, against that of a number alone, with which others do the same as it
_ROUNDING = 1e-16  # least power of what is left


@final
class Fit(NamedTuple):
    """Numbers of a net at one setting.

    Args:
        numbers: (numbers,).
        errors: their standard errors, (numbers,); infinite for those that were not fitted.
        residual: error-to-signal ratio for white noise.
    """

    numbers: Floats
    errors: Floats
    residual: float


def _itself(outputs: Floats) -> Floats:
    return outputs


def fit_numbers(
    net: LawfulNet,
    x: Floats,
    y: Floats,
    start: Floats,
    free: Sequence[int],
    most: int = _ITERATIONS,
    listen: Callable[[Floats], Floats] = _itself,
) -> Fit:
    """Numbers by least squares.

    Args:
        net: whose numbers they are.
        x: input, (time,).
        y: the effect's output, (time,), as `listen` hears it.
        start: (numbers,).
        free: indices of the numbers that are fitted; none to measure the residual at the start.
        most: iterations.
        listen: what is compared of outputs, (n, time).

    References:
        "An algorithm for least-squares estimation of nonlinear parameters" (Marquardt, 1963).
    """
    with np.errstate(over="ignore", invalid="ignore"):  # laws may begin anywhere
        return _fit(net, x, y, start, list(free), most, listen)


def _fit(
    net: LawfulNet,
    x: Floats,
    y: Floats,
    start: Floats,
    chosen: list[int],
    most: int,
    listen: Callable[[Floats], Floats],
) -> Fit:
    inputs = torch.from_numpy(x).float()[None]

    def outputs(numbers: Floats) -> Floats:
        rows = torch.from_numpy(np.atleast_2d(numbers))
        return listen(net.render(inputs.expand(len(rows), -1), rows).numpy().astype(np.float64))

    numbers, residual, damping = start.copy(), y - outputs(start)[0], _DAMPING
    errors = np.full(len(start), np.inf)
    steps = net.steps(start, len(x))[chosen]
    for _ in range(most if chosen else 0):
        moved = np.repeat(numbers[None], len(chosen), 0)
        moved[np.arange(len(chosen)), chosen] += steps
        slopes = outputs(moved) - (y - residual)
        if not np.isfinite(slopes).all():
            break
        gram, before = slopes @ slopes.T, float(residual @ residual)
        errors[chosen] = _errors(gram, before / len(y)) * steps
        for _ in range(_TRIES):
            tried = numbers.copy()
            tried[chosen] += _change(gram, slopes @ residual, damping) * steps
            tried = net.sensible(tried)
            left = y - outputs(tried)[0]
            if left @ left < before:
                numbers, residual, damping = tried, left, damping / _EASING
                break
            damping *= _EASING
        if residual @ residual > (1 - _SETTLED) * before:
            break
    ratio = float(residual @ residual / max(y @ y, 1e-30))
    return Fit(numbers, errors, ratio if np.isfinite(ratio) else np.inf)


def _change(gram: Floats, goal: Floats, damping: float) -> Floats:
    """The damped step of Gauss and Newton."""
    ridge = damping * np.diag(gram) + 1e-12 * max(float(np.trace(gram)), 1e-30)
    return np.linalg.solve(gram + np.diag(ridge), goal).astype(np.float64)


def _errors(gram: Floats, variance: float) -> Floats:
    """Standard errors in steps; infinite for numbers that change nothing, or nothing that others could not change."""
    power = np.diag(gram)
    errors = np.full(len(gram), np.inf)
    seen = np.flatnonzero(power > _UNSEEN * power.max())
    scale = np.sqrt(power[seen])
    alike = gram[np.ix_(seen, seen)] / np.outer(scale, scale)
    excess = np.diag(np.linalg.inv(alike + _UNSEEN * np.eye(len(seen))))
    own = (excess > 0) & (excess < _SHARED)
    errors[seen[own]] = np.sqrt(excess[own] * max(variance, _ROUNDING)) / scale[own]
    return errors


def coarse_to_fine(net: LawfulNet, x: Floats, y: Floats, start: Floats, free: Sequence[int]) -> Fit:
    """`fit_numbers` to low frequencies first, which forgive a wrong delay."""
    found = Fit(start, start, 1.0)
    for band in _BANDS:
        most = _ITERATIONS if band is None else _ITERATIONS // 2
        found = fit_numbers(net, _lowpass(x, band), _lowpass(y, band), found.numbers, free, most)
    return found


def _lowpass(x: Floats, band: float | None) -> Floats:
    if band is None:
        return x
    spectrum = scipy.fft.rfft(x)
    spectrum[int(band * len(x)) :] = 0
    return scipy.fft.irfft(spectrum, len(x))
