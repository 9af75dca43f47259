"""Parameters of an effect: names, kinds, ranges and units, and their map to a vector in [0, 1].

>>> space = Space({
...     "threshold_db": Continuous(-60, 0, default=-20, unit="dB"),
...     "attack_ms": Continuous(0.1, 100, default=1, unit="ms", log=True),
...     "mode": Choice(("soft", "hard"), default="soft"),
... })
>>> space.width                                     # one column each, and one for every option of a choice
4
>>> space.decode([0.5, 0.0, 0.2, 0.9])
{'threshold_db': -30.0, 'attack_ms': 0.1, 'mode': 'hard'}
>>> space.fix(mode="hard").only("threshold_db").columns
('threshold_db',)
"""

from __future__ import annotations

import abc
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blackbox_fx.errors import ParameterError

Value = float | int | bool | str
Array = NDArray[np.float64]


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ParameterError(f"{name} must be a number, got {value!r}.")
    return float(value)


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

    @abc.abstractmethod
    def decode(self, u: Array) -> Value:
        """Columns in [0, 1], shape (columns,), to the physical value."""

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


def _check_range(low: float, high: float) -> None:
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
    def unit_step(self) -> float:
        if self.log:
            return math.log1p(self.step / self.low) / math.log(self.high / self.low)
        return self.step / (self.high - self.low)

    def decode(self, u: Array) -> float:
        x = min(max(float(u[0]), 0.0), 1.0)
        if self.log:
            value = self.low * (self.high / self.low) ** x
        else:
            value = self.low + x * (self.high - self.low)
        if self.step:
            value = self.low + round((value - self.low) / self.step) * self.step
        return min(max(value, self.low), self.high)

    def encode(self, value: Any) -> Array:
        if self.log:
            u = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            u = (value - self.low) / (self.high - self.low)
        return np.array([min(max(u, 0.0), 1.0)])

    def check(self, name: str, value: Any) -> float:
        number = _number(name, value)
        if not self.low <= number <= self.high:
            raise ParameterError(f"{name}={value!r} is outside its range; allowed is {self.describe()}.")
        return number

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        u = rng.random((n, 1))
        return self.snap(u) if self.step else u

    def snap(self, u: Array) -> Array:
        return super().snap(u) if self.step else np.clip(u, 0.0, 1.0)

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
        object.__setattr__(self, "default", self.check("default", self.default))

    @property
    def unit_step(self) -> float:
        return 1.0 / (self.high - self.low)

    def decode(self, u: Array) -> int:
        x = min(max(float(u[0]), 0.0), 1.0)
        return self.low + math.floor(x * (self.high - self.low) + 0.5)

    def encode(self, value: Any) -> Array:
        return np.array([(value - self.low) / (self.high - self.low)])

    def check(self, name: str, value: Any) -> int:
        number = _number(name, value)
        if number != round(number) or not self.low <= number <= self.high:
            raise ParameterError(f"{name}={value!r} is not allowed; allowed is {self.describe()}.")
        return int(number)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return (rng.integers(0, self.high - self.low + 1, (n, 1)) / (self.high - self.low)).astype(np.float64)

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
    def unit_step(self) -> float:
        return 1.0

    def decode(self, u: Array) -> bool:
        return bool(u[0] >= 0.5)

    def encode(self, value: Any) -> Array:
        return np.array([float(value)])

    def check(self, name: str, value: Any) -> bool:
        if value not in (True, False, 0, 1):
            raise ParameterError(f"{name}={value!r} is not allowed; allowed is {self.describe()}.")
        return bool(value)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return rng.integers(0, 2, (n, 1)).astype(np.float64)

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
    def columns(self) -> int:
        return len(self.options)

    @property
    def unit_step(self) -> float:
        return 1.0

    def decode(self, u: Array) -> str:
        return self.options[int(np.argmax(u))]

    def encode(self, value: Any) -> Array:
        u = np.zeros(len(self.options))
        u[self.options.index(value)] = 1.0
        return u

    def check(self, name: str, value: Any) -> str:
        if value not in self.options:
            raise ParameterError(f"{name}={value!r} is not allowed; allowed is {self.describe()}.")
        return str(value)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return np.eye(len(self.options))[rng.integers(0, len(self.options), n)]

    def describe(self) -> str:
        return "one of " + ", ".join(self.options)


KINDS: dict[str, type[Parameter]] = {k.kind: k for k in (Continuous, Integer, Toggle, Choice)}


@final
class Space:
    """The parameters of an effect: which there are, where each stands, and which of them are free to move.

    A parameter vector has `width` columns in [0, 1], one for each free continuous, integer or on/off parameter and one
    for each option of a free choice, in the order of `free`. What is not free stands at its default.

    Args:
        parameters: name to kind, in order.
        free: names of the free parameters; all of them unless given.

    Raises:
        ParameterError: an unknown or repeated name in `free`.
    """

    def __init__(self, parameters: Mapping[str, Parameter] = {}, free: Iterable[str] | None = None) -> None:
        self.parameters = dict(parameters)
        self.free = tuple(self.parameters if free is None else free)
        self.require(self.free)
        if len(set(self.free)) != len(self.free):
            raise ParameterError(f"A free parameter is named twice in {list(self.free)}; name each once.")
        stops = np.cumsum([0, *(self.parameters[n].columns for n in self.free)]).tolist()
        self.slices = {n: slice(a, b) for n, a, b in zip(self.free, stops[:-1], stops[1:], strict=True)}
        self.width: int = stops[-1]

    def require(self, names: Iterable[str]) -> None:
        """Raises ParameterError unless all names are known."""
        unknown = [n for n in names if n not in self.parameters]
        if unknown:
            known = ", ".join(self.parameters) or "none"
            raise ParameterError(f"Unknown parameter {', '.join(map(repr, unknown))}; known are {known}.")

    @property
    def defaults(self) -> dict[str, Value]:
        """Where every parameter stands when nothing is said."""
        return {name: p.default for name, p in self.parameters.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column: the parameter's, or parameter=option for a choice."""
        names: list[str] = []
        for name in self.free:
            p = self.parameters[name]
            names += [f"{name}={option}" for option in p.options] if isinstance(p, Choice) else [name]
        return tuple(names)

    @property
    def unit_steps(self) -> Array:
        """The least useful distance of every column in [0, 1], shape (width,); see `Parameter.unit_step`."""
        steps = [[self.parameters[n].unit_step] * self.parameters[n].columns for n in self.free]
        return np.array(sum(steps, []), dtype=np.float64)

    def decode(self, row: ArrayLike) -> dict[str, Value]:
        """One row of columns in [0, 1], shape (width,), to physical values of the free parameters."""
        u = np.asarray(row, dtype=np.float64)
        if u.shape != (self.width,):
            raise ParameterError(f"A parameter row must have shape ({self.width},), got {u.shape}.")
        return {name: self.parameters[name].decode(u[s]) for name, s in self.slices.items()}

    def encode(self, values: Mapping[str, Any] = {}) -> Array:
        """Physical values to a row of columns, shape (width,); what is left out stands at its default."""
        complete = self.complete(values)
        parts = [self.parameters[name].encode(complete[name]) for name in self.free]
        return np.concatenate(parts) if parts else np.zeros(0)

    def complete(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """Physical values of all parameters: those given, checked, and the defaults of the others."""
        self.require(values)
        return self.defaults | {name: self.parameters[name].check(name, v) for name, v in values.items()}

    def snap(self, rows: ArrayLike) -> Array:
        """Rows of columns, shape (n, width), moved to the canonical columns of the values they decode to."""
        u = np.asarray(rows, dtype=np.float64)
        parts = [self.parameters[name].snap(u[:, s]) for name, s in self.slices.items()]
        return np.concatenate(parts, axis=1) if parts else u

    def fix(self, values: Mapping[str, Any] = {}, **named: Any) -> Space:
        """The space with these parameters no longer free, standing at these values."""
        checked = {**values, **named}
        self.require(checked)
        moved: dict[str, Any] = {
            n: dataclasses.replace(self.parameters[n], default=self.parameters[n].check(n, v))  # type: ignore[type-var]
            for n, v in checked.items()
        }
        return Space(self.parameters | moved, (n for n in self.free if n not in checked))

    def only(self, *names: str) -> Space:
        """The space with only these parameters free, in this order; the others stand at their defaults."""
        self.require(names)
        held = [n for n in names if n not in self.free]
        if held:
            raise ParameterError(f"{', '.join(held)} was fixed and cannot be freed; free are {', '.join(self.free)}.")
        return Space(self.parameters, names)

    def within(self, ranges: Mapping[str, Any] = {}, **named: Any) -> Space:
        """The space with narrower ranges, (low, high) in physical units; defaults move to the nearest end."""
        checked = {**ranges, **named}
        self.require(checked)
        narrowed: dict[str, Parameter] = {}
        for name, ends in checked.items():
            p = self.parameters[name]
            if not isinstance(p, (Continuous, Integer)):
                raise ParameterError(f"{name} is a {p.kind} and has no range to narrow; use fix to hold it.")
            if not isinstance(ends, Sequence) or len(ends) != 2:
                raise ParameterError(f"The range of {name} must be (low, high), got {ends!r}.")
            low, high = (p.check(name, end) for end in ends)
            default: Any = min(max(p.default, low), high)
            narrowed[name] = dataclasses.replace(p, low=low, high=high, default=default)
        return Space(self.parameters | narrowed, self.free)

    def sample(self, n: int, seed: int | np.random.Generator) -> Array:
        """Random settings, shape (n, width): uniform on [0, 1], over the levels, or over the options."""
        rng = np.random.default_rng(seed)
        parts = [self.parameters[name].sample(n, rng) for name in self.free]
        return np.concatenate(parts, axis=1) if parts else np.zeros((n, 0))

    def to_json(self) -> str:
        """The whole space as JSON text; `from_json` reads it back equal."""
        parameters = {n: {"kind": p.kind} | dataclasses.asdict(p) for n, p in self.parameters.items()}  # type: ignore[call-overload]
        return json.dumps({"parameters": parameters, "free": self.free})

    @classmethod
    def from_json(cls, text: str) -> Space:
        """The space that `to_json` wrote. Raises ParameterError on anything else."""
        try:
            data = json.loads(text)
            parameters = {n: KINDS[p.pop("kind")](**p) for n, p in data["parameters"].items()}
            return cls(parameters, data["free"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ParameterError(f"This is not the JSON of a Space ({error}); write it with Space.to_json().") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and (self.parameters, self.free) == (other.parameters, other.free)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        held = [n for n in self.parameters if n not in self.free]
        return f"Space(free={list(self.free)}, held={held}, width={self.width})"
