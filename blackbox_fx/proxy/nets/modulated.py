"""Effects that mix the sound with one path of it: through a delay line, all-pass filters or a gain, which may move."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from blackbox_fx.dsp.loops import allpass_chain, delay_line, oscillate
from blackbox_fx.errors import ParameterError
from blackbox_fx.proxy.nets.laws import Floats, LawfulNet, Laws

NUMBERS = ("dry", "wet", "feedback", "pole", "centre", "depth", "rate", "start", "low", "high")
DRY, WET, BACK, POLE, CENTRE, DEPTH, RATE, START, LOW, HIGH = range(len(NUMBERS))
_MOST_SECTIONS, _LONGEST_HOLD = 64, 4096
_NEARLY = 0.003  # samples that a whole delay may be short of, by the rounding of settings, before it is cut off
_LOOP, _FITTED_LOOP = 0.999, 0.995  # largest feedback and pole; while they are fitted
_STEP = 0.01  # of parameters in [-1, 1], up and down


@final
class Modulated(LawfulNet):
    """The sound, plus one path of it: choruses, flangers and echoes by a delay line, phasers by all-passes in a loop.

    The delay in samples, or the logarithm of the frequency of the all-passes in Hz, or the gain of a tremolo, is
    centre + depth * sine, cut off at low and high. The ten numbers of `NUMBERS` follow from the parameters.

    Args:
        width, sample_rate: see `ProxyNet`.
        sections: first-order all-pass filters; 0 for a delay line.
        moves: whether there is an oscillator.
        hold: samples for which the oscillator stands still.
        single: see `oscillate`.
        lag: samples of the way back through the loop of a delay line, 0 or 1.
        whole: whether delays are cut off to whole samples.
        nearest: whether they are rounded instead.
        gain: whether the path is a gain instead of a delay line.

    Raises:
        ParameterError: a number that makes no sense.
    """

    def __init__(
        self,
        width: int,
        sample_rate: float,
        sections: int = 0,
        moves: bool = True,
        hold: int = 1,
        single: bool = False,
        lag: int = 0,
        whole: bool = False,
        gain: bool = False,
        nearest: bool = False,
    ) -> None:
        super().__init__(width, sample_rate)
        if not 0 <= sections <= _MOST_SECTIONS or not 1 <= hold <= _LONGEST_HOLD or lag not in (0, 1):
            raise ParameterError(
                f"A modulated net needs 0 to {_MOST_SECTIONS} sections, got {sections!r}, a hold of 1 to "
                f"{_LONGEST_HOLD} samples, got {hold!r}, and a lag of 0 or 1, got {lag!r}."
            )
        self.sections, self.moves, self.hold, self.single, self.lag = sections, moves, hold, single, lag
        self.whole, self.gain, self.rounding = whole or nearest, gain, 0.5 if nearest else _NEARLY
        centre = [math.log(1000.0), 1.0] if sections else [0.5, 0.5] if gain else [500.0, 100.0]
        ends = [math.log(10.0), math.log(0.49 * sample_rate)] if sections else [-1e9 if gain else 1.0, 1e9]
        self.laws = Laws(width, torch.tensor([0.5, 0.5, 0.0, 0.0, *centre, 1.0, 0.0, *ends]))

    def process(self, x: Tensor, p: Tensor) -> Tensor:
        """The output; see `ProxyNet.process`."""
        numbers = self.laws(p)
        dry, wet, *loop = numbers[:, :4].to(x).T[..., None]
        loop = torch.cat(loop, 1).clamp(-_LOOP, _LOOP)
        moving = self.laws(p.detach())[:, 4:]
        sine = self.sine(moving, x.shape[1]) if self.moves else None
        path = self.path(x, loop, self.place(moving, sine, x.shape[1]))
        if p.requires_grad and torch.is_grad_enabled():
            path = _Stepped.apply(path, p, _Steps(self, x.detach(), loop.detach(), moving.detach(), sine))
        return dry * x + wet * path

    @torch.no_grad()
    def render(self, x: Tensor, numbers: Tensor) -> Tensor:
        """See `LawfulNet`."""
        dry, wet, *loop = numbers[:, :4].to(x).T[..., None]
        moving, time = numbers[:, 4:].double(), x.shape[1]
        sine = self.sine(moving, time) if self.moves else None
        loop = torch.cat(loop, 1).clamp(-_LOOP, _LOOP)
        return dry * x + wet * self.path(x, loop, self.place(moving, sine, time))

    def steps(self, numbers: Floats, time: int) -> Floats:
        """The place moves by a small part of a sample, a filter or a gain by a thousandth; see `LawfulNet`."""
        grain = 1e-3 if self.sections or self.gain else 0.05
        turns = grain / (2 * np.pi * max(abs(numbers[DEPTH]), grain))
        return np.array([1e-3, 1e-3, 1e-3, 1e-3, grain, grain, turns * self.sample_rate / time, turns, grain, grain])

    def sensible(self, numbers: Floats) -> Floats:
        """See `LawfulNet`."""
        numbers[[BACK, POLE]] = numbers[[BACK, POLE]].clip(-_FITTED_LOOP, _FITTED_LOOP)
        numbers[RATE] = np.clip(numbers[RATE], 1e-3, self.sample_rate / 4)
        return numbers

    def sine(self, moving: Tensor, time: int) -> Tensor:
        """The oscillator, (items, time / hold)."""
        step = (moving[:, 2] / self.sample_rate * self.hold).clamp(0, 0.5)
        return oscillate(step, moving[:, 3], -(-time // self.hold), self.single)

    def place(self, moving: Tensor, sine: Tensor | None, time: int) -> Tensor:
        """Where the path is at every sample, (items, time)."""
        centre, depth, _, _, low, high = moving.T[..., None]
        place = centre if sine is None else torch.addcmul(centre, depth, sine)
        place = torch.minimum(torch.maximum(place, low), high)
        if self.whole:
            place = place + ((place + self.rounding).floor() - place).detach()
        place = place.float()
        if sine is None:
            return place.expand(-1, time)
        return place if self.hold == 1 else place.repeat_interleave(self.hold, 1)[:, :time]

    def path(self, x: Tensor, loop: Tensor, place: Tensor) -> Tensor:
        """What comes through the path, (items, time)."""
        if self.gain:
            return x * place.to(x)
        if not self.sections:
            return delay_line(x, place.to(x), loop, self.lag)
        g = torch.tan(place.exp() * (math.pi / self.sample_rate))
        return allpass_chain(x, g / (1 + g), loop[:, 0], self.sections)


class _Steps(NamedTuple):
    """Steps of the parameters that move the path of a net, with all else as it is."""

    net: Modulated
    x: Tensor
    loop: Tensor
    moving: Tensor
    sine: Tensor | None

    def change(self, lower: Tensor, upper: Tensor) -> Tensor | None:
        """How the path changes from some parameters to others, (items, time); None if it does not."""
        moving = [self.net.laws(p)[:, 4:] for p in (lower, upper)]
        if torch.equal(*moving):
            return None
        below, above = (self.net.path(self.x, self.loop, self._place(numbers)) for numbers in moving)
        return above - below

    def _place(self, moving: Tensor) -> Tensor:
        same = self.sine is None or torch.equal(moving[:, 2:4], self.moving[:, 2:4])
        time = self.x.shape[1]
        return self.net.place(moving, self.sine if same else self.net.sine(moving, time), time)


@final
class _Stepped(torch.autograd.Function):
    """The path, whose gradient for parameters that move it is that of steps.

    A change of a delay or a rate shifts high frequencies by whole cycles. The derivative is large there and its sign
    changes within a fraction of a sample, so a difference over .005 of a range to either side takes its place. Cards of
    proxies take the same difference of the effect for the truth.
    """

    @staticmethod
    def forward(ctx: Any, path: Tensor, p: Tensor, steps: _Steps) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.steps = steps
        ctx.save_for_backward(p)
        return path.view_as(path)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (p,) = ctx.saved_tensors
        to_p = torch.zeros_like(p)
        for column in range(p.shape[1]):
            lower, upper = p.clone(), p.clone()
            lower[:, column].sub_(_STEP).clamp_(min=-1)
            upper[:, column].add_(_STEP).clamp_(max=1)
            change = ctx.steps.change(lower, upper)
            if change is not None:
                to_p[:, column] = (grads[0] * change).sum(1) / (upper - lower)[:, column]
        return grads[0], to_p, None
