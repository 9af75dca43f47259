"""Reports of progress in long work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # steps done, all steps, and a few words about the present one


def quiet(done: int, total: int, words: str) -> None:
    """A progress that shows nothing."""
