"""Where renders run: a pool takes a job, many renders at once, and gives audio or inner products."""

from __future__ import annotations

import abc
import dataclasses
import functools
import weakref
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio, check_audio, check_sample_rate
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.runtime.counters import Counters, Tally


@final
@dataclasses.dataclass(frozen=True)
class Job:
    """Many renders of one effect: the n-th is audio[rows[n]] at params[n].

    Args:
        effect: what renders.
        audio: (batch, channel, time), float32.
        params: (n, width) columns in [0, 1]; with `hop`, (n, blocks, width): one row for each block.
        rows: (n,) which item of the batch each render takes.
        sample_rate: in Hz.
        hop: samples per block of time-varying parameters, see `Effect.render`.
        failed: (n,), which renders have failed; filled by `Processes(on_failure="skip")`, which leaves out those that
            are marked before. None have, if not given.

    Raises:
        AudioError, ParameterError: shapes that do not fit together.
    """

    effect: Effect
    audio: NDArray[np.float32]
    params: NDArray[np.float64]
    rows: NDArray[np.int64]
    sample_rate: float
    hop: int | None = None
    failed: NDArray[np.bool_] = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    _sound: set[int] = dataclasses.field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.audio.ndim != 3 or self.audio.dtype != np.float32:
            raise AudioError(
                f"audio must be (batch, channel, time) float32, got {self.audio.shape} {self.audio.dtype}."
            )
        n, width = len(self.params), self.effect.space.width
        if self.params.ndim != (2 if self.hop is None else 3) or self.params.shape[-1] != width:
            raise ParameterError(
                f"params must be (n, {width}), or (n, blocks, {width}) with hop, got {self.params.shape}."
            )
        if self.rows.shape != (n,) or (n and not (self.rows.min() >= 0 and self.rows.max() < len(self.audio))):
            raise ParameterError(f"rows must name one of {len(self.audio)} batch items for each of {n} renders.")
        if not len(self.failed):
            object.__setattr__(self, "failed", np.zeros(n, bool))
        if self.failed.shape != (n,):
            raise ParameterError(f"failed must say of each of {n} renders whether it has, got {self.failed.shape}.")

    def __len__(self) -> int:
        return len(self.params)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape of all outputs, (n, channel, time)."""
        return (len(self), *self.audio.shape[1:])

    def render(self, n: int) -> Audio:
        """The n-th render, (channel, time)."""
        decode, row = self.effect.space.decode, int(self.rows[n])
        values = decode(self.params[n]) if self.hop is None else [decode(u) for u in self.params[n]]
        audio = self.audio[row] if row in self._sound else check_audio(self.audio[row])
        self._sound.add(row)  # checked once, however often it is rendered
        return self.effect._render(audio, values, check_sample_rate(self.sample_rate), self.hop)

    def project(self, n: int, weight: NDArray[np.float32], stretch: int | None = None) -> Any:
        """The inner product of the n-th render with weight[rows[n]], in float64; one for each stretch if given."""
        return inner(weight[self.rows[n]], self.render(n), stretch)


def inner(weight: NDArray[np.float32], audio: Audio, stretch: int | None) -> Any:
    """<weight, audio>, both (channel, time), summed in float64; with `stretch`, an array over stretches of samples."""
    products = np.multiply(weight, audio, dtype=np.float64)
    if stretch is None:
        return float(products.sum())
    return np.add.reduceat(products.sum(axis=0), np.arange(0, products.shape[1], stretch))


class Pool(abc.ABC):
    """Where renders run. Every pool gives the same numbers, bit for bit.

    A pool may be used as a context manager; `close` frees what it holds, and it opens again on next use. Pools are
    places, not data: a copy is the same pool, and pickling keeps only the recipe.
    """

    @property
    @final
    def counters(self) -> Counters:
        """What it did so far."""
        return self._tally.now

    @final
    def reset_counters(self) -> None:
        """Begins to count anew."""
        self._tally.reset()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_tally", "_aheads")}

    @functools.cached_property
    def _aheads(self) -> weakref.WeakSet[Any]:
        """What renders ahead here; `close` stops it."""
        return weakref.WeakSet()

    @functools.cached_property
    def _tally(self) -> Tally:
        return Tally()

    @final
    def map(self, job: Job) -> NDArray[np.float32]:
        """Runs a job. Returns its outputs, (n, channel, time); the dry audio for those that failed."""
        out = np.empty(job.output_shape, np.float32)
        if len(job):
            self._map(job, out)
        if job.failed.any():
            out[job.failed] = job.audio[job.rows[job.failed]]
        return out

    @final
    def project(self, job: Job, weight: NDArray[np.float32], stretch: int | None = None) -> NDArray[np.float64]:
        """Runs a job and returns only the inner products <weight[rows[n]], n-th output>.

        Args:
            job: the renders.
            weight: (batch, channel, time), float32, like the job's audio.
            stretch: samples; if given, inner products over stretches of so many are returned one by one.

        Returns:
            (n,), or (n, ceil(time / stretch)); 0 for renders that failed.
        """
        if weight.shape != job.audio.shape or weight.dtype != np.float32:
            raise AudioError(f"weight must be {job.audio.shape} float32 like audio, got {weight.shape} {weight.dtype}.")
        out = np.empty(len(job) if stretch is None else (len(job), -(-weight.shape[-1] // stretch)), np.float64)
        if len(job):
            self._project(job, weight, stretch, out)
        out[job.failed] = 0.0
        return out

    @abc.abstractmethod
    def _map(self, job: Job, out: NDArray[np.float32]) -> None:
        """Fills out, (n, channel, time), with the outputs of a job that is not empty."""

    @abc.abstractmethod
    def _project(self, job: Job, weight: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]) -> None:
        """Fills out, (n,) or (n, stretches), with the inner products of a job that is not empty."""

    def close(self) -> None:
        """Frees what the pool holds, and stops what renders ahead in it."""
        for ahead in list(self._aheads):
            ahead.stop.set()

    @final
    def __enter__(self) -> Self:
        return self

    @final
    def __exit__(self, *exception: object) -> None:
        self.close()

    @final
    def __copy__(self) -> Self:
        return self

    @final
    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
