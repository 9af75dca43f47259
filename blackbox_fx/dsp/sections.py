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
_BLOCK = 1024  # samples whose way through all filters is kept at a time
_LANES = 64  # filters that are computed side by side


def cascade(x: Tensor, coefficients: Tensor) -> Tensor:
    """Audio through filters in series, from silence; computed in float64.

    Args:
        x: (items, time), float32 or float64.
        coefficients: b0, b1, b2, a1, a2 of each filter, with a0 = 1: (items, filters, 5), float64. Stable ones only.

    Returns:
        (items, time), of the type of x.
    """
    if x.device.type == "cpu":
        return _Cascade.apply(x, coefficients)[0]
    wet = x.double()
    for b0, b1, b2, a1, a2 in coefficients.permute(1, 2, 0)[..., None]:
        late = F.pad(wet, (2, 0))
        fir = b0 * wet + b1 * late[:, 1:-1] + b2 * late[:, :-2]
        wet = recurse(fir, torch.stack([a1, a2], -1).expand(-1, x.shape[1], -1))
    return wet.to(x.dtype)


# A lane is one filter for one item: lane = filter * items + item. At step k, filter f handles sample k - f. One more
# filter at the end passes its input on, so that the output of a lane is the input of the lane `items` further on, one
# step later.


@compiled
def _forward(x: NDArray[Any], step: int, b: Floats, a: Floats, state: Floats, inputs: Floats) -> None:
    """What goes into each lane from one step on.

    Args:
        x: (items, time), any floating point.
        step: at which it begins.
        b: coefficients, (3, lanes).
        a: coefficients, (2, lanes).
        state: two numbers of each lane before the step, (2, lanes); those after the last step are left there.
        inputs: (steps + 1, lanes + items); the first row is given, the others are found. The last columns stay 0.
    """
    items, time = x.shape
    lanes = state.shape[1]
    b0, b1, b2, a1, a2, low, high = b[0], b[1], b[2], a[0], a[1], state[0], state[1]
    y = np.empty(lanes)
    for k in range(len(inputs) - 1):
        for n in range(lanes):
            u = inputs[k, n]
            v = b0[n] * u + low[n]
            y[n] = v
            low[n] = b1[n] * u - a1[n] * v + high[n]
            high[n] = b2[n] * u - a2[n] * v
        for n in range(lanes - items):
            inputs[k + 1, items + n] = y[n]
        t = step + k + 1
        for n in range(items):
            inputs[k + 1, n] = x[n, t] if t < time else 0.0


@compiled
def _backward(
    grad: NDArray[Any], step: int, b: Floats, a: Floats, state: Floats, inputs: Floats, sums: Floats, to_x: NDArray[Any]
) -> None:
    """The transpose of `_forward`, from the last step of the inputs to the first.

    Args:
        grad: of the output, (items, time).
        step: at which the inputs begin.
        b: coefficients, (3, lanes).
        a: coefficients, (2, lanes).
        state: what reaches each lane, and its own two numbers, (3, lanes), as they are after the last step.
        inputs: of each lane, (steps + 1, lanes + items).
        sums: the gradients of b, and those of a with a minus, (5, lanes), are added here.
        to_x: the gradient of x, (items, time), is put here.
    """
    items, time = grad.shape
    lanes = state.shape[1]
    b0, b1, b2, a1, a2, reach, near, far = b[0], b[1], b[2], a[0], a[1], state[0], state[1], state[2]
    to_b0, to_b1, to_b2, to_a1, to_a2 = sums[0], sums[1], sums[2], sums[3], sums[4]
    sent = np.empty(lanes)
    for k in range(len(inputs) - 2, -1, -1):
        t = step + k - (lanes // items - 1)
        for n in range(items):
            reach[lanes - items + n] = grad[n, t] if 0 <= t < time else 0.0
        for n in range(lanes):
            once, twice = near[n], far[n]
            now = reach[n] - a1[n] * once - a2[n] * twice
            sent[n] = b0[n] * now + b1[n] * once + b2[n] * twice
            u, y = inputs[k, n], inputs[k + 1, items + n]
            to_b0[n] += now * u
            to_b1[n] += once * u
            to_b2[n] += twice * u
            to_a1[n] += once * y
            to_a2[n] += twice * y
            near[n], far[n] = now, once
        for n in range(lanes - items):
            reach[n] = sent[items + n]
        if step + k < time:
            for n in range(items):
                to_x[n, step + k] = sent[n]


def _groups(items: int, filters: int) -> list[slice]:
    """Items that are computed side by side."""
    size = max(1, _LANES // (filters + 1))
    return [slice(start, min(start + size, items)) for start in range(0, items, size)]


def _lanes(c: Floats) -> tuple[Floats, Floats]:
    """The coefficients b and a of lanes, of (items, filters, 5)."""
    passing = np.zeros((1, len(c), 5))
    passing[..., 0] = 1
    lanes = np.concatenate([c.transpose(1, 0, 2), passing]).reshape(-1, 5).T
    return np.ascontiguousarray(lanes[:3]), np.ascontiguousarray(lanes[3:])


def _run(x: NDArray[Any], c: Floats, out: NDArray[Any]) -> list[Floats]:
    """Puts the output for some items in its place; what each lane holds and gets at the start of each block."""
    (items, time), filters = x.shape, c.shape[1]
    b, a = _lanes(c)
    lanes = b.shape[1]
    state, inputs = np.zeros((2, lanes)), np.zeros((_BLOCK + 1, lanes + items))
    inputs[0, :items] = x[:, 0]
    starts = []
    for step in range(0, time + filters, _BLOCK):
        starts.append(np.concatenate([state, inputs[:1, :lanes]]))
        _forward(x, step, b, a, state, inputs)
        begin, end = max(step - filters, 0), min(step + _BLOCK - filters, time)
        if begin < end:
            out[:, begin:end] = inputs[begin + filters - step : end + filters - step, lanes - items : lanes].T
        inputs[0] = inputs[_BLOCK]
    return starts


def _run_back(grad: NDArray[Any], x: NDArray[Any], c: Floats, starts: list[Floats], to_x: NDArray[Any]) -> Floats:
    """Puts the gradient of x for some items in its place; that of the coefficients."""
    b, a = _lanes(c)
    lanes = b.shape[1]
    state, sums, inputs = np.zeros((3, lanes)), np.zeros((5, lanes)), np.zeros((_BLOCK + 1, lanes + len(x)))
    for block in range(len(starts) - 1, -1, -1):
        inputs[0, :lanes] = starts[block][2]
        _forward(x, block * _BLOCK, b, a, starts[block][:2].copy(), inputs)
        _backward(grad, block * _BLOCK, b, a, state, inputs, sums, to_x)
    sums[3:] *= -1
    return sums[:, : -len(x)].reshape(5, c.shape[1], len(x)).transpose(2, 1, 0)


@final
class _Cascade(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, coefficients: Tensor) -> tuple[Tensor, list[list[Floats]]]:
        audio, c = x.detach().contiguous().numpy(), coefficients.detach().double().numpy()
        out = np.empty_like(audio)
        parts = _groups(*c.shape[:2]) if audio.size else []
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
        for part, starts in zip(_groups(*c.shape[:2]), ctx.starts, strict=False):  # none for no samples
            to_c[part] = _run_back(grad[part], audio[part], c[part], starts, to_x[part])
        return torch.from_numpy(to_x), torch.from_numpy(to_c).to(coefficients)
