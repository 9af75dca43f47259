"""Layers whose settings move during a clip: renders by blocks of time, and a gradient for each block.

A gradient takes four renders for each column that moves and two for each that stands still, or eight for all of a kind
where they are more than four; none of this grows with the number of blocks. Four tell what a block does itself from
what it does to the next one. Where columns are many, each block carries random signs of its own, see `MultiplexedSPSA`,
so that gradients are right in the mean over draws, but for what a block does to later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError
from blackbox_fx.estimators.blocks import automatable
from blackbox_fx.estimators.inputs import check_values
from blackbox_fx.estimators.moves import coarse_moves, reaches
from blackbox_fx.estimators.stochastic import make_generator, signs
from blackbox_fx.estimators.tensors import to_numpy
from blackbox_fx.layers.automation import Curves
from blackbox_fx.layers.eager import shows_values
from blackbox_fx.runtime import Job, Pool
from blackbox_fx.runtime.base import inner
from blackbox_fx.space import Space

_STEP = 0.005  # how far settings move in [0, 1]
_ALONE = 4  # columns at most that each move alone; of more, all move at once, in as many pairs of renders
_WIDEST = 4  # blocks between the middles of segments, and before each, in which it runs in

Floats = NDArray[np.float64]
Render = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]


class Layer(Protocol):
    """What settings that move ask of a `BlackBox`."""

    effect: Effect
    pool: Pool
    sample_rate: float
    hop: int
    failed: NDArray[np.bool_]

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of params."""
        ...

    def __call__(self, audio: Tensor, params: Tensor, inputs: Mapping[str, Tensor] = {}) -> Tensor:
        """The output where nothing moves."""
        ...


def render_moving(layer: Layer, audio: Tensor, params: Tensor, inputs: Mapping[str, Tensor], curves: Curves) -> Tensor:
    """The output of a `BlackBox` some of whose columns move, with gradients.

    Settings are held for `layer.hop` samples, each at the middle of its straight line between break points, and change
    there without a break. Audio has the gradient of segments of the clip, each at the settings in its middle and faded
    into the next.

    Raises:
        EffectError: an effect whose settings cannot change during a clip, or at other multiples only.
    """
    if not automatable(layer.effect):
        raise EffectError(
            f"{layer.effect.name} cannot change settings during a clip; leave its curves out, or use a twin or a proxy."
        )
    if not shows_values(audio, params, *inputs.values(), *(curve.points for curve in curves.values())):
        raise EffectError("Curves of black boxes do not work inside of torch.func; use loss.backward().")
    check_values(audio, params, layer.columns, inputs)
    blocks = blocks_of(params, curves, layer.columns, audio.shape[-1], layer.hop, layer.sample_rate)
    moving = np.array([name in curves for name in layer.columns])
    spacing = spacing_of(curves, layer.hop, layer.sample_rate)
    learning = (params.requires_grad, any(curve.points.requires_grad for curve in curves.values()))
    plan = _Passage(layer, tuple(inputs), moving, spacing, learning)
    return _Moving.apply(plan, audio.float(), blocks, *(given.float() for given in inputs.values()))


def blocks_of(
    params: Tensor, curves: Curves, columns: Sequence[str], time: int, hop: int, sample_rate: float
) -> Tensor:
    """The settings of each block of time, (batch, blocks, width), with gradients for params and curves."""
    count = -(-time // hop)
    moved = [
        curves[name].samples(count, sample_rate / hop, offset=0.5).to(params)
        if name in curves
        else params[:, k : k + 1].expand(-1, count)
        for k, name in enumerate(columns)
    ]
    return torch.stack(moved, 2)


def overlapped(render: Render, audio: Tensor, rows: Tensor, spacing: int, inputs: Mapping[str, Tensor]) -> Tensor:
    """A clip as segments, each at its own settings and faded into the next by straight lines.

    Args:
        render: called with segments, (batch * segments, channel, samples), their settings, and further inputs.
        audio: (batch, channel, time).
        rows: settings at every `spacing` samples from the first on, (batch, segments, width).
        spacing: samples; each segment reaches as far to both sides, and as far before that, to run in.
        inputs: further ones by name.
    """
    batch, count, _ = rows.shape

    def cut(x: Tensor) -> Tensor:
        padded = pad(x, (2 * spacing, count * spacing - x.shape[-1]))
        return padded.unfold(-1, 3 * spacing, spacing).transpose(1, 2).flatten(0, 1)

    wet = render(cut(audio), rows.flatten(0, 1), {name: cut(given) for name, given in inputs.items()})
    rise = torch.arange(spacing, device=wet.device, dtype=wet.dtype) / spacing
    parts = wet[..., spacing:].unflatten(0, (batch, count))
    into, out = parts[..., :spacing] * rise, parts[..., spacing:] * (1 - rise)
    whole = out + pad(into[:, 1:], (0, 0, 0, 0, 0, 1))
    return whole.transpose(1, 2).flatten(2)[..., : audio.shape[-1]]


def rows_at(blocks: Tensor, hop: int, spacing: int, time: int) -> Tensor:
    """The settings of blocks at every `spacing` samples, as `overlapped` takes them; the last is behind the end."""
    places = torch.arange(0, time + spacing, spacing) // hop
    return blocks[:, places.clamp(max=blocks.shape[1] - 1)]


def spacing_of(curves: Curves, hop: int, sample_rate: float) -> int:
    """Samples between the middles of segments: as far as curves go straight, in blocks."""
    straight = sample_rate / max(curve.rate_hz for curve in curves.values())
    return hop * int(min(max(straight // hop, 1), _WIDEST))


class _Passage(NamedTuple):
    """A pass through a layer whose settings move.

    Args:
        layer: that renders.
        names: of further inputs.
        moving: which columns move, (width,).
        spacing: see `overlapped`.
        learning: whether columns that stand still want a gradient, and whether those that move do.
    """

    layer: Layer
    names: tuple[str, ...]
    moving: NDArray[np.bool_]
    spacing: int
    learning: tuple[bool, bool]


@final
class _Moving(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Passage, audio: Tensor, blocks: Tensor, *further: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows = np.clip(to_numpy(blocks).astype(np.float64), 0.0, 1.0)
        layer, inputs = plan.layer, dict(zip(plan.names, map(to_numpy, further), strict=True))
        items = np.arange(len(rows))
        job = Job(
            layer.effect, to_numpy(audio), rows, items, layer.sample_rate, layer.hop, inputs=inputs, is_checked=True
        )
        wet = torch.from_numpy(layer.pool.map(job)).to(audio.device)
        layer.failed = job.failed
        ctx.plan, ctx.job = plan, job
        ctx.save_for_backward(wet, audio, blocks, *further)
        return wet

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        wet, audio, blocks, *further = ctx.saved_tensors
        plan, job = ctx.plan, ctx.job
        lost = job.failed.copy()
        to_blocks = None
        if ctx.needs_input_grad[2]:
            to_blocks = torch.from_numpy(_slopes(plan, job, to_numpy(wet), to_numpy(grads[0]), lost)).to(blocks)
        wanted = [ctx.needs_input_grad[1], *ctx.needs_input_grad[3:]]
        found = _to_audio(plan, grads[0], blocks, [audio, *further], wanted) if any(wanted) else [None] * len(wanted)
        kept = torch.from_numpy(~lost).to(audio)[:, None, None]
        to_audio, *rest = (None if each is None else each * kept for each in found)
        return None, to_audio, to_blocks, *rest


def _to_audio(
    plan: _Passage, cotangent: Tensor, blocks: Tensor, given: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of audio and further inputs, by the layer's own rules on segments."""
    layer, failed = plan.layer, plan.layer.failed
    rows = rows_at(blocks.detach(), layer.hop, plan.spacing, given[0].shape[-1])
    with torch.enable_grad():
        audio, *further = (x.detach().requires_grad_(needed) for x, needed in zip(given, wanted, strict=True))
        whole = overlapped(layer, audio, rows, plan.spacing, dict(zip(plan.names, further, strict=True)))
        needed = [x for x in (audio, *further) if x.requires_grad]
        found = iter(torch.autograd.grad(whole, needed, cotangent.to(whole)))
    layer.failed = failed
    return [next(found) if each else None for each in wanted]


def _slopes(
    plan: _Passage, job: Job, wet: NDArray[np.float32], cotangent: NDArray[np.float32], lost: NDArray[np.bool_]
) -> Floats:
    """The gradient of the settings of every block, (batch, blocks, width); notes in `lost` which items failed."""
    space, hop = plan.layer.effect.space, plan.layer.hop
    reach = reaches(space, _STEP)
    wanted = np.where(plan.moving, plan.learning[1], plan.learning[0])
    probes = [
        probe
        for moving in (True, False)
        for probe in _fine(
            space, job.points, reach, np.flatnonzero((plan.moving == moving) & wanted & (reach > 0)), moving
        )
    ]
    probes += _coarse(space, job.points, reach, wanted & (reach == 0))
    total = np.zeros_like(job.points)
    if not probes:
        return total
    batch = len(job)
    renders = Job(
        job.effect,
        job.audio,
        np.concatenate([probe.rows for probe in probes]),
        np.tile(np.arange(batch), len(probes)),
        job.sample_rate,
        hop,
        np.tile(job.failed, len(probes)),
        inputs=job.inputs,
        is_checked=True,
    )
    scores = plan.layer.pool.project(renders, cotangent, hop).reshape(len(probes), batch, -1)
    here = np.stack([inner(g, y, hop) for g, y in zip(cotangent, wet, strict=True)])
    for probe, score in zip(probes, scores - here, strict=True):
        felt = score + np.pad(score[:, 1:], ((0, 0), (0, 1))) if probe.later else score
        total += probe.weights * felt[..., None]
    lost |= renders.failed.reshape(len(probes), batch).any(0)
    total[lost] = 0.0
    return total


class _Probe(NamedTuple):
    """A render for every item: its settings, and what the change of a block's score adds to the gradient there.

    Args:
        rows: (batch, blocks, width).
        weights: (batch, blocks, width).
        later: whether the score of the next block adds as much.
    """

    rows: Floats
    weights: Floats
    later: bool = False


def _fine(space: Space, points: Floats, reach: Floats, columns: NDArray[np.int64], moving: bool) -> list[_Probe]:
    """Pairs of probes for columns that move by a step."""
    alone = len(columns) <= _ALONE
    directions = _alone(points.shape, columns, moving) if alone else _together(points.shape, columns)
    up, down = (
        space.snap((points + sign * reach).clip(0, 1).reshape(-1, points.shape[2])).reshape(points.shape)
        for sign in (1, -1)
    )
    apart = (up - down) * np.square(directions).sum(0)
    found = []
    for direction in directions:
        weights = np.divide(direction, apart, out=np.zeros_like(apart), where=apart > 0)
        for sign in (1, -1):
            ends = np.where(sign * direction > 0, up, down)
            found.append(_Probe(np.where(direction == 0, points, ends), sign * weights, alone and moving))
    return found


def _alone(shape: tuple[int, ...], columns: NDArray[np.int64], moving: bool) -> Floats:
    """Directions, (pairs, batch, blocks, width), in which one column moves at a time.

    If columns move during the clip, each does it twice, the second time up and down in turn from block to block: over
    both, what comes from the block before cancels.
    """
    directions = np.zeros((len(columns) * (1 + moving), *shape))
    for k, column in enumerate(columns):
        directions[k, ..., column] = 1.0
        if moving:
            directions[len(columns) + k, ..., column] = np.where(np.arange(shape[1]) % 2, -1.0, 1.0)
    return directions


def _together(shape: tuple[int, ...], columns: NDArray[np.int64]) -> Floats:
    """Directions, (pairs, batch, blocks, width), in which all columns move, by random signs in every block."""
    batch, count, _ = shape
    directions = np.zeros((_ALONE, *shape))
    drawn = signs(batch, count * _ALONE, len(columns), make_generator(None))
    directions[..., columns] = np.moveaxis(drawn.reshape(batch, count, _ALONE, len(columns)), 2, 0)
    return directions


def _coarse(space: Space, points: Floats, reach: Floats, wanted: NDArray[np.bool_]) -> list[_Probe]:
    """Probes for switches, choices and large steps: in each, every block makes its next move, if it has one."""
    if not wanted.any():
        return []
    moves = {
        place: [move for move in coarse_moves(space, points[place], reach) if wanted[move.column]]
        for place in np.ndindex(points.shape[:2])
    }
    found = [_Probe(points.copy(), np.zeros_like(points)) for _ in range(max(map(len, moves.values())))]
    for place, own in moves.items():
        for probe, move in zip(found, own, strict=False):
            probe.rows[place] = move.point
            probe.weights[(*place, move.column)] = move.weight
    return found
