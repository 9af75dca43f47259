"""Continues the training of a proxy where it is used, on renders that are made anyway."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from blackbox_fx.core import checks
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.estimators.autodiff import check_gradient, check_output
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.learning.fit import flushed
from blackbox_fx.learning.loss import Loss
from blackbox_fx.proxy.clips import Batch
from blackbox_fx.proxy.model import Proxy

_SILENCE = 1e-4
_CLIP = 1.0


class KeptClip(NamedTuple):
    """A render that is kept: one channel of one item."""

    audio: Tensor  # (time,)
    params: Tensor  # (width,)
    wet: Tensor  # (time,)


@final
class Refresh:
    """Keeps the last renders that a training makes in its forward passes, and improves a proxy on them.

    A proxy is trained on settings from the whole space, but a network soon visits only a small part of it. There, the
    effect's renders are free training data for the proxy:

        refresh = bfx.Refresh(proxy)
        layer = bfx.Hybrid(effect, proxy, refresh=refresh)
        for audio, target in clips:
            loss(layer(audio, network(audio)), target).backward()
            optimizer.step(), optimizer.zero_grad()
            refresh.step()

    It can also train a proxy from the beginning, for an effect that nothing was prepared for. The layer uses it as soon
    as it is right: params at the next comparison of `Auto`, audio at the next certification by `Verified`. With
    `choice="error"` no measured time decides, so these steps follow from the seed and the data:

        proxy = bfx.start_proxy(effect)
        refresh = bfx.Refresh(proxy, learning_rate=2e-3)
        rules = bfx.Auto(choice="error"), bfx.Verified(choice="error")
        layer = bfx.BlackBox(effect, rules[0], audio_rule=rules[1], surrogates=[proxy])
        refresh.watch(layer)

    The loop calls `step`, not the layer. Weights that change between a forward and its backward pass would make the
    gradient wrong, and the loop decides how much time to spend: a step takes about as long as a training step of the
    proxy on the same clips. Renders are kept in training mode only, and only if they did not fail.

    Only the beginning of each clip is kept: there, the proxy and the effect both start from rest, and can be compared
    at once. Every channel is a clip of its own. The renders of an estimator at perturbed settings are not kept: they
    stay in the workers, which return inner products only.

    Args:
        proxy: is improved in place; only its weights that require a gradient change.
        learning_rate: of Adam, constant. A training of the proxy ends near 1e-4.
        batch: clips per step.
        capacity: clips that are kept; the oldest goes first. 64 clips of 2 s are 45 MB.
        seconds: of each clip that are kept, at most.
        seed: of the draws.

    Attributes:
        clips: the last `capacity` clips.
        kept: number of clips kept so far.
        skipped: number of clips that were not kept, since their beginning is silent or shorter than the loss's longest
            window.
        steps: number of steps so far.

    Raises:
        ParameterError: a number that is not positive, a proxy all of whose weights are frozen.
    """

    def __init__(
        self,
        proxy: Proxy,
        learning_rate: float = 3e-4,
        batch: int = 8,
        capacity: int = 64,
        seconds: float = 2.0,
        seed: int = 0,
    ) -> None:
        if not isinstance(proxy, Proxy):
            raise ParameterError(f"proxy must be a Proxy, got {proxy!r}; see bfx.load_proxy.")
        for name, value in (("learning_rate", learning_rate), ("seconds", seconds)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise ParameterError(f"{name} must be a positive number, got {value!r}.")
        self.proxy = proxy
        self.batch, self.seed = checks.whole("batch", batch), checks.whole("seed", seed, 0)
        self.length = max(1, round(seconds * proxy.sample_rate))
        self.kept, self.skipped, self.steps = 0, 0, 0
        weights = [weight for weight in proxy.parameters() if weight.requires_grad]
        if not weights:
            raise ParameterError("All weights of the proxy are frozen; call proxy.requires_grad_() before.")
        self._adam = torch.optim.Adam(weights, learning_rate, betas=(0.9, 0.99))
        self._loss = Loss(slopes=0)
        self.clips = collections.deque[KeptClip](maxlen=checks.whole("capacity", capacity))

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        counts = f"clips={len(self)}, kept={self.kept}, skipped={self.skipped}, steps={self.steps}"
        return f"Refresh({self.proxy.effect_name}, {counts})"

    def watch(self, layer: BlackBox) -> RemovableHandle:
        """Keeps what a layer renders from now on, in training mode. A `Hybrid` that is given a refresh does so itself.

        Args:
            layer: of the proxy's effect, with any source of gradients.

        Returns:
            a handle, whose `remove()` ends it.

        Raises:
            ParameterError: a layer of another kind, other columns, or another sample rate.
        """
        if not isinstance(layer, BlackBox) or layer.sample_rate != self.proxy.sample_rate:
            raise ParameterError(
                f"A refresh watches a BlackBox at the proxy's {self.proxy.sample_rate:g} Hz, got {layer!r}."
            )
        self.proxy.require(layer.effect)
        return layer.register_forward_hook(self._seen, with_kwargs=True)

    def _seen(self, layer: BlackBox, args: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        if layer.training:
            given = dict(zip(("audio", "params"), args, strict=False)) | named
            self.keep(given["audio"], given["params"], output, layer.failed)

    @torch.no_grad()
    def keep(self, audio: Tensor, params: Tensor, wet: Tensor, failed: NDArray[np.bool_]) -> None:
        """Keeps renders: copies of them on the CPU.

        Args:
            audio: (batch, channel, time).
            params: (batch, width) in [0, 1].
            wet: (batch, channel, time).
            failed: (batch,), renders not to keep.
        """
        for item in np.flatnonzero(~failed):
            point = params[item].to("cpu", torch.float32, copy=True)
            both = torch.stack([audio[item, :, : self.length], wet[item, :, : self.length]])
            for dry, out in both.to("cpu", torch.float32, copy=True).unbind(1):
                if float(dry.abs().max()) < _SILENCE or len(dry) < max(self._loss.stft.windows):
                    self.skipped += 1
                    continue
                self.clips.append(KeptClip(dry, point, out))
                self.kept += 1

    def step(self) -> float | None:
        """One step of the proxy on a random batch of what is kept, which is cut to its shortest clip.

        The loss is that of the proxy's training: ESR and half a spectral distance at one random resolution.

        Returns:
            the loss before the step; None where nothing is kept yet.

        Raises:
            AudioError: NaN or infinity in what the proxy returns, or in a gradient.
        """
        if not self.clips:
            return None
        rng = np.random.default_rng([self.seed, self.steps])
        drawn = [self.clips[k] for k in rng.choice(len(self), min(self.batch, len(self)), replace=False)]
        length, device = min(len(clip.audio) for clip in drawn), next(self.proxy.parameters()).device
        audio, wet = (torch.stack([x[:length] for x in xs])[:, None].to(device) for xs in _columns(drawn))
        params = torch.stack([clip.params for clip in drawn]).to(device)
        weights = self._adam.param_groups[0]["params"]
        with torch.enable_grad(), flushed():
            output = check_output(self.proxy(audio, params, self.proxy.sample_rate), audio)
            loss = self._loss(output, Batch(audio, params, wet), rng)
            slopes = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, slope in zip(weights, slopes, strict=True):
            weight.grad = None if slope is None else check_gradient(slope)
        torch.nn.utils.clip_grad_norm_(weights, _CLIP)
        self._adam.step()
        self._adam.zero_grad()
        self.steps += 1
        return float(loss.detach())

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the refresh: Adam's moments and the clips. The weights are part of the layer's own state.

        Returns:
            tensors by name, as safetensors takes them; `load_state_dict` continues from them exactly.
        """
        adam = self._adam.state_dict()["state"]
        state = {f"adam.{k}.{name}": torch.as_tensor(x) for k, own in adam.items() for name, x in own.items()}
        state["counts"] = torch.tensor([self.kept, self.skipped, self.steps])
        if self.clips:
            audio, wet = _columns(self.clips)
            state["lengths"] = torch.tensor([len(x) for x in audio])
            state["audio"], state["wet"] = torch.cat(audio), torch.cat(wet)
            state["params"] = torch.stack([clip.params for clip in self.clips])
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` gave.

        Raises:
            DataError: anything else, or that of a refresh of another proxy; nothing is changed then.
        """
        try:
            moments, counts, clips = self._read(state)
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise DataError(
                f"This is no state of a refresh of this proxy ({error}); give what state_dict gave."
            ) from error
        self._adam.load_state_dict({**self._adam.state_dict(), "state": moments})
        self.kept, self.skipped, self.steps = counts
        self.clips.clear()
        self.clips.extend(clips)

    def _read(self, state: Mapping[str, Tensor]) -> tuple[dict[int, dict[str, Tensor]], list[int], list[KeptClip]]:
        weights = self._adam.param_groups[0]["params"]
        moments = collections.defaultdict[int, dict[str, Tensor]](dict)
        for name, value in state.items():
            kind, _, rest = name.partition(".")
            if kind == "adam":
                number, _, name = rest.partition(".")
                moments[int(number)][name] = value
                if name != "step" and value.shape != weights[int(number)].shape:
                    raise ValueError(f"moments of shape {tuple(value.shape)}")
        kept, skipped, steps = state["counts"].tolist()
        clips: list[KeptClip] = []
        if "lengths" in state:
            lengths = state["lengths"].tolist()
            parts = (state["audio"].split(lengths), state["params"], state["wet"].split(lengths))
            clips = [KeptClip(*(x.clone() for x in clip)) for clip in zip(*parts, strict=True)]
            if state["params"].shape[1] != self.proxy.width:
                raise ValueError(f"params of {state['params'].shape[1]} columns")
        return dict(moments), [kept, skipped, steps], clips


def _columns(clips: Any) -> tuple[list[Tensor], list[Tensor]]:
    return [clip.audio for clip in clips], [clip.wet for clip in clips]
