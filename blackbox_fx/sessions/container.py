"""The zip file of a session: what is written streams into it, and what is read from it is not trusted."""

from __future__ import annotations

import contextlib
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self, final

from blackbox_fx.core.reasons import reason
from blackbox_fx.errors import DataError

PROJECT, METADATA = "project.xml", "metadata.xml"
_LARGEST_XML, _LARGEST_STATE, _LARGEST_AUDIO = 64 << 20, 64 << 20, 4 << 30  # bytes
_MOST_FILES = 20_000
_PIECE = 1 << 20
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # a password, or a compression that zipfile does not know
    OverflowError,
)


@final
class NewArchive:
    """A zip file that is written. The same contents give the same bytes.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._zip = path, zipfile.ZipFile(path, "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    @contextlib.contextmanager
    def entry(self, name: str) -> Iterator[IO[bytes]]:
        """A file of any length, uncompressed, to be written from its beginning to its end."""
        with self._zip.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
            yield target

    def write(self, name: str, content: bytes) -> None:
        """A small file, compressed."""
        self._zip.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


@final
class Archive:
    """A zip file that is read.

    Args:
        path: of the file.

    Raises:
        DataError: no such file, or no zip file that can be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        try:
            self._zip = zipfile.ZipFile(self.path)
        except _BROKEN as error:
            raise self.damaged(f"it is no zip file that can be read: {reason(error)}") from error
        names = self._zip.namelist()
        if len(names) > _MOST_FILES or len(set(names)) < len(names):
            self._zip.close()
            why = "two of its files have the same name" if len(names) <= _MOST_FILES else f"it holds {len(names)} files"
            raise self.damaged(why)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def damaged(self, why: str) -> DataError:
        """The error for a file in which something is wrong."""
        return DataError(f"{self.path} is no DAWproject file, or a damaged one ({why}); save it again.")

    def __contains__(self, name: str) -> bool:
        return name in self._zip.namelist()

    def check(self, name: str) -> str:
        """The name of a file within the zip file.

        Raises:
            DataError: a name that leads out of it, or to nothing.
        """
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or "\\" in name or ":" in parts[0] or ".." in parts:
            raise self.damaged(f"{name!r:.80} is no path within it")
        if name not in self:
            raise self.damaged(f"it lacks {name!r:.80}")
        return name

    def xml(self, name: str) -> bytes:
        """A document."""
        return self._read(name, _LARGEST_XML)

    def state(self, name: str) -> bytes:
        """The state of a plugin."""
        return self._read(name, _LARGEST_STATE)

    def extract(self, name: str, target: Path) -> None:
        """Copies an audio file to a path."""
        with self._opened(name, _LARGEST_AUDIO) as source, target.open("wb") as file:
            while piece := source.read(_PIECE):
                file.write(piece)

    def _read(self, name: str, most: int) -> bytes:
        with self._opened(name, most) as source:
            return source.read()

    @contextlib.contextmanager
    def _opened(self, name: str, most: int) -> Iterator[Any]:
        """A file to read; no more comes out of it than it says, and its checksum is compared."""
        said = self._zip.getinfo(self.check(name))
        if said.file_size > most:
            raise self.damaged(f"{name!r:.80} has {said.file_size} bytes, and {most} are allowed")
        try:
            with self._zip.open(said) as source:
                yield source
        except _BROKEN as error:
            raise self.damaged(f"{name!r:.80} cannot be read: {reason(error)}") from error
