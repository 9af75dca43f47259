"""An effect and its proxy as one layer."""

from __future__ import annotations

import threading
from typing import Any, Literal, Protocol, final, get_args, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators import Autodiff, Surrogate
from blackbox_fx.estimators.autodiff import check_gradient, check_output, check_surrogate
from blackbox_fx.estimators.inputs import check_inputs
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.eager import eager
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.runtime import Pool

Mode = Literal["full", "half", "plain"]

_SWAP = threading.Lock()  # `functional_call` puts other weights into the module while it runs


@runtime_checkable
class RefreshLike(Protocol):
    """What keeps the renders of a layer to train a proxy on them: a `Refresh`."""

    proxy: Proxy

    def watch(self, layer: BlackBox) -> Any:
        """Keeps what a layer renders from now on."""

    def step(self) -> float | None:
        """Trains the proxy for one step."""


@final
class Hybrid(nn.Module):
    """A layer like `BlackBox` whose gradients come from a proxy, without further renders.

    - "full": the effect renders, always. The gradient of the loss at the *effect's* output is pulled back through the
      proxy, to params and to audio, in one pass for both.
    - "half": in training (`train()`) the proxy replaces the effect, forward and backward. In evaluation (`eval()`) the
      effect renders; gradients there are those of "full".
    - "plain": the proxy replaces the effect, in training and in evaluation.

    The proxy's weights never get a gradient from this layer, even if they require one, so an optimiser over all
    parameters of a model does not change them. They are part of `state_dict`.

    Where the proxy is wrong, its gradients are wrong too, without any warning. `BlackBox(effect, ControlVariate(SPSA(),
    proxy), audio_rule=Surrogate(proxy))` is the layer whose parameter gradients are corrected by renders.

    Args:
        effect: of the proxy; its free parameters are the columns of `params`.
        proxy: of the effect, with the same free parameters. There is a warning if it was trained on another effect, or
            on another version of it.
        mode: see above.
        pool: where renders run, as for `BlackBox`.
        refresh: made for this proxy; keeps the renders of training, see `Refresh`. Only "full" renders in training.

    Attributes:
        real: the `BlackBox` that renders. Used by itself, it is "full" too.
        failed: which items of its last forward pass have failed, (batch,), where the pool skips failures: their output
            is the dry audio and their gradients are zero.
        mode: may be changed at any time.

    Shape:
        - audio: (batch, channel, time), floating point, on the device of the proxy
        - params: (batch, width) in [0, 1]
        - output: (batch, channel, time), float32

    Raises:
        ParameterError: an unknown mode, a proxy of other columns, a refresh of another proxy or in another mode than
            "full"; params outside [0, 1].
        AudioError: audio of a wrong shape, NaN or infinity, also in what the proxy returns and in its gradients.
        EffectError, WorkerDied, RenderTimeout: the effect failed.

    References:
        "Style transfer of audio effects with differentiable signal processing" (Steinmetz et al., 2022), which names
        the three ways.
    """

    def __init__(
        self,
        effect: Effect,
        proxy: Proxy,
        mode: Mode = "full",
        *,
        pool: Pool | None = None,
        refresh: RefreshLike | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(proxy, Proxy):
            raise ParameterError(f"proxy must be a Proxy, got {proxy!r}; see bfx.load_proxy.")
        check_surrogate("proxy", proxy)
        pulled = self._differentiable  # one object, so that both gradients come of one pass
        self.real = BlackBox(
            effect, Autodiff(pulled), audio_rule=Surrogate(pulled), pool=pool, sample_rate=proxy.sample_rate
        )
        proxy.require(effect)
        self.proxy, self.mode, self.refresh = proxy, mode, refresh
        if refresh is not None:
            if not isinstance(refresh, RefreshLike):
                raise ParameterError(f"refresh must be a Refresh, such as bfx.Refresh(proxy), got {refresh!r}.")
            if refresh.proxy is not proxy or mode != "full":
                raise ParameterError(
                    f"refresh must be made for the same proxy, in mode 'full', got mode {mode!r}; other modes render "
                    "nothing in training."
                )
            refresh.watch(self.real)

    @property
    def mode(self) -> Mode:
        """What renders, see the class. Raises ParameterError if set to anything but "full", "half" and "plain"."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise ParameterError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}.")
        self._mode: Mode = mode

    @property
    def effect(self) -> Effect:
        """The effect that renders."""
        return self.real.effect

    @property
    def sample_rate(self) -> float:
        """The proxy's, in Hz."""
        return self.real.sample_rate

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of params."""
        return self.real.columns

    @property
    def width(self) -> int:
        """Number of columns of params."""
        return self.real.width

    def decode(self, params: Any) -> Any:
        """Columns in [0, 1] to physical settings by name; see `Space.decode`."""
        return self.real.decode(params)

    def encode(self, settings: Any = {}) -> Tensor:
        """Physical settings by name to columns in [0, 1]; see `BlackBox.encode`."""
        return self.real.encode(settings)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which items of the last forward pass of the effect have failed, (batch,)."""
        return self.real.failed

    @eager
    def forward(self, audio: Tensor, params: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Renders audio at params by the effect or the proxy; see the class for shapes and errors."""
        check_inputs(audio, params, self.columns)
        if self.mode == "plain" or (self.mode == "half" and self.training):
            return self._differentiable(audio, params, self.sample_rate)
        wet = self.real(audio.detach(), params.detach())
        if not torch.is_grad_enabled() or not (audio.requires_grad or params.requires_grad):
            return wet
        output = self._differentiable(audio, params, self.sample_rate)
        ok = torch.from_numpy(~self.failed).to(output)[:, None, None]
        return wet + ok * (output - output.detach())  # the value of the effect, with the gradient of the proxy

    def _differentiable(self, audio: Tensor, params: Tensor, sample_rate: float) -> Tensor:
        frozen = {name: x.detach() for name, x in self.proxy.named_parameters()}
        inputs = (_checked(audio), _checked(params), sample_rate)
        with torch.autocast(audio.device.type, enabled=False), _SWAP:
            return check_output(functional_call(self.proxy, frozen, inputs), audio)

    def extra_repr(self) -> str:
        """The mode."""
        return f"mode={self.mode!r}"


def _checked(x: Tensor) -> Tensor:
    """The same tensor, with a check that its gradient is finite."""
    x = x.view_as(x)
    if x.requires_grad:
        x.register_hook(check_gradient)
    return x
