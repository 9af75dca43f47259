"""A filter that an oscillator moves."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.probes import Echoes, Train

Floats = NDArray[np.float64]
_TRAIN = Train(spacing=2048)  # impulses as dense as the responses are long lose least
_FASTEST = 0.0006  # cycles per sample
_FEW = 12  # components in which kernels differ


@final
class _Moving(Model):
    """y = sum over kernels of kernel * (weight u): each kernel acts while the oscillator is near its phase.

    Args:
        kernels: (kernel, channel, lag).
        weights: (kernel, time), summing to one at every time.
    """

    def __init__(self, kernels: Signal, weights: Floats) -> None:
        self.weights = weights
        self.length = weights.shape[1]
        self._size = int(scipy.fft.next_fast_len(self.length + kernels.shape[2], real=True) or 0)
        self._kernels = kernels

    def push(self, u: Signal) -> Signal:
        """Weighted, convolved, summed."""
        total = np.zeros((len(u), self._size // 2 + 1), complex)
        for kernel, weight in zip(self._kernels, self.weights, strict=True):
            total += np.fft.rfft(kernel, self._size) * np.fft.rfft(weight * u, self._size)
        return np.fft.irfft(total, self._size)[:, : self.length]

    def pull(self, v: Signal) -> Signal:
        """Correlated, weighted, summed."""
        spectrum = np.fft.rfft(v, self._size)
        total = np.zeros_like(v)
        for kernel, weight in zip(self._kernels, self.weights, strict=True):
            correlated = np.fft.irfft(np.fft.rfft(kernel, self._size).conj() * spectrum, self._size)
            total += weight * correlated[:, : self.length]
        return total


def _frequency(starts: Floats, kernels: Signal, length: int) -> float:
    """Cycles per sample at which kernels of neighbouring phases are most alike; below 1 / length for no cycle."""
    flat = kernels.reshape(len(kernels), -1)
    flat = flat - flat.mean(axis=0)
    vectors, sizes, _ = np.linalg.svd(flat @ flat.T)
    features = (vectors * np.sqrt(sizes))[:, :_FEW]

    def roughness(frequency: float) -> float:
        order = np.argsort(starts * frequency % 1.0)
        return float(np.square(np.diff(features[order], axis=0)).sum())

    still = 0.9 / length
    grid = np.append(still, np.arange(still, _FASTEST, 0.04 / length))
    best = min(grid.tolist(), key=roughness)
    step = 0.04 / length
    for _ in range(6):
        step /= 2
        best = min((best, best - step, best + step), key=roughness)
    # a cycle must be clearly better than none, since with many frequencies some fit by chance
    return best if roughness(best) < 0.7 * roughness(still) else still


@final
class MovingFilter(Modelled):
    """For linear effects whose filter an oscillator moves, however fast: phasers, auto-wahs, tremolos, and filters.

    Impulses on top of the clip show the filter at many times. The oscillator's frequency is the one that puts similar
    responses next to each other; between neighbours in phase, responses are interpolated. `LocalSpectrum` must choose
    between resolution in time and in frequency, and loses both with fast and resonant phasers.
    """

    def probes(self) -> tuple[Probe, ...]:
        """Three trains of impulses."""
        return (_TRAIN,)

    def fit(self, site: Site) -> Model:
        """The oscillator, then the weights of the kernels at every time."""
        echoes: Echoes = site[_TRAIN]
        length = site.x.shape[1]
        reach = int(np.median(echoes.lengths))
        whole = echoes.lengths >= 0.7 * reach
        starts, kernels = echoes.starts[whole].astype(np.float64), echoes.answers[whole][..., :reach]
        if len(starts) < 4:
            starts, kernels = echoes.starts.astype(np.float64), echoes.answers
        frequency = _frequency(starts, kernels, length)
        phases = starts * frequency % 1.0
        order = np.argsort(phases)
        known, at = phases[order], np.arange(length) * frequency % 1.0
        # one more turn at each end, so that phases wrap
        turns = np.concatenate([known - 1, known, known + 1])
        high = np.searchsorted(turns, at, side="right")
        gap = turns[high] - turns[high - 1]
        part = np.where(gap > 0, (at - turns[high - 1]) / np.maximum(gap, 1e-12), 0.0)
        part = np.where(gap > 0.2, np.round(part), part)  # nothing is known in between
        weights = np.zeros((len(order), length))
        time = np.arange(length)
        np.add.at(weights, (order[(high - 1) % len(order)], time), 1 - part)
        np.add.at(weights, (order[high % len(order)], time), part)
        return _Moving(kernels, weights)
