"""A gain for every sample, from every channel to every channel."""

from __future__ import annotations

import dataclasses
from typing import final

import numpy as np

from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.pointwise import ratio
from blackbox_fx.estimators.audio_rules.probes import SMALL, Noise, Reply


@final
@dataclasses.dataclass(frozen=True)
class EachChannel(Probe):
    """A random sign for every sample, into one channel after the other: two renders for each.

    Args:
        size: of the change, against the clip's root mean square.
    """

    size: float = SMALL

    def renders(self, channels: int) -> int:
        """Two for each channel."""
        return 2 * channels

    def _only(self, signal: Signal, channel: int) -> Signal:
        return signal * (np.arange(len(signal)) == channel)[:, None]

    def inputs(self, x: Signal) -> Signal:
        """The clip plus, and minus, the change of each channel."""
        plus, _ = Noise(0, self.size).inputs(x)
        changes = [self._only(plus - x, c) for c in range(len(x))]
        return np.concatenate([[x + change, x - change] for change in changes])

    def read(self, x: Signal, y: Signal, outputs: Signal) -> list[Reply]:
        """The direction and the answer for each channel."""
        whole = Noise(0, self.size).read(x, y, outputs[:2])
        pairs = zip(outputs[::2], outputs[1::2], strict=True)
        plus, _ = Noise(0, self.size).inputs(x)
        step = np.abs(plus - x).max()
        return [Reply(self._only(whole.u, c), (a - b) / (2 * step)) for c, (a, b) in enumerate(pairs)]


@final
class Gains(Model):
    """A gain for every sample from every channel to every channel, (channel in, channel out, time)."""

    def __init__(self, gains: Signal) -> None:
        self.gains = gains

    def push(self, u: Signal) -> Signal:
        """The sums of products."""
        return np.einsum("iot,it->ot", self.gains, u)

    def pull(self, v: Signal) -> Signal:
        """The sums of products."""
        return np.einsum("iot,ot->it", self.gains, v)


@final
class Crosswise(Modelled):
    """For effects without memory in which channels act on each other: mid and side, width, a key that all share.

    Args:
        size: of the probe, against the clip's root mean square.
    """

    any_channels = True

    def __init__(self, size: float = SMALL) -> None:
        super().__init__()
        self.size = size

    def probes(self) -> tuple[Probe, ...]:
        """Random signs into each channel."""
        return (EachChannel(self.size),)

    def fit(self, site: Site) -> Model:
        """The answers over the probes."""
        replies = site[EachChannel(self.size)]
        return Gains(
            np.stack([ratio(ju * u[c], np.broadcast_to(u[c] * u[c], ju.shape), 1) for c, (u, ju) in enumerate(replies)])
        )

    def extra_repr(self) -> str:
        """The size."""
        return f"size={self.size:g}"
