"""A song: the tracks it was recorded on, each an array (channel, time)."""

from __future__ import annotations

import dataclasses
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio, check_audio, check_sample_rate, to_channels
from blackbox_fx.data.roles import role_of
from blackbox_fx.errors import DataError


def check_channels(channels: int) -> int:
    """The number of channels. Raises DataError unless it is 1 or 2."""
    if isinstance(channels, bool) or channels not in (1, 2):
        raise DataError(f"channels={channels!r} is not allowed; allowed are 1 for mono and 2 for stereo.")
    return int(channels)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Song:
    """The tracks of one song; they may differ in length and in channels.

    Args:
        name: of the song.
        sample_rate: in Hz.
        track_names: one for each track.
        tracks: (channel, time) each, float32.
        mix: the real mix, (channel, time), where there is one.
        roles: what each track is, such as "vocals"; by their names if not given, see `role_of`.

    Raises:
        DataError: no track, or another number of names or roles.
        AudioError: a track that is not finite floating-point audio (channel, time), or a bad sample rate.
    """

    name: str
    sample_rate: float
    track_names: tuple[str, ...]
    tracks: tuple[Audio, ...]
    mix: Audio | None = None
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names, tracks = tuple(self.track_names), tuple(self.tracks)
        if not tracks or len(names) != len(tracks):
            raise DataError(
                f"Song {self.name!r} has {len(tracks)} tracks and {len(names)} names; give one name to each track."
            )
        roles = tuple(self.roles) or tuple(map(role_of, names))
        if len(roles) != len(tracks):
            raise DataError(
                f"Song {self.name!r} has {len(tracks)} tracks and {len(roles)} roles; give one role to each track."
            )
        check_sample_rate(self.sample_rate)
        mix = None if self.mix is None else check_audio(self.mix, f"the mix of {self.name}")
        checked = tuple(check_audio(t, f"{self.name}/{n}") for n, t in zip(names, tracks, strict=True))
        object.__setattr__(self, "track_names", names)
        object.__setattr__(self, "tracks", checked)
        object.__setattr__(self, "mix", mix)
        object.__setattr__(self, "roles", roles)

    @property
    def length(self) -> int:
        """Samples of the longest track."""
        return max(t.shape[1] for t in self.tracks)

    @property
    def channels(self) -> int:
        """The largest number of channels of a track."""
        return max(t.shape[0] for t in self.tracks)

    def excerpt(self, start: int, length: int) -> Song:
        """The song from sample `start` on for `length` samples; what ends earlier is filled with zeros."""

        def cut(x: Audio) -> Audio:
            piece = x[:, start : start + length]
            return np.pad(piece, ((0, 0), (0, length - piece.shape[1])))

        mix = None if self.mix is None else cut(self.mix)
        return Song(self.name, self.sample_rate, self.track_names, tuple(map(cut, self.tracks)), mix, self.roles)

    def stack(self, channels: int = 2) -> NDArray[np.float32]:
        """All tracks in one array.

        Args:
            channels: 1 averages the channels of a track; 2 gives a mono track to both sides.

        Returns:
            (tracks, channels, time), float32; tracks that end before the longest are filled with zeros.

        Raises:
            DataError: channels other than 1 or 2.
        """
        out = np.zeros((len(self.tracks), check_channels(channels), self.length), np.float32)
        for row, track in zip(out, self.tracks, strict=True):
            row[:, : track.shape[1]] = to_channels(track, channels)
        return out

    def __repr__(self) -> str:
        seconds = self.length / self.sample_rate
        mix = "" if self.mix is None else ", with its mix"
        return f"Song({self.name!r}, {seconds:.2f} s at {self.sample_rate:g} Hz, {list(self.track_names)}{mix})"
