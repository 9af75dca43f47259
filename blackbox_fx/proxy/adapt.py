"""A proxy where its effect has other free parameters, narrower ranges or another order of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import ParameterError
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Space

_ROUNDING = 1e-6  # of the range of a parameter


@final
class AdaptedProxy(nn.Module):
    """A proxy as a model of an effect whose columns are not those of its training.

    Every column of the proxy is a linear function of the effect's columns: the same one, a part of its range, or a
    constant where the effect holds the parameter. It is called as the proxy is, with the effect's columns.

    Args:
        proxy: of the same effect.
        space: of the effect as it is used.
        name: for tables.
        digest: of its weights.

    Raises:
        ParameterError: a space that the proxy does not cover: parameters that it has not learnt, other held values,
            wider ranges, another scale.
    """

    matrix: Tensor
    offset: Tensor

    def __init__(self, proxy: Proxy, space: Space, name: str = "", digest: str = "") -> None:
        super().__init__()
        self.proxy, self.name, self.digest = proxy, name or proxy.effect_name, digest or None
        self.space, self.columns = space, space.columns
        matrix, offset = _columns(proxy.space, space)
        self.register_buffer("matrix", torch.from_numpy(matrix).float(), persistent=False)
        self.register_buffer("offset", torch.from_numpy(offset).float(), persistent=False)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, audio: Tensor, params: Tensor, sample_rate: float
    ) -> Tensor:
        """The proxy's output, (batch, channel, time), for params (batch, width) of the effect's columns."""
        return self.proxy(audio, (params.float() @ self.matrix + self.offset).clamp(0, 1), sample_rate)

    @property
    def sample_rate(self) -> float:
        """Of the proxy, in Hz."""
        return self.proxy.sample_rate

    def train(self, mode: bool = True) -> AdaptedProxy:
        """Without effect, see `Proxy.train`."""
        return super().train(True)

    def require(self, effect: Effect) -> None:
        """Raises ParameterError unless the effect has the columns that this was made for."""
        if effect.space.columns != self.columns:
            raise ParameterError(
                f"This proxy was adapted to the columns {', '.join(self.columns)}; {effect.name} has "
                f"{', '.join(effect.space.columns)}: adapt it again."
            )

    def extra_repr(self) -> str:
        """Its name."""
        return self.name


def _columns(learnt: Space, used: Space) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (used, learnt) and the offset (learnt,) from columns in use to those of a proxy."""
    if learnt.parameters.keys() != used.parameters.keys():
        raise ParameterError("The proxy is that of an effect with other parameters; train one of this effect.")
    matrix, offset = np.zeros((used.width, learnt.width)), np.zeros(learnt.width)
    for name in used.parameters:
        a, b = learnt.parameters[name], used.parameters[name]
        to, own = learnt.slices.get(name), used.slices.get(name)
        if to is None:
            if own is not None or not _same(a, a.default, b.default):
                raise ParameterError(
                    f"The proxy was trained with {name} held at {a.default!r}; hold it there, or train another proxy."
                )
        elif own is None:
            offset[to] = _encoded(name, a, [b.default])[0]
        elif isinstance(b, (Continuous, Integer)):
            low, high = _encoded(name, a, _ends(a, b))[:, 0]
            matrix[own, to], offset[to] = high - low, low
        else:
            matrix[own, to] = _options(name, a, b)
    return matrix, offset


def _same(parameter: Parameter, a: object, b: object) -> bool:
    if isinstance(parameter, Continuous):
        return abs(float(a) - float(b)) <= _ROUNDING * (parameter.high - parameter.low)  # pyright: ignore[reportArgumentType]
    return a == b


def _ends(learnt: Parameter, used: Continuous | Integer) -> list[float]:
    if isinstance(used, Continuous) and (not isinstance(learnt, Continuous) or learnt.log != used.log):
        raise ParameterError("The proxy was trained with another scale of a parameter; train another proxy.")
    return [used.low, used.high]


def _encoded(name: str, parameter: Parameter, values: Sequence[object]) -> np.ndarray:
    """Values in the columns of a parameter, (n, columns)."""
    try:
        return np.stack([parameter.encode(parameter.check(name, value)) for value in values])
    except ParameterError as error:
        raise ParameterError(f"The proxy does not cover this: {error}") from error


def _options(name: str, learnt: Parameter, used: Parameter) -> np.ndarray:
    """The matrix between the columns of a choice, by the names of its options; of one column for on/off."""
    if not isinstance(used, Choice) or not isinstance(learnt, Choice):
        return np.eye(1)
    if unknown := [option for option in used.options if option not in learnt.options]:
        raise ParameterError(f"The proxy has not learnt the option {unknown[0]!r} of {name}; train another proxy.")
    matrix = np.zeros((len(used.options), len(learnt.options)))
    for row, option in enumerate(used.options):
        matrix[row, learnt.options.index(option)] = 1
    return matrix
