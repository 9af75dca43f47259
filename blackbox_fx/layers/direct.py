"""Differentiable models of effects as layers."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from blackbox_fx.audio import check_sample_rate
from blackbox_fx.dsp import Twin
from blackbox_fx.effects import Effect
from blackbox_fx.effects.base import WHOLE_HOP
from blackbox_fx.effects.further import gather
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.estimators.inputs import check_inputs
from blackbox_fx.layers.automation import Curves, check_curves
from blackbox_fx.layers.black_box import default_pool
from blackbox_fx.layers.moving import blocks_of, overlapped, rows_at, spacing_of
from blackbox_fx.proxy.adapt import AdaptedProxy
from blackbox_fx.proxy.find import find_proxies
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.runtime import Job
from blackbox_fx.space import Space

Model = Twin | Proxy | AdaptedProxy
_log = logging.getLogger("blackbox_fx")
_MUCH = 0.1
_TRIED, _TRIED_S, _BURSTS = 6, 1.0, 4  # settings, seconds, and bursts of noise in them


@final
class Direct(nn.Module):
    """A twin or a proxy as a layer: nothing renders, and torch differentiates it, but not under `torch.func`.

    Args:
        model: the twin or proxy. A proxy is copied, and its weights get no gradient from this layer.
        sample_rate: in Hz.

    Attributes:
        model: the twin, or the copy of the proxy.

    Shape:
        - audio: (batch, channel, time), floating point, on the device of a proxy
        - params: (batch, width) in [0, 1]
        - further inputs of a twin by name, as audio; one that is left out is silence
        - curves: a `Curve` with a row for each item, by the column in whose place it moves; every break point has a
          gradient. Proxies, and only these, are faded from settings to settings, see `overlapped`.
        - output: (batch, channel, time)

    Raises:
        ParameterError: something else than a twin or a proxy, or a proxy for another sample rate; params outside
            [0, 1].
        AudioError: audio of a wrong shape, NaN or infinity.

    >>> from blackbox_fx.dsp import TWINS
    >>> layer = Direct(TWINS["compressor"])
    >>> layer(torch.zeros(1, 2, 100), torch.full((1, layer.width), 0.5)).shape
    torch.Size([1, 2, 100])
    """

    def __init__(self, model: Model, sample_rate: float = 44100) -> None:
        super().__init__()
        if not isinstance(model, Twin | Proxy | AdaptedProxy):
            raise ParameterError(f"model must be a Twin or a Proxy, got {model!r:.80}; see TWINS and load_proxy.")
        self.sample_rate = check_sample_rate(sample_rate)
        if not isinstance(model, Twin):
            if model.sample_rate != self.sample_rate:
                raise ParameterError(
                    f"This proxy is for {model.sample_rate:g} Hz, and the layer for {self.sample_rate:g} Hz; train one "
                    "at that rate."
                )
            model = copy.deepcopy(model).requires_grad_(False)
        self.model: Any = model
        self.inputs: tuple[str, ...] = model.inputs if isinstance(model, Twin) else ()

    @property
    def space(self) -> Space:
        """The parameters of the model."""
        return self.model.space

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of params."""
        return self.space.columns

    @property
    def width(self) -> int:
        """How many columns params has."""
        return self.space.width

    def decode(self, params: Any) -> Any:
        """Columns in [0, 1] to physical settings by name; see `Space.decode`."""
        return self.space.decode(params)

    def encode(self, settings: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {}) -> Tensor:
        """Physical settings by name to columns in [0, 1], (width,), or (n, width) for a list of settings."""
        if isinstance(settings, Mapping):
            return torch.from_numpy(self.space.encode(settings)).float()
        return torch.stack([self.encode(each) for each in settings])

    def forward(
        self,
        audio: Tensor,
        params: Tensor,
        inputs: Mapping[str, Tensor] = {},
        *,
        curves: Curves = {},
        **named: Tensor,
    ) -> Tensor:
        """The output of the model; see the class for shapes and errors."""
        check_inputs(audio, params, self.columns)
        given = gather(inputs, named, self.inputs)
        audio, *further = (x if x.dtype == torch.float64 else x.float() for x in (audio, *given.values()))
        other = dict(zip(given, further, strict=True))
        check_curves(curves, dict.fromkeys(self.columns, len(params)), self._name)
        with torch.autocast(audio.device.type, enabled=False):
            if isinstance(self.model, Twin):
                time = audio.shape[-1]
                moving = {name: curve.samples(time, self.sample_rate).to(params) for name, curve in curves.items()}
                return self.model(audio, params, self.sample_rate, other, moving=moving)
            if curves:
                return self._moving(audio, params, curves)
            return self.model(audio, params, self.sample_rate)

    def _moving(self, audio: Tensor, params: Tensor, curves: Curves) -> Tensor:
        """The output of a proxy whose settings move."""
        time, rate = audio.shape[-1], self.sample_rate
        spacing = spacing_of(curves, WHOLE_HOP, rate)
        blocks = blocks_of(params, curves, self.columns, time, WHOLE_HOP, rate)
        rows = rows_at(blocks, WHOLE_HOP, spacing, time)
        return overlapped(lambda parts, own, _: self.model(parts, own, rate), audio, rows, spacing, {})

    @property
    def _name(self) -> str:
        return self.model.name if isinstance(self.model, Twin) else "proxy"

    def extra_repr(self) -> str:
        """The model and its sample rate."""
        return f"{self._name}({', '.join(self.columns)}), sample_rate={self.sample_rate:g}"


def differentiable(effect: Effect, sample_rate: float) -> Direct:
    """The best proxy of an effect as a layer; what it misses at these settings and ranges is logged, if it is much.

    A card scores a proxy over all settings that it was trained on, which say little of, for example, a reverberation
    without its dry sound.

    Raises:
        EffectError: none is known, or the effect failed.
    """
    found = find_proxies(effect, sample_rate)
    if not found:
        raise EffectError(
            f"{effect.name} has no proxy at {sample_rate:g} Hz that could stand for it; run bfx.prepare, or give a "
            "Twin in its place."
        )
    layer = Direct(found[0], sample_rate)
    missed = _missed(effect, layer)
    if missed > _MUCH:
        _log.warning(
            "The proxy in place of %s misses %.0f %% of its sound at these ranges (error-to-signal ratio); train one "
            "on them with bfx.prepare, or give a Twin.",
            effect.name,
            100 * missed,
        )
    return layer


@torch.no_grad()
def _missed(effect: Effect, layer: Direct) -> float:
    """The error-to-signal ratio of a proxy at some random settings, on bursts of noise, in stereo if the effect is."""
    draw, time = np.random.default_rng(0), round(_TRIED_S * layer.sample_rate)
    channels = 2 if effect.output_channels(2) == 2 else 1  # where both sides meet, a proxy may hear each alone
    fading = np.exp(-6 * np.linspace(0, 1, time // _BURSTS))
    audio = 0.3 * draw.standard_normal((_TRIED, channels, time // _BURSTS * _BURSTS)) * np.tile(fading, _BURSTS)
    audio, points = audio.astype(np.float32), effect.space.sample(_TRIED, 0)
    job = Job(effect, audio, points, np.arange(_TRIED), layer.sample_rate, is_checked=True)
    wet = torch.from_numpy(default_pool(effect).map(job))
    found = layer(torch.from_numpy(audio), torch.from_numpy(points).float())
    return float((found - wet).square().sum() / wet.square().sum().clamp(min=1e-12))
