"""Reads songs from a folder of stems: one sub-folder for each song, one audio file in it for each track."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np

from blackbox_fx import audio
from blackbox_fx.audio import Audio
from blackbox_fx.data.song import Song
from blackbox_fx.errors import AudioError, DataError

# Endings that promise audio, also of formats that cannot be read here: such a file is named, not passed over.
AUDIO_ENDINGS = frozenset(
    (
        *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
        *(".au", ".caf", ".w64", ".rf64", ".m4a", ".mp4", ".aac", ".wma", ".wv", ".ape"),
    )
)

_SHORTEST_S = 0.01
# The resampler needs some sound before what is wanted; an MP3 frame may also need the bits of many frames before it.
_MARGIN_S, _MP3_MARGIN_S = 0.05, 0.5


@final
@dataclasses.dataclass(frozen=True, eq=False)
class SongFiles:
    """A song on disk: its headers are read at once, its audio is decoded again at every access.

    Args:
        name: of the song's folder.
        sample_rate: of the audio after resampling, in Hz.
        track_names: one for each file.
        files: one for each track.
        headers: the header of each file.
        skipped: gets files that cannot be read, with the reason; shared by all songs of a folder.
    """

    name: str
    sample_rate: float
    track_names: tuple[str, ...]
    files: tuple[Path, ...]
    headers: tuple[audio.FileInfo, ...]
    skipped: list[tuple[Path, str]]

    @property
    def length(self) -> int:
        """Samples of the longest track at `sample_rate`, by its header."""
        return max(math.ceil(h.frames * self.sample_rate / h.sample_rate) for h in self.headers)

    def load(self) -> Song:
        """The whole song.

        Returns:
            a song without the tracks that cannot be read, which are added to `skipped`.

        Raises:
            DataError: no track can be read.
        """
        return self._song(lambda i: audio.read(self.files[i], self.sample_rate)[0])

    def excerpt(self, start: int, length: int) -> Song:
        """The song from sample `start` on for `length` samples; only this part is decoded.

        Args:
            start: first sample, at `sample_rate`.
            length: samples, at `sample_rate`; tracks that end earlier are filled with zeros.

        Returns:
            a song without the tracks that cannot be read there, which are added to `skipped`.

        Raises:
            DataError: no track can be read.
        """
        return self._song(lambda i: self._cut(i, start, length))

    def _cut(self, index: int, start: int, length: int) -> Audio:
        header = self.headers[index]
        out = np.zeros((header.channels, length), np.float32)
        # The first sample read must fall on a sample of the wanted rate, or the tracks of a song would get out of step.
        common = math.gcd(header.sample_rate, round(self.sample_rate))
        step, step_out = header.sample_rate // common, round(self.sample_rate) // common
        margin = _MP3_MARGIN_S if self.files[index].suffix.lower() == ".mp3" else _MARGIN_S
        steps = max(math.floor((start / self.sample_rate - margin) * header.sample_rate / step), 0)
        first, offset = steps * step, start - steps * step_out
        if start / self.sample_rate < header.frames / header.sample_rate:
            frames = math.ceil(((offset + length) / self.sample_rate + _MARGIN_S) * header.sample_rate)
            x, _ = audio.read(self.files[index], self.sample_rate, first, frames)
            piece = x[:, offset : offset + length]
            out[:, : piece.shape[1]] = piece
        return out

    def _song(self, read: Callable[[int], Audio]) -> Song:
        names: list[str] = []
        tracks: list[Audio] = []
        for i, (name, file) in enumerate(zip(self.track_names, self.files, strict=True)):
            try:
                tracks.append(read(i))
                names.append(name)
            except AudioError as error:
                if all(path != file for path, _ in self.skipped):
                    self.skipped.append((file, str(error)))
        if not tracks:
            raise DataError(f"No track of {self.files[0].parent} can be read any more; replace its files.")
        return Song(self.name, self.sample_rate, tuple(names), tuple(tracks))

    def __repr__(self) -> str:
        return f"SongFiles({self.name!r}, {self.length / self.sample_rate:.2f} s, {list(self.track_names)})"


@final
@dataclasses.dataclass(frozen=True, eq=False)
class SongFolder:
    """The songs of a folder, and the files that were skipped.

    Args:
        path: the folder.
        songs: by name; each is decoded only when asked for.
        skipped: files and folders that were skipped, each with the reason; grows when a file turns out to be damaged.
    """

    path: Path
    songs: tuple[SongFiles, ...]
    skipped: list[tuple[Path, str]]

    def __repr__(self) -> str:
        tracks = sum(len(song.files) for song in self.songs)
        return f"SongFolder({str(self.path)!r}: {len(self.songs)} songs, {tracks} tracks, {len(self.skipped)} skipped)"


def read_songs(folder: str | os.PathLike[str], sample_rate: int = 44100) -> SongFolder:
    """Finds the songs of a folder: one sub-folder for each, with one audio file for each track.

    WAV, FLAC, OGG, MP3 and what else libsndfile reads, of any length, channels and sample rate. Only headers are read
    here. Hidden files, and files whose ending is not one of audio, are passed over; all else that is not used is named
    in `skipped`.

    Args:
        folder: holds the sub-folders.
        sample_rate: what the audio is resampled to, in Hz, a whole number.

    Returns:
        the songs and what was skipped, both sorted by name.

    Raises:
        DataError: the folder is missing, holds no sub-folder with audio, or only files outside of sub-folders.
        AudioError: a sample rate that is not allowed.
    """
    path = Path(folder)
    if audio.check_sample_rate(sample_rate) % 1:
        raise AudioError(f"sample_rate={sample_rate!r} is not allowed; it must be a whole number of Hz.")
    if not path.is_dir():
        raise DataError(f"No such folder: {path}; give the folder that holds one sub-folder of audio files per song.")
    skipped: list[tuple[Path, str]] = []
    try:
        entries = _visible(path)
        folders = [entry for entry in entries if entry.is_dir()]
        loose = [entry for entry in entries if entry.is_file() and _is_audio(entry)]
    except OSError as error:
        raise DataError(f"Cannot read the folder {path} ({error.strerror}); check its permissions.") from error
    songs = [song for entry in folders if (song := _scan(entry, sample_rate, skipped))]
    skipped += [(file, "lies outside of the songs' folders; move it into one.") for file in loose]
    if not songs:
        if loose:
            raise DataError(
                f"{path} holds {len(loose)} audio files but no sub-folder with audio; move the files of each song into "
                "a sub-folder of its own, or give the folder above."
            )
        why = f" ({len(skipped)} skipped, the first: {skipped[0][0].name}: {skipped[0][1]})" if skipped else ""
        raise DataError(f"{path} holds no sub-folder with readable audio{why}; put the files of each song into one.")
    skipped.sort()
    return SongFolder(path, tuple(songs), skipped)


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _is_audio(file: Path) -> bool:
    return file.suffix.lower() in AUDIO_ENDINGS


def _scan(folder: Path, sample_rate: int, skipped: list[tuple[Path, str]]) -> SongFiles | None:
    """The song in a folder; none, and the reason put down, where no file can be read."""
    files: list[Path] = []
    headers: list[audio.FileInfo] = []
    try:
        entries = _visible(folder)
    except OSError as error:
        skipped.append((folder, f"cannot be read ({error.strerror}); check its permissions."))
        return None
    for entry in entries:
        if entry.is_dir():
            if any(_is_audio(file) for file in entry.rglob("[!.]*")):
                skipped.append((entry, "is a folder inside a song's folder; move its files up or make it a song."))
        elif _is_audio(entry):
            try:
                header = audio.info(entry)
                if header.frames < _SHORTEST_S * header.sample_rate:
                    raise AudioError(f"{entry} holds only {header.frames} samples; remove it or write it again.")
                headers.append(header)
                files.append(entry)
            except AudioError as error:
                skipped.append((entry, str(error)))
    if not files:
        skipped.append((folder, "holds no audio file that can be read."))
        return None
    stems = Counter(file.stem for file in files)
    names = tuple(file.stem if stems[file.stem] == 1 else file.name for file in files)
    return SongFiles(folder.name, float(sample_rate), names, tuple(files), tuple(headers), skipped)
