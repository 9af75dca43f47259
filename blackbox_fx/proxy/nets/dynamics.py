"""A net for compressors, expanders, gates and limiters."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blackbox_fx.dsp.kernels import follow
from blackbox_fx.errors import ParameterError
from blackbox_fx.proxy.nets.base import ProxyNet
from blackbox_fx.proxy.nets.gains import LN10_20
from blackbox_fx.proxy.nets.gates import ramp
from blackbox_fx.proxy.nets.kernels import LEVELS, SILENCE, coefficients, look_up
from blackbox_fx.proxy.nets.stages import Steer, log_place
from blackbox_fx.proxy.nets.windows import coming_max, moving_mean

_SOFTEST, _HARDEST = 2.0, 0.005  # of a knee, in units of 20 dB
_STEEPEST = 6.0  # logarithm of a ratio
_MOST_STAGES = 4
_MOST_AHEAD = 4096  # samples
_QUICK = 4.0  # a few numbers of their own keep up with the many of an MLP
DETECTORS = ("peak", "power", "window")


@final
class Dynamics(ProxyNet):
    """Gains that follow the level, one after the other, as in compressors, expanders, gates and limiters.

    Args:
        width, sample_rate: see `ProxyNet`.
        detector: whether the level is that of samples, "peak", or the root of their mean square, which fades
            away, "power", or is that of a "window".
        stages: gains in series, 1 to 4.
        gate: whether the last gain is a gate, which opens and closes in ramps.
        hold: whether the gate opens completely before it may close, and stays open for a time.
        clip: whether the output is clipped.
        ahead: samples that gains look ahead, 0 to 4096, as limiters with latency do.

    Raises:
        ParameterError: a number that makes no sense.

    References:
        "Digital dynamic range compressor design, a tutorial and analysis" (Giannoulis, Massberg and Reiss, 2012).
    """

    def __init__(
        self,
        width: int,
        sample_rate: float,
        detector: str = "peak",
        stages: int = 1,
        gate: bool = False,
        hold: bool = False,
        clip: bool = False,
        ahead: int = 0,
    ) -> None:
        super().__init__(width, sample_rate)
        if detector not in DETECTORS or not 1 <= stages <= _MOST_STAGES or not 0 <= ahead <= _MOST_AHEAD:
            raise ParameterError(
                f"A net of dynamics needs a detector of {', '.join(DETECTORS)}, got {detector!r}, 1 to {_MOST_STAGES} "
                f"stages, got {stages!r}, and 0 to {_MOST_AHEAD} samples ahead, got {ahead!r}."
            )
        gains = stages - gate
        self.gains = nn.ModuleList(Knee(width, sample_rate, detector, ahead) for _ in range(gains))
        self.gate = Gate(width, sample_rate, detector, hold) if gate else None
        self.ceiling = Steer(width, torch.zeros(1)) if clip else None

    def process(self, x: Tensor, p: Tensor) -> Tensor:
        """The output; see `ProxyNet.process`."""
        for gain in self.gains:
            x = gain(x, p)
        if self.gate is not None:
            x = self.gate(x, p)
        if self.ceiling is not None:
            most = (math.log(10) * self.ceiling(p)).exp()
            x = torch.minimum(torch.maximum(x, -most), most)
        return x


class Level(nn.Module):
    """The level of audio: of its samples, or the root of their mean square over learnt times.

    Args:
        sample_rate: in Hz.
        detector: see `Dynamics`.
    """

    def __init__(self, sample_rate: float, detector: str) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        # quarters of the logarithms of seconds in which the power falls and rises, or of the window
        start = {"peak": [], "power": [0.005, 0.001], "window": [0.005]}[detector]
        self.times = nn.Parameter(torch.tensor(start).log() / _QUICK) if start else None

    def forward(self, x: Tensor) -> Tensor:
        """Of x (items, time)."""
        if self.times is None:
            return x.abs().clamp_min(SILENCE)
        if len(self.times) == 1:
            power = moving_mean(x.square(), ((_QUICK * self.times[0]).exp() * self.sample_rate).clamp(1, x.shape[1]))
        else:
            fall, rise = coefficients((_QUICK * self.times).exp(), self.sample_rate).expand(len(x), 2).unbind(1)
            power = follow(x.square(), torch.zeros_like(fall), fall, rise)
        return power.clamp_min(SILENCE**2).sqrt()


class Times(nn.Module):
    """Time constants in seconds, predicted from the parameters, also as powers of their places on their axes.

    Args:
        width: of the parameters.
        start: in seconds, (times,).
    """

    def __init__(self, width: int, start: Tensor) -> None:
        super().__init__()
        self.logs = Steer(width, start.log())
        self.power = nn.Linear(width, len(start), bias=False)
        nn.init.zeros_(self.power.weight)

    def forward(self, p: Tensor) -> Tensor:
        """(items, times), for p (items, width)."""
        return (self.logs(p) + self.power(log_place(p))).clamp(-14, 4).exp()


@final
class Knee(nn.Module):
    """A gain that bends at a threshold: the level is followed before it, and the gain in dB after it.

    If it looks ahead, the level is the largest that comes, and the gain falls over a learnt window before it.

    Args:
        width: of the parameters.
        sample_rate: in Hz.
        detector, ahead: see `Dynamics`.

    References:
        "Smoothing of the control signal without clipped output in digital peak limiters" (Hämäläinen, 2002).
    """

    def __init__(self, width: int, sample_rate: float, detector: str, ahead: int) -> None:
        super().__init__()
        self.sample_rate, self.ahead = sample_rate, ahead
        self.window = nn.Parameter(torch.zeros(())) if ahead else None  # over half of what it looks ahead at first
        self.level = Level(sample_rate, detector)
        # of the level, falling and rising, and of the gain
        self.times = Times(width, torch.tensor([2e-2, 2e-3, 1e-3, 1e-3]))
        # threshold, steepness above and below it, logarithm of the knee's width, makeup; in units of 20 dB
        self.curve = Steer(width, torch.tensor([-1.5, 0.1, 0.1, -2.0, 0.0]))

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """Applies the gain to x (items, time), as p (items, width) says."""
        fall, rise, down, up = coefficients(self.times(p), self.sample_rate).unbind(1)
        table = self.table(p)
        level = self.level(x)
        if self.ahead:
            level = coming_max(level, self.ahead)
        smooth = follow(level, torch.full_like(fall, SILENCE), fall, rise)
        gain = follow(look_up(smooth, table), table[:, 0], down, up)
        if self.window is not None:
            gain = moving_mean(gain, 1 + self.ahead * self.window.sigmoid())
        return x * torch.exp(LN10_20 * gain)

    def table(self, p: Tensor) -> Tensor:
        """The gain in dB at `LEVELS`, (items, knots)."""
        place, *steep, width, makeup = self.curve(p)[..., None].unbind(1)
        above, below = (_slope(each) for each in steep)
        soft = width.exp().clamp(_HARDEST, _SOFTEST)
        over = (torch.log10(torch.from_numpy(LEVELS).to(p)) - place) / soft
        return 20 * (makeup - soft * (above * F.softplus(over) + below * F.softplus(-over)))


def _slope(steepness: Tensor) -> Tensor:
    """The slope of a gain in dB: the steepness where that is small, an exponential of it as with high ratios."""
    return steepness.sign() * steepness.abs().clamp_max(_STEEPEST).expm1()


@final
class Gate(nn.Module):
    """A gate with hysteresis and hold.

    Args:
        width: of the parameters.
        sample_rate: in Hz.
        detector: see `Dynamics`.
        hold: see `Dynamics`.
    """

    def __init__(self, width: int, sample_rate: float, detector: str, hold: bool) -> None:
        super().__init__()
        self.sample_rate, self.hold = sample_rate, hold
        self.level = Level(sample_rate, detector)
        # seconds in which it opens and closes, and of its hold
        self.times = Times(width, torch.tensor([2e-2, 1e-1, 1e-3]))
        # threshold, hysteresis, makeup, range; how far it does the opposite, from 0 to 1
        self.curve = Steer(width, torch.tensor([-1.5, 0.0, 0.0, 2.0, 0.0]))
        self.first = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """Applies the gate to x (items, time), as p (items, width) says."""
        opens, closes, stays = (self.times(p) * self.sample_rate).unbind(1)
        stays = stays if self.hold else torch.zeros_like(stays)
        threshold, gap, makeup, below, turned = self.curve(p).unbind(1)
        first = self.first.sigmoid().expand_as(gap)
        numbers = [
            threshold,
            threshold - gap.clamp_min(0),
            stays,
            1 / opens.clamp_min(1),
            1 / closes.clamp_min(1),
            first,
        ]
        opened = ramp(self.level(x).log10(), torch.stack(numbers, 1), self.hold)
        turned = (8 * turned - 4).sigmoid()[:, None]
        opened = turned + (1 - 2 * turned) * opened
        floor = 10 ** -below.clamp_min(0)[:, None]
        return x * 10 ** makeup[:, None] * (floor + (1 - floor) * opened)
