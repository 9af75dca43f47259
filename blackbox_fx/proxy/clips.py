"""Clips for the training of proxies: dry audio at random settings, rendered by the effect while the net trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.data.clips import Clips, Source
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError
from blackbox_fx.runtime import Job, Pool
from blackbox_fx.space import Choice, Toggle

_PEAK_DB = (-24.0, 0.0)  # of clips
_EDGE = 0.06  # settings are drawn this far beyond either end of the range and clipped, so that ends are more frequent
_NEARBY = 0.08  # on the [0, 1] axis
_IMPULSE = 0.25  # its height
_TONES_HZ, _NOISE = (150.0, 5000.0), 0.3  # of bursts; the noise's deviation
_BURST_S, _BURST_DB = (0.02, 0.4), (-80.0, 0.0)  # lengths and levels of bursts


class Batch(NamedTuple):
    """Clips with the effect's output.

    Args:
        audio: (batch, 1, time).
        params: (batch, width) in [0, 1].
        wet: (batch, 1, time).
    """

    audio: Tensor
    params: Tensor
    wet: Tensor


def _bursts(length: int, sample_rate: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise or a tone, (time,), with a level that jumps."""
    hz = np.exp(rng.uniform(*np.log(_TONES_HZ)))
    tone = np.sin(2 * np.pi * hz / sample_rate * np.arange(length))
    carrier = tone if rng.random() < 0.5 else _NOISE * rng.standard_normal(length)
    level, t = np.empty(length), 0
    while t < length:
        until = t + int(sample_rate * np.exp(rng.uniform(*np.log(_BURST_S))))
        level[t:until] = 10 ** (rng.uniform(*_BURST_DB) / 20)
        t = until
    return (carrier * level).astype(np.float32)


@final
class ClipStream:
    """Endless batches of clips; each batch depends only on the seed and its number.

    A clip is one track of a song at a random level. Settings are uniform, and include the ends of the ranges. If the
    pool skips failed renders, they are missing from their batches.

    Args:
        effect: that renders.
        songs: from which clips are cut.
        pool: where the effect renders.
        seconds: length of a clip.
        batch: clips.
        seed: of clips and settings.
        paired: whether every second item is the clip before it, at settings nearby.

    Attributes:
        skipped: number of failed renders.
    """

    def __init__(
        self,
        effect: Effect,
        songs: Sequence[Source],
        pool: Pool,
        seconds: float,
        batch: int,
        seed: int,
        paired: bool = False,
    ) -> None:
        self.effect, self.pool, self.size, self.seed, self.paired = effect, pool, batch, seed, paired
        self.clips = Clips(songs, seconds, 1, seed)
        self.skipped = 0

    def batch(self, number: int) -> Batch:
        """The batch of a number, 0 or more.

        Raises:
            EffectError, WorkerDied, RenderTimeout: the effect failed.
        """
        rng = np.random.default_rng([self.seed, number])
        audio = np.stack([self._clip(number * self.size + k, rng) for k in range(self.size)])
        points = self.settings(self.size, rng)
        half = self.size // 2 if self.paired else 0
        if half:
            audio[half : 2 * half] = audio[:half]
            points[half : 2 * half] = self._nearby(points[:half], rng)
        return self.render(audio, points, half)

    def bursts(self, number: int) -> Batch:
        """Noise and tones whose level jumps, as many as there are clips in a batch, at random settings.

        Raises:
            EffectError, WorkerDied, RenderTimeout: the effect failed.
        """
        rng = np.random.default_rng([self.seed, number, 2])
        audio = np.stack([_bursts(self.clips.length, self.clips.sample_rate, rng) for _ in range(self.size)])
        return self.render(audio[:, None], self.settings(self.size, rng))

    def render(self, audio: NDArray[np.float32], points: NDArray[np.float64], half: int = 0) -> Batch:
        """Renders audio at points, both as many as there are clips in a batch; failures are missing.

        Args:
            audio: (batch, 1, time).
            points: (batch, width).
            half: items of which the one so many later is missing too.

        Raises:
            EffectError, WorkerDied, RenderTimeout: the effect failed.
        """
        job = Job(self.effect, audio, points, np.arange(self.size), self.clips.sample_rate)
        wet = self.pool.map(job)
        ok = ~job.failed
        if half:
            ok[:half] = ok[half : 2 * half] = ok[:half] & ok[half : 2 * half]
        self.skipped += int(job.failed.sum())
        if not ok.any():
            raise self.refusal(self.size)
        return Batch(*(torch.from_numpy(part[ok]) for part in (audio, points.astype(np.float32), wet)))

    def refusal(self, settings: int) -> EffectError:
        """The error for a batch in which all renders failed."""
        return EffectError(
            f"{self.effect.name} failed at all {settings} settings of a batch; narrow the range of its parameters."
        )

    def ringing(self, seconds: float, settings: int = 16) -> Tensor:
        """The impulse response, (time,), that rings longest among some random settings.

        Raises:
            EffectError, WorkerDied, RenderTimeout: the effect failed.
        """
        points = self.settings(settings, np.random.default_rng(self.seed))
        wet, _ = self.respond(points, round(seconds * self.clips.sample_rate))
        late = np.square(wet[:, wet.shape[1] // 2 :]).sum(axis=1)
        return torch.from_numpy(wet[int(np.argmax(late))])

    def respond(self, points: NDArray[np.float64], time: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Impulse responses at points (n, width), as (n, time), and whether each render succeeded, (n,).

        Raises:
            EffectError, WorkerDied, RenderTimeout: the effect failed.
        """
        impulse = np.zeros((1, 1, time), np.float32)
        impulse[..., 0] = _IMPULSE
        job = Job(self.effect, impulse, points, np.zeros(len(points), np.int64), self.clips.sample_rate)
        wet = self.pool.map(job)[:, 0] / np.float32(_IMPULSE)
        self.skipped += int(job.failed.sum())
        return wet, ~job.failed

    def _nearby(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Points with every number moved, and switches and choices unchanged."""
        space, moved = self.effect.space, points.copy()
        for name, columns in space.slices.items():
            if not isinstance(space.parameters[name], (Choice, Toggle)):
                here = points[:, columns]
                step = _NEARBY * rng.choice([-1.0, 1.0], here.shape)
                moved[:, columns] = np.where((here + step < 0) | (here + step > 1), here - step, here + step)
        return space.snap(moved)

    def settings(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Random points, (n, width)."""
        space = self.effect.space
        points = space.sample(n, rng)
        return space.snap(np.clip(points * (1 + 2 * _EDGE) - _EDGE, 0, 1))

    def _clip(self, index: int, rng: np.random.Generator) -> np.ndarray:
        tracks = self.clips.clip(index).tracks
        peaks = np.abs(tracks).max(axis=(1, 2))
        loud = np.flatnonzero(peaks > 1e-3 * peaks.max())
        track = tracks[rng.choice(loud)]
        return (track / np.abs(track).max() * 10 ** (rng.uniform(*_PEAK_DB) / 20)).astype(np.float32)
