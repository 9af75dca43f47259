"""What a layer takes: audio and params."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.base import is_all_finite

_TOLERANCE = 1e-6  # params this far outside [0, 1] are float32 rounding


def check_inputs(audio: Tensor, params: Tensor, columns: Sequence[str]) -> None:
    """Raises AudioError or ParameterError unless audio and params are what a layer with these columns takes."""
    for name, given in (("audio", audio), ("params", params)):
        if not isinstance(given, Tensor):
            raise ParameterError(f"{name} must be a tensor, got {type(given).__name__}; see torch.as_tensor.")
    if audio.ndim != 3 or 0 in audio.shape[1:] or not audio.is_floating_point():
        raise AudioError(
            f"audio must be (batch, channel, time) in floating point with at least one channel and sample, got "
            f"{tuple(audio.shape)} {audio.dtype}."
        )
    wanted = (audio.shape[0], len(columns))
    if tuple(params.shape) != wanted or not params.is_floating_point():
        raise ParameterError(
            f"params must be (batch, width) = {wanted} in floating point, got {tuple(params.shape)} "
            f"{params.dtype}; the columns are {', '.join(columns)}."
        )
    if not is_all_finite(audio):
        raise AudioError("audio contains NaN or infinity; check what produced it.")
    u = params.detach()
    outside = ~((u >= -_TOLERANCE) & (u <= 1 + _TOLERANCE))  # true for NaN too
    if bool(outside.any()):
        item, column = outside.nonzero()[0].tolist()
        name, value = columns[column], float(u[item, column])
        raise ParameterError(
            f"params[{item}, {column}] ({name}) is {value:g}; allowed is [0, 1]: put a sigmoid before the layer, "
            "or use effect.space.encode for physical values."
        )
