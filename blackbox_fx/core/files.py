"""Files that appear whole or not at all, and names for what files hold."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from blackbox_fx.core import system
from blackbox_fx.errors import DataError

_LARGE = 64 * 2**20  # bytes of a file that is not read as a whole
_PART = re.compile(r"\.(?P<host>[^.]+)\.(?P<pid>\d+)\.\d+\.part-")  # temporary names begin like this


@functools.cache
def host_name() -> str:
    """A name of this machine without dots, for names of temporary files in folders that machines may share."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname()) or "host"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with the same ending, that is renamed to it at the end, or removed on an error.

    What killed processes of this machine left in the folder is removed, once for each folder.
    """
    sweep(path.parent)
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its place at the end, with what is in it, or is removed on an error.

    A folder that stood at `path` is removed then. A process that is killed between leaves it as "name (replaced)".
    """
    sweep(path.parent)
    temporary, old = _temporary(path), path.with_name(f"{path.name} (replaced)")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.replace(old)
        temporary.replace(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.replace(path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{host_name()}.{os.getpid()}.{threading.get_ident()}.part-{path.name}"[-250:])


def make_folder(path: Path) -> None:
    """Makes a folder, with those above it, unless it is there. Raises DataError if it cannot."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"Cannot make {path} ({error.strerror}); name a folder you may write to.") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all. Raises OSError if it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; names of files that are no UTF-8 have backslashes in it.

    Raises OSError if it cannot be written.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


@functools.cache
def sweep(folder: Path) -> None:
    """Removes, once, the temporary files that killed processes of this machine left in a folder."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            found = _PART.match(path.name)
            if found and found["host"] == host_name() and not system.is_alive(int(found["pid"])):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                    continue
                with contextlib.suppress(OSError):
                    path.unlink()


def digest(*paths: Path) -> str:
    """A name for the names and contents of files, and of all files in folders.

    For files above 64 MiB, size and time of change stand for the content. Contents are read again only when size or
    time have changed.

    Raises:
        OSError: one cannot be read.
    """
    files = []
    for path in paths:
        files += [(path.name, path)] if not path.is_dir() else []
        files += [(str(p.relative_to(path)), p) for p in sorted(path.rglob("*")) if p.is_file()]
    stats = [path.stat() for _, path in files]
    marks = [(str(p), name, s.st_size, s.st_mtime_ns) for (name, p), s in zip(files, stats, strict=True)]
    return _digest(tuple(marks))


@functools.lru_cache(1024)
def _digest(marks: tuple[tuple[str, str, int, int], ...]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for path, name, size, changed in marks:
        found.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
        if size > _LARGE:
            found.update(f"{changed}".encode())
            continue
        with Path(path).open("rb") as opened:
            found.update(hashlib.file_digest(opened, "blake2b").digest())
    return found.hexdigest()
