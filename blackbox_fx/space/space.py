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

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast, final

import numpy as np
from numpy.typing import ArrayLike

from blackbox_fx.errors import ParameterError, did_you_mean
from blackbox_fx.space.parameters import KINDS, Array, Choice, Continuous, Decoder, Integer, Parameter, Toggle, Value

__all__ = ["Choice", "Continuous", "Integer", "Parameter", "Space", "Toggle", "Value"]

_NAMED = 20  # parameters in an error
_MANY = 24  # parameters that are decoded sooner together than one by one


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
        wrong = [name for name, p in self.parameters.items() if not isinstance(p, Parameter)]
        if wrong:
            kinds = "Continuous, Integer, Toggle or Choice"
            raise ParameterError(f"{wrong[0]} must be {kinds}, got {self.parameters[wrong[0]]!r}.")
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
            names = list(self.parameters)
            known = ", ".join(names[:_NAMED]) or "none"
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            question = did_you_mean(unknown[0], names)
            wrong = ", ".join(map(repr, unknown))
            raise ParameterError(f"Unknown parameter {wrong}{question}; known are {known}{more}.")

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
        steps = [np.full(self.parameters[n].columns, self.parameters[n].unit_step) for n in self.free]
        return np.concatenate(steps) if steps else np.zeros(0)

    def decode(self, params: Any) -> Any:
        """Columns in [0, 1] to physical values of the free parameters.

        Args:
            params: one row, (width,), or several, (n, width); an array, a list, or a tensor on any device.

        Returns:
            values by name for one row; a list of such mappings for several.

        Raises:
            ParameterError: something else than numbers, or another width.
        """
        given = params.detach().cpu().numpy() if hasattr(params, "detach") else params
        try:
            u = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise ParameterError(f"params must be numbers in [0, 1], got {given!r}; encode takes settings.") from None
        if u.ndim == 2 and u.shape[1] == self.width:
            return [self.decode_row(row) for row in u]
        return self.decode_row(u)

    def decode_row(self, row: Array) -> dict[str, Value]:
        """One row of columns in [0, 1], a float64 array (width,), to physical values of the free parameters."""
        if row.shape != (self.width,):
            raise ParameterError(f"params must have shape ({self.width},) or (n, {self.width}), got {row.shape}.")
        if len(self.slices) < _MANY or np.isnan(row).any():
            return {name: self.parameters[name].decode(row[s]) for name, s in self.slices.items()}
        decoders, order = self._decoders
        values = [value for decode in decoders for value in decode(row)]
        return dict(zip(self.slices, [values[k] for k in order], strict=True))

    def complete_row(self, row: Array) -> dict[str, Value]:
        """One row as `decode_row` takes it, to physical values of all parameters, with the defaults of the others."""
        values = self.decode_row(row)  # which lie in their ranges, unless the row holds NaN
        return self.complete(values) if np.isnan(row).any() else self.defaults | values

    @functools.cached_property
    def _decoders(self) -> tuple[list[Decoder], list[int]]:
        """One decoder for each kind of parameter, and where each free parameter's value is in what they give."""
        groups: dict[type[Parameter], list[str]] = {}
        for name in self.free:
            groups.setdefault(type(self.parameters[name]), []).append(name)
        decoders = [
            kind.decoder([self.parameters[n] for n in names], [self.slices[n].start for n in names])
            for kind, names in groups.items()
        ]
        places = {name: k for k, name in enumerate(itertools.chain(*groups.values()))}
        return decoders, [places[name] for name in self.free]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_decoders"}

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
        snapped = np.clip(u, 0.0, 1.0)  # which is all that a real value without steps needs
        for name, s in self.slices.items():
            p = self.parameters[name]
            if not isinstance(p, Continuous) or p.step:
                snapped[:, s] = p.snap(u[:, s])
        return snapped

    def fix(self, values: Mapping[str, Any] = {}, **named: Any) -> Space:
        """The space with these parameters no longer free, standing at these values."""
        checked = {**values, **named}
        self.require(checked)
        moved: dict[str, Any] = {
            n: dataclasses.replace(cast(Any, self.parameters[n]), default=self.parameters[n].check(n, v))
            for n, v in checked.items()
        }
        return Space(self.parameters | moved, (n for n in self.free if n not in checked))

    def only(self, *names: str) -> Space:
        """The space with only these parameters free, in this order; the others stand at their defaults."""
        wrong = [n for n in names if not isinstance(n, str)]
        if wrong:
            raise ParameterError(f'A name must be a text, got {wrong[0]!r}; write them one by one: only("a", "b").')
        self.require(names)
        held = [n for n in names if n not in self.free]
        if held:
            raise ParameterError(f"{', '.join(held)} was fixed and cannot be freed; free are {', '.join(self.free)}.")
        # strings of its own, whether read from a file or written in code: pickled alike, see Effect.fingerprint
        return Space(self.parameters, [n.encode(errors="surrogatepass").decode(errors="surrogatepass") for n in names])

    def within(self, ranges: Mapping[str, Any] = {}, **named: Any) -> Space:
        """The space with narrower ranges, (low, high) in physical units; defaults move to the nearest end."""
        checked = {**ranges, **named}
        self.require(checked)
        narrowed: dict[str, Parameter] = {}
        for name, ends in checked.items():
            p = self.parameters[name]
            if not isinstance(p, (Continuous, Integer)):
                raise ParameterError(f"{name} is a {p.kind} and has no range to narrow; use fix to hold it.")
            try:
                low, high = ends
            except (TypeError, ValueError):
                raise ParameterError(f"The range of {name} must be (low, high), got {ends!r}.") from None
            low, high = p.check(name, low), p.check(name, high)
            if isinstance(p, Continuous) and p.step:
                low, high = p.decode(p.encode(low)), p.decode(p.encode(high))  # the grid of its steps stays
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
        parameters = {n: {"kind": p.kind} | dataclasses.asdict(cast(Any, p)) for n, p in self.parameters.items()}
        return json.dumps({"parameters": parameters, "free": self.free})

    @classmethod
    def from_json(cls, text: str) -> Space:
        """The space that `to_json` wrote. Raises ParameterError on anything else."""
        try:
            data = json.loads(text)
            parameters = {n: KINDS[p.pop("kind")](**p) for n, p in data["parameters"].items()}
            return cls(parameters, data["free"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ParameterError(
                f"This is not the JSON of a Space ({error}); write it with Space.to_json()."
            ) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and (self.parameters, self.free) == (other.parameters, other.free)

    def __repr__(self) -> str:
        held = [n for n in self.parameters if n not in self.free]
        return f"Space(free={list(self.free)}, held={held}, width={self.width})"
