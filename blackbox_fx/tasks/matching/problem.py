"""A chain, a recording and a target: renders settings, compares them, counts, and keeps the best."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import Effect
from blackbox_fx.errors import EffectError, MissingHost
from blackbox_fx.runtime import Job, Pool
from blackbox_fx.space import Choice, Integer, Parameter, Toggle
from blackbox_fx.tasks.matching.memory import Memory
from blackbox_fx.tasks.matching.target import Heard, Target

Array = NDArray[np.float64]
FOUND = 1e-12  # a loss that is nothing
_FEW = 9  # values of a parameter up to which each is an option of its own
_KEPT_BYTES = 256 << 20  # of outputs inside the chain


class Spent(Exception):
    """No renders or no time are left."""


class Progressed(NamedTuple):
    """The best so far.

    Args:
        renders: passes through the chain until then.
        seconds: since the start.
        loss: of the best.
    """

    renders: float
    seconds: float
    loss: float


@final
@dataclasses.dataclass(frozen=True)
class Option:
    """A parameter that takes few values.

    Args:
        columns: of the parameter.
        values: the columns of each value, (values, columns).
    """

    columns: slice
    values: Array


class Taste(Protocol):
    """What is wanted of settings, whatever they sound like."""

    def add(self, point: Array, parts: Array, residuals: NDArray[np.float32]) -> tuple[Array, NDArray[np.float32]]:
        """The parts of a loss and what stands for its residuals, with those of the settings at a point behind."""
        ...


@final
class Clock:
    """Seconds by what they were spent on.

    Attributes:
        rendering, comparing: seconds.
        start: when it began.
    """

    def __init__(self) -> None:
        self.start, self.rendering, self.comparing = time.monotonic(), 0.0, 0.0

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start


@final
class Problem:
    """What a search asks: the losses of settings. A pass through the whole chain counts as one render.

    What an effect gave is kept for a while, so that effects before the first one whose settings differ are not rendered
    again; such a pass counts as the share of effects that were rendered.

    Args:
        chain: whose free parameters are searched.
        dry: (channel, time).
        target: what is wanted.
        sample_rate: in Hz.
        pool: where effects render.
        renders: passes through the chain that may be made.
        seconds: that may pass.
        memory: of losses that are known from an earlier, interrupted search.
        progress: called after each job.
        wants_residuals: whether the search uses residuals; they are not kept otherwise.
        taste: what is wanted of the settings themselves.
        skips: whether renders whose errors the pool raises are counted as failures here.

    Attributes:
        parts: of the loss: those of the target, and one for the settings themselves where there is a taste.
        continuous: columns that move freely, with steps finer than a ninth of the range.
        steps: the least useful distance of each of these.
        options: parameters with few values.
        renders: passes so far.
        failures: renders that failed.
        why: what the last one that was skipped here said.
        best: the best point so far, (width,).
        loss: of it.
        trace: how the best loss fell.
        clock: what seconds were spent on.
    """

    def __init__(
        self,
        chain: Effect,
        dry: Audio,
        target: Target,
        sample_rate: float,
        pool: Pool,
        renders: float = math.inf,
        seconds: float = math.inf,
        memory: Memory | None = None,
        progress: Progress = quiet,
        wants_residuals: bool = True,
        taste: Taste | None = None,
        skips: bool = False,
    ) -> None:
        self.wants_residuals, self.taste = wants_residuals and target.has_residuals, taste
        self.parts = target.parts + (taste is not None)
        self.skips, self.why = skips, ""
        self.chain, self.dry, self.target, self.sample_rate, self.pool = chain, dry, target, sample_rate, pool
        self.allowed, self.seconds, self.progress = renders, seconds, progress
        self.memory = Memory() if memory is None else memory
        self.renders, self.failures, self.loss, self.clock = 0.0, 0, math.inf, Clock()
        self.best: Array = chain.space.encode()
        self.trace: list[Progressed] = []
        self._members = _members(chain)
        stops = np.cumsum([0, *(e.space.width for e in self._members)]).tolist()
        self._slices = [slice(a, b) for a, b in itertools.pairwise(stops)]
        self._kept: collections.OrderedDict[bytes, Audio] = collections.OrderedDict()
        self._kept_bytes = 0
        space = chain.space
        found = {name: _options(space.parameters[name]) for name in space.free}
        self.options = [Option(space.slices[n], values) for n, values in found.items() if values is not None]
        self.continuous = np.array([space.slices[n].start for n, values in found.items() if values is None], np.int64)
        self.steps = space.unit_steps[self.continuous]

    def evaluate(self, points: Array) -> Heard:
        """What the chain gives at some points, (n, width), compared with what is wanted.

        Raises:
            Spent: no renders or no time are left.
        """
        if self.renders >= self.allowed or self.clock.total >= self.seconds:
            raise Spent
        parts, residuals = [], []
        unknown = [k for k, point in enumerate(points) if self.memory.get(point) is None]
        self._render(points[unknown])
        for point in points:
            found = self.memory.get(point)
            assert found is not None
            self.renders += found.renders
            self._note(point, float(found.parts.sum()))
            parts.append(found.parts)
            residuals.append(found.residuals)
            self.memory.count(point)
        total = round(self.allowed) if self.allowed < math.inf else 0
        self.progress(min(round(self.renders), total), total, f"loss {self.loss:.3g}")
        return Heard(np.array(parts), np.array(residuals))

    @property
    def is_found(self) -> bool:
        """Whether the best loss is as good as nothing."""
        return self.loss <= FOUND

    def charge(self, renders: float) -> None:
        """Counts renders that were made elsewhere."""
        self.renders += renders

    def _note(self, point: Array, loss: float) -> None:
        if loss < self.loss:
            self.loss, self.best = loss, point.copy()
            self.trace.append(Progressed(self.renders, self.clock.total, loss))

    def _render(self, points: Array) -> None:
        """Puts points that were never rendered into the memory."""
        begun = time.monotonic()
        wet, costs, failed = self._pass(points)
        heard = time.monotonic()
        self.clock.rendering += heard - begun
        for point, compared, cost, bad in zip(points, self._compare(wet), costs, failed, strict=True):
            self.failures += bad
            parts, residuals = compared
            if self.taste is not None:
                parts, residuals = self.taste.add(point, parts, residuals)
            kept = residuals if self.wants_residuals else residuals[:0]
            self.memory.put(point, np.full_like(parts, math.inf) if bad else parts, kept, cost)
        self.clock.comparing += time.monotonic() - heard

    def _compare(self, wet: Sequence[Audio]) -> Sequence[tuple[Array, NDArray[np.float32]]]:
        """Compares renders with what is wanted; side by side, where the target is one of ours."""
        if len(wet) == 1 or self.pool.workers < 2 or not self.target.has_residuals:
            return [self.target.hear(audio) for audio in wet]
        with concurrent.futures.ThreadPoolExecutor(self.pool.workers) as threads:
            return list(threads.map(self.target.hear, wet))

    def _pass(self, points: Array) -> tuple[list[Audio], Array, list[bool]]:
        """The outputs of the chain at some points, how many passes each took, and which failed."""
        keys = [[point[: own.stop].tobytes() for own in self._slices] for point in points]
        begun = [self._furthest(key) for key in keys]
        wet = [audio for _, audio in begun]
        costs, failed = np.zeros(len(points)), np.zeros(len(points), bool)
        for k in range(len(self._members)):
            same: dict[bytes, list[int]] = {}
            for n, key in enumerate(keys):
                if begun[n][0] <= k and not failed[n]:
                    same.setdefault(key[k], []).append(n)
            if same:
                self._stage(k, same, points, wet, costs, failed)
        return wet, costs, failed.tolist()

    def _stage(
        self,
        k: int,
        same: Mapping[bytes, list[int]],
        points: Array,
        wet: list[Audio],
        costs: Array,
        failed: NDArray[np.bool_],
    ) -> None:
        """Renders one effect, once for all points that are the same up to it."""
        firsts = [each[0] for each in same.values()]
        job = self._job(self._members[k], [wet[n] for n in firsts], points[firsts][:, self._slices[k]])
        outputs = self._outputs(job)
        costs[firsts] += 1 / len(self._members)
        for (key, each), audio, bad in zip(same.items(), outputs, job.failed, strict=True):
            failed[each] |= bad
            for n in each:
                wet[n] = audio
            if k < len(self._members) - 1 and not bad:
                self._keep(key, audio)

    def _outputs(self, job: Job) -> Audio:
        """The outputs of a job; where the pool raises and that is not wanted, one by one, with failures marked."""
        try:
            return self.pool.map(job)
        except EffectError:
            if not self.skips:
                raise
        outputs = np.zeros(job.output_shape, np.float32)
        for n in range(len(job)):
            try:
                outputs[n] = self.pool.map(job.part(slice(n, n + 1)))[0]
            except MissingHost:
                raise
            except EffectError as error:
                job.failed[n], self.why = True, str(error).rstrip(".")
        return outputs

    def _furthest(self, key: Sequence[bytes]) -> tuple[int, Audio]:
        """The first effect that has to be rendered, and what it gets."""
        for k in range(len(key) - 1, 0, -1):
            if key[k - 1] in self._kept:
                self._kept.move_to_end(key[k - 1])
                return k, self._kept[key[k - 1]]
        return 0, self.dry

    def _job(self, member: Effect, audio: Sequence[Audio], points: Array) -> Job:
        return Job(member, np.stack(audio), points, np.arange(len(points)), self.sample_rate, is_checked=True)

    def _keep(self, key: bytes, audio: Audio) -> None:
        self._kept[key] = audio.copy()
        self._kept_bytes += audio.nbytes
        while self._kept_bytes > _KEPT_BYTES:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes

    def wet(self, point: Array) -> Audio:
        """The output of the chain at a point."""
        return self._pass(point[None])[0][0]


def _members(chain: Effect) -> list[Effect]:
    """The effects in series whose columns follow each other in those of a chain; the chain itself if they do not."""
    found = [each for member in chain.members.values() for each in _members(member)]
    columns = tuple(p for each in found for p in (each.space.parameters[n] for n in each.space.free))
    own = tuple(chain.space.parameters[n] for n in chain.space.free)
    held = [each.space.parameters[n] for each in found for n in each.space.parameters]
    same = columns == own and held == list(chain.space.parameters.values())
    return found if found and same and not chain.inputs else [chain]


def _options(parameter: Parameter) -> Array | None:
    """The columns of each value of a parameter with few values; None for any other."""
    if isinstance(parameter, Choice):
        return np.eye(len(parameter.options))
    if isinstance(parameter, Toggle | Integer) or parameter.positions:
        count = parameter.positions
        return np.linspace(0, 1, count)[:, None] if count <= _FEW else None
    return None
