"""What a method said at a case, and what that says about the method."""

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
    """What one method said at one case.

    Attributes:
        case, truth, method: where, the right answer, and who.
        draws: estimates, (draws, width).
        renders, audio_renders: effect renders for each draw, for parameters and for audio; see `Tally`.
        once: further renders in the first backward pass only: what a method spends on looking at the effect.
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
        """The `bias` that an unbiased method with this variance would show in as many draws: its standard error."""
        return math.sqrt(self.variance / len(self.draws))

    def row(self) -> dict[str, Any]:
        """All of it as numbers, for a CSV."""
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

    Attributes:
        line, label: who.
        cases: how many.
        renders, audio_renders, seconds: for each gradient, means over cases.
        once: renders on top in the first backward pass, mean over cases.
        error: relative squared error, geometric mean over cases of the mean over draws.
        cosine: mean over cases of the mean over draws.
        bias, chance: see `Sample`; root mean squares over cases.
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
    """One method over cases; intervals by bootstrap over cases, and over draws within them."""
    rng = np.random.default_rng(seed)
    errors, cosines = [s.errors for s in samples], [s.cosines for s in samples]

    def again(values: Sequence[NDArray[np.float64]], chosen: NDArray[np.int64]) -> list[float]:
        return [float(rng.choice(values[k], len(values[k])).mean()) for k in chosen]

    rounds = [rng.integers(len(samples), size=len(samples)) for _ in range(RESAMPLES)]
    first = samples[0].method
    return Summary(
        first.line,
        first.label,
        len(samples),
        float(np.mean([s.renders for s in samples])),
        float(np.mean([s.audio_renders for s in samples])),
        float(np.mean([s.once for s in samples])),
        float(np.mean([s.seconds for s in samples])),
        interval(geometric([float(e.mean()) for e in errors]), [geometric(again(errors, r)) for r in rounds]),
        interval(float(np.mean([c.mean() for c in cosines])), [float(np.mean(again(cosines, r))) for r in rounds]),
        math.sqrt(float(np.mean([s.bias**2 for s in samples]))),
        math.sqrt(float(np.mean([s.chance**2 for s in samples]))),
        float(np.mean([s.variance for s in samples])),
    )


def geometric(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-30)))))


def interval(value: float, resampled: Sequence[float]) -> Interval:
    """A number with the middle 95 % of what it was in resamples."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Interval(value, float(low), float(high))
