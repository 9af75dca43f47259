"""The kinds of parameters: each maps a physical value to one or more columns in [0, 1] and back."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.checks import is_number
from blackbox_fx.core.hints import override
from blackbox_fx.errors import ParameterError

Value = float | int | bool | str
Array = NDArray[np.float64]
Decoder = Callable[[Array], list[Any]]  # from a row of columns to the values of some of its parameters
_ROUNDING = 2e-7  # relative: of float32
_ENDS = ("low", "high")


def _number(name: str, value: Any) -> float:
    if not is_number(value):
        raise ParameterError(f"{name} must be a number, got {value!r}.")
    return float(value)


def _forgiven(number: float, low: float, high: float) -> float:
    """The number, moved to the end of a range that it misses by no more than float32 rounding."""
    slack = _ROUNDING * max(abs(low), abs(high))
    return min(max(number, low), high) if low - slack <= number <= high + slack else number


class Parameter(abc.ABC):
    """One parameter of an effect: a physical value, and one or more columns in [0, 1] that stand for it."""

    kind: ClassVar[str]
    default: Any

    @property
    def columns(self) -> int:
        """How many columns of a parameter vector stand for this parameter."""
        return 1

    @property
    @abc.abstractmethod
    def unit_step(self) -> float:
        """The least distance in [0, 1] that is sure to reach another value; 0 where every distance does."""

    @property
    def positions(self) -> int:
        """How many values it takes; 0 for a range without steps."""
        return round(1 / self.unit_step) + 1 if self.unit_step else 0

    @abc.abstractmethod
    def decode(self, u: Array) -> Value:
        """Columns in [0, 1], shape (columns,), to the physical value."""

    @classmethod
    def decoder(cls, parameters: Sequence[Any], starts: Sequence[int]) -> Decoder:
        """What decodes many parameters of this kind at once, each to the value that `decode` gives.

        Args:
            parameters: to decode, all of this kind.
            starts: the first column of each in a row.
        """
        slices = [slice(start, start + p.columns) for p, start in zip(parameters, starts, strict=True)]
        return lambda row: [p.decode(row[s]) for p, s in zip(parameters, slices, strict=True)]

    @abc.abstractmethod
    def encode(self, value: Any) -> Array:
        """Physical value to columns in [0, 1], shape (columns,)."""

    @abc.abstractmethod
    def check(self, name: str, value: Any) -> Value:
        """The value in its own type; raises ParameterError where it is not allowed."""

    @abc.abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Settings drawn uniformly on the [0, 1] axis, shape (n, columns), in canonical form."""

    @abc.abstractmethod
    def describe(self) -> str:
        """The allowed values in words, for tables and errors."""

    def snap(self, u: Array) -> Array:
        """Columns, shape (n, columns), moved to the canonical columns of the values they decode to."""
        return np.stack([self.encode(self.decode(row)) for row in u]) if len(u) else u


def _clamped(x: Array, low: Any, high: Any) -> Array:
    """Numbers cut off at the ends of a range, as `min` and `max` do it."""
    above = np.where(x < low, low, x)
    return np.where(above > high, high, above)


def _check_range(low: Any, high: Any) -> None:
    low, high = _number("low", low), _number("high", high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParameterError(f"A range must be finite with low < high, got [{low}, {high}].")


@final
@dataclasses.dataclass(frozen=True)
class Continuous(Parameter):
    """A real value in [low, high], on a linear or logarithmic axis.

    Args:
        low, high: range in physical units.
        default: where the effect stands when nothing is said.
        unit: "dB", "ms", "Hz", ...; for people, never parsed.
        log: equal distances on [0, 1] are equal ratios; needs low > 0.
        step: distance between neighbouring values in physical units, counted from low; 0 for none.

    Raises:
        ParameterError: an empty range, low <= 0 on a logarithmic axis, a default outside the range, a bad step.
    """

    kind: ClassVar[str] = "continuous"
    low: float
    high: float
    default: float
    unit: str = ""
    log: bool = False
    step: float = 0.0

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        if self.log and self.low <= 0:
            raise ParameterError(f"A logarithmic range must start above 0, got low={self.low}.")
        if not 0 <= self.step <= self.high - self.low:
            raise ParameterError(f"step must lie in [0, {self.high - self.low}], got {self.step}.")
        for field in ("low", "high", "step"):
            object.__setattr__(self, field, float(getattr(self, field)))
        object.__setattr__(self, "default", self.check("default", self.default))

    @property
    @override
    def unit_step(self) -> float:
        if self.log:
            return math.log1p(self.step / self.low) / (math.log(self.high) - math.log(self.low))
        return self.step / (self.high - self.low)

    @override
    def decode(self, u: Array) -> float:
        x = min(max(float(u[0]), 0.0), 1.0)
        if self.log:
            root = math.exp(x * (math.log(self.high) - math.log(self.low)) / 2)  # squared it may overflow
            value = self.low * root * root
        else:
            value = (1 - x) * self.low + x * self.high
        if self.step:
            value = self.low + round((value - self.low) / self.step) * self.step
        return min(max(value, self.low), self.high)

    @classmethod
    @override
    def decoder(cls, parameters: Sequence[Any], starts: Sequence[int]) -> Decoder:
        columns, low, high = np.array(starts), *(np.array([getattr(p, end) for p in parameters]) for end in _ENDS)
        logs, grids = (np.flatnonzero([getattr(p, how) for p in parameters]) for how in ("log", "step"))
        spans = np.array([math.log(p.high) - math.log(p.low) for p in parameters if p.log])
        steps = np.array([p.step for p in parameters if p.step])

        def decode(row: Array) -> list[float]:
            x = _clamped(row[columns], 0.0, 1.0)
            values = (1 - x) * low + x * high
            with np.errstate(over="ignore"):  # as Python's own numbers, and what is too large is cut off below
                if len(logs):
                    # numpy's own exponential differs in the last bit
                    roots = np.array([*map(math.exp, (x[logs] * spans / 2).tolist())])
                    values[logs] = low[logs] * roots * roots
                if len(grids):
                    places = np.rint((values[grids] - low[grids]) / steps)
                    values[grids] = low[grids] + places * steps
            return _clamped(values, low, high).tolist()

        return decode

    @override
    def encode(self, value: Any) -> Array:
        if self.log:
            u = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            u = (value - self.low) / (self.high - self.low)
        return np.array([min(max(u, 0.0), 1.0)])

    @override
    def check(self, name: str, value: Any) -> float:
        number = _forgiven(_number(name, value), self.low, self.high)
        if not self.low <= number <= self.high:
            raise ParameterError(f"{name}={value!r} is outside its range; allowed is {self.describe()}.")
        return number

    @override
    def sample(self, n: int, rng: np.random.Generator) -> Array:
        u = rng.random((n, 1))
        return self.snap(u) if self.step else u

    @override
    def snap(self, u: Array) -> Array:
        return super().snap(u) if self.step else np.clip(u, 0.0, 1.0)

    @override
    def describe(self) -> str:
        step = f" in steps of {self.step:g}" if self.step else ""
        return f"[{self.low:g}, {self.high:g}]{' ' + self.unit if self.unit else ''}{step}{', log' if self.log else ''}"


@final
@dataclasses.dataclass(frozen=True)
class Integer(Parameter):
    """A whole number in [low, high]. Raises ParameterError on an empty range or a default outside it."""

    kind: ClassVar[str] = "integer"
    low: int
    high: int
    default: int
    unit: str = ""

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        for field in ("low", "high"):
            if getattr(self, field) != int(getattr(self, field)):
                raise ParameterError(f"{field} of an Integer must be a whole number, got {getattr(self, field)!r}.")
            object.__setattr__(self, field, int(getattr(self, field)))
        object.__setattr__(self, "default", self.check("default", self.default))

    @property
    @override
    def unit_step(self) -> float:
        return 1.0 / (self.high - self.low)

    @override
    def decode(self, u: Array) -> int:
        x = min(max(float(u[0]), 0.0), 1.0)
        return self.low + math.floor(x * (self.high - self.low) + 0.5)

    @classmethod
    @override
    def decoder(cls, parameters: Sequence[Any], starts: Sequence[int]) -> Decoder:
        columns, lows = np.array(starts), [p.low for p in parameters]
        spans = np.array([float(p.high - p.low) for p in parameters])

        def decode(row: Array) -> list[int]:
            places = np.floor(_clamped(row[columns], 0.0, 1.0) * spans + 0.5).tolist()
            return [low + int(place) for low, place in zip(lows, places, strict=True)]

        return decode

    @override
    def encode(self, value: Any) -> Array:
        return np.array([(value - self.low) / (self.high - self.low)])

    @override
    def check(self, name: str, value: Any) -> int:
        number = _number(name, value)
        if number != round(number) or not self.low <= number <= self.high:
            raise ParameterError(f"{name}={value!r} is not allowed; allowed is {self.describe()}.")
        return int(number)

    @override
    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return (rng.integers(0, self.high - self.low + 1, (n, 1)) / (self.high - self.low)).astype(np.float64)

    @override
    def describe(self) -> str:
        return f"whole numbers in [{self.low}, {self.high}]{' ' + self.unit if self.unit else ''}"


@final
@dataclasses.dataclass(frozen=True)
class Toggle(Parameter):
    """On or off; on from 0.5 upwards."""

    kind: ClassVar[str] = "toggle"
    default: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "default", self.check("default", self.default))

    @property
    @override
    def unit_step(self) -> float:
        return 1.0

    @override
    def decode(self, u: Array) -> bool:
        return bool(u[0] >= 0.5)

    @classmethod
    @override
    def decoder(cls, parameters: Sequence[Any], starts: Sequence[int]) -> Decoder:
        columns = np.array(starts)
        return lambda row: (row[columns] >= 0.5).tolist()

    @override
    def encode(self, value: Any) -> Array:
        return np.array([float(value)])

    @override
    def check(self, name: str, value: Any) -> bool:
        if value not in (True, False, 0, 1):
            raise ParameterError(f"{name}={value!r} is not allowed; allowed is {self.describe()}.")
        return bool(value)

    @override
    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return rng.integers(0, 2, (n, 1)).astype(np.float64)

    @override
    def describe(self) -> str:
        return "true or false"


@final
@dataclasses.dataclass(frozen=True)
class Choice(Parameter):
    """One of several named options: one column for each, the largest weight decides (the first of equals)."""

    kind: ClassVar[str] = "choice"
    options: tuple[str, ...]
    default: str

    def __post_init__(self) -> None:
        options = tuple(self.options)
        if len(options) < 2 or len(set(options)) != len(options) or not all(isinstance(o, str) for o in options):
            raise ParameterError(f"A choice needs two or more different names as options, got {self.options!r}.")
        object.__setattr__(self, "options", options)
        self.check("default", self.default)

    @property
    @override
    def columns(self) -> int:
        return len(self.options)

    @property
    @override
    def unit_step(self) -> float:
        return 1.0

    @property
    @override
    def positions(self) -> int:
        return len(self.options)

    @override
    def decode(self, u: Array) -> str:
        return self.options[int(np.argmax(u))]

    @classmethod
    @override
    def decoder(cls, parameters: Sequence[Any], starts: Sequence[int]) -> Decoder:
        options, most = [p.options for p in parameters], max(p.columns for p in parameters)
        # a choice with fewer options repeats its first one, which wins over its equals all the same
        places = np.array([[k if k < p.columns else 0 for k in range(most)] for p in parameters])
        columns = np.array(starts)[:, None] + places

        def decode(row: Array) -> list[str]:
            chosen = row[columns].argmax(axis=1).tolist()
            return [own[k] for own, k in zip(options, chosen, strict=True)]

        return decode

    @override
    def encode(self, value: Any) -> Array:
        u = np.zeros(len(self.options))
        u[self.options.index(value)] = 1.0
        return u

    @override
    def check(self, name: str, value: Any) -> str:
        if value not in self.options:
            raise ParameterError(f"{name}={value!r} is not allowed; allowed is {self.describe()}.")
        return str(value)

    @override
    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return np.eye(len(self.options))[rng.integers(0, len(self.options), n)]

    @override
    def describe(self) -> str:
        return "one of " + ", ".join(self.options)


KINDS: dict[str, type[Parameter]] = {k.kind: k for k in (Continuous, Integer, Toggle, Choice)}
