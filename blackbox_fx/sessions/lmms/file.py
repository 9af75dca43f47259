"""The file of an LMMS project, which is not trusted: XML, or its size and zlib."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import final
from xml.etree.ElementTree import Element

from blackbox_fx.errors import DataError
from blackbox_fx.sessions import strict

ENDINGS = (".mmp", ".mmpz")
_ROOTS = ("lmms-project", "multimedia-project")  # since version 0.9, and before
_LARGEST = 64 << 20  # bytes, also of what is decompressed
_SIZE = struct.Struct(">I")


def is_lmms(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of an LMMS project by its ending."""
    return Path(path).suffix.lower() in ENDINGS


@final
class ProjectFile:
    """A project that is read.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()

    def damaged(self, why: str) -> DataError:
        """The error for a file in which something is wrong."""
        return DataError(f"{self.path} is no LMMS project, or a damaged one ({why}); save it again in LMMS.")

    def document(self) -> Element:
        """Its document. Raises DataError for no such file; `strict.Wrong` for one that is damaged."""
        try:
            if self.path.stat().st_size > _LARGEST:
                raise strict.Wrong(f"it has {self.path.stat().st_size} bytes, and {_LARGEST} are allowed")
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(
                f"Cannot read {self.path!s:.200} ({error.strerror}); give the path of a project."
            ) from error
        if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            content = _inflated(content)
        return strict.parse(content, *_ROOTS, doctype=True)


def _inflated(content: bytes) -> bytes:
    """What lies behind four bytes that say how much it is."""
    if len(content) < _SIZE.size:
        raise strict.Wrong(f"it has {len(content)} bytes")
    (size,) = _SIZE.unpack_from(content)
    if size > _LARGEST:
        raise strict.Wrong(f"it says that it holds {size} bytes, and {_LARGEST} are allowed")
    decompressor = zlib.decompressobj()
    try:
        found = decompressor.decompress(content[_SIZE.size :], size + 1)
    except zlib.error as error:
        raise strict.Wrong(f"it is neither XML nor zlib: {error}") from error
    if len(found) != size or not decompressor.eof:
        held = "more" if len(found) > size else len(found)
        raise strict.Wrong(f"it says that it holds {size} bytes, and it holds {held}")
    return found
