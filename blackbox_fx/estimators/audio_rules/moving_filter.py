"""A filter that an oscillator moves."""

from __future__ import annotations

from typing import final

import numpy as np

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.envelopes import Floats
from blackbox_fx.estimators.audio_rules.lines import between
from blackbox_fx.estimators.audio_rules.probes import Echoes, Train

_TRAIN = Train(spacing=2048)  # impulses as dense as the responses are long lose least
_FASTEST = 0.0006  # cycles per sample
_FEW = 12  # parts by whose amounts kernels are compared
_NEGLIGIBLE = 1e-4  # share of the kernels' power that may be left out


@final
class _Moving(Model):
    """y = sum over parts of part * (weight u): responses that are sums of few parts, each with a weight that moves.

    Args:
        parts: (part, channel, lag).
        weights: (part, time).
    """

    lasting = True

    def __init__(self, parts: Signal, weights: Floats) -> None:
        self.weights = weights
        self._reach = parts.shape[2]
        self._size = 4 * int(scipy.fft.next_fast_len(self._reach, real=True) or 0)
        self._spectra = scipy.fft.rfft(parts, self._size)

    def _blocks(self, length: int) -> list[tuple[slice, slice]]:
        """Where each block of the output lies, and what of the input it takes: itself and the reach of a response."""
        step = self._size - self._reach
        starts = range(0, length, step)
        return [(slice(s, min(s + step, length)), slice(s, min(s + step + self._reach, length))) for s in starts]

    def push(self, u: Signal) -> Signal:
        """Weighted, convolved, summed."""
        total = np.zeros_like(u)
        for within, beyond in self._blocks(u.shape[1]):
            given = scipy.fft.rfft(self.weights[:, None, within] * u[:, within], self._size)
            answer = scipy.fft.irfft((self._spectra * given).sum(axis=0), self._size)
            total[:, beyond] += answer[:, : beyond.stop - beyond.start]
        return total

    def pull(self, v: Signal) -> Signal:
        """Correlated, weighted, summed."""
        total = np.empty_like(v)
        for within, beyond in self._blocks(v.shape[1]):
            given = scipy.fft.rfft(v[:, beyond], self._size)
            answers = scipy.fft.irfft(self._spectra.conj() * given, self._size)[..., : within.stop - within.start]
            total[:, within] = np.einsum("pt,pct->ct", self.weights[:, within], answers)
        return total


def _parts(kernels: Signal) -> tuple[Signal, Floats]:
    """The few parts that kernels are sums of, orthonormal, (part, channel, lag), and the amounts, (kernel, part)."""
    flat = kernels.reshape(len(kernels), -1)
    powers, vectors = np.linalg.eigh(flat @ flat.T)
    order = np.argsort(powers)[::-1]
    rest = 1 - np.cumsum(powers[order]) / (powers.sum() + 1e-30)
    few = order[: int(np.argmax(rest < _NEGLIGIBLE)) + 1]
    sizes = np.sqrt(np.maximum(powers[few], 1e-30))
    parts = (vectors[:, few] / sizes).T @ flat
    return parts.reshape(len(few), *kernels.shape[1:]), vectors[:, few] * sizes


def _audible_lags(kernels: Signal) -> int:
    """The lags after which kernels are as good as silent."""
    power = np.square(kernels).sum(axis=(0, 1))
    rest = 1 - np.cumsum(power) / (power.sum() + 1e-30)
    return int(np.argmax(rest < _NEGLIGIBLE)) + 1


def _frequency(starts: Floats, amounts: Floats, length: int) -> float:
    """Cycles per sample at which kernels of neighbouring phases are most alike; below 1 / length for no cycle."""
    features = np.ascontiguousarray(amounts - amounts.mean(axis=0))[:, :_FEW]

    def roughness(frequencies: Floats) -> Floats:
        order = np.argsort(starts * frequencies[:, None] % 1.0, axis=1)
        return np.square(np.diff(features[order], axis=1)).sum(axis=(1, 2))

    still = 0.9 / length
    grid = np.append(still, np.arange(still, _FASTEST, 0.04 / length))
    found = roughness(grid)
    best, step = float(grid[found.argmin()]), 0.04 / length
    for _ in range(3):
        around = best + step * np.array([0, -1, 1, -0.5, 0.5, -0.25, 0.25])
        best, step = float(around[roughness(around).argmin()]), step / 4
    # a cycle must be clearly better than none, since with many frequencies some fit by chance
    return best if roughness(np.array([best]))[0] < 0.7 * found[0] else still


def _amounts(echoes: Echoes) -> tuple[Floats, Signal, Floats]:
    """When impulses came, (kernel,), the parts that their responses are sums of, and the amounts of these."""
    reach = int(np.median(echoes.lengths))
    whole = echoes.lengths >= 0.7 * reach
    starts, kernels = echoes.starts[whole].astype(np.float64), echoes.answers[whole][..., :reach]
    if len(starts) < 4:
        starts, kernels = echoes.starts.astype(np.float64), echoes.answers
    return starts, *_parts(kernels[..., : _audible_lags(kernels)])


def cycle(echoes: Echoes, length: int) -> float:
    """Cycles per sample of the oscillator that moves a filter; below 1 / length if it moves no whole cycle.

    Args:
        echoes: of impulses in a clip.
        length: samples of the clip.
    """
    starts, _, amounts = _amounts(echoes)
    return _frequency(starts, amounts, length)


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
        """The parts of the responses, then the oscillator, then the amount of each part at every time."""
        length = site.x.shape[1]
        starts, parts, amounts = _amounts(site[_TRAIN])
        frequency = _frequency(starts, amounts, length)
        phases = starts * frequency % 1.0
        order = np.argsort(phases)
        # one more turn at each end, so that phases wrap
        turns = np.concatenate([phases[order] + turn for turn in (-1, 0, 1)])
        at = np.arange(length) * frequency % 1.0
        high = np.searchsorted(turns, at, side="right")
        gap = turns[high] - turns[high - 1]
        part = np.where(gap > 0, (at - turns[high - 1]) / np.maximum(gap, 1e-12), 0.0)
        part = np.where(gap > 0.2, np.round(part), part)  # nothing is known in between
        table = np.ascontiguousarray(np.tile(amounts[order].T, 3))
        return _Moving(parts, between(table, high - 1, part))
