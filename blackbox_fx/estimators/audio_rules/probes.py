"""The probes that rules share."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.estimators.audio_rules.base import Probe, Signal

SMALL = 2e-3  # of the clip's root mean square: small enough for steep curves, large enough for float32

LOW, HIGH = 1e-2, 0.5  # heights of impulses: for nearly linear effects, and as high as the music


def _step(x: Signal, size: float) -> float:
    return size * max(float(np.sqrt(np.mean(np.square(x)))), 1e-4)


class Reply(NamedTuple):
    """A direction u and the effect's answer J u, both (channel, time)."""

    u: Signal
    ju: Signal


@final
@dataclasses.dataclass(frozen=True)
class Noise(Probe):
    """A random sign for every sample: two renders for J u, or one.

    Args:
        seed: of the signs.
        size: of the change, against the clip's root mean square.
        both: whether both ways; else one way, against the forward pass, at the price of some curvature.
    """

    seed: int = 0
    size: float = SMALL
    both: bool = True

    def renders(self, channels: int) -> int:
        """Two, or one."""
        return 1 + self.both

    def _signs(self, x: Signal) -> Signal:
        return np.random.default_rng(self.seed).choice((-1.0, 1.0), x.shape)

    def inputs(self, x: Signal) -> Signal:
        """The clip plus, and minus, the change."""
        change = _step(x, self.size) * self._signs(x)
        return np.stack([x + change, x - change][: 1 + self.both])

    def read(self, x: Signal, y: Signal, outputs: Signal) -> Reply:
        """The direction and the answer."""
        other, steps = (outputs[1], 2) if self.both else (y, 1)
        return Reply(self._signs(x), (outputs[0] - other) / (steps * _step(x, self.size)))


@final
@dataclasses.dataclass(frozen=True)
class Swell(Probe):
    """The clip itself a little louder here and softer there, and the other way round: two renders for J u.

    Effects before this one mostly change a passage in this way. Random signs hardly contain such changes, and do not
    move a compressor.

    Args:
        seed: of the swells.
        size: of the change, against the clip.
        every: samples from one swell to the next.
    """

    seed: int = 0
    size: float = SMALL
    every: int = 2205

    def renders(self, channels: int) -> int:
        """Two."""
        return 2

    def _change(self, x: Signal) -> Signal:
        length = x.shape[1]
        marks = np.random.default_rng(self.seed).standard_normal(length // self.every + 2)
        return x * np.interp(np.arange(length) / self.every, np.arange(len(marks)), marks)

    def inputs(self, x: Signal) -> Signal:
        """The clip plus and minus the change."""
        change = self.size * self._change(x)
        return np.stack([x + change, x - change])

    def read(self, x: Signal, y: Signal, outputs: Signal) -> Reply:
        """The direction and the answer."""
        return Reply(self._change(x), (outputs[0] - outputs[1]) / (2 * self.size))


@final
@dataclasses.dataclass(frozen=True)
class Impulse(Probe):
    """An impulse into every channel in silence, after a run-in: one render for each channel.

    The run-in skips the start, where some effects, such as tube models, have another impulse response. The effect's own
    output at the end of the run-in, without an impulse, is subtracted.

    Args:
        height: of the impulse.
        run_in: samples of silence before it.
    """

    height: float = LOW
    run_in: int = 22050

    def renders(self, channels: int) -> int:
        """One for each channel."""
        return channels

    def inputs(self, x: Signal) -> Signal:
        """An impulse in each channel."""
        out = np.zeros((len(x), len(x), self.run_in + x.shape[1]))
        for c in range(len(x)):
            out[c, c, self.run_in] = self.height
        return out

    def read(self, x: Signal, y: Signal, outputs: Signal) -> Signal:
        """Responses (channel in, channel out, time)."""
        idle = outputs[..., self.run_in - 1000 : self.run_in].mean(axis=-1, keepdims=True)
        return (outputs[..., self.run_in :] - idle) / self.height


class Echoes(NamedTuple):
    """What single impulses start: where each was, (n,), how long it was left alone, (n,), and the answers.

    Answers are (n, channel, longest), zero once the next impulse comes.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    answers: Signal


@final
@dataclasses.dataclass(frozen=True)
class Train(Probe):
    """Trains of impulses on top of the clip, against the forward pass: one render for each train.

    Args:
        spacing: samples between the impulses of one train, give or take a quarter at random: even spacing could not
            distinguish an oscillator from one that is faster by the rate of the impulses.
        trains: how many; their impulses lie between each other.
        size: of the impulses, against the clip's root mean square.
    """

    spacing: int = 4096
    trains: int = 3
    size: float = 0.5

    def renders(self, channels: int) -> int:
        """One for each train."""
        return self.trains

    def _starts(self, length: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng(0)
        found = []
        for k in range(self.trains):
            even = np.arange(min(k * self.spacing // self.trains, length - 1), length, self.spacing)
            shifts = rng.integers(-self.spacing // 8, self.spacing // 8, len(even))
            found.append(np.clip(even + shifts, 0, length - 1))
        return found

    def inputs(self, x: Signal) -> Signal:
        """The clip plus each train."""
        out = np.repeat(x[None], self.trains, axis=0)
        for row, starts in zip(out, self._starts(x.shape[1]), strict=True):
            row[:, starts] += _step(x, self.size)
        return out

    def read(self, x: Signal, y: Signal, outputs: Signal) -> Echoes:
        """The echoes, in order of time."""
        length = x.shape[1]
        starts = self._starts(length)
        ends = [np.append(s[1:], length) for s in starts]
        at, lengths = np.concatenate(starts), np.concatenate(ends) - np.concatenate(starts)
        answers = np.zeros((len(at), len(x), int(lengths.max())))
        rows = np.repeat(np.arange(self.trains), [len(s) for s in starts])
        changes = (outputs - y) / _step(x, self.size)
        for n, (row, start, count) in enumerate(zip(rows, at, lengths, strict=True)):
            answers[n, :, :count] = changes[row, :, start : start + count]
        order = np.argsort(at, kind="stable")
        return Echoes(at[order], lengths[order], answers[order])
