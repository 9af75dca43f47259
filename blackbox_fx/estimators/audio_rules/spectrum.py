"""A transfer function that changes slowly."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.operators import Gain
from blackbox_fx.estimators.audio_rules.probes import SMALL, Noise

_SHORTEST = 16  # samples


def _neighbours(cells: Any) -> Any:
    """Means over five bands and five frames; (channel, band, frame)."""
    return scipy.ndimage.uniform_filter1d(scipy.ndimage.uniform_filter1d(cells, 5, axis=-1), 5, axis=-2)


@final
class _Spectral(Model):
    """A factor for every cell of time and frequency."""

    def __init__(self, factors: Any, window: int) -> None:
        self.factors, self.window = factors, window

    def _apply(self, signal: Signal, factors: Any) -> Signal:
        _, _, cells = scipy.signal.stft(signal, nperseg=self.window, noverlap=self.window * 3 // 4)
        _, out = scipy.signal.istft(factors * cells, nperseg=self.window, noverlap=self.window * 3 // 4)
        length = signal.shape[-1]
        return np.pad(out, ((0, 0), (0, max(0, length - out.shape[-1]))))[:, :length]

    def push(self, u: Signal) -> Signal:
        """Multiplied by the factors."""
        return self._apply(u, self.factors)

    def pull(self, v: Signal) -> Signal:
        """Multiplied by their conjugates."""
        return self._apply(v, self.factors.conj())


@final
class LocalSpectrum(Modelled):
    """For linear effects that change slowly: phasers, moving filters.

    The transfer function of every cell of time and frequency is fitted to random probes by least squares over its
    neighbours.

    Args:
        window: samples of the short-time transform.
        size: of the probes, against the clip's root mean square.
    """

    def __init__(self, window: int = 512, size: float = SMALL) -> None:
        super().__init__()
        self.window, self.size = window, size

    def probes(self) -> tuple[Probe, ...]:
        """Two times random signs."""
        return Noise(0, self.size), Noise(1, self.size)

    def fit(self, site: Site) -> Model:
        """Least squares in every cell."""
        window = min(self.window, site.x.shape[1])
        if window < _SHORTEST:
            u, ju = site[self.probes()[0]]
            return Gain(ju * u)  # too short for a spectrum, and the signs squared are one
        cross: Any = 0
        power: Any = 0
        for u, ju in (site[probe] for probe in self.probes()):
            before, after = (scipy.signal.stft(s, nperseg=window, noverlap=window * 3 // 4)[2] for s in (u, ju))
            cross, power = cross + after * before.conj(), power + np.abs(before) ** 2
        means = _neighbours(cross.real) + 1j * _neighbours(cross.imag)
        return _Spectral(means / _neighbours(power), window)

    def extra_repr(self) -> str:
        """Window and size."""
        return f"window={self.window}, size={self.size:g}"
