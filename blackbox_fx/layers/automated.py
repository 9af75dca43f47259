"""Effects whose settings move during a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from blackbox_fx.audio import check_sample_rate
from blackbox_fx.core import checks
from blackbox_fx.effects import Effect
from blackbox_fx.effects.base import WHOLE_HOP
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.estimators.blocks import automatable
from blackbox_fx.estimators.inputs import check_inputs
from blackbox_fx.estimators.moves import check_step, reaches
from blackbox_fx.estimators.stochastic import make_generator, signs
from blackbox_fx.estimators.tensors import to_numpy
from blackbox_fx.layers.automation import Curve
from blackbox_fx.layers.black_box import default_pool, require_object
from blackbox_fx.layers.eager import eager
from blackbox_fx.runtime import Job, Pool

Rows = NDArray[np.float64]


@final
class Automated(nn.Module):
    """An effect whose settings move: every break point of every parameter has a gradient, for two renders in all.

    Settings are held for `hop` samples, each at the middle of its straight line between break points, and change there
    without a break. In the backward pass, every block of time carries random signs of its own, so the renders of one
    pair say how the loss changes with the settings of each block; see `MultiplexedSPSA`. What a block does to later
    ones is left out, so the gradient is right where the effect remembers much less than `hop` samples. It is exact in
    the mean over draws, and more pairs make it less noisy where several parameters move. Options and switches may
    move, and have a gradient of zero. Audio has none.

    Args:
        effect: one whose settings may change during a clip, see `Effect.automatable`.
        hop: samples for which settings are held; a multiple of what the effect can do, which 4096 always is.
        pairs: of renders for a gradient.
        step: how far parameters move in [0, 1].
        pool: where renders run, as for `BlackBox`.
        sample_rate: in Hz.
        generator: of signs; if not given, one is seeded from torch's default generator.

    Attributes:
        failed: which items of the last forward pass have failed, (batch,), where the pool skips failures; their output
            is the dry audio and their gradient zero.

    Shape:
        - audio: (batch, channel, time), floating point
        - points: (batch, points, width) in [0, 1], break points of all columns
        - output: (batch, channel, time), float32

    Raises:
        EffectError: an effect whose settings cannot change during a clip, or changes at other multiples only.
        AudioError, ParameterError: wrong shapes, NaN or infinity, points outside [0, 1], audio that wants a gradient.

    References:
        "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation" (Spall, 1992).

    >>> import blackbox_fx as bfx
    >>> layer = Automated(bfx.load("pedalboard:LowpassFilter"))
    >>> layer(torch.zeros(1, 1, 44100), torch.full((1, 3, 1), 0.5), rate_hz=2).shape
    torch.Size([1, 1, 44100])
    """

    def __init__(
        self,
        effect: Effect,
        *,
        hop: int = WHOLE_HOP,
        pairs: int = 1,
        step: float = 0.02,
        pool: Pool | None = None,
        sample_rate: float = 44100,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        require_object(pool, Pool)
        if not isinstance(effect, Effect):
            raise EffectError(f"effect must be an Effect, got {type(effect).__name__}; make one with bfx.load.")
        if not automatable(effect) or effect.inputs:
            raise EffectError(f"{effect.name} cannot change settings during a clip; use a BlackBox.")
        self.effect, self.pool = effect, default_pool(effect) if pool is None else pool
        self.hop, self.pairs, self.step = checks.whole("hop", hop), checks.whole("pairs", pairs), check_step(step)
        self.sample_rate = check_sample_rate(sample_rate)
        self.generator = make_generator(generator)
        self.failed: NDArray[np.bool_] = np.zeros(0, bool)

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of points."""
        return self.effect.space.columns

    @property
    def width(self) -> int:
        """How many columns points has."""
        return self.effect.space.width

    def encode(self, settings: Sequence[Mapping[str, Any]]) -> Tensor:
        """Physical settings at break points to columns in [0, 1], (points, width)."""
        return torch.from_numpy(np.stack([self.effect.space.encode(each) for each in settings])).float()

    def decode(self, points: Any) -> list[dict[str, Any]]:
        """The points of one item, (points, width), to physical settings."""
        return self.effect.space.decode(points)

    @eager
    def forward(self, audio: Tensor, points: Tensor, rate_hz: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Renders audio while settings move, with so many break points in a second; the last one holds."""
        if points.ndim != 3 or points.shape[2] != self.width or not points.shape[1]:
            raise ParameterError(
                f"points must be (batch, points, {self.width}) with a point or more, got {tuple(points.shape)}; the "
                f"columns are {', '.join(self.columns)}."
            )
        check_inputs(audio, points[:, 0], self.columns)
        if audio.requires_grad and torch.is_grad_enabled():
            raise AudioError("Audio gets no gradient through an Automated; give it audio.detach().")
        curve = Curve(points.transpose(1, 2).flatten(0, 1), rate_hz)
        blocks = curve.samples(-(-audio.shape[-1] // self.hop), self.sample_rate / self.hop, offset=0.5)
        return _Moving.apply(self, audio.float(), blocks.unflatten(0, (len(audio), self.width)).transpose(1, 2))

    def render(self, audio: Tensor, blocks: Rows, items: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.bool_]]:
        """Outputs for rows of settings, (n, blocks, width), on items of the audio, and which failed."""
        job = Job(self.effect, to_numpy(audio), blocks, items, self.sample_rate, self.hop, is_checked=True)
        return torch.from_numpy(self.pool.map(job)), job.failed

    def slopes(self, audio: Tensor, blocks: Rows, cotangent: Tensor) -> Rows:
        """The gradient of settings, (batch, blocks, width), by renders with signs of their own in every block."""
        space, (batch, count, width) = self.effect.space, blocks.shape
        reach = reaches(space, self.step)
        fine = np.flatnonzero(reach)
        direction = np.zeros((batch, self.pairs, count, width))
        drawn = signs(batch, count * self.pairs, len(fine), self.generator)
        direction[..., fine] = drawn.reshape(batch, count, self.pairs, len(fine)).swapaxes(1, 2)
        up, down = (
            space.snap((blocks + sign * reach).clip(0, 1).reshape(-1, width)).reshape(batch, 1, count, width)
            for sign in (1, -1)
        )
        ends = [np.where(sign * direction > 0, up, down) for sign in (1, -1)]
        ends = [np.where(direction == 0, blocks[:, None], end).reshape(-1, count, width) for end in ends]
        items = np.repeat(np.arange(batch), self.pairs)
        wet, failed = self.render(audio, np.concatenate(ends), np.tile(items, 2))
        change = (wet[: len(items)] - wet[len(items) :]) * cotangent.cpu()[items]
        change = torch.nn.functional.pad(change.double().sum(1), (0, count * self.hop - audio.shape[-1]))
        scores = change.unflatten(1, (count, self.hop)).sum(2).numpy().reshape(batch, self.pairs, count)
        moved = np.where(reach > 0, up - down, 1)[:, 0]
        found = np.einsum("bpc,bpcw->bcw", scores, direction) / (self.pairs * np.where(moved > 0, moved, 1))
        lost = failed.reshape(2, batch, self.pairs).any((0, 2)) | self.failed
        return np.where(lost[:, None, None], 0.0, found * (moved > 0))

    def extra_repr(self) -> str:
        """The effect, its free parameters, and the hop."""
        return f"{self.effect!r}, hop={self.hop}, pairs={self.pairs}"


@final
class _Moving(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: Automated, audio: Tensor, blocks: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows = np.clip(to_numpy(blocks).astype(np.float64), 0.0, 1.0)
        wet, layer.failed = layer.render(audio, rows, np.arange(len(rows)))
        ctx.layer, ctx.rows = layer, rows
        ctx.save_for_backward(audio)
        return wet.to(audio.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (audio,) = ctx.saved_tensors
        found = ctx.layer.slopes(audio, ctx.rows, grads[0])
        return None, None, torch.from_numpy(found).to(grads[0])
