"""The settings of a console as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = tuple[str, str, Any]


def table_of(said: Mapping[str, Any], roles: Sequence[str]) -> list[Row]:
    """What `Console.decode` gave, as rows: a track or a mix, a setting by its dotted name, and its value."""
    rows: list[Row] = []
    for k, (track, role) in enumerate(zip(said["tracks"], roles, strict=True)):
        rows += [(part_name(k, role), name, value) for name, value in flat(track)]
    for k, bus in enumerate(said["buses"]):
        rows += [(f"mix {k + 1}", name, value) for name, value in flat(bus)]
    return rows


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested settings, by dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def part_name(number: int, role: str) -> str:
    """A track's name in the table, such as "track 1 kick"."""
    return f"track {number + 1} {role}".rstrip()
