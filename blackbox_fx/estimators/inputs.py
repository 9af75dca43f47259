"""What a layer takes: audio, params and further inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from blackbox_fx.effects import further
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.tensors import is_all_finite

_TOLERANCE = 1e-6  # params this far outside [0, 1] are float32 rounding


def check_inputs(audio: Tensor, params: Tensor, columns: Sequence[str]) -> None:
    """Raises AudioError or ParameterError unless audio and params are what a layer with these columns takes."""
    check_shapes(audio, params, columns)
    check_values(audio, params, columns)


def check_shapes(audio: Tensor, params: Tensor, columns: Sequence[str]) -> None:
    """The part of `check_inputs` that needs no values, which tensors inside of `torch.vmap` do not show."""
    for name, given in (("audio", audio), ("params", params)):
        if not isinstance(given, Tensor):
            raise ParameterError(f"{name} must be a tensor, got {type(given).__name__}; see torch.as_tensor.")
    _check_audio("audio", audio)
    wanted = (audio.shape[0], len(columns))
    if tuple(params.shape) != wanted or not params.is_floating_point():
        raise ParameterError(
            f"params must be (batch, width) = {wanted} in floating point, got {tuple(params.shape)} "
            f"{params.dtype}; the columns are {', '.join(columns)}."
        )


def check_values(audio: Tensor, params: Tensor, columns: Sequence[str], inputs: Mapping[str, Tensor] = {}) -> None:
    """The part of `check_inputs` that is about values; of further inputs, too."""
    for name, given in {"audio": audio, **inputs}.items():
        if not is_all_finite(given):
            raise AudioError(f"{name} contains NaN or infinity; check what produced it.")
    u = params.detach()
    outside = ~((u >= -_TOLERANCE) & (u <= 1 + _TOLERANCE))  # true for NaN too
    if bool(outside.any()):
        item, column = outside.nonzero()[0].tolist()
        name, value = columns[column], float(u[item, column])
        raise ParameterError(
            f"params[{item}, {column}] ({name}) is {value:g}; allowed is [0, 1]: put a sigmoid before the layer, "
            "or use effect.space.encode for physical values."
        )


def check_further_inputs(effect: Effect, audio: Tensor, inputs: Mapping[str, Any]) -> None:
    """Raises AudioError or ParameterError unless these have the shapes of further inputs of the effect."""
    further.check_names(effect.name, inputs, effect.inputs)
    for name, given in inputs.items():
        if not isinstance(given, Tensor):
            raise ParameterError(f"{name} must be a tensor, got {type(given).__name__}; see torch.as_tensor.")
        _check_audio(name, given)
        further.check_channels(effect.name, name, given.shape[1])
        if (len(given), given.shape[-1]) != (len(audio), audio.shape[-1]):
            raise AudioError(
                f"{name} has shape {tuple(given.shape)} beside audio of {tuple(audio.shape)}; batch and time must be "
                "equal."
            )
        if given.requires_grad and torch.is_grad_enabled():
            possible = sorted({1, effect.output_channels(audio.shape[1])})
            if given.shape[1] not in possible:
                raise AudioError(
                    f"{name} has {given.shape[1]} channels, and has a gradient with {' or '.join(map(str, possible))}; "
                    "give it their mean, or detach it."
                )


def _check_audio(name: str, audio: Tensor) -> None:
    if audio.ndim != 3 or 0 in audio.shape[1:] or not audio.is_floating_point():
        raise AudioError(
            f"{name} must be (batch, channel, time) in floating point with at least one channel and sample, got "
            f"{tuple(audio.shape)} {audio.dtype}."
        )
