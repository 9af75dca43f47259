"""Reads songs from a folder: data sets of multitracks, and plain folders of stems."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import final

from blackbox_fx import audio
from blackbox_fx.audio import Audio
from blackbox_fx.data.cutting import cut
from blackbox_fx.data.layouts import (
    Found,
    Skipped,
    Track,
    find_files,
    find_song,
    find_songs,
    is_audio,
    is_module,
    is_stems,
)
from blackbox_fx.data.modules import ModuleSong, read_modules
from blackbox_fx.data.roles import role_of
from blackbox_fx.data.song import Song
from blackbox_fx.data.stems import StemSong, read_stems
from blackbox_fx.errors import AudioError, DataError

_SHORTEST_S = 0.01
_OFF_S, _OFF = 2.0, 0.1  # by how much a mix may be longer or shorter than its tracks, in seconds and as a share


@final
@dataclasses.dataclass(frozen=True, eq=False)
class SongFiles:
    """A song on disk: its headers are read at once, its audio is decoded again at every access.

    Args:
        name: of the song.
        sample_rate: of the audio after resampling, in Hz.
        track_names: one for each file.
        files: one for each track.
        headers: the header of each file.
        skipped: gets files that cannot be read, with the reason; shared by all songs of a folder.
        mix_file: of the real mix, if there is one.
        mix_header: its header.
        roles: what each track is, see `role_of`.
        layout: of its folder, such as "MedleyDB", or "plain".
        split: "train", "validation" or "test", where the data set says so; else "".
    """

    name: str
    sample_rate: float
    track_names: tuple[str, ...]
    files: tuple[Path, ...]
    headers: tuple[audio.FileInfo, ...]
    skipped: Skipped
    mix_file: Path | None = None
    mix_header: audio.FileInfo | None = None
    roles: tuple[str, ...] = ()
    layout: str = "plain"
    split: str = ""

    @property
    def has_mix(self) -> bool:
        """Whether it comes with its real mix."""
        return self.mix_file is not None

    @property
    def length(self) -> int:
        """Samples of the longest track at `sample_rate`, by its header."""
        return max(math.ceil(h.frames * self.sample_rate / h.sample_rate) for h in self.headers)

    @property
    def channels(self) -> int:
        """The largest number of channels of a track, by its header."""
        return max(h.channels for h in self.headers)

    def load(self) -> Song:
        """The whole song.

        Returns:
            a song without the tracks that cannot be read, which are added to `skipped`.

        Raises:
            DataError: no track can be read.
        """
        return self._song(lambda file, _: audio.read(file, self.sample_rate)[0])

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
        return self._song(lambda file, header: cut(file, header, self.sample_rate, start, length))

    def _song(self, read: Callable[[Path, audio.FileInfo], Audio]) -> Song:
        def attempt(file: Path, header: audio.FileInfo) -> Audio | None:
            try:
                return read(file, header)
            except AudioError as error:
                if all(path != file for path, _ in self.skipped):
                    self.skipped.append((file, str(error)))
                return None

        every = zip(self.track_names, self.roles, self.files, self.headers, strict=True)
        kept = [(name, role, x) for name, role, file, head in every if (x := attempt(file, head)) is not None]
        if not kept:
            raise DataError(f"No track of {self.files[0].parent} can be read any more; replace its files.")
        names, roles, tracks = zip(*kept, strict=True)
        mix = attempt(self.mix_file, self.mix_header) if self.mix_file and self.mix_header else None
        return Song(self.name, self.sample_rate, names, tracks, mix, roles)

    def __repr__(self) -> str:
        return f"SongFiles({self.name!r}, {self.length / self.sample_rate:.2f} s, {list(self.track_names)})"


Songs = tuple[SongFiles | ModuleSong | StemSong, ...]


@final
@dataclasses.dataclass(frozen=True, eq=False)
class SongFolder:
    """The songs of a folder, and the files that were skipped.

    Args:
        path: the folder.
        songs: by name; each is decoded or rendered only when asked for.
        skipped: files and folders that were skipped, each with the reason; grows when a file turns out to be damaged.
    """

    path: Path
    songs: Songs
    skipped: Skipped

    def split(self, held_out: float = 1 / 7) -> tuple[Songs, Songs]:
        """The songs to train on, and those that are held out; no song is in both.

        Where the data set has splits, those for testing are held out, or those for validation if there are none.
        Elsewhere the name of a song decides, so that others that come later change nothing; songs of the same name stay
        together.

        Args:
            held_out: share of the songs, in (0, 1); one at least.

        Raises:
            DataError: a share out of range, or fewer than two songs.
        """
        if isinstance(held_out, bool) or not isinstance(held_out, int | float) or not 0 < held_out < 1:
            raise DataError(f"held_out={held_out!r} is not allowed; allowed is a share between 0 and 1.")
        names = {song.name for song in self.songs}
        if len(names) < 2:
            raise DataError(f"{self.path} holds {len(names)} readable song; two or more are needed, one to hold out.")
        said = {song.split for song in self.songs} - {"train"}
        kept = {"test"} if "test" in said else {"validation"} & said
        if kept and len(kept | {song.split for song in self.songs}) > 1:
            away = {song.name for song in self.songs if song.split in kept}
        else:
            order = sorted(names, key=lambda name: hashlib.blake2b(name.encode("utf-8", "surrogateescape")).digest())
            away = set(order[: min(max(1, round(held_out * len(order))), len(order) - 1)])
        return (
            tuple(song for song in self.songs if song.name not in away),
            tuple(song for song in self.songs if song.name in away),
        )

    def __repr__(self) -> str:
        tracks = sum(len(song.track_names) for song in self.songs)
        mixes = sum(song.has_mix for song in self.songs)
        layouts = ", ".join(sorted({song.layout for song in self.songs}))
        return (
            f"SongFolder({str(self.path)!r}, {layouts}: {len(self.songs)} songs, {mixes} of them with a mix, {tracks} "
            f"tracks, {len(self.skipped)} skipped)"
        )


def read_songs(folder: str | os.PathLike[str], sample_rate: int = 44100, *, raw: bool = False) -> SongFolder:
    """Finds the songs of a folder: a data set of multitracks, one sub-folder for each song, STEM files, and
    tracker modules.

    MUSDB18-HQ, DSD100, MedleyDB, MoisesDB and Slakh are told by what is in the folder. In a plain folder, each song has
    a sub-folder with one audio file for each track; a file called mix, mixture, master or the like, also behind the
    song's name, is the real mix and no track. WAV, FLAC, OGG, MP3 and what else libsndfile reads, of any length,
    channels and sample rate. Only headers are read here. Hidden files, and files whose ending is not one of audio, are
    passed over; all else that is not used is named in `skipped`.

    Each tracker module (.mod, .xm, .s3m, .it, .mptm and others) in the folder, or in a folder in it, is a song with its
    composer's mix; see `read_module`. Each is examined the first time, in about a second. Each STEM file of MUSDB18
    (.stem.mp4) there is a song with its real mix; they need PyAV (pip install 'blackbox_fx[musdb]').

    Args:
        folder: holds the data set, or the sub-folders, or modules.
        sample_rate: what the audio is resampled to, in Hz, a whole number.
        raw: whether tracks are those before processing, and not the stems, where there are some: MedleyDB, modules.

    Returns:
        the songs and what was skipped, both sorted by name.

    Raises:
        DataError: the folder is missing, or holds no sub-folder with audio, no STEM file and no module.
        AudioError: a sample rate that is not allowed.
    """
    path = _existing(folder, sample_rate, "one sub-folder of audio files per song")
    skipped: Skipped = []
    try:
        found = list(find_songs(path, raw, skipped))
        modules, stems = (list(find_files(path, wanted)) for wanted in (is_module, is_stems))
    except OSError as error:
        raise DataError(
            f"Cannot read the folder {error.filename} ({error.strerror}); check its permissions."
        ) from error
    songs: list[SongFiles | ModuleSong | StemSong] = [
        song for each in found if (song := _scan(each, float(sample_rate), skipped)) is not None
    ]
    songs += read_modules(modules, sample_rate, raw, skipped)
    songs += read_stems(stems, float(sample_rate), skipped)
    if not songs:
        raise _nothing(path, skipped)
    songs.sort(key=lambda song: (song.name, song.files if isinstance(song, SongFiles) else (song.path,)))
    skipped.sort()
    return SongFolder(path, tuple(songs), skipped)


def read_recordings(folder: str | os.PathLike[str], sample_rate: int = 44100) -> SongFolder:
    """The audio files in a folder and in the folders in it, each as a song of one track: speech, loops, masters.

    Args:
        folder: of files, or of folders with files.
        sample_rate: what the audio is resampled to, in Hz, a whole number.

    Returns:
        the recordings and what was skipped, both sorted.

    Raises:
        DataError: the folder is missing, or holds no audio file that can be read.
        AudioError: a sample rate that is not allowed.
    """
    path = _existing(folder, sample_rate, "audio files")
    skipped: Skipped = []
    songs = [
        song
        for file, split in find_files(path, is_audio)
        if (song := _scan(_alone(path, file, split), float(sample_rate), skipped)) is not None
    ]
    if not songs:
        why = f" ({skipped[0][0].name}: {skipped[0][1]})" if skipped else ""
        raise DataError(f"{path} holds no audio file that can be read{why}; give a folder of recordings.")
    return SongFolder(path, tuple(sorted(songs, key=lambda song: song.name)), sorted(skipped))


def _alone(folder: Path, file: Path, split: str) -> Found:
    """A file as a song of one track."""
    name = file.relative_to(folder).with_suffix("").as_posix()
    return Found(name, file.parent, "recordings", (Track(file.stem, role_of(file.stem), file),), split=split)


def read_song(folder: str | os.PathLike[str], sample_rate: int = 44100, *, raw: bool = False) -> SongFiles:
    """The song in one folder, in any layout that `read_songs` knows.

    Args:
        folder: of the song.
        sample_rate: what the audio is resampled to, in Hz, a whole number.
        raw: see `read_songs`.

    Returns:
        the song; its `skipped` names what is not used.

    Raises:
        DataError: the folder is missing, or holds no track that can be read.
        AudioError: a sample rate that is not allowed.
    """
    path = _existing(folder, sample_rate, "the tracks of one song")
    skipped: Skipped = []
    found = find_song(path, raw, skipped)
    song = None if found is None else _scan(found, float(sample_rate), skipped)
    if song is None:
        where, why = skipped[0] if skipped else (path, "holds no audio file that can be read.")
        inside = [each.folder.name for each in find_songs(path, raw, [])]
        if inside:
            raise DataError(
                f"{path} holds {len(inside)} songs and is none; give the folder of one, such as {inside[0]}."
            )
        raise DataError(f"{path} holds no song ({where.name}: {why}); put the audio files of its tracks right into it.")
    return song


def _existing(folder: str | os.PathLike[str], sample_rate: int, what: str) -> Path:
    path = Path(folder)
    if audio.check_sample_rate(sample_rate) % 1:
        raise AudioError(f"sample_rate={sample_rate!r} is not allowed; it must be a whole number of Hz.")
    try:
        found = path.is_dir()
    except OSError:  # too long a name, for one
        found = False
    if not found:
        raise DataError(f"No such folder: {path!s:.200}; give the folder that holds {what}.")
    return path


def _nothing(path: Path, skipped: Skipped) -> DataError:
    loose = [file for file, _ in skipped if file.parent == path and file.is_file() and is_audio(file)]
    if loose and len(loose) == len(skipped):
        return DataError(
            f"{path} holds {len(loose)} audio files but no sub-folder with audio; move the files of each song into "
            "a sub-folder of its own, or give the folder above."
        )
    why = f" ({len(skipped)} skipped, the first: {skipped[0][0].name}: {skipped[0][1]})" if skipped else ""
    return DataError(
        f"{path} holds no sub-folder with readable audio, no STEM file and no module that can be read{why}; put the "
        "files of each song into one."
    )


def _header(file: Path, skipped: Skipped) -> audio.FileInfo | None:
    """The header of a file; none, and the reason put down, if it cannot be read or is empty."""
    try:
        header = audio.info(file)
        if header.frames < _SHORTEST_S * header.sample_rate:
            raise AudioError(f"{file} holds only {header.frames} samples; remove it or write it again.")
    except AudioError as error:
        skipped.append((file, str(error)))
        return None
    return header


def _mix_header(mix: Path | None, longest: float, skipped: Skipped) -> audio.FileInfo | None:
    """The header of a mix, if it is about as long as the longest track, in seconds."""
    header = None if mix is None else _header(mix, skipped)
    if mix is None or header is None:
        return None
    seconds = header.frames / header.sample_rate
    if abs(seconds - longest) > max(_OFF_S, _OFF * longest):
        reason = f"is {seconds:.1f} s long and the tracks {longest:.1f} s, so it is not taken for the mix."
        skipped.append((mix, reason))
        return None
    return header


def _scan(found: Found, sample_rate: float, skipped: Skipped) -> SongFiles | None:
    """A song with its headers; none, and the reason put down, where no track can be read."""
    kept = [(track, header) for track in found.tracks if (header := _header(track.file, skipped))]
    if not kept:
        skipped.append((found.folder, "holds no audio file that can be read."))
        return None
    tracks, headers = zip(*kept, strict=True)
    mix_header = _mix_header(found.mix, max(header.frames / header.sample_rate for header in headers), skipped)
    names = Counter(track.name for track in tracks)
    return SongFiles(
        found.name,
        sample_rate,
        tuple(track.name if names[track.name] == 1 else track.file.name for track in tracks),
        tuple(track.file for track in tracks),
        headers,
        skipped,
        found.mix if mix_header else None,
        mix_header,
        tuple(track.role for track in tracks),
        found.layout,
        found.split,
    )
