"""Twins: differentiable effects that are exact versions of black boxes, and the ground truth for every estimator."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio
from blackbox_fx.dsp.distortion import waveshaper
from blackbox_fx.dsp.dynamics import compressor
from blackbox_fx.dsp.filters import parametric_eq
from blackbox_fx.dsp.mixing import gain_pan
from blackbox_fx.dsp.reverberation import LONGEST_S, reverberation
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.functions import function
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.space import Continuous, Space


def _render(fn: Callable[..., Tensor], audio: Audio, sample_rate: float, /, **values: float) -> Audio:
    # in float64, so that a finite difference of two renders is clean
    with torch.no_grad():
        x = torch.from_numpy(audio.astype(np.float64))[None]
        y = fn(x, sample_rate, **{name: x.new_tensor([value]) for name, value in values.items()})
    return y[0].numpy().astype(np.float32)


@final
@dataclasses.dataclass(frozen=True)
class Twin:
    """One `dsp` function as both a differentiable layer and a black box.

    Args:
        name: short name for tables and errors.
        function: called as `function(audio, sample_rate, **values)` with audio (batch, channel, time) and every
            parameter (batch,) in physical units.
        space: its parameters, all continuous and without steps; those that are not free stand at their defaults.

    Raises:
        ParameterError: a parameter that has no gradient.

    >>> twin = TWINS["compressor"]
    >>> twin(torch.ones(1, 2, 8), torch.zeros(1, twin.space.width), sample_rate=44100).shape
    torch.Size([1, 2, 8])
    >>> twin.effect()
    twin:compressor(threshold_db, ratio, attack_ms, release_ms, makeup_db)
    """

    name: str
    function: Callable[..., Tensor]
    space: Space

    def __post_init__(self) -> None:
        for name, parameter in self.space.parameters.items():
            if not isinstance(parameter, Continuous) or parameter.step:
                raise ParameterError(
                    f"{name} has no gradient ({parameter.kind}: {parameter.describe()}); "
                    "a twin takes only continuous parameters without steps."
                )

    def decode(self, params: Tensor) -> dict[str, Tensor]:
        """Rows in [0, 1] to physical values of all parameters, as `Space.decode` does but differentiable.

        Shape:
            - params: (batch, width)
            - each value: (batch,)
        """
        if params.dim() != 2 or params.shape[1] != self.space.width:
            raise ParameterError(f"params must have shape (batch, {self.space.width}), got {tuple(params.shape)}.")
        free = dict(zip(self.space.free, params.clamp(0, 1).unbind(1), strict=True))
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

    def __call__(self, audio: Tensor, params: Tensor, sample_rate: float) -> Tensor:
        """The effect's output, differentiable in audio and params.

        Args:
            audio: float32 or float64.
            params: columns in [0, 1] of the free parameters; beyond these bounds the gradient is 0.
            sample_rate: in Hz.

        Returns:
            Audio of the type of the input.

        Raises:
            AudioError, ParameterError: another shape, or not as many rows of params as items of audio.

        Shape:
            - audio and output: (batch, channel, time)
            - params: (batch, width)
        """
        if audio.dim() != 3:
            raise AudioError(f"audio must have shape (batch, channel, time), got {tuple(audio.shape)}.")
        if len(params) != len(audio):
            raise ParameterError(f"{len(audio)} items of audio need as many rows of params, got {len(params)}.")
        return self.function(audio, sample_rate, **self.decode(params.to(audio.dtype)))

    def effect(self) -> Effect:
        """The same function as a black box: numpy in and out, no gradients, pickles, runs in other processes."""
        render: Callable[..., Any] = functools.partial(_render, self.function)
        return function(render, self.space, f"twin:{self.name}")


def _db(low: float, high: float, default: float = 0.0) -> Continuous:
    return Continuous(low, high, default, unit="dB")


def _log(low: float, high: float, default: float, unit: str = "") -> Continuous:
    return Continuous(low, high, default, unit=unit, log=True)


_ALL = (
    Twin(
        "parametric_eq",
        parametric_eq,
        Space(
            {
                "low_shelf_gain_db": _db(-18, 18),
                "low_shelf_freq_hz": _log(30, 500, 100, "Hz"),
                "low_shelf_q": _log(0.3, 2, 0.71),
                "peak_gain_db": _db(-18, 18),
                "peak_freq_hz": _log(100, 10_000, 1000, "Hz"),
                "peak_q": _log(0.3, 8, 1),
                "high_shelf_gain_db": _db(-18, 18),
                "high_shelf_freq_hz": _log(1500, 16_000, 6000, "Hz"),
                "high_shelf_q": _log(0.3, 2, 0.71),
            }
        ),
    ),
    Twin(
        "compressor",
        compressor,
        Space(
            {
                "threshold_db": _db(-60, 0, -24),
                "ratio": _log(1, 20, 4),
                "attack_ms": _log(0.1, 100, 10, "ms"),
                "release_ms": _log(10, 1000, 100, "ms"),
                "makeup_db": _db(0, 24),
            }
        ),
    ),
    Twin(
        "waveshaper",
        waveshaper,
        Space({"drive_db": _db(0, 40, 12), "bias": Continuous(-1, 1, 0), "mix": Continuous(0, 1, 1)}),
    ),
    Twin(
        "reverberation",
        reverberation,
        Space(
            {
                "low_decay_s": _log(0.1, LONGEST_S, 1.2, "s"),
                "mid_decay_s": _log(0.1, LONGEST_S, 1, "s"),
                "high_decay_s": _log(0.1, LONGEST_S, 0.6, "s"),
                "wet_db": _db(-48, 6, -12),
                "dry_db": _db(-48, 6),
            }
        ),
    ),
    Twin("gain_pan", gain_pan, Space({"gain_db": _db(-48, 24), "pan": Continuous(-1, 1, 0)})),
)
TWINS: dict[str, Twin] = {twin.name: twin for twin in _ALL}
