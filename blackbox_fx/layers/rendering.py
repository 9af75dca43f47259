"""The pass of audio through an effect as a function of torch: renders forward, estimated gradients backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.keyed import Keyed
from blackbox_fx.errors import EffectError
from blackbox_fx.estimators.base import AudioRule, Estimator
from blackbox_fx.estimators.call import Call, Plan, carry_out
from blackbox_fx.estimators.inputs import check_values
from blackbox_fx.estimators.surrogates import Pullbacks
from blackbox_fx.estimators.tensors import to_numpy
from blackbox_fx.runtime import Ahead, Job, Pool


class Layer(Protocol):
    """What a pass asks of its layer, a `BlackBox`."""

    effect: Effect
    pool: Pool
    sample_rate: float
    estimator: Estimator
    audio_rule: AudioRule
    failed: NDArray[np.bool_]

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of params."""
        ...

    def call_at(
        self,
        audio: Tensor,
        params: Tensor,
        output: Tensor,
        failed: NDArray[np.bool_] | None = None,
        pullbacks: Pullbacks | None = None,
        inputs: Mapping[str, Tensor] = {},
        user: Estimator | AudioRule | None = None,
    ) -> Call:
        """A forward pass as its user sees it, the estimator if none is given."""
        ...

    def look_ahead(
        self, audio: Tensor, params: Tensor, failed: NDArray[np.bool_], inputs: Mapping[str, Tensor]
    ) -> tuple[Plan, Ahead | None] | None:
        """Starts what the backward pass will render, where that is wanted and known."""
        ...

    def input_rule(self, name: str) -> AudioRule:
        """What gives the gradient with respect to a further input."""
        ...

    def view(self, name: str, channels: int) -> Keyed:
        """The effect as a function of a further input."""
        ...


@final
class Pass:
    """One forward pass of a layer, as it is remembered until its backward pass.

    Args:
        layer: whose effect renders.
        names: of further inputs.
        learning: whether params will get a gradient.
        items: of the batch.

    Attributes:
        failed: which items have failed, (items,).
        ahead: the renders of the backward pass that have begun.
        outputs: of the job, if it was rendered with others.
    """

    def __init__(self, layer: Layer, names: Sequence[str], learning: bool, items: int) -> None:
        self.layer, self.names, self.learning = layer, tuple(names), learning
        self.failed: NDArray[np.bool_] = np.zeros(items, bool)
        self.ahead: tuple[Plan, Ahead | None] | None = None
        self.outputs: NDArray[np.float32] | None = None

    def job(self, audio: Tensor, params: Tensor, further: Sequence[Tensor]) -> Job:
        """What is to be rendered."""
        layer, inputs = self.layer, dict(zip(self.names, further, strict=True))
        check_values(audio, params, layer.columns, inputs)
        points = np.clip(to_numpy(params).astype(np.float64), 0.0, 1.0)
        return Job(
            layer.effect,
            to_numpy(audio),
            points,
            np.arange(len(points)),
            layer.sample_rate,
            failed=self.failed,
            inputs={name: to_numpy(given) for name, given in inputs.items()},
            is_checked=True,
        )

    def render(self, audio: Tensor, params: Tensor, further: Sequence[Tensor]) -> Tensor:
        """The outputs."""
        layer, inputs = self.layer, dict(zip(self.names, further, strict=True))
        outputs = layer.pool.map(self.job(audio, params, further)) if self.outputs is None else self.outputs
        self.outputs = None
        wet = torch.from_numpy(outputs).to(audio.device)
        layer.failed = self.failed
        if self.learning:
            self.ahead = layer.look_ahead(audio, params, self.failed, inputs)
        return wet

    def gradients(
        self,
        wanted: Sequence[bool],
        cotangent: Tensor,
        audio: Tensor,
        params: Tensor,
        output: Tensor,
        inputs: Mapping[str, Tensor],
    ) -> list[Tensor | None]:
        """The gradients of audio, params and further inputs, where they are wanted."""
        tensors = (audio, params, *inputs.values())
        found = [torch.zeros_like(x) if needed else None for x, needed in zip(tensors, wanted, strict=True)]
        if len(audio) and self.failed.all():
            return found
        layer = self.layer
        pullbacks = Pullbacks(
            wanted[0] and layer.audio_rule.pulls,
            wanted[1] and self.ahead is None and layer.estimator.pulls,
        )
        if wanted[0]:
            call = layer.call_at(audio, params, output, self.failed, pullbacks, inputs, layer.audio_rule)
            found[0] = call.without_failed(layer.audio_rule.vjp(call, cotangent)).to(audio)
        if wanted[1]:
            call = layer.call_at(audio, params, output, self.failed, pullbacks, inputs)
            plan, renders = self.ahead or (None, None)
            planned = plan is not None
            grad = carry_out(plan, call, cotangent, renders) if planned else layer.estimator.vjp(call, cotangent)
            found[1] = call.without_failed(grad).to(params)
        for k, name in enumerate(self.names, 2):
            if wanted[k]:
                call = layer.call_at(audio, params, output, self.failed, None, inputs, layer.input_rule(name))
                call = call.seen_from(name, layer.view(name, audio.shape[1]))
                grad = layer.input_rule(name).vjp(call, cotangent)
                found[k] = call.without_failed(grad).to(inputs[name])
        return found


def _merged(count: int, in_dims: Sequence[int | None], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of `torch.vmap`, whose dimension becomes part of the batch; those without are repeated."""
    return [
        (x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)
        for x, dim in zip(tensors, in_dims, strict=True)
    ]


@final
class _Render(torch.autograd.Function):
    """Forward through the effect, backward through `_Pull`: `_Render.apply(pass, audio, params, *further)`."""

    @staticmethod
    def forward(passed: Pass, audio: Tensor, params: Tensor, *further: Tensor) -> Tensor:
        return passed.render(audio, params, further)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.passed, *tensors = inputs
        ctx.save_for_backward(output, *tensors)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] torch's own stub has ctx by name
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        wanted = tuple(ctx.needs_input_grad[1:])
        try:
            found = iter(_Pull.apply(ctx.passed, wanted, grad_outputs[0], *ctx.saved_tensors))
        except RuntimeError as error:
            if "Batching rule" not in str(error):
                raise
            name = ctx.passed.layer.effect.name
            raise EffectError(f"{name} cannot pull batched gradients back; use torch.func.jacrev.") from error
        return None, *(next(found) if needed else None for needed in wanted)

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        raise EffectError(
            f"{ctx.passed.layer.effect.name} has no derivative in forward mode; use torch.func.vjp, grad or jacrev."
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        passed, *tensors = args
        merged = _merged(info.batch_size, in_dims[1:], tensors)
        whole = Pass(passed.layer, passed.names, passed.learning, len(merged[0]))
        return _Render.apply(whole, *merged).unflatten(0, (info.batch_size, -1)), 0


@final
class _Pull(torch.autograd.Function):
    """The gradients of a pass: `_Pull.apply(pass, wanted, cotangent, output, audio, params, *further)`."""

    @staticmethod
    def forward(passed: Pass, wanted: tuple[bool, ...], cotangent: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        output, audio, params, *further = tensors
        inputs = dict(zip(passed.names, further, strict=True))
        found = passed.gradients(wanted, cotangent, audio, params, output, inputs)
        return tuple(grad for grad in found if grad is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.passed = inputs[0]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise EffectError(
            f"{ctx.passed.layer.effect.name} has no second derivatives; do not differentiate its gradient."
        )

    jvp = backward

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        passed, wanted, *tensors = args
        merged = _merged(info.batch_size, in_dims[2:], tensors)
        whole = Pass(passed.layer, passed.names, False, len(merged[0]))
        whole.failed[:] = np.resize(passed.failed, len(merged[0]))
        found = tuple(g.unflatten(0, (info.batch_size, -1)) for g in _Pull.apply(whole, wanted, *merged))
        return found, (0,) * len(found)


def render(passed: Pass, audio: Tensor, params: Tensor, *further: Tensor) -> Tensor:
    """The output of a pass, with gradients; under `torch.func`, too, in reverse mode."""
    return _Render.apply(passed, audio, params, *further)
