"""The gradients that a method estimated at a case, and how good they are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from blackbox_fx.lab.case import Case
from blackbox_fx.lab.truth import Truth

RESAMPLES = 400


@final
@dataclasses.dataclass(frozen=True)
class Method:
    """One way to get a gradient.

    Args:
        line: the family, one line of a plot.
        label: the family with its settings.
        make: from a case and a generator, the layer whose parameters get a gradient: it takes audio and params as a
            `BlackBox` does. It may raise ParameterError where it does not suit the effect.
    """

    line: str
    label: str
    make: Callable[[Case, torch.Generator], nn.Module]


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """The gradients that one method estimated at one case.

    Args:
        case: where the gradient was estimated.
        truth: the true gradient there.
        method: that estimated it.
        draws: the estimates, (draws, width).
        renders: effect renders for the parameters' gradient, for each draw; see `Tally`.
        audio_renders: the same for the audio's gradient.
        once: further renders in the first backward pass only, with which a method examines the effect.
        seconds: for each draw.
    """

    case: Case
    truth: Truth
    method: Method
    draws: NDArray[np.float64]
    renders: float
    audio_renders: float
    once: float
    seconds: float

    @property
    def errors(self) -> NDArray[np.float64]:
        """Squared error of every draw over the squared length of the truth, (draws,); an estimate of 0 has 1."""
        return np.square(self.draws - self.truth.gradient).sum(axis=1) / self.truth.norm**2

    @property
    def cosines(self) -> NDArray[np.float64]:
        """Cosine of every draw to the truth, (draws,); 0 for an estimate of 0."""
        lengths = np.linalg.norm(self.draws, axis=1) * self.truth.norm
        return self.draws @ self.truth.gradient / np.maximum(lengths, 1e-300)

    @property
    def variance(self) -> float:
        """Sum of the columns' variances over the squared length of the truth."""
        if len(self.draws) < 2:
            return 0.0
        return float(self.draws.var(axis=0, ddof=1).sum() / self.truth.norm**2)

    @property
    def bias(self) -> float:
        """Distance of the mean from the truth over the truth's length."""
        return float(np.linalg.norm(self.draws.mean(axis=0) - self.truth.gradient) / self.truth.norm)

    @property
    def chance(self) -> float:
        """The standard error of the mean: the `bias` that an unbiased method with this variance would show."""
        return math.sqrt(self.variance / len(self.draws))

    def row(self) -> dict[str, Any]:
        """A row of a CSV file."""
        column, share = self.truth.largest
        return {
            "effect": self.case.effect.name,
            "case": self.case.name,
            "line": self.method.line,
            "estimator": self.method.label,
            "renders": self.renders,
            "audio_renders": self.audio_renders,
            "renders_once": self.once,
            "seconds": self.seconds,
            "draws": len(self.draws),
            "relative_squared_error": float(self.errors.mean()),
            "cosine": float(self.cosines.mean()),
            "bias": self.bias,
            "bias_by_chance": self.chance,
            "variance": self.variance,
            "truth": self.truth.how,
            "truth_error": self.truth.error,
            "largest_column": column,
            "largest_share": share,
            "counts": self.truth.proves,
        }


@final
@dataclasses.dataclass(frozen=True)
class Interval:
    """A number with the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2g} ({self.low:.2g} - {self.high:.2g})"


def number(x: float) -> str:
    """Three significant digits, for tables."""
    return f"{x:.3f}" if 0.1 <= abs(x) < 10 else f"{x:.0f}" if 100 <= abs(x) < 1e5 else f"{x:.3g}"


@final
@dataclasses.dataclass(frozen=True)
class Summary:
    """One method over all cases.

    Args:
        line: see `Method`.
        label: see `Method`.
        cases: their number.
        renders: for each gradient of the parameters, mean over cases.
        audio_renders: for each gradient of the audio, mean over cases.
        once: further renders in the first backward pass, mean over cases.
        seconds: for each gradient, median over cases.
        error: relative squared error: the mean over draws, then the geometric mean over cases.
        cosine: the mean over draws, then over cases.
        bias: see `Sample`; root mean square over cases.
        chance: see `Sample`; root mean square over cases.
        variance: mean over cases.
    """

    line: str
    label: str
    cases: int
    renders: float
    audio_renders: float
    once: float
    seconds: float
    error: Interval
    cosine: Interval
    bias: float
    chance: float
    variance: float


def summarise(samples: Sequence[Sample], seed: int = 0) -> Summary:
    """Summarises one method over cases. Intervals are by bootstrap over cases, and over draws within each case."""
    rng = np.random.default_rng(seed)
    errors, cosines = [s.errors for s in samples], [s.cosines for s in samples]

    def resample(values: Sequence[NDArray[np.float64]], chosen: NDArray[np.int64]) -> list[float]:
        return [float(rng.choice(values[k], len(values[k])).mean()) for k in chosen]

    rounds = [rng.integers(len(samples), size=len(samples)) for _ in range(RESAMPLES)]
    first = samples[0].method
    return Summary(
        first.line,
        first.label,
        len(samples),
        _mean(samples, "renders"),
        _mean(samples, "audio_renders"),
        _mean(samples, "once"),
        float(np.median([sample.seconds for sample in samples])),
        interval(geometric([float(e.mean()) for e in errors]), [geometric(resample(errors, r)) for r in rounds]),
        interval(_average([c.mean() for c in cosines]), [_average(resample(cosines, r)) for r in rounds]),
        math.sqrt(_mean(samples, "bias", 2)),
        math.sqrt(_mean(samples, "chance", 2)),
        _mean(samples, "variance"),
    )


def _average(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _mean(samples: Sequence[Sample], name: str, power: int = 1) -> float:
    """Mean over samples of a power of one of their numbers."""
    return float(np.mean([getattr(sample, name) ** power for sample in samples]))


def geometric(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-30)))))


def interval(value: float, resampled: Sequence[float]) -> Interval:
    """A number with the middle 95 % of its values in resamples."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Interval(value, float(low), float(high))
