"""Random excerpts of songs. Each depends only on a seed and a number, so that a training can stop and resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import to_channels
from blackbox_fx.data.song import Song, check_channels
from blackbox_fx.errors import DataError

SECONDS = (0.01, 3600.0)

_SILENCE = 1e-3
_TRIES = 200


class Source(Protocol):
    """A source of excerpts: a `Song` in memory, or `SongFiles` on disk."""

    @property
    def name(self) -> str:
        """Of the song."""
        ...

    @property
    def sample_rate(self) -> float:
        """In Hz."""
        ...

    @property
    def length(self) -> int:
        """Samples of the longest track."""
        ...

    def excerpt(self, start: int, length: int) -> Song:
        """The song from sample `start` on for `length` samples."""
        ...


class Clip(NamedTuple):
    """An excerpt of a song.

    Args:
        tracks: (tracks, channels, time), float32; some may be silent.
        track_names: one for each track.
        song: name of the song.
        start: its first sample in the song.
        mix: the real mix, (2, time), float32, where the song has one.
        roles: what each track is, see `role_of`.
    """

    tracks: NDArray[np.float32]
    track_names: tuple[str, ...]
    song: str
    start: int
    mix: NDArray[np.float32] | None = None
    roles: tuple[str, ...] = ()


@final
class Clips:
    """Endless random excerpts; `clip(index)` depends on the songs, the seed and the index alone.

    Every song is as likely as any other. An excerpt in which no track reaches -60 dBFS is drawn again, as is one of a
    song on disk that can no longer be read.

    Args:
        songs: from which excerpts are cut, all of one sample rate.
        seconds: length of an excerpt, [0.01, 3600]; shorter songs are filled with zeros.
        channels: 1 for mono, 2 for stereo.
        seed: 0 or more.

    Raises:
        DataError: no song, songs of different sample rates, or a value that is not allowed.
    """

    def __init__(self, songs: Sequence[Source], seconds: float, channels: int = 1, seed: int = 0) -> None:
        rates = sorted({song.sample_rate for song in songs})
        if len(rates) != 1:
            found = f"of {', '.join(f'{r:g}' for r in rates)} Hz" if rates else "none"
            raise DataError(f"Clips need songs of one sample rate, got {found}; read or compose all at one rate.")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise DataError(f"seed must be a whole number, 0 or more, got {seed!r}.")
        low, high = SECONDS
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float, np.number)) or not low <= seconds <= high:
            raise DataError(f"seconds={seconds!r} is not allowed; allowed is [{low:g}, {high:g}].")
        self.songs = songs
        self.sample_rate = rates[0]
        self.length = round(seconds * self.sample_rate)
        self.channels = check_channels(channels)
        self.seed = int(seed)

    def clip(self, index: int) -> Clip:
        """One excerpt.

        Args:
            index: 0 or more.

        Returns:
            the excerpt; as many tracks as the song has.

        Raises:
            DataError: an index below 0, or two hundred draws without sound.
        """
        if index < 0:
            raise DataError(f"index={index!r} is not allowed; allowed is 0 or more.")
        rng = np.random.default_rng([self.seed, index])
        problem = "silent"
        for _ in range(_TRIES):
            song = self.songs[int(rng.integers(len(self.songs)))]
            start = int(rng.integers(max(song.length - self.length, 0) + 1))
            try:
                excerpt = song.excerpt(start, self.length)
            except DataError as error:
                problem = str(error)
                continue
            tracks = excerpt.stack(self.channels)
            if np.abs(tracks).max() >= _SILENCE:
                mix = None if excerpt.mix is None else to_channels(excerpt.mix, 2)
                return Clip(tracks, excerpt.track_names, excerpt.name, start, mix, excerpt.roles)
        raise DataError(f"{_TRIES} excerpts in a row cannot be used (the last: {problem}); use other or longer songs.")
