"""Stems that are made from a file once, in a process of its own, and kept as WAV files in the user's cache."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

import filelock
import numpy as np

from blackbox_fx import isolation
from blackbox_fx.audio import Audio
from blackbox_fx.core import cache, files, paths
from blackbox_fx.data.layouts import Skipped
from blackbox_fx.data.song import Song
from blackbox_fx.errors import DataError

_DEADLINE = 120.0  # seconds for one stem
_HOLE = 1 << 13  # samples of silence that take no room in a file
_FLOAT, _SIDES, _BYTES = 3, 2, 4  # the format of WAV files


def wav(index: int | None) -> str:
    """The name of the file of a stem, or of the mix."""
    return "mix.wav" if index is None else f"{index:04}.wav"


def write(path: Path, blocks: Iterable[Audio], rate: int, frames: int) -> None:
    """Writes stereo audio as a 32-bit float WAV file in which silence is a hole.

    Args:
        path: of the file, which appears whole or not at all.
        blocks: the audio in pieces (2, time).
        rate: in Hz.
        frames: samples of all pieces together.

    Raises:
        ValueError: the pieces have another number of samples.
        OSError: it cannot be written.
    """
    frame = _SIDES * _BYTES
    form = struct.pack("<HHIIHH", _FLOAT, _SIDES, rate, rate * frame, frame, 8 * _BYTES)
    head = struct.pack("<4sI4s4sI", b"RIFF", 36 + frame * frames, b"WAVE", b"fmt ", len(form)) + form
    head += struct.pack("<4sI", b"data", frame * frames)
    done = 0
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        file.write(head)
        for x in blocks:
            for start in range(0, x.shape[1], _HOLE):
                block = x[:, start : start + _HOLE]
                if block.any():
                    file.seek(len(head) + frame * (done + start))
                    file.write(np.ascontiguousarray(block.T, "<f4").tobytes())
            done += x.shape[1]
        if done != frames:
            raise ValueError(f"it holds {done} samples instead of {frames}")
        file.truncate(len(head) + frame * frames)


@final
@dataclasses.dataclass(frozen=True)
class Kept:
    """What is kept of one file in the user's cache; it may be deleted at any time, and is then made again.

    Args:
        source: the file of which it is made.
        place: the folder in the cache that holds all of its kind.
        key: a name for what the source holds and how it is read.
        names: of the files that are kept.
        reader: the module that makes them, see `isolation.call`.
    """

    source: Path
    place: str
    key: str
    names: tuple[str, ...]
    reader: str

    def song(self, question: Callable[[], dict[str, Any]], cut: Callable[[Path], Song]) -> Song:
        """A song of what is kept; what is missing or damaged is made first.

        Args:
            question: gives what the reader is asked, called only if something must be made; it may raise DataError.
            cut: reads the song from the folder.

        Raises:
            DataError: the files cannot be made, or the cache cannot be written.
        """
        folder = paths.cache() / self.place / self.key
        for last in (False, True):
            try:
                self._make(folder, last, question)
                return cut(folder)
            except (OSError, ValueError, TypeError) as error:
                if isinstance(error, DataError):
                    raise
                if last:
                    reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
                    raise DataError(
                        f"Cannot keep {self.source} in {folder} ({reason}); make room there, or set XDG_CACHE_HOME."
                    ) from error
        raise AssertionError

    def _make(self, folder: Path, anew: bool, question: Callable[[], dict[str, Any]]) -> None:
        """Makes what is not there, or all of it; one process at a time."""

        def complete() -> bool:
            return not anew and all((folder / name).exists() for name in self.names)

        if complete():
            return
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock"):
            if complete():
                return
            asked = {"what": "save", "path": str(self.source), "folder": str(folder), **question()}
            try:
                isolation.call(self.reader, asked, _DEADLINE)
            except isolation.Failed as error:
                raise DataError(f"Cannot render {self.source} (it {error}); remove it or write it again.") from error
            except isolation.Refused as error:
                raise DataError(
                    f"Cannot render {self.source} into {folder} ({error.args[-1].rstrip('.')}); make room there, or "
                    "leave the song out."
                ) from error


def examine(
    found: Iterable[Path],
    place: str,
    key: Callable[[Path], str],
    reader: str,
    question: dict[str, Any],
    what: str,
    skipped: Skipped,
) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """What files hold: each is examined once, and that is kept in the user's cache.

    Args:
        found: the files.
        place: the folder in the cache.
        key: names what a file holds; raises OSError if it cannot be read.
        reader: the module that examines them, see `isolation.call`.
        question: what it is asked of all files.
        what: a file of the kind, such as "a module".
        skipped: gets what cannot be used, with the reason.

    Yields:
        each file that can be used, its key and what it holds.
    """
    keys: dict[Path, str] = {}
    for path in found:
        try:
            keys[path] = key(path)
        except OSError as error:
            skipped.append((path, f"Cannot read {path} ({error.strerror}); check its permissions."))
    known = {path: said for path, name in keys.items() if (said := cache.load(place, name)) is not None}
    for path, said in _inspect([path for path in keys if path not in known], reader, question):
        if "refused" in said:
            skipped.append((path, f"Cannot use {path} as {what} ({said['refused']}); remove it or write it again."))
        else:
            known[path] = said
            cache.save(place, keys[path], said)
    yield from ((path, name, known[path]) for path, name in keys.items() if path in known)


def _inspect(todo: Sequence[Path], reader: str, question: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What files hold, or why they cannot be used, all in one process, or as many as crash and one more."""
    left, said = list(todo), []
    while left:
        asked = {"what": "inspect", "paths": list(map(str, left)), **question}
        try:
            isolation.call(reader, asked, _DEADLINE, _gather(said))
            reason = "it gives no answer"
        except isolation.Failed as error:
            reason = f"it {error}"
        except isolation.Refused as error:
            reason = error.args[-1].rstrip(".")
        yield from zip(left, said, strict=False)
        left = left[len(said) :]
        said.clear()
        if left:
            yield left.pop(0), {"refused": reason}


def _gather(said: list[dict[str, Any]]) -> Callable[[dict[str, Any] | None], None]:
    """Keeps what is reported, but for what says that the process lives."""

    def receive(report: dict[str, Any] | None) -> None:
        if report is not None:
            said.append(report)

    return receive
