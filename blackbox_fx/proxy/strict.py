"""JSON from anyone, read into dataclasses: what is not exactly as expected is one clear sentence."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from blackbox_fx.errors import DataError

_LONGEST = 10_000  # characters of a text
_LARGEST = 2**53  # whole number


class Wrong(Exception):
    """What is wrong with a value: where it stands, and what was wanted."""


def read_bytes(folder: Path, name: str, limit: int) -> bytes:
    """The content of a file that lies in a folder itself.

    Raises:
        DataError: it is missing, no plain file, a link to outside the folder, or larger than `limit` bytes.
    """
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path} is a link to outside its folder, and is not read; put the file itself there.")
        if not path.is_file():
            raise DataError(f"There is no file {name} in {folder}; name a folder that `blackbox-fx proxy train` wrote.")
        size = path.stat().st_size
        if size > limit:
            raise DataError(f"{path} has {size} bytes, and at most {limit} are read; get the proxy again.")
        with path.open("rb") as file:
            return file.read(limit)
    except (OSError, RuntimeError) as error:  # the latter for links in a circle
        raise DataError(f"Cannot read {path} ({error}); get the proxy again.") from error


def parse(content: bytes, what: str) -> Any:
    """JSON without names given twice, NaN, infinity and control characters.

    Raises:
        DataError: anything else.
    """
    try:
        data = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        _check_texts(data)
    except (ValueError, RecursionError, Wrong) as error:
        raise DataError(f"{what} is damaged ({error}); get it again, or train it again.") from error
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise Wrong(f"{shown(next(n for n in names if names.count(n) > 1))} is given twice")
    return found


def _no_constant(name: str) -> Any:
    raise Wrong(f"{name} is no number of JSON")


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        if len(value) > _LONGEST:
            raise Wrong(f"a text of {len(value)} characters, where at most {_LONGEST} are allowed")
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
            raise Wrong(f"control characters in {shown(value)}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def shown(value: Any) -> str:
    """A value for an error, short and without what a terminal would obey."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def build(kind: Any, value: Any, where: str = "") -> Any:
    """A value of a type: a dataclass of such types, a mapping from texts, number, text or None, or one of several.

    Raises:
        Wrong: another type, a name too many or too few, a number that is not finite.
    """
    if dataclasses.is_dataclass(kind):
        return _build_record(cast(type, kind), value, where)
    origin = typing.get_origin(kind)
    if origin is Mapping:
        item = typing.get_args(kind)[1]
        return {name: build(item, v, _under(where, name)) for name, v in _table(value, where).items()}
    if origin in (types.UnionType, typing.Union):
        return _build_one_of(kind, value, where)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        if not isinstance(value, list):
            raise _wrong("a list", value, where)
        return tuple(build(item, v, where) for v in value)
    if kind is Any:
        return value
    if not _fits(kind, value):
        raise _wrong(_words(kind), value, where)
    return float(value) if kind is float else value


def _build_one_of(kind: Any, value: Any, where: str) -> Any:
    for option in typing.get_args(kind):
        if not (dataclasses.is_dataclass(option) or typing.get_origin(option)) and _fits(option, value):
            return build(option, value, where)
    raise _wrong(_words(kind), value, where)


def _wrong(wanted: str, value: Any, where: str) -> Wrong:
    return Wrong(f"{where or 'it'} must be {wanted}, got {shown(value)}")


def _under(where: str, name: str) -> str:
    return f"{where}.{name if len(name) <= 40 else name[:37] + '...'}".lstrip(".")


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("a table of names and values", value, where)
    return value


def _build_record(kind: type, value: Any, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    given = _table(value, where)
    for name in given:
        if name not in names:
            raise Wrong(f"{shown(_under(where, name))} is unknown")
    for name in names:
        if name not in given:
            raise Wrong(f"{_under(where, name)} is missing")
    return kind(**{name: build(hints[name], given[name], _under(where, name)) for name in names})


def _fits(kind: Any, value: Any) -> bool:
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and abs(value) < 1e300 and math.isfinite(value)
    if kind is int:
        return type(value) is int and abs(value) <= _LARGEST
    return type(value) is kind


def _words(kind: Any) -> str:
    words = {float: "a finite number", int: "a whole number", str: "a text", bool: "true or false", type(None): "null"}
    return " or ".join(words[option] for option in typing.get_args(kind) or (kind,))
