"""Sums of tracks that lie on disk, so that memory does not grow with their number."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

_BYTES = 4  # of a sample


@final
class DiskSum:
    """A stereo sum in a file without a name, which is gone when it is closed.

    Args:
        time: samples.
        folder: where there is room for it.
    """

    def __init__(self, time: int, folder: Path) -> None:
        self._time = time
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._file.truncate(2 * time * _BYTES)

    def add(self, part: slice, audio: Tensor) -> None:
        """Adds a piece, (1, 2, samples), at its place."""
        for channel, piece in enumerate(audio[0].numpy()):
            place = (channel * self._time + part.start) * _BYTES
            self._file.seek(place)
            before = np.frombuffer(self._file.read(len(piece) * _BYTES), np.float32)
            self._file.seek(place)
            self._file.write((before + piece).data)

    def whole(self) -> Tensor:
        """The sum, (1, 2, time)."""
        self._file.seek(0)
        found = np.empty((1, 2, self._time), np.float32)
        self._file.readinto(found.data)
        return torch.from_numpy(found)

    def close(self) -> None:
        """Removes the file."""
        self._file.close()
