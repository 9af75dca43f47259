"""Compressors, expanders and gates whose numbers were measured."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.dsp.kernels import follow
from blackbox_fx.errors import ParameterError
from blackbox_fx.proxy.nets.gains import LN10_20
from blackbox_fx.proxy.nets.kernels import LEVELS, SILENCE, coefficients, look_up
from blackbox_fx.proxy.nets.laws import Floats, LawfulNet, Laws

NUMBERS = ("power_fall", "power_rise", "fall", "rise", "threshold", "below", "above", "makeup", "knee")
POWER_FALL, POWER_RISE, FALL, RISE, THRESHOLD, BELOW, ABOVE, MAKEUP, KNEE = range(len(NUMBERS))
START = (5e-3, 1e-6, 2e-2, 2e-3, -1.5, 1.0, 1.0, 0.0, 1e-4)
TIMES, SLOPES = (POWER_FALL, POWER_RISE, FALL, RISE), (BELOW, ABOVE)
_LONGEST_S, _STEEPEST = 100.0, 1e3
_HARDEST, _SOFTEST = 1e-4, 4.0  # knees, in units of 20 dB
_MOST_STAGES = 3
_STEP, _FLATTEST = 1e-3, 0.1  # relative for times and slopes, which count as this at least; for levels absolute


@final
class Ballistics(LawfulNet):
    """Gains that follow the level, one after the other, by numbers that were measured.

    The level of a stage is smoothed with one time constant for falling and one for rising; or its gain is, with that
    for rising levels where the gain falls. Where the level changes by 1 dB, the output changes by as many as its slope
    says: there is one above a threshold and one below, and a parabola leads from one to the other in the knee. The
    numbers of a stage, `NUMBERS`, follow from the parameters: times in seconds, levels and the width of the knee in
    units of 20 dB, and slopes, which are 1 where nothing is done.

    Args:
        width, sample_rate: see `ProxyNet`.
        power: whether the level is the root of the power, smoothed by times of its own, or that of samples.
        after: whether the gain is smoothed instead of the level.
        stages: gains in series, 1 to 3.
        clip: whether the output is clipped at 1.

    Raises:
        ParameterError: a number that makes no sense.

    References:
        "Digital dynamic range compressor design, a tutorial and analysis" (Giannoulis, Massberg and Reiss, 2012).
    """

    def __init__(
        self,
        width: int,
        sample_rate: float,
        power: bool = False,
        after: bool = False,
        stages: int = 1,
        clip: bool = False,
    ) -> None:
        super().__init__(width, sample_rate)
        if not 1 <= stages <= _MOST_STAGES:
            raise ParameterError(f"A net of ballistics needs 1 to {_MOST_STAGES} stages, got {stages!r}.")
        self.power, self.after, self.stages, self.clip = power, after, stages, clip
        self.laws = Laws(width, torch.tensor(START * stages))

    def process(self, x: Tensor, p: Tensor) -> Tensor:
        """The output; see `ProxyNet.process`."""
        return self._run(x, self.laws(p))

    @torch.no_grad()
    def render(self, x: Tensor, numbers: Tensor) -> Tensor:
        """See `LawfulNet`."""
        return self._run(x, numbers)

    def steps(self, numbers: Floats, time: int) -> Floats:
        """See `LawfulNet`."""
        own = numbers.reshape(self.stages, -1)
        steps = np.full_like(own, _STEP)
        steps[:, [*TIMES, KNEE]] *= own[:, [*TIMES, KNEE]]
        steps[:, SLOPES] *= own[:, SLOPES].clip(_FLATTEST)
        return steps.ravel()

    def sensible(self, numbers: Floats) -> Floats:
        """See `LawfulNet`."""
        own = numbers.reshape(self.stages, -1)
        own[:, TIMES] = own[:, TIMES].clip(1e-6, _LONGEST_S)
        own[:, SLOPES] = own[:, SLOPES].clip(0, _STEEPEST)
        own[:, KNEE] = own[:, KNEE].clip(_HARDEST, _SOFTEST)
        return numbers

    def _run(self, x: Tensor, numbers: Tensor) -> Tensor:
        for stage in numbers.to(x).unflatten(1, (self.stages, -1)).unbind(1):
            x = self._stage(x, stage)
        return x.clamp(-1, 1) if self.clip else x

    def _stage(self, x: Tensor, numbers: Tensor) -> Tensor:
        power_fall, power_rise, fall, rise = coefficients(numbers[:, :4], self.sample_rate).unbind(1)
        if self.power:
            level = follow(x.square(), torch.zeros_like(fall), power_fall, power_rise).clamp_min(SILENCE**2).sqrt()
        else:
            level = x.abs().clamp_min(SILENCE)
        table = _gains(*numbers[:, 4:, None].unbind(1))
        if self.after:
            gain = follow(look_up(level, table), table[:, 0], rise, fall)
        else:
            gain = look_up(follow(level, torch.full_like(fall, SILENCE), fall, rise), table)
        return x * torch.exp(LN10_20 * gain)


def _gains(threshold: Tensor, below: Tensor, above: Tensor, makeup: Tensor, knee: Tensor) -> Tensor:
    """The gain in dB at `LEVELS`, (items, knots), for numbers (items, 1)."""
    knee = knee.clamp(_HARDEST, _SOFTEST)
    over = torch.log10(torch.from_numpy(LEVELS).to(threshold)) - threshold
    bent = torch.where(over.abs() < knee / 2, (over + knee / 2).square() / (2 * knee), over.clamp_min(0))
    higher, lower = (slope.clamp(0, _STEEPEST) - 1 for slope in (above, below))
    return 20 * (makeup + higher * bent - lower * (bent - over))
