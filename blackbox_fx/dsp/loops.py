"""Oscillators, delay lines and chains of all-pass filters, with their gradients.

Each is one compiled pass over the samples, on the CPU; tensors of other devices are brought there and back.
"""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from blackbox_fx.core.compiled import compiled

Floats = NDArray[np.float64]
_TURN = 2 * math.pi
_KNOTS = 8192  # of a table of the sine, which is then off by 1e-7 at most
_TABLE = np.sin(_TURN * np.arange(_KNOTS + 1) / _KNOTS)


def oscillate(step: Tensor, start: Tensor, steps: int, single: bool = False) -> Tensor:
    """Sines, (items, steps).

    Args:
        step: turns from one sample to the next, in [0, 1): (items,), or (items, steps) where they move.
        start: turns at first, (items,).
        steps: samples.
        single: whether the angle is summed in single precision, as many effects do it: then slow sines are audibly
            faster or slower than they should be.
    """
    return _Oscillate.apply(step if step.ndim == 2 else step[:, None], start, steps, single)


def delay_line(x: Tensor, delay: Tensor, loop: Tensor, lag: int) -> Tensor:
    """A delay line in a loop: w(t) = F p(t - d(t)), where p(t) = x(t) + g w(t - lag) and F is a one-pole filter.

    Values between samples are interpolated linearly. Before the clip is silence.

    Args:
        x: (items, time).
        delay: d in samples, (items, time); below 1 it counts as 1.
        loop: feedback g, and the pole of F in [0, 1), 0 for no filter; (items, 2), or (items, 2, 1 or time).
        lag: samples of the way back, 0 or 1.
    """
    return _DelayLine.apply(x, delay, loop if loop.ndim == 3 else loop[..., None], lag)


def allpass_chain(x: Tensor, gain: Tensor, feedback: Tensor, sections: int) -> Tensor:
    """First-order all-pass filters in series, with feedback from the last output to the next input.

    Args:
        x: (items, time).
        gain: g / (1 + g) of all filters, where g = tan(pi hz / sample_rate), (items, time).
        feedback: (items,), or (items, 1 or time).
        sections: number of filters.

    References:
        "The art of VA filter design" (Zavalishin, 2018), chapter 3.
    """
    return _AllpassChain.apply(x, gain, feedback if feedback.ndim == 2 else feedback[:, None], sections)


@compiled
def _sines(step: Floats, start: Floats, steps: int, single: bool, table: Floats) -> Floats:
    out, moves = np.empty((len(step), steps)), step.shape[1] > 1
    for item in range(len(step)):
        whole, far = np.float32(_TURN), 0.0
        near, move = np.float32(0), np.float32(_TURN * step[item, 0])
        for t in range(steps):
            turns = start[item] + (np.float64(near) / _TURN if single else far)
            far = far + step[item, t] if moves else step[item, 0] * (t + 1)
            place = (turns - np.floor(turns)) * _KNOTS
            low = max(min(int(place), _KNOTS - 1), 0)  # also where the angle is not finite
            out[item, t] = table[low] + (place - low) * (table[low + 1] - table[low])
            near = np.float32(near + move)
            if near >= whole:
                near = np.float32(near - whole)
    return out


@compiled
def _line_forward(x: Floats, delay: Floats, loop: Floats, lag: int) -> tuple[Floats, Floats]:
    """What goes into the line, and what comes out; see `delay_line`."""
    into, out, moves = np.empty_like(x), np.empty_like(x), int(loop.shape[2] > 1)
    for item in range(x.shape[0]):
        w = 0.0
        for t in range(x.shape[1]):
            back, pole = np.float64(loop[item, 0, t * moves]), np.float64(loop[item, 1, t * moves])
            if lag == 1:
                into[item, t] = x[item, t] + back * w
            ahead = delay[item, t] if delay[item, t] >= 1 else 1.0  # also where it is not a number
            place = max(t - np.float64(ahead), -2.0)
            n = int(np.floor(place))
            part = place - n
            r = 0.0
            if n >= 0:
                r = (1.0 - part) * into[item, n]
            if n >= -1 and part > 0:
                r += part * into[item, n + 1]
            w = r + pole * (w - r)
            if lag == 0:
                into[item, t] = x[item, t] + back * w
            out[item, t] = w
    return into, out


@compiled
def _line_backward(
    grad: Floats, into: Floats, out: Floats, delay: Floats, loop: Floats, lag: int
) -> tuple[Floats, Floats, Floats]:
    """The gradients for x, delay and loop."""
    to_into, to_delay, to_loop = np.zeros_like(into), np.zeros_like(delay), np.zeros_like(loop)
    last, moves = into.shape[1] - 1, int(loop.shape[2] > 1)
    for item in range(into.shape[0]):
        carried = 0.0
        for t in range(last, -1, -1):
            pole = np.float64(loop[item, 1, t * moves])
            returned, later = np.float64(to_into[item, t + lag]) if t + lag <= last else 0.0, min(t + lag, last) * moves
            back = np.float64(loop[item, 0, later])
            to_loop[item, 0, later] += returned * out[item, t]
            to_w = grad[item, t] + back * returned + carried
            ahead = delay[item, t] if delay[item, t] >= 1 else 1.0  # also where it is not a number
            place = max(t - np.float64(ahead), -2.0)
            n = int(np.floor(place))
            part = place - n
            low = np.float64(into[item, n]) if n >= 0 else 0.0
            high = np.float64(into[item, n + 1]) if n >= -1 and n + 1 <= last else 0.0
            r = low + part * (high - low)
            to_loop[item, 1, t * moves] += to_w * ((out[item, t - 1] if t > 0 else 0.0) - r)
            carried = pole * to_w
            to_r = (1.0 - pole) * to_w
            if n >= 0:
                to_into[item, n] += (1.0 - part) * to_r
            if n >= -1 and part > 0:
                to_into[item, n + 1] += part * to_r
            to_delay[item, t] = -to_r * (high - low) if delay[item, t] >= 1 else 0.0
    return to_into, to_delay, to_loop


# items are innermost in the chain, so that what waits for the sample before is computed for several at once
@compiled
def _chain_forward(x: Floats, gain: Floats, feedback: Floats, sections: int, kept: bool) -> tuple[Floats, Floats]:
    """The output, and the states before each sample, (items, time, section) if kept; see `allpass_chain`."""
    items, time = x.shape
    out, states = np.empty_like(x), np.empty((items, time if kept else 0, sections), x.dtype)
    state, y, g = np.zeros((sections, items)), np.zeros(items), np.empty(items)
    moves = int(feedback.shape[1] > 1)
    for t in range(time):
        for n in range(items):
            y[n] = x[n, t] + feedback[n, t * moves] * y[n]
            g[n] = 2.0 * gain[n, t]
        for k in range(sections):
            s = state[k]
            if kept:
                for n in range(items):
                    states[n, t, k] = s[n]
            for n in range(items):
                before = s[n]
                s[n] = before + g[n] * (y[n] - before)
                y[n] = before + s[n] - y[n]
        for n in range(items):
            out[n, t] = y[n]
    return out, states


@compiled
def _chain_backward(
    grad: Floats, x: Floats, out: Floats, states: Floats, gain: Floats, feedback: Floats
) -> tuple[Floats, Floats, Floats]:
    """The gradients for x, gain and feedback."""
    items, time, sections = states.shape
    to_x, to_gain, to_feedback = np.empty_like(x), np.empty_like(gain), np.zeros_like(feedback)
    inputs, before, to_state = np.empty((sections, items)), np.empty((sections, items)), np.zeros((sections, items))
    last, y, g, to_y, to_g = np.zeros((5, items))
    moves = int(feedback.shape[1] > 1)
    for t in range(time - 1, -1, -1):
        later = min(t + 1, time - 1) * moves
        for n in range(items):
            last[n] = out[n, t - 1] if t > 0 else 0.0
            y[n] = x[n, t] + feedback[n, t * moves] * last[n]
            g[n] = 2.0 * gain[n, t]
            to_y[n] = grad[n, t] + feedback[n, later] * to_y[n]
            to_g[n] = 0.0
            for k in range(sections):
                before[k, n] = states[n, t, k]
        for k in range(sections):
            for n in range(items):
                inputs[k, n] = y[n]
                y[n] = 2.0 * before[k, n] + g[n] * (y[n] - before[k, n]) - y[n]
        for k in range(sections - 1, -1, -1):
            for n in range(items):
                both = to_y[n] + to_state[k, n]
                to_g[n] += 2.0 * both * (inputs[k, n] - before[k, n])
                to_state[k, n] = to_y[n] + both - g[n] * both
                to_y[n] = g[n] * both - to_y[n]
        for n in range(items):
            to_gain[n, t] = to_g[n]
            to_x[n, t] = to_y[n]
            to_feedback[n, t * moves] += to_y[n] * last[n]
    return to_x, to_gain, to_feedback


def _arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    return [x.detach().cpu().contiguous().numpy() for x in tensors]


def _tensors(like: Tensor, *arrays: NDArray[Any]) -> list[Tensor]:
    return [torch.from_numpy(x).to(like) for x in arrays]


@final
class _Oscillate(torch.autograd.Function):
    @staticmethod
    def forward(step: Tensor, start: Tensor, steps: int, single: bool) -> Tensor:
        turn, first = _arrays(step.double(), start.double())
        return _tensors(step, _sines(turn, first, steps, single, _TABLE))[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.rest = inputs[2:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        step, start = ctx.saved_tensors
        quarter = start.double() + 0.25
        to_angle = grads[0].double() * oscillate(step.double(), quarter, *ctx.rest) * _TURN
        if step.shape[1] > 1:
            to_step = to_angle.flip(1).cumsum(1).flip(1) - to_angle  # of all that comes later
        else:
            to_step = (to_angle @ torch.arange(ctx.rest[0], dtype=torch.float64, device=step.device))[:, None]
        return to_step.to(step), to_angle.sum(1).to(start), None, None


@final
class _DelayLine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, delay: Tensor, loop: Tensor, lag: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        audio, delays, loops = _arrays(x, delay, loop)
        into, out = _tensors(x, *_line_forward(audio, delays, loops, lag))
        ctx.save_for_backward(into, out, delay, loop)
        ctx.lag = lag
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad, into, out, delay, loop = _arrays(grads[0], *ctx.saved_tensors)
        found = _line_backward(grad, into, out, delay, loop, ctx.lag)
        return *_tensors(grads[0], *found), None


@final
class _AllpassChain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, feedback: Tensor, sections: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        kept = any(ctx.needs_input_grad)
        audio, gains, back = _arrays(x, gain, feedback)
        out, states = _tensors(x, *_chain_forward(audio, gains, back, sections, kept))
        ctx.save_for_backward(x, out, states, gain, feedback)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad, x, out, states, gain, feedback = _arrays(grads[0], *ctx.saved_tensors)
        found = _chain_backward(grad, x, out, states, gain, feedback)
        return *_tensors(grads[0], *found), None
