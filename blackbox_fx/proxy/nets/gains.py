"""A gain that follows the level."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blackbox_fx.dsp.kernels import follow
from blackbox_fx.proxy.nets.kernels import LEVELS, SILENCE, coefficients, look_up
from blackbox_fx.proxy.nets.stages import Steer, log_place

LN10_20 = math.log(10) / 20
SMOOTHS = {"level": 1.0, "gain": -1.0, "either": 0.0}  # what a gain may smooth: order
_DECIDES = 2.0  # how fast a gain decides what it smooths


@final
class Gain(nn.Module):
    """A gain that follows the level, as compressors, gates and expanders have it.

    A curve of dB over dB with a few bends and jumps makes a gain of the level. Effects smooth the level before it, or
    the gain after it, with one time constant for rising and one for falling. At first half of each is done; how much it
    should be is learned, and what is not needed is not computed. Before the clip is silence. Times and curve are
    predicted from the parameters.

    Args:
        width: of the parameters.
        sample_rate: in Hz.
        bends: of the curve.
        smooths: "level" or "gain" if it is known, or "either".

    References:
        "Digital dynamic range compressor design, a tutorial and analysis" (Giannoulis, Massberg and Reiss, 2012).
    """

    order: Tensor

    def __init__(self, width: int, sample_rate: float, bends: int = 2, smooths: str = "either") -> None:
        super().__init__()
        self.sample_rate, self.bends = sample_rate, bends
        # seconds in which the level rises and falls, and the gain
        self.times = Steer(width, torch.log(torch.tensor([1e-3, 2e-2, 1e-2, 1e-2])))
        # a time in ms is often on a linear axis with the shortest all at its low end: there it is a power of its place
        self.power = nn.Linear(width, 4, bias=False)
        nn.init.zeros_(self.power.weight)
        # where the curve bends, how much, how far it jumps there and how softly it does both; its gain
        places = torch.linspace(-40, -10, bends) / 20
        self.curve = Steer(width, torch.cat([places, torch.zeros(3 * bends + 1)]))
        if smooths == "either":
            self.order = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("order", torch.tensor(SMOOTHS[smooths]), persistent=False)

    @property
    def before(self) -> Tensor:
        """How much of the smoothing is done before the curve, in [0, 1]; an end that is reached is left no more."""
        return (0.5 + _DECIDES * self.order).clamp(0, 1)

    def decibels(self, x: Tensor, p: Tensor) -> Tensor:
        """The gain of every sample of x (items, time), in dB."""
        place = log_place(p)
        rise, fall, up, down = coefficients((self.times(p) + self.power(place)).exp(), self.sample_rate).unbind(1)
        *bends, makeup = self.curve(p).split([*[self.bends] * 4, 1], dim=1)
        levels = torch.from_numpy(LEVELS).to(x)[None]
        table = bent(levels, torch.stack(bends, 1)[..., None]) + 20 * makeup
        level, before, gain = x.abs().clamp_min(SILENCE), self.before, torch.zeros(())
        if before > 0:
            smooth = follow(level, torch.full_like(fall, SILENCE), fall, rise)
            gain = before * look_up(smooth, table)
        if before < 1:
            gain = gain + (1 - before) * follow(look_up(level, table), table[:, 0], down, up)
        return gain

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """Applies the gain to x (items, time), as p (items, width) says."""
        return x * torch.exp(LN10_20 * self.decibels(x, p))


def bent(level: Tensor, numbers: Tensor) -> Tensor:
    """A gain in dB that falls with the level (items, time), for numbers (items, 4, bends, 1).

    They are, for each bend, where it is on a logarithmic axis, the slope and the jump that it adds, and how soft it is.
    """
    level, gain = torch.log10(level), torch.zeros_like(level)
    for bend in numbers.unbind(2):
        place, slope, jump, width = bend.unbind(1)
        soft = 0.1 * width.exp()
        over = (level - place) / soft
        gain = gain - F.softplus(over) * soft * slope - torch.sigmoid(over) * jump
    return 20 * gain
