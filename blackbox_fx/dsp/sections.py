"""Second-order recursive filters in series, with their gradients: one compiled pass over the samples, on the CPU.

Each filter works on the sample before that of the one in front of it, so that all of them are computed side by side.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from blackbox_fx.core.compiled import compiled
from blackbox_fx.dsp.kernels import recurse

Floats = NDArray[np.float64]
Pieces = NDArray[np.int64]
HOLD = 32  # samples for which coefficients that move stand still
_BLOCK = 1024  # samples whose way through all filters is kept at a time
_LANES = 64  # filters that are computed side by side


def cascade(x: Tensor, coefficients: Tensor) -> Tensor:
    """Audio through filters in series, from silence; computed in float64.

    Filters that move change once a block's first sample is through all of them: all at the same step of the
    computation, the first one as many samples late as there are filters.

    Args:
        x: (items, time), float32 or float64.
        coefficients: b0, b1, b2, a1, a2 of each filter, with a0 = 1: (items, filters, 5), float64. Stable ones only.
            Where they move, (items, blocks, filters, 5), for blocks of `HOLD` samples each; the last one holds.

    Returns:
        (items, time), of the type of x.
    """
    blocks = coefficients if coefficients.ndim == 4 else coefficients[:, None]
    if not blocks.shape[1]:
        raise ValueError("coefficients that move need one block or more, got 0.")
    if x.device.type == "cpu":
        return _Cascade.apply(x, blocks)[0]
    wet, time = x.double(), torch.arange(x.shape[1], device=x.device)
    for k in range(blocks.shape[2]):
        places = ((time + k - blocks.shape[2]) // HOLD).clamp(0, blocks.shape[1] - 1)
        b0, b1, b2, a1, a2 = blocks[:, places, k].unbind(-1)
        fir = b0 * wet + F.pad(b1 * wet, (1, 0))[:, :-1] + F.pad(b2 * wet, (2, 0))[:, :-2]
        wet = recurse(fir, torch.stack([F.pad(a1, (1, 0))[:, :-1], F.pad(a2, (2, 0))[:, :-2]], -1))
    return wet.to(x.dtype)


# A lane is one filter for one item: lane = filter * items + item. At step k, filter f handles sample k - f. One more
# filter at the end passes its input on, so that the output of a lane is the input of the lane `items` further on, one
# step later.


@compiled
def _forward(x: NDArray[Any], step: int, c: Floats, pieces: Pieces, state: Floats, inputs: Floats) -> None:
    """What goes into each lane from one step on.

    Args:
        x: (items, time), any floating point.
        step: at which it begins.
        c: coefficients b0, b1, b2, a1, a2 of lanes, (blocks, 5, lanes).
        pieces: see `_pieces`.
        state: two numbers of each lane before the step, (2, lanes); those after the last step are left there.
        inputs: (steps + 1, lanes + items); the first row is given, the others are found. The last columns stay 0.
    """
    items, time = x.shape
    lanes = state.shape[1]
    low, high, y = state[0], state[1], np.empty(lanes)
    for block, begin, end in pieces:
        own, part, first = c[block], inputs[begin : end + 1], step + begin + 1
        b0, b1, b2, a1, a2 = own[0], own[1], own[2], own[3], own[4]
        for k in range(end - begin):
            for n in range(lanes):
                u = part[k, n]
                v = b0[n] * u + low[n]
                y[n] = v
                low[n] = b1[n] * u - a1[n] * v + high[n]
                high[n] = b2[n] * u - a2[n] * v
            for n in range(lanes - items):
                part[k + 1, items + n] = y[n]
            t = first + k
            for n in range(items):
                part[k + 1, n] = x[n, t] if t < time else 0.0


@compiled
def _backward(
    grad: NDArray[Any], step: int, c: Floats, pieces: Pieces, reach: Floats, found: Floats, to_x: NDArray[Any]
) -> None:
    """The transpose of `_forward`, from the last of some steps to the first.

    Args:
        grad: of the output, (items, time).
        step: the first of the steps.
        c: coefficients, (blocks, 5, lanes).
        pieces: see `_pieces`.
        reach: what reaches each lane, (lanes,), before and after.
        found: the gradients of the outputs of lanes, (steps + 2, lanes); the last two rows are given.
        to_x: the gradient of x, (items, time), is put here.
    """
    items, time = grad.shape
    lanes = len(reach)
    sent = np.empty(lanes)
    for block, begin, end in pieces[::-1]:
        own, part, first = c[block], found[begin : end + 2], step + begin
        b0, b1, b2, a1, a2 = own[0], own[1], own[2], own[3], own[4]
        for k in range(end - begin - 1, -1, -1):
            t = first + k - (lanes // items - 1)
            for n in range(items):
                reach[lanes - items + n] = grad[n, t] if 0 <= t < time else 0.0
            now, near, far = part[k], part[k + 1], part[k + 2]
            for n in range(lanes):
                once, twice = near[n], far[n]
                v = reach[n] - a1[n] * once - a2[n] * twice
                now[n] = v
                sent[n] = b0[n] * v + b1[n] * once + b2[n] * twice
            for n in range(lanes - items):
                reach[n] = sent[items + n]
            if first + k < time:
                for n in range(items):
                    to_x[n, first + k] = sent[n]


@compiled
def _correlate(found: Floats, inputs: Floats, pieces: Pieces, sums: Floats) -> None:
    """Adds the gradients of b, and those of a with a minus, to sums, (blocks, 5, lanes); see the other two."""
    lanes = sums.shape[2]
    items = inputs.shape[1] - lanes
    for block, begin, end in pieces:
        own, back, given = sums[block], found[begin : end + 2], inputs[begin : end + 1]
        to_b0, to_b1, to_b2, to_a1, to_a2 = own[0], own[1], own[2], own[3], own[4]
        for k in range(end - begin):
            for n in range(lanes):
                u, y = given[k, n], given[k + 1, items + n]
                near, far = back[k + 1, n], back[k + 2, n]
                to_b0[n] += back[k, n] * u
                to_b1[n] += near * u
                to_b2[n] += far * u
                to_a1[n] += near * y
                to_a2[n] += far * y


def _parts(c: Floats) -> list[slice]:
    """Items that are computed side by side, of coefficients (items, blocks, filters, 5)."""
    items, size = len(c), max(1, _LANES // (c.shape[2] + 1))
    return [slice(start, min(start + size, items)) for start in range(0, items, size)]


def _lanes(c: Floats) -> Floats:
    """The coefficients of lanes, (blocks, 5, lanes), of (items, blocks, filters, 5)."""
    items, blocks, filters, _ = c.shape
    passing = np.zeros((blocks, 5, items))
    passing[:, 0] = 1
    return np.concatenate([c.transpose(1, 3, 2, 0).reshape(blocks, 5, filters * items), passing], 2)


def _pieces(step: int, blocks: int, filters: int) -> Pieces:
    """The blocks of coefficients that hold in the `_BLOCK` steps from one on, and from which of these to which each.

    Returns:
        A row for each piece: block, begin, end.
    """
    first, last = (min(max((k - filters) // HOLD, 0), blocks - 1) for k in (step, step + _BLOCK - 1))
    held = np.arange(first, last + 1)
    edges = held[1:] * HOLD + filters - step
    return np.stack([held, np.append(0, edges), np.append(edges, _BLOCK)], 1)


def _run(x: NDArray[Any], c: Floats, out: NDArray[Any]) -> list[Floats]:
    """Puts the output for some items in its place; what each lane holds and gets at the start of each block."""
    (items, time), (_, blocks, filters, _) = x.shape, c.shape
    own = _lanes(c)
    lanes = own.shape[2]
    state, inputs = np.zeros((2, lanes)), np.zeros((_BLOCK + 1, lanes + items))
    inputs[0, :items] = x[:, 0]
    starts = []
    for step in range(0, time + filters, _BLOCK):
        starts.append(np.concatenate([state, inputs[:1, :lanes]]))
        _forward(x, step, own, _pieces(step, blocks, filters), state, inputs)
        begin, end = max(step - filters, 0), min(step + _BLOCK - filters, time)
        if begin < end:
            out[:, begin:end] = inputs[begin + filters - step : end + filters - step, lanes - items : lanes].T
        inputs[0] = inputs[_BLOCK]
    return starts


def _run_back(grad: NDArray[Any], x: NDArray[Any], c: Floats, starts: list[Floats], to_x: NDArray[Any]) -> Floats:
    """Puts the gradient of x for some items in its place; that of the coefficients."""
    own, (items, blocks, filters, _) = _lanes(c), c.shape
    lanes = own.shape[2]
    sums, inputs = np.zeros_like(own), np.zeros((_BLOCK + 1, lanes + items))
    reach, found = np.zeros(lanes), np.zeros((_BLOCK + 2, lanes))
    for k in range(len(starts) - 1, -1, -1):
        step = k * _BLOCK
        inputs[0, :lanes] = starts[k][2]
        pieces = _pieces(step, blocks, filters)
        _forward(x, step, own, pieces, starts[k][:2].copy(), inputs)
        found[_BLOCK:] = found[:2]
        _backward(grad, step, own, pieces, reach, found, to_x)
        _correlate(found, inputs, pieces, sums)
    sums[:, 3:] *= -1
    return sums[..., :-items].reshape(blocks, 5, filters, items).transpose(3, 0, 2, 1)


@final
class _Cascade(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, coefficients: Tensor) -> tuple[Tensor, list[list[Floats]]]:
        audio, c = x.detach().contiguous().numpy(), coefficients.detach().double().numpy()
        out = np.empty_like(audio)
        parts = _parts(c) if audio.size else []
        return torch.from_numpy(out), [_run(audio[part], c[part], out[part]) for part in parts]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, list[list[Floats]]]) -> None:
        ctx.save_for_backward(*inputs)
        ctx.starts = output[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, coefficients = ctx.saved_tensors
        audio, grad = (t.detach().contiguous().numpy() for t in (x, grads[0]))
        c = coefficients.detach().double().numpy()
        to_x, to_c = np.zeros_like(audio), np.zeros(c.shape)
        for part, starts in zip(_parts(c), ctx.starts, strict=False):  # none for no samples
            to_c[part] = _run_back(grad[part], audio[part], c[part], starts, to_x[part])
        return torch.from_numpy(to_x), torch.from_numpy(to_c).to(coefficients)
