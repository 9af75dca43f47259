"""The linear operators that models are made of."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.base import Model, Signal


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
            ignored.
    """

    def __init__(self, response: Signal) -> None:
        energy = np.square(response).sum(axis=-1)
        self.separate = bool(energy.sum() - np.trace(energy) <= 1e-10 * np.trace(energy))
        self.length = response.shape[-1]
        self._response = np.einsum("cct->ct", response) if self.separate else response

    @functools.cached_property
    def _size(self) -> int:
        return int(scipy.fft.next_fast_len(2 * self.length, real=True) or 0)

    @functools.cached_property
    def spectrum(self) -> NDArray[np.complex128]:
        """Of the responses, padded to twice their length."""
        return np.fft.rfft(self._response, self._size)

    def _convolve(self, signal: Signal, spectrum: NDArray[np.complex128], route: str) -> Signal:
        found = np.fft.rfft(signal, self._size)
        found = found * spectrum if self.separate else np.einsum(route, spectrum, found)
        return np.fft.irfft(found, self._size)[..., : signal.shape[-1]]

    def push(self, u: Signal) -> Signal:
        """Convolved."""
        return self._convolve(u, self.spectrum, "iof,if->of")

    def pull(self, v: Signal) -> Signal:
        """Correlated."""
        return self._convolve(v[..., ::-1], self.spectrum, "iof,of->if")[..., ::-1]


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
