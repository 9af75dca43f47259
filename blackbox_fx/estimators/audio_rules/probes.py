"""The probes that rules share."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, final

import numpy as np

from blackbox_fx.estimators.audio_rules.base import Probe, Signal

_TINY = 1e-30


def _step(x: Signal, size: float) -> float:
    return size * max(float(np.sqrt(np.mean(np.square(x)))), 1e-4)


class Reply(NamedTuple):
    """A direction u and the effect's answer J u, both (channel, time)."""

    u: Signal
    ju: Signal


@final
@dataclasses.dataclass(frozen=True)
class Noise(Probe):
    """A random sign for every sample, both ways: two renders for J u.

    Args:
        seed: of the signs.
        size: of the change, against the clip's root mean square.
    """

    seed: int = 0
    size: float = 1e-2

    def renders(self, channels: int) -> int:
        """Two."""
        return 2

    def _signs(self, x: Signal) -> Signal:
        return np.random.default_rng(self.seed).choice((-1.0, 1.0), x.shape)

    def inputs(self, x: Signal) -> Signal:
        """The clip plus and minus the change."""
        change = _step(x, self.size) * self._signs(x)
        return np.stack([x + change, x - change])

    def read(self, x: Signal, y: Signal, outputs: Signal) -> Reply:
        """The direction and the answer."""
        return Reply(self._signs(x), (outputs[0] - outputs[1]) / (2 * _step(x, self.size)))


@final
@dataclasses.dataclass(frozen=True)
class Impulse(Probe):
    """An impulse into every channel in silence, after a run-in: one render for each channel and one for silence.

    The run-in lets what happens on starting pass: a tube model's impulse response is another one at first.

    Args:
        height: of the impulse.
        run_in: seconds of silence before it, at 44.1 kHz.
    """

    height: float = 1e-2
    run_in: int = 22050

    def renders(self, channels: int) -> int:
        """One for each channel, and one."""
        return channels + 1

    def inputs(self, x: Signal) -> Signal:
        """Silence, and an impulse in each channel."""
        out = np.zeros((len(x) + 1, len(x), self.run_in + x.shape[1]))
        for c in range(len(x)):
            out[c + 1, c, self.run_in] = self.height
        return out

    def read(self, x: Signal, y: Signal, outputs: Signal) -> Signal:
        """Responses (channel in, channel out, time)."""
        return (outputs[1:] - outputs[0])[..., self.run_in :] / self.height


@final
@dataclasses.dataclass(frozen=True)
class Train(Probe):
    """A train of impulses on top of the clip, against the forward pass: one render for each offset.

    Args:
        spacing: samples between impulses of one render.
        offsets: how many trains, each shifted by spacing / offsets more.
        size: of the impulses, against the clip's root mean square.
    """

    spacing: int = 1024
    offsets: int = 1
    size: float = 0.5

    def renders(self, channels: int) -> int:
        """One for each offset."""
        return self.offsets

    def starts(self, length: int) -> list[Any]:
        """For each train, where its impulses are."""
        return [np.arange(m * self.spacing // self.offsets, length, self.spacing) for m in range(self.offsets)]

    def inputs(self, x: Signal) -> Signal:
        """The clip plus each train."""
        out = np.repeat(x[None], self.offsets, axis=0)
        for row, at in zip(out, self.starts(x.shape[1]), strict=True):
            row[:, at] += _step(x, self.size)
        return out

    def read(self, x: Signal, y: Signal, outputs: Signal) -> tuple[Any, Signal]:
        """Where the impulses were, (n,), and what each started, (n, channel, spacing), in order of time."""
        at, found = [], []
        for row, starts in zip(outputs - y, self.starts(x.shape[1]), strict=True):
            padded = np.pad(row / _step(x, self.size), ((0, 0), (0, self.spacing)))
            at.append(starts)
            found.append(np.stack([padded[:, s : s + self.spacing] for s in starts]))
        order = np.argsort(np.concatenate(at), kind="stable")
        return np.concatenate(at)[order], np.concatenate(found)[order]
