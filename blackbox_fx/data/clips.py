"""Random excerpts of songs. Each depends only on a seed and a number, so that a training can stop and resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio, resample, to_channels
from blackbox_fx.data.song import Song, check_channels
from blackbox_fx.errors import DataError

SECONDS = (0.01, 3600.0)
_JITTER_DB, _SPEED = (0.0, 60.0), (0.0, 0.5)

SILENCE = 1e-3  # of full scale: a track whose peak is below says nothing
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

    @property
    def roles(self) -> tuple[str, ...]:
        """What each track is."""
        ...

    @property
    def channels(self) -> int:
        """The largest number of channels of a track."""
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
    song on disk that can no longer be read. Only what is asked for is decoded, so memory does not grow with the songs.

    Args:
        songs: from which excerpts are cut, all of one sample rate.
        seconds: length of an excerpt, [0.01, 3600]; shorter songs are filled with zeros.
        channels: 1 for mono, 2 for stereo.
        seed: 0 or more.
        jitter_db: standard deviation of random gains of tracks, in dB; the mix stays as it is.
        speed: how much faster or slower an excerpt may be than its song, tracks and mix alike, as a share: 0.1 for up
            to a tenth either way. Pitch changes with it, as on tape.
        most_tracks: an excerpt in which more tracks sound is drawn again; None for any number.

    Raises:
        DataError: no song, songs of different sample rates, or a value that is not allowed.
    """

    def __init__(
        self,
        songs: Sequence[Source],
        seconds: float,
        channels: int = 1,
        seed: int = 0,
        *,
        jitter_db: float = 0.0,
        speed: float = 0.0,
        most_tracks: int | None = None,
    ) -> None:
        self.sample_rate = _one_rate(songs)
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise DataError(f"seed must be a whole number, 0 or more, got {seed!r}.")
        if most_tracks is not None and (isinstance(most_tracks, bool) or most_tracks < 1):
            raise DataError(f"most_tracks={most_tracks!r} is not allowed; allowed is 1 or more, or None.")
        self.length = round(_within("seconds", seconds, SECONDS) * self.sample_rate)
        self.jitter_db, self.speed = _within("jitter_db", jitter_db, _JITTER_DB), _within("speed", speed, _SPEED)
        self.songs, self.most_tracks = songs, most_tracks
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
            ratio = float(np.exp(rng.uniform(-1, 1) * np.log1p(self.speed))) if self.speed else 1.0
            length = round(self.length * ratio)
            start = int(rng.integers(max(song.length - length, 0) + 1))
            try:
                excerpt = song.excerpt(start, length)
            except DataError as error:
                problem = str(error)
                continue
            tracks = excerpt.stack(self.channels)
            sounding = int((np.abs(tracks).max((1, 2)) >= SILENCE).sum())
            problem = "silent" if not sounding else f"of {sounding} tracks that sound"
            if 0 < sounding <= (self.most_tracks or sounding):
                mix = None if excerpt.mix is None else to_channels(excerpt.mix, 2)
                return self._vary(
                    Clip(tracks, excerpt.track_names, excerpt.name, start, mix, excerpt.roles), ratio, rng
                )
        raise DataError(f"{_TRIES} excerpts in a row cannot be used (the last: {problem}); use other or longer songs.")

    def _vary(self, clip: Clip, ratio: float, rng: np.random.Generator) -> Clip:
        """The clip at its speed and with gains of its tracks."""
        if ratio != 1:
            tracks = np.stack([self._fit(track, ratio) for track in clip.tracks])
            clip = clip._replace(tracks=tracks, mix=None if clip.mix is None else self._fit(clip.mix, ratio))
        if self.jitter_db:
            gains = 10 ** (self.jitter_db / 20 * rng.standard_normal(len(clip.tracks)))
            clip = clip._replace(tracks=clip.tracks * gains[:, None, None].astype(np.float32))
        return clip

    def _fit(self, audio: Audio, ratio: float) -> NDArray[np.float32]:
        """Audio, (channel, time), at another speed and as long as every clip."""
        changed = resample(audio, self.sample_rate * ratio, self.sample_rate)[:, : self.length]
        return np.pad(changed, ((0, 0), (0, self.length - changed.shape[1])))


def _one_rate(songs: Sequence[Source]) -> float:
    rates = sorted({song.sample_rate for song in songs})
    if len(rates) != 1:
        found = f"of {', '.join(f'{r:g}' for r in rates)} Hz" if rates else "none"
        raise DataError(f"Clips need songs of one sample rate, got {found}; read or compose all at one rate.")
    return rates[0]


def _within(name: str, value: Any, allowed: tuple[float, float]) -> float:
    low, high = allowed
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not low <= value <= high:
        raise DataError(f"{name}={value!r} is not allowed; allowed is [{low:g}, {high:g}].")
    return float(value)
