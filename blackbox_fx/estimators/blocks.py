"""Cutting time for multiplexed estimates: settings that change from block to block, and clips cut into segments."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from blackbox_fx.effects.base import Effect
from blackbox_fx.estimators.call import Call, Plan, Rows
from blackbox_fx.estimators.moves import Move, plan
from blackbox_fx.estimators.stochastic import signs


def automatable(effect: Effect) -> bool:
    """Whether all free parameters of an effect may change during a clip; for a Rack, those of all members."""
    if not effect.members:
        return effect.automatable
    moving = [e for label, e in effect.members.items() if any(n.startswith(f"{label}.") for n in effect.space.free)]
    return all(map(automatable, moving))


def windows(time: int, length: int, stretch: int) -> NDArray[np.float64]:
    """What share of each stretch belongs to each block, (blocks, stretches); the shares of a stretch sum to one.

    Raised cosines that overlap by half a block, since the loss's cotangent beats within a block and a hard edge would
    cut through the beats, and that come an eighth of a block late, since an effect answers late. (Hard edges have up to
    1.6 times the squared error on a rack of 15 parameters, overlap by a whole block about as much; lags of none and of
    a quarter were ties.)
    """
    blocks = -(-time // length)
    middles = (np.arange(-(-time // stretch)) + 0.5) * stretch / length
    rise = np.clip((middles - np.arange(1, blocks)[:, None] - 0.125) / 0.5 + 0.5, 0, 1)
    edges = np.concatenate([np.ones((1, len(middles))), 0.5 - 0.5 * np.cos(np.pi * rise), np.zeros((1, len(middles)))])
    return edges[:-1] - edges[1:]


def block_plan(
    call: Call,
    length: int,
    pairs: int,
    central: bool,
    reach: NDArray[np.float64],
    moves: Sequence[Sequence[Move]],
    generator: torch.Generator,
) -> Plan:
    """Renders in which every block of time carries its own signs.

    Each sign is correlated with its block's share of the scores and divided by half the distance between the two ends
    of its column, as far as bounds let them go. Since windows reach into their neighbours, whose signs differ or not,
    the correlation of a column's windowed signs with its own signs is less than one, and divided out: without that all
    gradients came a tenth too small (a fifth with windows that overlap fully).

    Args:
        call: the forward pass.
        length: of a block, in samples; at least 16.
        pairs: renders for each item, halved.
        central: the renders of a pair carry opposite signs; or each has its own and is held against the forward pass.
        reach: (width,), how far each column goes; 0 for coarse ones.
        moves: coarse moves for each item of the batch.
        generator: draws the signs.
    """
    space, present = call.effect.space, call.points
    batch, width = present.shape
    time = call.audio.shape[-1]
    blocks, stretch, fine = -(-time // length), length // 16, np.flatnonzero(reach)
    count = pairs if central else 2 * pairs
    direction = np.zeros((batch, count, blocks, width))
    drawn = signs(batch, blocks * count, len(fine), generator)
    # neighbouring blocks, and both renders of one block, get orthogonal signs: their slopes are most alike
    direction[..., fine] = drawn.reshape(batch, blocks, count, len(fine)).swapaxes(1, 2)
    ends = [np.where(reach > 0, space.snap(np.clip(present + s * reach, 0, 1)), present) for s in (1, -1)]
    half = (ends[0] - ends[1]) / 2
    up, down = (end[:, None, None] for end in ends)
    points = [np.where(s * direction > 0, up, down) for s in ((1, -1) if central else (1,))]
    points = [np.where(direction == 0, present[:, None, None], p).reshape(batch * count, blocks, width) for p in points]
    items = np.repeat(np.arange(batch), count)
    share = windows(time, length, stretch)
    whose = np.arange(share.shape[1]) * stretch // length == np.arange(blocks)[:, None]
    met = share @ whose.T / share.shape[1]  # of windows and blocks, of all time
    kept = np.einsum("bckw,kl,bclw->bw", direction, met, direction)

    def slopes(scores: NDArray[np.float64], here: NDArray[np.float64]) -> Rows:
        change = (scores[: len(items)] - scores[len(items) :]) / 2 if central else scores - here[items]
        each = (change @ share.T).reshape(batch, count, blocks)
        total = np.einsum("bck,bckw->bw", each, direction)
        return np.divide(total, half * kept, out=np.zeros_like(total), where=half * kept != 0)

    return plan(np.concatenate(points), np.tile(items, len(points)), moves, slopes, length, stretch)


def segments(call: Call, cotangent: Tensor, length: int) -> tuple[Call, Tensor]:
    """The same forward pass in segments of about a number of samples, each an item of its own.

    Each comes with a quarter of itself before it, to run in, where the cotangent is zero. The inner products of the
    segments of an item sum to that of the item, as far as the effect remembers no longer than that.

    Returns:
        A call on (batch * segments, channel, samples), item by item, and its cotangent.
    """
    time = call.audio.shape[-1]
    count = time // length
    length = -(-time // count)
    run_in = length // 4

    def cut(x: Tensor) -> Tensor:
        padded = pad(x, (run_in, count * length - time))
        return padded.unfold(-1, run_in + length, length).transpose(1, 2).flatten(0, 1)

    own = cut(cotangent).clone()
    own[..., :run_in] = 0
    parts = dataclasses.replace(
        call,
        audio=cut(call.audio),
        params=call.params.repeat_interleave(count, 0),
        output=cut(call.output),
        inputs={name: cut(given) for name, given in call.inputs.items()},
    )
    return parts, own


def sum_segments(estimates: Tensor, batch: int) -> Tensor:
    """Estimates for the segments of each item, (batch * segments, width), to (batch, width)."""
    return estimates.unflatten(0, (batch, -1)).sum(dim=1)
