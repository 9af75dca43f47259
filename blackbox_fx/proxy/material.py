"""What proxies learn from: dry clips at random settings, rendered by the effect while the net trains."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.data.clips import Clips, Source
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError
from blackbox_fx.runtime import Job, Pool
from blackbox_fx.space import Choice, Toggle

_PEAK_DB = (-24.0, 0.0)  # of clips
_EDGE = 0.06  # of a range, beyond either end, that is drawn and cut off: so much more often is an end drawn
_NEARBY = 0.08  # on the [0, 1] axis
_DEADLINE_S = 300.0  # for a batch


class Batch(NamedTuple):
    """Clips with what the effect makes of them.

    Args:
        audio: (batch, 1, time).
        params: (batch, width) in [0, 1].
        wet: (batch, 1, time).
    """

    audio: Tensor
    params: Tensor
    wet: Tensor


@final
class Material:
    """Endless batches of which each is fixed by the seed and its number.

    A clip is one track of a song at a random level. Settings are uniform, with the ends of the ranges among them. Where
    the pool skips renders that fail, batches are smaller by those.

    Args:
        effect: what renders.
        songs: what clips are cut from.
        pool: where it renders.
        seconds: length of a clip.
        batch: clips.
        seed: of clips and settings.
        paired: whether every second item is the clip before it, at settings nearby.

    Attributes:
        skipped: renders that failed.
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
        rows = self.settings(self.size, rng)
        if self.paired:
            half = self.size // 2
            audio[half : 2 * half] = audio[:half]
            rows[half : 2 * half] = self._nearby(rows[:half], rng)
        job = Job(self.effect, audio, rows, np.arange(self.size), self.clips.sample_rate)
        wet = self.pool.map(job)
        sound = ~job.failed
        if self.paired:
            sound[:half] = sound[half : 2 * half] = sound[:half] & sound[half : 2 * half]
        self.skipped += int(job.failed.sum())
        if not sound.any():
            raise EffectError(
                f"{self.effect.name} failed at all {self.size} settings of a batch; narrow the range of its parameters."
            )
        return Batch(*(torch.from_numpy(part[sound]) for part in (audio, rows.astype(np.float32), wet)))

    def _nearby(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows with every number moved, and switches and choices as they are."""
        space, moved = self.effect.space, rows.copy()
        for name, columns in space.slices.items():
            if not isinstance(space.parameters[name], (Choice, Toggle)):
                here = rows[:, columns]
                step = _NEARBY * rng.choice([-1.0, 1.0], here.shape)
                moved[:, columns] = np.where((here + step < 0) | (here + step > 1), here - step, here + step)
        return space.snap(moved)

    def settings(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Random rows, (n, width)."""
        space = self.effect.space
        rows = space.sample(n, rng)
        return space.snap(np.clip(rows * (1 + 2 * _EDGE) - _EDGE, 0, 1))

    def _clip(self, index: int, rng: np.random.Generator) -> np.ndarray:
        tracks = self.clips.clip(index).tracks
        peaks = np.abs(tracks).max(axis=(1, 2))
        loud = np.flatnonzero(peaks > 1e-3 * peaks.max())
        track = tracks[rng.choice(loud)]
        return (track / np.abs(track).max() * 10 ** (rng.uniform(*_PEAK_DB) / 20)).astype(np.float32)


@final
class Feed:
    """Batches of a material, rendered ahead in a thread of their own.

    Args:
        material: what to render.
        first: number of the first batch.
        ahead: batches that wait, at most.

    Attributes:
        waited: seconds that were spent waiting for batches.
    """

    def __init__(self, material: Material, first: int = 0, ahead: int = 3) -> None:
        self.waited = 0.0
        self._material, self._next = material, first
        self._queue: queue.Queue[Batch | Exception] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(_DEADLINE_S)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                item: Batch | Exception = self._material.batch(self._next)
            except Exception as error:  # handed to whoever waits for the batch
                item = error
            self._next += 1
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue

    def get(self) -> Batch:
        """The next batch.

        Raises:
            EffectError, WorkerDied, RenderTimeout: it could not be rendered.
        """
        start = time.perf_counter()
        try:
            item = self._queue.get(timeout=_DEADLINE_S)
        except queue.Empty:
            raise EffectError(
                f"{self._material.effect.name} rendered no batch of {self._material.size} clips in {_DEADLINE_S:g} s; "
                "use shorter clips, or smaller batches."
            ) from None
        finally:
            self.waited += time.perf_counter() - start
        if isinstance(item, Exception):
            raise item
        return item
