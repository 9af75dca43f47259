"""What a session holds and this library does not understand."""

from __future__ import annotations

from typing import final

_MOST_SAID = 1000


@final
class Skipped:
    """What was not understood, each once, and not more than anyone would read."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def add(self, what: str) -> None:
        """Adds a part of a sentence."""
        if len(self._found) < _MOST_SAID:
            self._found[f"Skipped: {what}."] = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._found)
