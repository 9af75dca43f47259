"""Songs that are composed when they are first heard, so that a training begins at once."""

from __future__ import annotations

import functools
from typing import final

from blackbox_fx.data.composer import compose
from blackbox_fx.data.song import Song


@final
class ComposedSong:
    """A source of excerpts of the song that `compose` makes; it is made when the first one is asked for.

    Args:
        seed: of the song.
        seconds: its length.
        sample_rate: in Hz.
    """

    def __init__(self, seed: int, seconds: float, sample_rate: float) -> None:
        self._seed, self._seconds = seed, seconds
        self.name, self.sample_rate, self.channels = f"composed-{seed}", float(sample_rate), 2
        self.length = round(seconds * sample_rate)

    @functools.cached_property
    def _song(self) -> Song:
        return compose(self._seed, self._seconds, self.sample_rate)

    @property
    def roles(self) -> tuple[str, ...]:
        """What each track is."""
        return self._song.roles

    def excerpt(self, start: int, length: int) -> Song:
        """The song from sample `start` on for `length` samples."""
        return self._song.excerpt(start, length)
