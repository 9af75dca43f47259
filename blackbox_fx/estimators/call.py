"""One call of an effect, and the plan of further renders from which a gradient of it is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.keyed import Keyed
from blackbox_fx.effects.request import AUDIO
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.surrogates import Differentiable, Pullbacks
from blackbox_fx.estimators.tensors import to_numpy
from blackbox_fx.runtime.ahead import Ahead
from blackbox_fx.runtime.base import Job, Pool, inner

Rows = NDArray[np.float64]


@final
@dataclasses.dataclass(frozen=True)
class Plan:
    """The renders that an estimator asks for, and how their scores become a gradient.

    A score is the number whose gradient is estimated: the inner product of a render with the cotangent, or any other
    number computed from a render.

    Args:
        points: (n, width) in [0, 1]; with `hop`, (n, blocks, width).
        items: (n,), index into the batch for each render.
        combine: from scores, (n,) or (n, stretches), and those of the forward pass, (batch,) or (batch, stretches), to
            (batch, width).
        hop: samples per block of settings that vary in time.
        stretch: samples per stretch, if there is a score for each stretch of time.
    """

    points: Rows
    items: NDArray[np.int64]
    combine: Callable[[NDArray[np.float64], NDArray[np.float64]], Rows]
    hop: int | None = None
    stretch: int | None = None


def _as_long(audio: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Audio (..., time) cut, or continued with silence, to a length."""
    missing = max(0, length - audio.shape[-1])
    return np.ascontiguousarray(np.pad(audio[..., :length], ((0, 0), (0, 0), (0, missing))))


@final
@dataclasses.dataclass(frozen=True)
class Call:
    """One forward pass through an effect, as its backward pass gets it.

    Args:
        effect: that rendered.
        pool: where it rendered.
        sample_rate: in Hz.
        audio: dry, (batch, channel, time), float32.
        params: (batch, width) in [0, 1], float32.
        output: wet, (batch, channel, time), float32.
        inputs: further inputs of the effect by name, (batch, channel, time), float32; see `Effect.inputs`.
        surrogates: differentiable models of the effect, called with audio, params and the sample rate.
        pullbacks: what they gave at this backward pass.
        is_checked: whether the audio is known to be finite; see `Job`.

    Attributes:
        failed: (batch,), items for which the pool has skipped a failed render. Their gradient is zero, and no more
            renders are made for them.
    """

    effect: Effect
    pool: Pool
    sample_rate: float
    audio: Tensor
    params: Tensor
    output: Tensor
    inputs: Mapping[str, Tensor] = dataclasses.field(default_factory=dict[str, Tensor], kw_only=True)
    surrogates: tuple[Differentiable, ...] = dataclasses.field(default=(), kw_only=True)
    pullbacks: Pullbacks = dataclasses.field(default_factory=Pullbacks, compare=False, kw_only=True)
    is_checked: bool = dataclasses.field(default=False, kw_only=True)
    failed: NDArray[np.bool_] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "failed", np.zeros(len(self.params), bool))

    @property
    def points(self) -> Rows:
        """The params of the forward pass, (batch, width), in float64."""
        return to_numpy(self.params).astype(np.float64)

    def part(self, items: NDArray[np.int64]) -> Self:
        """Some items of the call, with their marks of failure; it keeps no pullbacks."""
        rows = torch.from_numpy(items)

        def some(x: Tensor) -> Tensor:
            return x[rows.to(x.device)]

        part = dataclasses.replace(
            self,
            audio=some(self.audio),
            params=some(self.params),
            output=some(self.output),
            inputs={name: some(given) for name, given in self.inputs.items()},
            pullbacks=Pullbacks(),
        )
        part.failed[:] = self.failed[items]
        return part

    def seen_from(self, name: str, view: Keyed) -> Call:
        """The call as that of an effect whose audio is one of the further inputs."""
        others = {other: given for other, given in self.inputs.items() if other != name}
        call = Call(
            view,
            self.pool,
            self.sample_rate,
            self.inputs[name],
            self.params,
            self.output,
            inputs={AUDIO: self.audio, **others},
            is_checked=self.is_checked,
        )
        call.failed[:] = self.failed
        return call

    def render(self, plan: Plan) -> NDArray[np.float32]:
        """The renders of a plan, (n, channel, time)."""
        job = self.job(plan)
        wet = self.pool.map(job)
        self.note(plan.items, job.failed)
        return wet

    def respond(self, audio: NDArray[np.float32], items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Renders other audio, (n, channel, any time), at the parameters of items, (n,); to the shape of audio.

        Further inputs are those of the items, cut or continued with silence to the length of the audio.
        """
        job = Job(
            self.effect,
            audio,
            self.points[items],
            np.arange(len(items)),
            self.sample_rate,
            failed=self.failed[items],
            inputs={name: _as_long(to_numpy(x)[items], audio.shape[-1]) for name, x in self.inputs.items()},
        )
        wet = self.pool.map(job)
        self.note(items, job.failed)
        return wet

    def project(self, plan: Plan, cotangent: Tensor) -> NDArray[np.float64]:
        """The inner products of cotangent[items[n]] with the n-th render of a plan, (n,) or (n, stretches), float64.

        Args:
            plan: what to render.
            cotangent: of the outputs, (batch, channel, time).
        """
        job = self.job(plan)
        scores = self.pool.project(job, to_numpy(cotangent), plan.stretch)
        self.note(plan.items, job.failed)
        return scores

    def here(self, cotangent: Tensor, stretch: int | None = None) -> NDArray[np.float64]:
        """The inner products of the cotangent with the forward pass's output, as `project` gives them; no renders."""
        if stretch is None:
            pairs = zip(cotangent, self.output, strict=True)  # one by one, since a batch in float64 is large
            return np.array([float(w.double().flatten() @ y.double().flatten()) for w, y in pairs], np.float64)
        return np.stack([inner(w, y, stretch) for w, y in zip(to_numpy(cotangent), to_numpy(self.output), strict=True)])

    def job(self, plan: Plan) -> Job:
        """The renders of a plan as a job."""
        audio, failed = to_numpy(self.audio), self.failed[plan.items]
        return Job(
            self.effect,
            audio,
            plan.points,
            plan.items,
            self.sample_rate,
            plan.hop,
            failed,
            inputs={name: to_numpy(given) for name, given in self.inputs.items()},
            is_checked=self.is_checked,
        )

    def note(self, items: NDArray[np.int64], failed: NDArray[np.bool_]) -> None:
        """Marks the items of renders that have failed, both (n,)."""
        self.failed[items[failed]] = True

    def without_failed(self, gradient: Tensor) -> Tensor:
        """A gradient, (batch, ...), with zeros for the items with a failed render."""
        if not self.failed.any():
            return gradient
        return gradient.masked_fill(
            torch.from_numpy(self.failed).to(gradient.device).view(-1, *[1] * (gradient.ndim - 1)), 0.0
        )

    def estimate(self, plan: Plan, cotangent: Tensor, ahead: Ahead | None = None) -> Rows:
        """The gradient that a plan gives for a cotangent, (batch, width); from renders made ahead if there are any.

        It is zero for items with a failed render.
        """
        if ahead is None:
            scores = self.project(plan, cotangent)
        else:
            scores = ahead.project(to_numpy(cotangent), plan.stretch)
            self.note(plan.items, ahead.failed)
        gradient = plan.combine(scores, self.here(cotangent, plan.stretch))
        gradient[self.failed] = 0.0
        return gradient


def carry_out(plan: Plan, call: Call, cotangent: Tensor, ahead: Ahead | None = None) -> Tensor:
    """The gradient that a plan gives for a cotangent, (batch, width); from renders made ahead if there are any."""
    return torch.from_numpy(call.estimate(plan, cotangent, ahead))


def require_surrogates(call: Call, choice: str) -> None:
    """Raises ParameterError if the effect of a call has no surrogate, where one was asked for."""
    if not call.surrogates:
        raise ParameterError(
            f'choice="{choice}" needs a proxy that covers {call.effect.name} with these ranges, and there is none; '
            "train one with bfx.prepare, narrow the ranges, or give the layer surrogates=[...]."
        )
