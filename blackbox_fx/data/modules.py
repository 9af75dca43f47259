"""Tracker modules as songs: one track for each instrument, and the mix of the composer."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx import audio
from blackbox_fx.audio import Audio
from blackbox_fx.audio.loudness import loudness
from blackbox_fx.core import files
from blackbox_fx.data import openmpt
from blackbox_fx.data.cutting import cut
from blackbox_fx.data.kept import Kept, examine, wav
from blackbox_fx.data.layouts import Skipped
from blackbox_fx.data.roles import role_of
from blackbox_fx.data.song import Song
from blackbox_fx.errors import AudioError, DataError

_RATES = 8_000, 192_000  # Hz, between which libopenmpt plays
INDEX, RAW = "index.json", "raw.json"  # which stems are kept, and how raw tracks are made of them
_READER = "blackbox_fx.data.module_reader"
_FOLDER = "modules"  # in the user's cache
_FORMAT = 1
_LEVEL = -23.0  # LUFS of raw tracks


@final
@dataclasses.dataclass(frozen=True, eq=False)
class ModuleSong:
    """A tracker module: it is known what it holds, and it is rendered once, when audio is first asked for.

    Stems and mix are kept in the folder "modules" of the user's cache as 32-bit float WAV files, which may be deleted
    at any time. A minute of a stem takes up to 21 MB; silence takes no room.

    Args:
        path: of its file.
        name: the file's, without its ending.
        sample_rate: in Hz.
        length: samples of each track and of the mix.
        track_names: number and name of the instrument, sample or channel.
        roles: what each track is, by its name, see `role_of`.
        kind: what its stems are of: "instrument", "sample" or "channel".
        numbers: of the stems among all of their kind, from 0 on.
        random: whether it draws random numbers, so that each render differs; then the mix is the sum of the stems.
        key: of what is kept of it.
        raw: whether tracks are without place and level, see `read_module`.
        split: "train", "validation" or "test", where its folder says so; else "".

    Attributes:
        layout: "module".
        has_mix: true.
    """

    path: Path
    name: str
    sample_rate: float
    length: int
    track_names: tuple[str, ...]
    roles: tuple[str, ...]
    kind: str
    numbers: tuple[int, ...]
    random: bool
    key: str
    raw: bool = False
    split: str = ""

    layout = "module"
    has_mix = True

    @property
    def channels(self) -> int:
        """Of each track."""
        return 1 if self.raw else 2

    def load(self) -> Song:
        """The whole song, rendered anew if it is not in the cache.

        Raises:
            DataError: the module has changed or cannot be rendered, or the cache cannot be written.
        """
        return self.excerpt(0, self.length)

    def excerpt(self, start: int, length: int) -> Song:
        """The song from sample `start` on for `length` samples. Only this part is read, from the cache.

        Args:
            start: first sample.
            length: samples; what lies behind the end is filled with zeros.

        Raises:
            DataError: as for `load`.
        """
        names = (INDEX, *map(wav, (*self.numbers, None)))
        kept = Kept(self.path, _FOLDER, self.key, names, _READER)
        return kept.song(self._question, lambda folder: self._cut(folder, start, length))

    def _cut(self, folder: Path, start: int, length: int) -> Song:
        header = audio.FileInfo(self.length, 2, round(self.sample_rate))

        def read(number: int | None) -> Audio:
            return cut(folder / wav(number), header, self.sample_rate, start, length)

        stems = [read(number) for number in self.numbers]
        if self.raw:
            stems = [
                dry(stem, side) * np.float32(gain) for stem, (side, gain) in zip(stems, self._how(folder), strict=True)
            ]
        return Song(self.name, self.sample_rate, self.track_names, tuple(stems), read(None), self.roles)

    def _how(self, folder: Path) -> list[tuple[bool, float]]:
        """How raw tracks are made of the stems in a folder, see `_level`; found once, and kept there."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            kept = [(bool(side), float(gain)) for side, gain in json.loads((folder / RAW).read_text())]
            if len(kept) == len(self.numbers):
                return kept
        how = [_level(audio.read(folder / wav(number))[0], self.sample_rate) for number in self.numbers]
        with contextlib.suppress(OSError):  # a full disk costs time only
            files.write_text(folder / RAW, json.dumps(how))
        return how

    def _question(self) -> dict[str, Any]:
        """What is asked to render it. Raises DataError if the library or the module is another one than it was."""
        return {
            "library": self._library(),
            "rate": round(self.sample_rate),
            "kind": self.kind,
            "tracks": self.numbers,
            "random": self.random,
            "frames": self.length,
        }

    def _library(self) -> str:
        """The library; raises DataError if it or the module is another one than it was."""
        library = openmpt.find()
        try:
            same = _key(self.path, round(self.sample_rate), _version(library)) == self.key
        except OSError as error:
            raise DataError(f"Cannot read {self.path} ({error.strerror}); put it back.") from error
        if not same:
            raise DataError(f"{self.path} or libopenmpt has changed since it was read; read it again.")
        return library

    def __repr__(self) -> str:
        return f"ModuleSong({self.name!r}, {self.length / self.sample_rate:.2f} s, {list(self.track_names)})"


def dry(stem: Audio, side: bool) -> Audio:
    """A stem without its place: what both sides share, or how they differ, (1, time)."""
    left, right = stem
    return (0.5 * (left - right if side else left + right))[None]


def _level(stem: Audio, sample_rate: float) -> tuple[bool, float]:
    """How the raw track is made of a stem: whether of the difference of its sides, and by which gain."""
    # in surround, sides have opposite signs and would cancel
    side = bool(np.vdot(stem[0], stem[1]) < 0)
    return side, float(10 ** ((_LEVEL - loudness(dry(stem, side), sample_rate)) / 20))


def read_module(path: str | os.PathLike[str], sample_rate: int = 44100, *, raw: bool = False) -> ModuleSong:
    """A tracker module as a song: .mod, .xm, .s3m, .it, .mptm and what else libopenmpt plays, from start to end.

    It needs the system library libopenmpt, which plays in a process of its own. Each instrument that is heard is a
    track; where a module has no instruments, each sample. A track is what is left when all others are muted, and tracks
    sum to the mix within 1e-5 of full scale. Where instruments do not, since notes pass from one to another, channels
    are the tracks. The mix is the composer's own: the whole module, with its volumes, pans and envelopes.

    A module that draws random numbers plays differently each time. There, channels are the tracks, and the mix is their
    sum. The first subsong counts, and of that the first 15 minutes, without repeats. What is found is kept in the
    user's cache, so that a module is examined once.

    Args:
        path: of the file.
        sample_rate: at which it is rendered, in Hz, a whole number in [8000, 192000].
        raw: whether tracks are what a mix begins with, not what it ends as: mono, without pan (both sides of a stem are
            averaged, or subtracted where they would cancel), each at -23 LUFS over the song, whatever its level in the
            mix. Volumes that move still move, and a pan that moves may be heard as a volume that moves by up to 3 dB.

    Returns:
        the song; it is rendered when its audio is first asked for.

    Raises:
        DataError: no such file, libopenmpt is missing, or it is not a module that can be played, or one that is silent,
            or whose tracks do not sum to its mix.
        AudioError: a sample rate that is not allowed.
    """
    _check_rate(sample_rate)
    path = Path(path)
    if not path.is_file():
        raise DataError(f"No such module: {path}.")
    skipped: Skipped = []
    songs = read_modules([(path, "")], sample_rate, raw, skipped)
    if not songs:
        raise DataError(skipped[0][1])
    return songs[0]


def _check_rate(sample_rate: int) -> None:
    low, high = _RATES
    if audio.check_sample_rate(sample_rate) % 1 or not low <= sample_rate <= high:
        raise AudioError(
            f"sample_rate={sample_rate!r} is not allowed for tracker modules; it must be a whole number of Hz in "
            f"[{low}, {high}]."
        )


def read_modules(found: Iterable[tuple[Path, str]], rate: int, raw: bool, skipped: Skipped) -> list[ModuleSong]:
    """Modules as songs; see `read_module`.

    Args:
        found: the path of each, and the split to which it belongs.
        rate: in Hz.
        raw: whether tracks are without place and level.
        skipped: gets what cannot be used, with the reason.
    """
    splits = dict(found)
    if not splits:
        return []
    try:
        _check_rate(rate)
        library = openmpt.find()
        version = _version(library)
    except (AudioError, DataError) as error:
        skipped += [(path, str(error)) for path in splits]
        return []
    question = {"library": library, "rate": rate}
    usable = examine(splits, _FOLDER, lambda path: _key(path, rate, version), _READER, question, "a module", skipped)
    return [_song(path, said, key, rate, raw, splits[path]) for path, key, said in usable]


def _song(path: Path, said: dict[str, Any], key: str, rate: int, raw: bool, split: str) -> ModuleSong:
    kind = said["kind"]
    numbers, names = zip(*said["tracks"], strict=True)
    called = tuple(f"{k + 1:02} {name or kind}" for k, name in zip(numbers, names, strict=True))
    roles = tuple(map(role_of, names))
    return ModuleSong(
        path, path.stem, float(rate), said["frames"], called, roles, kind, numbers, said["random"], key, raw, split
    )


def _version(library: str) -> int:
    return openmpt.Library(library).version


def _key(path: Path, rate: int, version: int) -> str:
    """A name for what a module holds and how it is played. Raises OSError if it cannot be read."""
    return f"{files.digest(path)}-{rate}-{version:x}-{_FORMAT}"
