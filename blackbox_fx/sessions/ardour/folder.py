"""The folder of an Ardour session: what is written appears whole, and what is read from it is not trusted."""

from __future__ import annotations

import base64
import binascii
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import final

from blackbox_fx.errors import DataError
from blackbox_fx.sessions import strict

ENDING = ".ardour"
_LARGEST_DOCUMENT, _LARGEST_AUDIO = 64 << 20, 4 << 30  # bytes


def is_ardour(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a session of Ardour, or of a folder, which may be one."""
    given = Path(path).expanduser()
    return given.suffix == ENDING or given.is_dir()


@final
class Folder:
    """A session that is read.

    Args:
        path: of its document, or of its folder.

    Raises:
        DataError: a folder in which there is no document, or several that are not named as it is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path).expanduser()
        self.path = _document(given) if given.is_dir() else given

    def damaged(self, why: str) -> DataError:
        """The error for a session in which something is wrong."""
        return DataError(f"{self.path} is no Ardour session, or a damaged one ({why}); save it again.")

    def document(self) -> bytes:
        """The document."""
        return self._read(self.path, _LARGEST_DOCUMENT)

    def check(self, name: str) -> str:
        """The name of a file within the folder. Raises DataError for a name that leads out of it, or to nothing."""
        self._file(name)
        return name

    def audio_path(self, name: str) -> str:
        """The path within the folder of an audio file, which Ardour knows by its name alone."""
        if not name or "/" in name or "\\" in name or name in (".", ".."):
            raise self.damaged(f"{name!r:.80} is no name of an audio file")
        found = sorted(self.path.parent.glob(f"interchange/*/audiofiles/{_literal(name)}"))
        if not found:
            raise self.damaged(f"it lacks the audio file {name!r:.80}")
        return self.check(found[0].relative_to(self.path.parent).as_posix())

    def extract(self, name: str, target: Path) -> None:
        """Copies an audio file to a path."""
        source = self._file(name)
        try:
            if source.stat().st_size > _LARGEST_AUDIO:
                raise self.damaged(f"{name!r:.80} is larger than {_LARGEST_AUDIO} bytes")
            shutil.copyfile(source, target)
        except OSError as error:
            raise self.damaged(f"{name!r:.80} cannot be read: {error.strerror}") from error

    def state(self, key: str) -> bytes:
        """The state of the VST3 plugin whose processor has an id."""
        try:
            root = strict.parse(self.document(), "Session")
        except strict.Wrong as error:
            raise self.damaged(str(error)) from error
        for processor in root.iter("Processor"):
            if processor.get("id") == key:
                try:
                    return base64.b64decode("".join((processor.findtext("vst3/chunk") or "").split()), validate=True)
                except (binascii.Error, ValueError) as error:
                    raise self.damaged(f"the state of the plugin {key!r:.40} is no base64") from error
        raise self.damaged(f"it lacks the plugin {key!r:.40}")

    def _file(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
            raise self.damaged(f"{name!r:.80} is no path within it")
        found, home = (self.path.parent / name).resolve(), self.path.parent.resolve()
        if not found.is_relative_to(home):
            raise self.damaged(f"{name!r:.80} leads out of it")
        if not found.is_file():
            raise self.damaged(f"it lacks {name!r:.80}")
        return found

    def _read(self, path: Path, most: int) -> bytes:
        try:
            if not path.is_file():
                raise self.damaged("No such file" if not path.exists() else "it is no file")
            with path.open("rb") as file:
                content = file.read(most + 1)
        except OSError as error:
            raise self.damaged(f"it cannot be read: {error.strerror}") from error
        if len(content) > most:
            raise self.damaged(f"it has more than {most} bytes, which are allowed")
        return content


def _document(folder: Path) -> Path:
    """The document of a folder."""
    own = folder / f"{folder.resolve().name}{ENDING}"
    found = [own] if own.is_file() else sorted(folder.glob(f"*{ENDING}"))
    if len(found) == 1:
        return found[0]
    why = f"it holds {', '.join(path.name for path in found)}" if found else f"it holds no {ENDING} file"
    raise DataError(f"{folder} is no folder of one Ardour session ({why}); name the {ENDING} file itself.")


def _literal(name: str) -> str:
    """A name in which nothing is a pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
