"""Stages of effects as differentiable signal processing, controlled by parameters."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blackbox_fx.proxy.nets.base import mlp, start_at
from blackbox_fx.proxy.nets.kernels import follow, interpolate

_LN10_20 = math.log(10) / 20
_LOWEST_HZ = 20.0
RESPONSE = 8192  # samples, of a filter
_SILENCE = 1e-7  # of levels, before the clip
_QUIETEST, _LOUDEST, _KNOTS = -7.0, 1.0, 8192  # of tables over the level, logarithms: a knot in each .02 dB
_LEAST = 0.003  # is added to a place on a parameter's axis before its logarithm
_BLOCK = 256  # samples
SMOOTHS = {"level": 1.0, "gain": -1.0, "either": 0.0}  # what a gain may smooth: order
_DECIDES = 2.0  # how fast a gain decides what it smooths


def fast_length(n: int) -> int:
    """The next length of 2^k, 3 2^k or 5 2^k, for fast transforms."""
    return min(m << max(0, math.ceil(math.log2(n / m))) for m in (1, 3, 5))


def convolve(x: Tensor, response: Tensor) -> Tensor:
    """Causal convolution of (items, time) with (items, taps), by FFT; as long as x."""
    n = fast_length(x.shape[-1] + response.shape[-1] - 1)
    return torch.fft.irfft(torch.fft.rfft(x, n) * torch.fft.rfft(response, n), n)[..., : x.shape[-1]]


def log_grid(bins: int, knots: int, sample_rate: float) -> Tensor:
    """(knots, bins): linear interpolation on a logarithmic axis of frequency, constant below 20 Hz."""
    hz = torch.linspace(0, sample_rate / 2, bins)
    place = torch.log(hz.clamp_min(_LOWEST_HZ) / _LOWEST_HZ) / math.log(sample_rate / 2 / _LOWEST_HZ) * (knots - 1)
    return (1 - (place[None] - torch.arange(knots)[:, None]).abs()).clamp_min(0)


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
        s = torch.complex(torch.zeros_like(tangent), tangent) / torch.tan(math.pi * hz / self.sample_rate)
        ring = 2 * damping.exp() * s
        # in decibels, as it were; the band also with the other sign, for all-pass filters
        low, high, band = low.exp(), high.exp(), band.sinh() / math.sinh(1)
        return ((low + band * ring + high * s * s) / (1 + ring + s * s)).prod(1)

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """Filters x (items, time) as p (items, width) says."""
        return convolve(x, self.response(p))


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
        place = torch.log((1 + p.clamp_min(-1)) / 2 + _LEAST)
        rise, fall, up, down = (self.times(p) + self.power(place)).exp().unbind(1)
        *bends, makeup = self.curve(p).split([*[self.bends] * 4, 1], dim=1)
        knots = torch.linspace(0, 1, _KNOTS, device=x.device) * (_LOUDEST - _QUIETEST) + _QUIETEST
        table = bent(10 ** knots[None], torch.stack(bends, 1)[..., None]) + 20 * makeup
        level, before = x.abs().clamp_min(_SILENCE), self.before
        gain = torch.zeros_like(x)
        if before > 0:
            smooth = ballistics(level, x.new_full((len(x),), _SILENCE), rise, fall, self.sample_rate)
            gain = gain + before * _looked_up(smooth, table)
        if before < 1:
            sharp = _looked_up(level, table)
            gain = gain + (1 - before) * ballistics(sharp, table[:, 0], up, down, self.sample_rate)
        return gain

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """Applies the gain to x (items, time), as p (items, width) says."""
        return x * torch.exp(_LN10_20 * self.decibels(x, p))


def _looked_up(level: Tensor, table: Tensor) -> Tensor:
    """A function of the level (items, time), from its values at `_KNOTS` levels (items, knots)."""
    return interpolate((torch.log10(level) - _QUIETEST) * ((_KNOTS - 1) / (_LOUDEST - _QUIETEST)), table)


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


def ballistics(x: Tensor, start: Tensor, rise: Tensor, fall: Tensor, rate: float) -> Tensor:
    """Follows x (items, time) from start (items,), with time constants in seconds (items,) for rising and falling."""
    fast, slow = (-torch.expm1(-1 / (rate * seconds.clamp_min(1e-6))) for seconds in (rise, fall))
    return follow(x, start, slow, fast)


@final
class Curve(nn.Module):
    """A memoryless curve, a x + sum of w tanh(s x + b), whose numbers are predicted from the parameters.

    Args:
        width: of the parameters.
        steps: how many tanh.
    """

    def __init__(self, width: int, steps: int = 8) -> None:
        super().__init__()
        self.steps = steps
        slopes = torch.linspace(0, math.log(300), steps)
        start = torch.cat([torch.ones(1), torch.zeros(steps), slopes, torch.zeros(steps)])
        self.predict = Steer(width, start)

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """The curve of p (items, width), applied to x (items, time); 0 stays 0."""
        a, w, s, b = self.predict(p).split([1, *[self.steps] * 3], dim=1)
        y = a * x
        for w_k, s_k, b_k in zip(w.T, s.exp().T, b.T, strict=True):
            y = y + w_k[:, None] * (torch.tanh(s_k[:, None] * x + b_k[:, None]) - torch.tanh(b_k)[:, None])
        return y


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
        seconds = seconds.exp()
        return x - ballistics(x, torch.zeros_like(constant), seconds, seconds, self.sample_rate)


@final
class Tail(nn.Module):
    """A late reverberation: one learned response, whose frequency bands have predicted levels and decay times.

    Args:
        width: of the parameters.
        sample_rate: in Hz.
        seconds: length of the response.
        bands: octaves and so on, equally wide on a logarithmic axis.
    """

    masks: Tensor

    def __init__(self, width: int, sample_rate: float, seconds: float, bands: int = 6) -> None:
        super().__init__()
        self.length, self.sample_rate = round(seconds * sample_rate), sample_rate
        self.size = fast_length(self.length)
        self.register_buffer("masks", log_grid(self.size // 2 + 1, bands, sample_rate), persistent=False)
        self.carrier = nn.Parameter(torch.randn(self.length) / math.sqrt(self.length))
        self.predict = Steer(width, torch.zeros(2 * bands + 1))

    def response(self, p: Tensor) -> Tensor:
        """The impulse response, (items, length), without the direct sound."""
        loud, fade, _ = self.predict(p).split([len(self.masks), len(self.masks), 1], dim=1)
        carriers = torch.fft.irfft(torch.fft.rfft(self.carrier, self.size) * self.masks, self.size)[:, : self.length]
        # an exponential is a product of one over blocks and one within them, which is far less to compute
        blocks = -(-self.length // _BLOCK)
        carriers = F.pad(carriers, (0, blocks * _BLOCK - self.length)).reshape(-1, blocks, _BLOCK)
        time = torch.arange(_BLOCK, device=p.device) / self.sample_rate
        within = torch.exp(-5 * fade[:, :, None] * time)
        starts = torch.arange(blocks, device=p.device) * (_BLOCK / self.sample_rate)
        over = torch.exp(-5 * fade[:, :, None] * starts + loud[:, :, None].clamp(-12, 6))
        return torch.einsum("bkr,ibk,ibr->ikr", carriers, over, within).flatten(1)[:, : self.length]

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """The direct sound of x (items, time) at its predicted level, plus its reverberation."""
        direct = 1 + self.predict(p)[:, -1:]
        return direct * x + convolve(x, self.response(p))
