"""A trained proxy of an effect."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.audio import check_sample_rate
from blackbox_fx.effects import Effect, Rack, load
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.inputs import check_inputs
from blackbox_fx.proxy.nets.base import ProxyNet
from blackbox_fx.space import Space


@final
class Proxy(nn.Module):
    """A net trained to give the output of an effect, with the effect's parameters.

    It is called as `proxy(audio, params, sample_rate)`, like every differentiable surrogate of this library, and is
    accepted wherever one is: `ControlVariate(SPSA(), proxy)`, `GuidedES(guide=proxy)`, `Surrogate(proxy)`,
    `Autodiff(proxy)`.

    Args:
        net: made for the columns of the space.
        space: of the effect, with the same free parameters.
        effect_name: its name.
        fingerprint: of the effect, see `Effect.fingerprint`.
        version: its `Effect.version_name`, for fingerprints of earlier releases, which had no "v2-" before them.
        address: of the whole effect, as `load` takes it, or a list of them for a `Rack`; empty if it has none.

    Attributes:
        failure: why its training has failed, see `Card.failure`, or "". Estimators and layers refuse a proxy with one.

    Shape:
        - audio: (batch, channel, time), floating point
        - params: (batch, width) in [0, 1]
        - output: (batch, channel, time), float32

    Raises:
        ParameterError: a net for another number of columns; params outside [0, 1]; another sample rate.
        AudioError: audio of a wrong shape, NaN or infinity; an impossible sample rate.
    """

    def __init__(
        self,
        net: ProxyNet,
        space: Space,
        effect_name: str,
        fingerprint: str,
        version: str = "",
        address: str | Sequence[str] = "",
    ) -> None:
        super().__init__()
        if net.width != space.width:
            raise ParameterError(f"The net takes {net.width} columns of params, the effect has {space.width}.")
        self.net, self.space, self.effect_name = net, space, effect_name
        self.fingerprint, self.version, self.address = fingerprint, version, address
        self.failure = ""

    @property
    def sample_rate(self) -> float:
        """Sample rate at which it was trained, in Hz."""
        return self.net.sample_rate

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of params."""
        return self.space.columns

    @property
    def width(self) -> int:
        """Number of columns of params."""
        return self.space.width

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, audio: Tensor, params: Tensor, sample_rate: float
    ) -> Tensor:
        """The proxy's output; see the class for shapes and errors."""
        check_inputs(audio, params, self.columns)
        check_sample_rate(sample_rate)
        if not len(audio):
            return audio.float() + params.float().sum()  # a gradient of zero
        with torch.autocast(audio.device.type, enabled=False):
            return self.net(audio.float(), params.float(), sample_rate)

    def train(self, mode: bool = True) -> Proxy:
        """Without effect: no net acts otherwise in evaluation, and recurrent ones on a GPU have no gradient there."""
        return super().train(True)

    def effect(self) -> Effect:
        """The effect that it was trained on, with the ranges and the columns of the training.

        Raises:
            ParameterError: a proxy of an effect without an address, such as a `bfx.function`.
            EffectError, MissingHost: the effect cannot be loaded.
        """
        if not self.address:
            raise ParameterError(
                f"The proxy of {self.effect_name} does not know how its effect is loaded; make that as for the "
                "training, and give it the space of the proxy: effect.with_space(proxy.space)."
            )
        whole = load(self.address) if isinstance(self.address, str) else Rack([load(each) for each in self.address])
        effect = whole.with_space(self.space)
        self.require(effect)
        return effect

    def require(self, effect: Effect) -> None:
        """Warns if this is the proxy of another effect, or another version of it.

        Raises:
            ParameterError: an effect with other columns of params.
        """
        if effect.space.columns != self.columns:
            raise ParameterError(
                f"The proxy takes the columns {', '.join(self.columns)}; {effect.name} has "
                f"{', '.join(effect.space.columns)}: use the effect that it was trained on, with the same parameters."
            )
        if not self._is_of(effect):
            warnings.warn(
                f"The proxy was trained on {self.effect_name}, and {effect.name} here is another effect, another "
                "version of it or has other ranges; score it on this one, or train it again.",
                stacklevel=3,
            )

    def _is_of(self, effect: Effect) -> bool:
        if self.version and not self.fingerprint.startswith("v2-"):
            return (effect.version_name, effect.space) == (self.version, self.space)
        return effect.fingerprint == self.fingerprint

    def extra_repr(self) -> str:
        """The effect and its parameters."""
        return f"{self.effect_name}({', '.join(self.space.free)}), sample_rate={self.sample_rate:g}"
