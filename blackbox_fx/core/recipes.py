"""What recipes share: settings of a run as a frozen dataclass, read from TOML."""

from __future__ import annotations

import abc
import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from blackbox_fx.errors import ParameterError


def read_toml(path: Path, what: str = "recipe") -> dict[str, Any]:
    """The names and values of a file. Raises ParameterError if it cannot be read as TOML.

    Args:
        path: of the file.
        what: it describes, for the error.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ParameterError(f"Cannot read the {what} {path} ({error}); it must be TOML.") from error


def require_known(recipe: Any, values: Mapping[str, Any]) -> None:
    """Raises ParameterError for a name that the dataclass of a recipe does not have."""
    known = [field.name for field in dataclasses.fields(recipe)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise ParameterError(f"A recipe has no setting {unknown[0]!r}; known are {', '.join(known)}.")


class Recipe(abc.ABC):
    """Numbers of a training: frozen dataclasses with defaults, whose names a TOML file may override.

    All are positive, and whole where the default is; zero is allowed where it is the default.

    Raises:
        ParameterError: an unknown name, or another value.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            whole = isinstance(field.default, int)
            kinds = (int,) if whole else (int, float)
            fits = isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < float("inf")
            if not fits or (value == 0 and field.default != 0):
                kind = "a positive whole number" if whole else "a positive number"
                raise ParameterError(f"{field.name} must be {kind}, got {value!r}.")
        self.check()

    @abc.abstractmethod
    def check(self) -> None:
        """Raises ParameterError for numbers that are too large."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The recipe of a TOML file."""
        return cls.make(read_toml(path))

    @classmethod
    def make(cls, values: dict[str, Any]) -> Self:
        """A recipe of named values."""
        require_known(cls, values)
        return cls(**values)

    def to_toml(self) -> str:
        """The text that `read` reads back."""
        values = dataclasses.asdict(self)  # pyright: ignore[reportArgumentType]
        return "".join(f"{name} = {value}\n" for name, value in values.items())
