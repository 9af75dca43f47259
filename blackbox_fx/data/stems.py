"""The STEM files of MUSDB18 (.stem.mp4): a song with its mix in one file, as five streams of AAC."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

from blackbox_fx import audio
from blackbox_fx.audio import Audio
from blackbox_fx.core import files
from blackbox_fx.data.cutting import cut
from blackbox_fx.data.kept import Kept, examine, wav
from blackbox_fx.data.layouts import STEM_ENDING, Skipped
from blackbox_fx.data.song import Song
from blackbox_fx.errors import DataError

STREAMS = ("mixture", "drums", "bass", "other", "vocals")
_READER = "blackbox_fx.data.stem_reader"
_FOLDER = "stems"  # in the user's cache
_FORMAT = 1


@final
@dataclasses.dataclass(frozen=True, eq=False)
class StemSong:
    """A STEM file of MUSDB18: it is known what it holds, and it is decoded once, when audio is first asked for.

    Its five streams are kept in the folder "stems" of the user's cache as 32-bit float WAV files, which may be deleted
    at any time. A minute at 44.1 kHz takes up to 106 MB; silence takes no room.

    Args:
        path: of its file.
        name: the file's, without its ending.
        sample_rate: of the audio after resampling, in Hz.
        header: samples, channels and sample rate of each stream.
        key: of what is kept of it.
        split: "train", "validation" or "test", where its folder says so; else "".

    Attributes:
        layout: "MUSDB18".
        has_mix: true.
        channels: 2, of each track.
        track_names: drums, bass, other, vocals.
        roles: the same.
    """

    path: Path
    name: str
    sample_rate: float
    header: audio.FileInfo
    key: str
    split: str = ""

    layout = "MUSDB18"
    has_mix = True
    channels = 2
    track_names = STREAMS[1:]
    roles = STREAMS[1:]

    @property
    def length(self) -> int:
        """Samples of each track and of the mix at `sample_rate`."""
        return math.ceil(self.header.frames * self.sample_rate / self.header.sample_rate)

    def load(self) -> Song:
        """The whole song, decoded anew if it is not in the cache.

        Raises:
            DataError: the file has changed or is damaged, or the cache cannot be written.
        """
        return self.excerpt(0, self.length)

    def excerpt(self, start: int, length: int) -> Song:
        """The song from sample `start` on for `length` samples. Only this part is read, from the cache.

        Args:
            start: first sample, at `sample_rate`.
            length: samples, at `sample_rate`; what lies behind the end is filled with zeros.

        Raises:
            DataError: as for `load`.
        """

        def read(folder: Path) -> Song:
            streams = range(len(STREAMS))
            mix, *stems = (self._cut(folder / wav(stream), start, length) for stream in streams)
            return Song(self.name, self.sample_rate, self.track_names, tuple(stems), mix, self.roles)

        kept = Kept(self.path, _FOLDER, self.key, tuple(map(wav, range(len(STREAMS)))), _READER)
        return kept.song(self._question, read)

    def _cut(self, file: Path, start: int, length: int) -> Audio:
        return cut(file, self.header, self.sample_rate, start, length)

    def _question(self) -> dict[str, Any]:
        """What is asked to decode it. Raises DataError if PyAV is missing or the file is another one than it was."""
        _require_av()
        try:
            same = _key(self.path) == self.key
        except OSError as error:
            raise DataError(f"Cannot read {self.path} ({error.strerror}); put it back.") from error
        if not same:
            raise DataError(f"{self.path} has changed since it was read; read it again.")
        return {"frames": self.header.frames}

    def __repr__(self) -> str:
        return f"StemSong({self.name!r}, {self.length / self.sample_rate:.2f} s, {list(self.track_names)})"


def _require_av() -> None:
    if importlib.util.find_spec("av") is None:
        raise DataError(
            "The STEM files of MUSDB18 need PyAV, which is not installed: pip install 'blackbox_fx[musdb]'."
        )


def _key(path: Path) -> str:
    """A name for what a file holds. Raises OSError if it cannot be read."""
    return f"{files.digest(path)}-{_FORMAT}"


def read_stems(found: Iterable[tuple[Path, str]], rate: float, skipped: Skipped) -> list[StemSong]:
    """STEM files as songs.

    Args:
        found: the path of each, and the split to which it belongs.
        rate: what the audio is resampled to, in Hz.
        skipped: gets what cannot be used, with the reason.
    """
    splits = dict(found)
    if not splits:
        return []
    try:
        _require_av()
    except DataError as error:
        skipped += [(path, str(error)) for path in splits]
        return []
    usable = examine(splits, _FOLDER, _key, _READER, {}, "a STEM file of MUSDB18", skipped)
    return [
        StemSong(path, path.name[: -len(STEM_ENDING)], rate, audio.FileInfo(*said["header"]), key, splits[path])
        for path, key, said in usable
    ]
