"""Pools: a pool runs a job of many renders, and returns their audio or inner products."""

from __future__ import annotations

import abc
import dataclasses
import functools
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio, check_audio, check_sample_rate, to_channels
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.request import RenderRequest
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.runtime.counters import Counters, Tally

Batch = NDArray[np.float32]  # (batch, channel, time)


@final
@dataclasses.dataclass(frozen=True)
class Job:
    """Many renders of one effect. Render n is that of audio[items[n]] at points[n].

    Args:
        effect: that renders.
        audio: (batch, channel, time), float32.
        points: (n, width) in [0, 1]; with `hop`, (n, blocks, width): one point for each block.
        items: (n,), index into the batch for each render.
        sample_rate: in Hz.
        hop: samples per block of settings that vary in time, see `Effect.render`.
        failed: (n,), whether each render has failed; filled by pools that skip failures. Renders that are marked at the
            start are not made. None is marked if it is not given.
        inputs: further inputs of the effect by name, (batch, channel, time) each, see `Effect.inputs`.
        is_checked: whether audio and inputs are known to be finite; they are checked here if not.

    Raises:
        AudioError: NaN or infinity in the audio or an input, a bad sample rate.
        AudioError, ParameterError: shapes that do not fit together.
    """

    effect: Effect
    audio: Batch
    points: NDArray[np.float64]
    items: NDArray[np.int64]
    sample_rate: float
    hop: int | None = None
    failed: NDArray[np.bool_] = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    inputs: Mapping[str, Batch] = dataclasses.field(default_factory=dict[str, Batch])
    is_checked: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        self._check_audio()
        n, width = len(self.points), self.effect.space.width
        if self.points.ndim != (2 if self.hop is None else 3) or self.points.shape[-1] != width:
            raise ParameterError(
                f"points must be (n, {width}), or (n, blocks, {width}) with hop, got {self.points.shape}."
            )
        if self.items.shape != (n,) or (n and not (self.items.min() >= 0 and self.items.max() < len(self.audio))):
            raise ParameterError(f"items must name one of {len(self.audio)} batch items for each of {n} renders.")
        if not len(self.failed):
            object.__setattr__(self, "failed", np.zeros(n, bool))
        if self.failed.shape != (n,):
            raise ParameterError(f"failed must have one entry for each of {n} renders, got shape {self.failed.shape}.")

    def _check_audio(self) -> None:
        """Looks for NaN once, for all renders and for all jobs that are made of this one."""
        for name, given in (("audio", self.audio), *self.inputs.items()):
            if given.ndim != 3 or given.dtype != np.float32:
                raise AudioError(f"{name} must be (batch, channel, time) float32, got {given.shape} {given.dtype}.")
            for item in () if self.is_checked else given:
                check_audio(item, name)
        if not self.is_checked:
            check_sample_rate(self.sample_rate)
            object.__setattr__(self, "is_checked", True)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def cotangent_shape(self) -> tuple[int, int, int]:
        """Shape of a cotangent of the outputs, (batch, channel, time)."""
        batch, channels, time = self.audio.shape
        return batch, self.effect.output_channels(channels), time

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape of all outputs, (n, channel, time)."""
        return (len(self), *self.cotangent_shape[1:])

    def request(self, n: int) -> RenderRequest:
        """The request to the effect for the n-th render."""
        item = self.items[n]
        inputs = {name: given[item] for name, given in self.inputs.items()}
        return self.effect.request_at(self.audio[item], self.points[n], float(self.sample_rate), self.hop, inputs)

    def render(self, n: int) -> Audio:
        """The n-th render, (channel, time)."""
        return self.effect.run(self.request(n))

    def project(self, n: int, cotangent: Batch, stretch: int | None = None) -> Any:
        """The inner product of the n-th render with cotangent[items[n]], in float64; one for each stretch if given."""
        return inner(cotangent[self.items[n]], self.render(n), stretch)

    def part(self, renders: slice | NDArray[np.int64]) -> Job:
        """A job of some of the renders."""
        points, items, failed = (whole[renders] for whole in (self.points, self.items, self.failed))
        return dataclasses.replace(self, points=points, items=items, failed=failed)


def inner(cotangent: NDArray[np.float32], audio: Audio, stretch: int | None) -> Any:
    """<cotangent, audio>, both (channel, time), summed in float64; with `stretch`, one number for each stretch."""
    products = np.multiply(cotangent, audio, dtype=np.float64)
    if stretch is None:
        return float(products.sum())
    return np.add.reduceat(products.sum(axis=0), np.arange(0, products.shape[1], stretch))


def _put_dry(job: Job, out: NDArray[np.float32]) -> None:
    """Puts the dry audio where renders have failed."""
    for n in np.flatnonzero(job.failed):
        out[n] = to_channels(job.audio[job.items[n]], out.shape[1])


class Pool(abc.ABC):
    """Where renders run. Every pool gives the same numbers, bit for bit.

    A subclass implements `map_into` and `project_into`, and sets the attributes below. It counts what it renders in
    `tally`. A pool may be used as a context manager; `close` frees what it holds, and it opens again on next use. A
    copy of a pool is the same pool, and pickling keeps only the attributes that `__getstate__` gives.

    Attributes:
        workers: number of renders that run at the same time.
        background: whether renders run while the calling thread continues, so that they can start before they are
            needed.
        prefers_lookahead: whether a layer starts them early by default.
    """

    workers: int = 1
    background: bool = False
    prefers_lookahead: bool = False

    @property
    @final
    def counters(self) -> Counters:
        """What it did so far."""
        return self.tally.now

    @final
    def reset_counters(self) -> None:
        """Sets all counters to zero."""
        self.tally.reset()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("tally", "_on_close")}

    @functools.cached_property
    def _on_close(self) -> weakref.WeakSet[threading.Event]:
        return weakref.WeakSet()

    @final
    def notify_on_close(self, event: threading.Event) -> None:
        """Sets an event when the pool is closed."""
        self._on_close.add(event)

    @functools.cached_property
    def tally(self) -> Tally:
        """Counts what it does; for subclasses."""
        return Tally()

    @final
    def map(self, job: Job, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Runs a job.

        Args:
            job: the renders.
            out: takes the outputs, (n, channel, time); a new array if not given.

        Returns:
            The outputs; the dry audio for those that failed.
        """
        out = np.empty(job.output_shape, np.float32) if out is None else out
        if len(job):
            self.map_into(job, out)
        _put_dry(job, out)
        return out

    @final
    def map_all(self, jobs: Sequence[Job]) -> list[NDArray[np.float32]]:
        """Runs several jobs at the same time, where the pool can do that; the outputs of each, see `map`."""
        outs = [np.empty(job.output_shape, np.float32) for job in jobs]
        filled = [k for k, job in enumerate(jobs) if len(job)]
        if filled:
            self.map_all_into([jobs[k] for k in filled], [outs[k] for k in filled])
        for job, out in zip(jobs, outs, strict=True):
            _put_dry(job, out)
        return outs

    @final
    def project(self, job: Job, cotangent: NDArray[np.float32], stretch: int | None = None) -> NDArray[np.float64]:
        """Runs a job and returns only the inner products <cotangent[items[n]], output n>.

        Args:
            job: the renders.
            cotangent: (batch, channel, time), float32, of the outputs.
            stretch: samples; if given, there is one inner product for each stretch of this length.

        Returns:
            (n,), or (n, ceil(time / stretch)); 0 for renders that failed.
        """
        wanted = job.cotangent_shape
        if cotangent.shape != wanted or cotangent.dtype != np.float32:
            raise AudioError(
                f"cotangent must be {wanted} float32 like the outputs, got {cotangent.shape} {cotangent.dtype}."
            )
        out = np.empty(len(job) if stretch is None else (len(job), -(-wanted[-1] // stretch)), np.float64)
        if len(job):
            self.project_into(job, cotangent, stretch, out)
        out[job.failed] = 0.0
        return out

    @abc.abstractmethod
    def map_into(self, job: Job, out: NDArray[np.float32]) -> None:
        """Fills out, (n, channel, time), with the outputs of a job that is not empty."""

    def map_all_into(self, jobs: Sequence[Job], outs: Sequence[NDArray[np.float32]]) -> None:
        """Fills outs with the outputs of jobs none of which is empty: one after another, if not overridden."""
        for job, out in zip(jobs, outs, strict=True):
            self.map_into(job, out)

    @abc.abstractmethod
    def project_into(
        self, job: Job, cotangent: NDArray[np.float32], stretch: int | None, out: NDArray[np.float64]
    ) -> None:
        """Fills out, (n,) or (n, stretches), with the inner products of a job that is not empty."""

    def close(self) -> None:
        """Frees what the pool holds, and stops what renders ahead in it."""
        for event in list(self._on_close):
            event.set()

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
