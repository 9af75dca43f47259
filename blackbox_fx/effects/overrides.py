"""Overrides what a plugin reports of its parameters, by a TOML file with one table for each parameter."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from blackbox_fx.effects.texts import raw_value
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Toggle

_KEYS = ("kind", "min", "max", "default", "unit", "log", "step", "options", "exclude")
_BY_KIND = {
    "continuous": ("min", "max", "default", "unit", "log", "step"),
    "integer": ("min", "max", "default", "unit"),
    "toggle": ("default",),
    "choice": ("default", "options"),
}


class Reported(NamedTuple):
    """A parameter as a plugin reports it.

    Args:
        control: the parameter over the whole range of its control.
        offered: the parameter as users set it.
        why: reason for its exclusion; empty if it is used.
    """

    control: Parameter
    offered: Parameter
    why: str


def read(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The tables of the file. Raises EffectError if it cannot be read or has an unknown key."""
    given = Path(path).expanduser()
    try:
        tables = tomllib.loads(given.read_text(encoding="utf-8"))
    except OSError as error:
        raise EffectError(f"Cannot read {path} ({error.strerror}); give a TOML file of parameters.") from error
    except ValueError as error:
        raise EffectError(
            f"{path} is no TOML ({' '.join(str(error).split())}); write [name] and key = value."
        ) from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise EffectError(f"{path} says {name} = {table!r} outside a table; write [parameter] above it.")
        if unknown := [key for key in table if key not in _KEYS]:
            raise EffectError(f"{path} says {unknown[0]!r} of {name}; known are {', '.join(_KEYS)}.")
    return tables


def apply(
    path: str | os.PathLike[str], tables: Mapping[str, dict[str, Any]], known: Mapping[str, Reported]
) -> dict[str, Reported]:
    """The reported parameters, changed by the tables.

    Raises:
        EffectError: a table for an unknown parameter, or one with impossible values.
    """
    if unknown := [name for name in tables if name not in known]:
        names = ", ".join(known) or "none"
        raise EffectError(f"{path} has a table for {unknown[0]!r}, which is no parameter; known are {names}.")
    found = dict(known)
    for name, table in tables.items():
        try:
            found[name] = _one(found[name], table)
        except (ParameterError, TypeError, ValueError) as error:
            raise EffectError(f"{path} says of {name} what cannot be: {error}") from error
    return found


def _one(reported: Reported, table: Mapping[str, Any]) -> Reported:
    said = dict(table)
    exclude = said.pop("exclude", None)
    if exclude not in (None, True, False):
        raise ValueError(f"exclude must be true or false, got {exclude!r}.")
    why = reported.why if exclude is None else ("is excluded by the user" if exclude else "")
    kind = said.pop("kind", None)
    if kind is not None and kind not in _BY_KIND:
        raise ValueError(f"kind must be {', '.join(_BY_KIND)}, got {kind!r}.")
    allowed = _BY_KIND[kind or reported.offered.kind]
    if wrong := [key for key in said if key not in allowed]:
        raise ValueError(f"a {kind or reported.offered.kind} has no {wrong[0]}; known are {', '.join(allowed)}.")
    if kind is None:
        return Reported(reported.control, _changed(reported.offered, said), why)
    control = _made(kind, said, raw_value(reported.control, reported.control.default))
    return Reported(control, control, why)


def _changed(p: Parameter, said: dict[str, Any]) -> Parameter:
    """A parameter of the same kind and control with other values."""
    if isinstance(p, Toggle):
        return Toggle(said.get("default", p.default))
    if isinstance(p, Choice):
        if "options" in said:
            raise ValueError("the options are the plugin's; write kind = 'choice' to rename all of its positions.")
        return Choice(p.options, said.get("default", p.default))
    assert isinstance(p, Continuous | Integer)
    low, high = (p.check(key, said.get(key, end)) for key, end in (("min", p.low), ("max", p.high)))
    default: Any = said.get("default", min(max(p.default, low), high))
    unit = said.get("unit", p.unit)
    if isinstance(p, Integer):
        return Integer(int(low), int(high), default, unit)
    return Continuous(float(low), float(high), default, unit, said.get("log", p.log), said.get("step", p.step))


def _made(kind: str, said: dict[str, Any], raw: float) -> Parameter:
    """A parameter that replaces the reported one; the default of its control is `raw` in [0, 1]."""
    if kind == "toggle":
        return Toggle(said.get("default", raw >= 0.5))
    if kind == "choice":
        if "options" not in said:
            raise ValueError("a choice needs options, the names of its positions in order.")
        options = tuple(said["options"])
        if len(options) < 2:
            raise ValueError(f"a choice needs two options or more, got {list(options)}.")
        return Choice(options, said.get("default", options[round(raw * (len(options) - 1))]))
    low, high, unit = said.get("min", 0), said.get("max", 1), said.get("unit", "")
    if kind == "integer":
        whole = Integer(low, high, low, unit)
        return Integer(low, high, said.get("default", whole.decode(np.array([raw]))), unit)
    axis = Continuous(low, high, low, unit, said.get("log", False))
    default = said.get("default", axis.decode(np.array([raw])))
    return Continuous(low, high, default, unit, axis.log, said.get("step", 0.0))
