"""A differentiable effect and the black box that does the same: the ground truth for every estimator."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio
from blackbox_fx.dsp.sections import HOLD
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.functions import function
from blackbox_fx.effects.further import gather
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.space import Continuous, Space


def _render(fn: Callable[..., Tensor], audio: Audio, sample_rate: float, /, **values: Any) -> Audio:
    # in float64, so that a finite difference of two renders is clean
    with torch.no_grad():
        x = torch.from_numpy(audio.astype(np.float64))[None]
        given = {name: x.new_tensor(np.asarray(value, np.float64)[None]) for name, value in values.items()}
        y = fn(x, sample_rate, **given)
    return y[0].numpy().astype(np.float32)


@final
@dataclasses.dataclass(frozen=True)
class Twin:
    """One `dsp` function as both a differentiable layer and a black box.

    Args:
        name: short name for tables and errors.
        function: called as `function(audio, sample_rate, **values)` with audio (batch, channel, time) and every
            parameter in physical units, float64: (batch,), or (batch, time) where it moves.
        space: its parameters, all continuous and without steps; those that are not free stand at their defaults.
        inputs: names of further inputs, such as ("sidechain",), which the function takes by name as it does audio.
        still: names of parameters that cannot move during a clip.

    Raises:
        ParameterError: a parameter that has no gradient.

    >>> from blackbox_fx.dsp import TWINS
    >>> twin = TWINS["compressor"]
    >>> twin(torch.ones(1, 2, 8), torch.zeros(1, twin.space.width), sample_rate=44100).shape
    torch.Size([1, 2, 8])
    >>> twin.effect()
    twin:compressor(threshold_db, ratio, attack_ms, release_ms, makeup_db)
    """

    name: str
    function: Callable[..., Tensor]
    space: Space
    inputs: tuple[str, ...] = ()
    still: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, parameter in self.space.parameters.items():
            if not isinstance(parameter, Continuous) or parameter.step:
                raise ParameterError(
                    f"{name} has no gradient ({parameter.kind}: {parameter.describe()}); "
                    "a twin takes only continuous parameters without steps."
                )

    def only(self, *names: str) -> Twin:
        """The twin with only these parameters free; see `Space.only`."""
        return dataclasses.replace(self, space=self.space.only(*names))

    def fix(self, values: Mapping[str, float] = {}, **named: float) -> Twin:
        """The twin with these parameters held at values in physical units; see `Space.fix`."""
        return dataclasses.replace(self, space=self.space.fix(values, **named))

    def within(self, ranges: Mapping[str, Any] = {}, **named: Any) -> Twin:
        """The twin with narrower ranges, (low, high) in physical units; see `Space.within`."""
        return dataclasses.replace(self, space=self.space.within(ranges, **named))

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of params."""
        return self.space.columns

    def decode(self, params: Tensor, moving: Mapping[str, Tensor] = {}) -> dict[str, Tensor]:
        """Columns in [0, 1] to physical values of all parameters, as `Space.decode` does but differentiable.

        Args:
            params: all free parameters.
            moving: those that move by name, in place of their columns.

        Returns:
            Values by name, (batch,), or (batch, time) where they move.

        Raises:
            ParameterError: params of another shape; a name that is not free, or that cannot move.

        Shape:
            - params: (batch, width)
            - moving: (batch, time) each
        """
        if params.dim() != 2 or params.shape[1] != self.space.width:
            raise ParameterError(f"params must have shape (batch, {self.space.width}), got {tuple(params.shape)}.")
        free = dict(zip(self.space.free, params.clamp(0, 1).unbind(1), strict=True))
        for name, column in moving.items():
            if name not in free or name in self.still:
                known = ", ".join(each for each in free if each not in self.still) or "none"
                raise ParameterError(f"{name!r} of {self.name} cannot move during a clip; those that can are {known}.")
            free[name] = column.to(params.dtype).clamp(0, 1)
        values: dict[str, Tensor] = {}
        for name, p in self.space.parameters.items():
            assert isinstance(p, Continuous)
            if name not in free:
                values[name] = params.new_full((len(params),), p.default)
            elif p.log:
                values[name] = p.low * (p.high / p.low) ** free[name]
            else:
                values[name] = p.low + free[name] * (p.high - p.low)
        return values

    def __call__(
        self,
        audio: Tensor,
        params: Tensor,
        sample_rate: float,
        inputs: Mapping[str, Tensor] = {},
        *,
        moving: Mapping[str, Tensor] = {},
        **named: Tensor,
    ) -> Tensor:
        """The effect's output, differentiable in audio, params and further inputs.

        Args:
            audio: float32 or float64.
            params: columns in [0, 1] of the free parameters; beyond these bounds the gradient is 0.
            sample_rate: in Hz.
            inputs: further ones by name. One that is left out is silence.
            moving: columns that move during the clip by name, (batch, time) in [0, 1], in place of those of params.
            **named: the same as keywords: `twin(audio, params, rate, sidechain=kick)`.

        Returns:
            Audio of the type of the input.

        Raises:
            AudioError, ParameterError: another shape, or not as many rows of params as items of audio; a parameter that
                cannot move.

        Shape:
            - audio and output: (batch, channel, time)
            - params: (batch, width)
        """
        if audio.dim() != 3:
            raise AudioError(f"audio must have shape (batch, channel, time), got {tuple(audio.shape)}.")
        if len(params) != len(audio):
            raise ParameterError(f"{len(audio)} items of audio need as many rows of params, got {len(params)}.")
        given = gather(inputs, named, self.inputs)
        further = {name: given[name].to(audio) if name in given else torch.zeros_like(audio) for name in self.inputs}
        return self.function(audio, sample_rate, **further, **self.decode(params.double(), moving)).to(audio.dtype)

    def effect(self) -> Effect:
        """The same function as a black box: numpy in and out, no gradients, pickles, runs in other processes."""
        render: Callable[..., Any] = functools.partial(_render, self.function)
        moves = not {*self.space.free} & {*self.still}
        effect = function(render, self.space, f"twin:{self.name}", inputs=self.inputs, automatable=moves)
        effect.hop_multiple = HOLD
        return effect
