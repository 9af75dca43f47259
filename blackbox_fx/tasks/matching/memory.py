"""What a search has rendered, so that an interrupted one goes on where it stood."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.files import replacing
from blackbox_fx.errors import DataError

_EVERY_S = 20.0  # between writes
_FORMAT = "2"
_NAMES = ("points", "parts", "residuals", "renders")


class Known(NamedTuple):
    """What is known of a point.

    Args:
        parts: of its loss, (parts,).
        residuals: see `Heard`.
        renders: passes through the chain that it took.
    """

    parts: NDArray[np.float64]
    residuals: NDArray[np.float32]
    renders: float


@final
class Memory:
    """What is known of points. A search that asks the same again gets it without a render, and goes the same way.

    Args:
        path: of a file that keeps it, which is read if it is there; None for none.
        subject: what is searched; a file about anything else is refused.

    Raises:
        DataError: a damaged file, one of another search, or a folder that cannot be written to.
    """

    def __init__(self, path: Path | None = None, subject: str = "") -> None:
        self._path, self._subject = path, hashlib.blake2b(subject.encode(), digest_size=16).hexdigest()
        self._known: dict[bytes, Known] = {}
        self._counted: set[bytes] = set()
        self._written, self._last = 0, time.monotonic()
        if path is not None and path.exists():
            self._read(path)
        if path is not None:
            self._require_writable(path.parent)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, point: NDArray[np.float64]) -> Known | None:
        """What is known of a point; one that was asked for before counts as a render, so that no search is endless."""
        key = point.tobytes()
        found = self._known.get(key)
        return found._replace(renders=1.0) if found is not None and key in self._counted else found

    def count(self, point: NDArray[np.float64]) -> None:
        """Remembers that this search has paid for a point."""
        self._counted.add(point.tobytes())

    def put(
        self, point: NDArray[np.float64], parts: NDArray[np.float64], residuals: NDArray[np.float32], renders: float
    ) -> None:
        """Keeps what was rendered."""
        self._known[point.tobytes()] = Known(parts, residuals, renders)
        if time.monotonic() - self._last > _EVERY_S:
            self.save()

    def save(self) -> None:
        """Writes the file, if there is anything new."""
        self._last = time.monotonic()
        if self._path is None or len(self._known) == self._written:
            return
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        keys = list(self._known)
        columns = (
            [np.frombuffer(key) for key in keys],
            [self._known[key].parts for key in keys],
            [self._known[key].residuals for key in keys],
            [self._known[key].renders for key in keys],
        )
        arrays = {name: np.array(column) for name, column in zip(_NAMES, columns, strict=True)}
        about = {"format": _FORMAT, "subject": self._subject, "digest": _digest(arrays)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as part:
                save_file(arrays, part, about)
        except (OSError, SafetensorError) as error:
            why = getattr(error, "strerror", None) or error
            raise DataError(f"Cannot write {self._path} ({why}); name a folder you may write to.") from error
        self._written = len(self._known)

    @staticmethod
    def _require_writable(folder: Path) -> None:
        """Raises DataError now, and not after the search."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise DataError(f"Cannot write to {folder} ({error.strerror}); name a folder you may write to.") from error

    def _read(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                about = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in _NAMES}
        except (OSError, SafetensorError, ValueError) as error:
            raise DataError(f"Cannot read {path} ({error}); remove it to begin anew.") from error
        if (about.get("format"), about.get("subject")) != (_FORMAT, self._subject):
            raise DataError(
                f"{path} belongs to a search with other files, effects, losses or methods; name another folder, or "
                "remove it to begin anew."
            )
        if about.get("digest") != _digest(arrays):
            raise DataError(f"{path} is damaged; remove it to begin anew.")
        points, parts, residuals, renders = arrays.values()
        for row in zip(points, parts, residuals, renders.tolist(), strict=True):
            self._known[row[0].tobytes()] = Known(*row[1:])
        self._written = len(points)


def _digest(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """A name for what arrays hold, which changes with any damage."""
    found = hashlib.blake2b(digest_size=16)
    for name, array in arrays.items():
        found.update(f"{name} {array.shape} {array.dtype} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
