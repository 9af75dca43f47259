"""Stages of effects as differentiable signal processing, controlled by parameters."""

from __future__ import annotations

import functools
import math
from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.dsp.kernels import follow
from blackbox_fx.proxy.nets.base import mlp, start_at
from blackbox_fx.proxy.nets.convolution import convolve
from blackbox_fx.proxy.nets.kernels import coefficients, is_compiled
from blackbox_fx.proxy.nets.splines import MAGNITUDES, spline

_LEAST = 0.003  # is added to a place before its logarithm
_LOWEST_HZ = 20.0
RESPONSE = 8192  # samples, of a filter


def log_grid(bins: int, knots: int, sample_rate: float) -> Tensor:
    """(knots, bins): linear interpolation on a logarithmic axis of frequency, constant below 20 Hz."""
    hz = torch.linspace(0, sample_rate / 2, bins)
    place = torch.log(hz.clamp_min(_LOWEST_HZ) / _LOWEST_HZ) / math.log(sample_rate / 2 / _LOWEST_HZ) * (knots - 1)
    return (1 - (place[None] - torch.arange(knots)[:, None]).abs()).clamp_min(0)


def log_place(p: Tensor) -> Tensor:
    """Logarithms of places on the parameters' axes, for p in [-1, 1]: a power of a place is an exponential of these."""
    return torch.log((1 + p.clamp_min(-1)) / 2 + _LEAST)


@final
class Steer(nn.Module):
    """Numbers predicted from the parameters by an MLP plus a linear map, with a given initial value.

    Args:
        width: of the parameters.
        start: (numbers,).
        hidden: units of the MLP.
    """

    start: Tensor

    def __init__(self, width: int, start: Tensor, hidden: int = 64) -> None:
        super().__init__()
        self.register_buffer("start", start, persistent=False)
        self.bend = start_at(mlp(width, hidden, len(start)), 0.0)
        self.line = nn.Linear(width, len(start), bias=False)
        nn.init.zeros_(self.line.weight)

    def forward(self, p: Tensor) -> Tensor:
        """(items, numbers), for p (items, width)."""
        # a line is learned by few weights: scaled, it keeps up with the many of the MLP
        return self.start + self.bend(p) + 4 * self.line(p)


@final
class Filter(nn.Module):
    """Second-order sections in series, and a smooth minimum-phase magnitude for the residual.

    A section is a state-variable filter whose low, band and high outputs are mixed: any filter of second order.

    Args:
        width: of the parameters.
        sample_rate: in Hz.
        sections: of second order.
        knots: of the magnitude, on a logarithmic axis of frequency.
        size: samples of the impulse response.

    References:
        "Differentiable IIR filters for machine learning applications" (Kuznetsov, Parker and Esqueda, 2020).
    """

    grid: Tensor
    phase: Tensor
    tangent: Tensor

    def __init__(
        self, width: int, sample_rate: float, sections: int = 4, knots: int = 24, size: int = RESPONSE
    ) -> None:
        super().__init__()
        self.size, self.sections, self.sample_rate = size, sections, sample_rate
        grid = log_grid(size // 2 + 1, knots, sample_rate)
        self.register_buffer("grid", grid, persistent=False)
        # the cepstrum of a minimum-phase response is that of its log magnitude, folded onto positive time
        fold = torch.zeros(size)
        fold[0], fold[1 : size // 2], fold[size // 2] = 1, 2, 1
        phase = torch.fft.rfft(torch.fft.irfft(grid, size) * fold).imag
        self.register_buffer("phase", phase, persistent=False)
        bins = torch.arange(size // 2 + 1) / size
        self.register_buffer("tangent", torch.tan(math.pi * bins.clamp_max(0.4999)), persistent=False)
        self.magnitude = Steer(width, torch.zeros(knots))
        places = torch.logspace(math.log2(100), math.log2(8000), sections, base=2).log()
        start = torch.cat([places, *torch.zeros(3, sections), torch.ones(sections)])
        self.section = Steer(width, start)

    def response(self, p: Tensor) -> Tensor:
        """The impulse response, (items, size)."""
        return torch.fft.irfft(self.spectrum(p), self.size)

    def spectrum(self, p: Tensor, bins: Tensor | None = None) -> Tensor:
        """The frequency response, (items, bins), at all bins of a transform of the size, or at some."""
        grid, phase, tangent = (x if bins is None else x[..., bins] for x in (self.grid, self.phase, self.tangent))
        level = self.magnitude(p)
        return torch.exp(torch.complex(level @ grid, level @ phase)) * self._sections(p, tangent)

    def _sections(self, p: Tensor, tangent: Tensor) -> Tensor:
        """The response of all sections, (items, bins)."""
        place, damping, low, high, band = self.section(p)[..., None].split(self.sections, dim=1)
        hz = place.exp().clamp(10.0, 0.49 * self.sample_rate)
        w = tangent / torch.tan(math.pi * hz / self.sample_rate)  # of s = j w: all is real up to the ratio
        squares, ring = w * w, 2 * damping.exp() * w
        # in decibels, as it were; the band also with the other sign, for all-pass filters
        low, high, band = low.exp(), high.exp(), band.sinh() / math.sinh(1)
        over, under = torch.complex(low - high * squares, band * ring), torch.complex(1 - squares, ring)
        return functools.reduce(torch.mul, (over / under).unbind(1))

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """Filters x (items, time) as p (items, width) says."""
        return convolve(x, self.response(p))


@final
class Curve(nn.Module):
    """A memoryless curve, a x + sum of w tanh(s x + b), whose numbers are predicted from the parameters.

    Args:
        width: of the parameters.
        steps: how many tanh.
        scaled: whether levels before and after it are predicted, too, as logarithms: a drive or a threshold in dB.
    """

    def __init__(self, width: int, steps: int = 8, scaled: bool = False) -> None:
        super().__init__()
        self.steps = steps
        self.levels = Steer(width, torch.zeros(2)) if scaled else None
        slopes = torch.linspace(0, math.log(300), steps)
        start = torch.cat([torch.ones(1), torch.zeros(steps), slopes, torch.zeros(steps)])
        self.predict = Steer(width, start)

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """The curve of p (items, width), applied to x (items, time); 0 stays 0."""
        if self.levels is None:
            return self._bend(x, p)
        before, after = self.levels(p).exp().T[..., None]
        return after * self._bend(before * x, p)

    def _bend(self, x: Tensor, p: Tensor) -> Tensor:
        numbers = self.predict(p)
        if not is_compiled(x):
            return _curve(x, numbers, self.steps)[0]
        knots = torch.from_numpy(MAGNITUDES)
        values, slopes = _curve(torch.cat([knots, -knots]).expand(len(x), -1), numbers, self.steps)
        return spline(x, values.unflatten(1, (2, -1)), slopes.unflatten(1, (2, -1)))


def _curve(x: Tensor, numbers: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The values of curves at x (items, time) and their slopes, for numbers (items, 1 + 3 steps)."""
    a, w, s, b = numbers[..., None].split([1, *[steps] * 3], dim=1)
    s = s.exp()
    bent = torch.tanh(s * x[:, None] + b)
    values = a[:, 0] * x + (w * (bent - torch.tanh(b))).sum(1)
    return values, a[:, 0] + (w * s * (1 - bent.square())).sum(1)


@final
class Capacitor(nn.Module):
    """Lets what is constant fade away, as between the stages of an amplifier: also a constant that a curve adds.

    A tube or an asymmetric curve has one in silence, too, so that an effect that begins there fades from it.

    Args:
        width: of the parameters.
        sample_rate: in Hz.
    """

    def __init__(self, width: int, sample_rate: float) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.predict = Steer(width, torch.tensor([math.log(0.1), 0.0]))  # seconds, and a constant

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """Takes from x (items, time) what the capacitor holds, which is nothing at first."""
        seconds, constant = self.predict(p).unbind(1)
        x = x + constant[:, None]
        pole = coefficients(seconds.exp(), self.sample_rate)
        return x - follow(x, torch.zeros_like(constant), pole, pole)
