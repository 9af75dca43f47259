"""What runs on a node of a Ray cluster: an actor that renders parts of a job in a `Processes` pool there."""

from __future__ import annotations

import dataclasses
import functools
import logging
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import BlackBoxError
from blackbox_fx.runtime.base import Batch, Job
from blackbox_fx.runtime.counters import Counters
from blackbox_fx.runtime.policy import OnFailure
from blackbox_fx.runtime.process import portable
from blackbox_fx.runtime.processes import Processes

_EFFECTS = 64  # that a node remembers
_log = logging.getLogger("blackbox_fx")


@final
@dataclasses.dataclass(frozen=True)
class Task:
    """A job as it lies in the object store.

    Args:
        recipe: the effect, pickled.
        path: where the program at home looks for modules; nodes do so too, after their own places.
        fields, inputs: the rest of the job.
        cotangent, stretch: what to project on, see `Pool.project`; None for outputs.
    """

    recipe: bytes
    path: Sequence[str]
    fields: Mapping[str, Any]
    inputs: Mapping[str, Batch]
    cotangent: Batch | None
    stretch: int | None

    def job(self, renders: NDArray[np.int64]) -> Job:
        """Some of the renders, as a job."""
        sys.path.extend(place for place in self.path if place not in sys.path)
        return Job(_effect(self.recipe), **self.fields, inputs=self.inputs).part(renders)


@functools.lru_cache(_EFFECTS)
def _effect(recipe: bytes) -> Effect:
    return pickle.loads(recipe)


@final
@dataclasses.dataclass(frozen=True)
class Answer:
    """What a node says of a chunk: outputs or inner products or an error, which failed, counts, and what was logged."""

    value: NDArray[Any] | BlackBoxError
    failed: NDArray[np.bool_] | None
    counters: Counters
    messages: Sequence[tuple[int, str]]


@final
class RenderHost(logging.Handler):
    """The actor on a node. It also takes what is logged there, which Ray would not always show.

    Args:
        workers, deadline, on_failure, memory_mb: of its pool.
    """

    def __init__(self, workers: int, deadline: float | None, on_failure: OnFailure, memory_mb: float) -> None:
        super().__init__()
        self._pool = Processes(workers, deadline, on_failure, memory_mb)
        self._messages: list[tuple[int, str]] = []
        _log.addHandler(self)
        _log.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a message for the next answer."""
        self._messages.append((record.levelno, record.getMessage()))

    def live(self, seconds: float) -> None:
        """Gives a sign of life after some seconds."""
        time.sleep(seconds)

    def render(self, task: Task, renders: NDArray[np.int64]) -> Answer:
        """Renders a chunk."""
        self._pool.reset_counters()
        self._messages.clear()
        failed = None
        try:
            job = task.job(renders)
            cotangent, stretch = task.cotangent, task.stretch
            value = self._pool.map(job) if cotangent is None else self._pool.project(job, cotangent, stretch)
            failed = job.failed
        except Exception as error:
            value = error if isinstance(error, BlackBoxError) else portable(error)
        return Answer(value, failed, self._pool.counters, list(self._messages))

    def end(self) -> None:
        """Ends the workers."""
        self._pool.close()
