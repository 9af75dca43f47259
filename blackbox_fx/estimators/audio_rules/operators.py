"""The linear operators that models are made of."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.base import Model, Signal

_END = 1e-14  # of the energy
_FEW = 8  # taps that are summed one by one


@final
class Wire(Model):
    """Changes nothing; or lets nothing pass, as for a key, which is heard only through what it does to the audio.

    Args:
        passes: which of both.
    """

    def __init__(self, passes: bool = True) -> None:
        self.passes = passes

    def push(self, u: Signal) -> Signal:
        """The same, or silence."""
        return u if self.passes else np.zeros_like(u)

    def pull(self, v: Signal) -> Signal:
        """The same, or silence."""
        return v if self.passes else np.zeros_like(v)


@final
class Gain(Model):
    """A gain for every sample, (channel, time)."""

    def __init__(self, gain: Signal) -> None:
        self.gain = gain

    def push(self, u: Signal) -> Signal:
        """The product."""
        return self.gain * u

    def pull(self, v: Signal) -> Signal:
        """The product."""
        return self.gain * v


@final
class Mean(Model):
    """The mean of a number of channels, as one channel."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def push(self, u: Signal) -> Signal:
        """The mean."""
        return u.mean(axis=0, keepdims=True)

    def pull(self, v: Signal) -> Signal:
        """Each channel's share of the sum."""
        return np.repeat(v.sum(axis=0, keepdims=True) / self.channels, self.channels, axis=0)


@final
class Filter(Model):
    """A causal convolution from every channel to every channel.

    Args:
        response: impulse responses, (channel in, channel out, time). Crosstalk below 1e-5 of the direct paths is
            ignored, and an end below 1e-7 of the rest.
    """

    def __init__(self, response: Signal) -> None:
        energy = np.square(response).sum(axis=-1)
        self.separate = bool(energy.sum() - np.trace(energy) <= 1e-10 * np.trace(energy))
        self.length = response.shape[-1]
        left = np.cumsum(np.square(response).sum(axis=(0, 1))[::-1])[::-1]
        self._reach = max(1, int(np.count_nonzero(left > _END * left[0])))
        self._response = (np.einsum("cct->ct", response) if self.separate else response)[..., : self._reach]

    @functools.cached_property
    def _size(self) -> int:
        return int(scipy.fft.next_fast_len(self.length + self._reach, real=True) or 0)

    @functools.cached_property
    def spectrum(self) -> NDArray[np.complex128]:
        """Of the responses, padded by their length."""
        return np.fft.rfft(self._response, self._size)

    def _convolve(self, signal: Signal, route: str) -> Signal:
        if self._reach <= _FEW:
            return self._sum(signal, route)
        spectrum, found = self.spectrum, np.fft.rfft(signal, self._size)
        found = found * spectrum if self.separate else np.einsum(route, spectrum, found)
        return np.fft.irfft(found, self._size)[..., : signal.shape[-1]]

    def _sum(self, signal: Signal, route: str) -> Signal:
        """The same by one tap after the other."""
        out = np.zeros_like(signal)
        for tap in range(self._reach):
            gain, late = self._response[..., tap : tap + 1], signal[..., : signal.shape[-1] - tap]
            out[..., tap:] += gain * late if self.separate else np.einsum(route, gain, late)
        return out

    def push(self, u: Signal) -> Signal:
        """Convolved."""
        return self._convolve(u, "iof,if->of")

    def pull(self, v: Signal) -> Signal:
        """Correlated."""
        return self._convolve(v[..., ::-1], "iof,of->if")[..., ::-1]


@final
class Series(Model):
    """Operators one after the other."""

    def __init__(self, stages: Sequence[Model]) -> None:
        self.stages = tuple(stages)

    def push(self, u: Signal) -> Signal:
        """Through all stages."""
        for stage in self.stages:
            u = stage.push(u)
        return u

    def pull(self, v: Signal) -> Signal:
        """Back through all stages."""
        for stage in reversed(self.stages):
            v = stage.pull(v)
        return v
