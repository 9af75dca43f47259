"""Memory shared by a pool and its workers: an anonymous file, which the kernel frees when its last user is gone.

Named shared memory would outlive a killed process; this cannot.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from typing import Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from blackbox_fx.core.system import posix

Slot = tuple[int, tuple[int, ...], str]  # offset in bytes, shape, type


def open_anonymous() -> int:
    """A file descriptor of a new, empty file without a name."""
    if hasattr(os, "memfd_create"):
        return posix.memfd_create("blackbox_fx", posix.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@final
class Arena:
    """Arrays in shared memory.

    The owner calls `reserve` once a job and gets slots; slots travel to the workers, and `view` turns one into an array
    on either side.

    Args:
        fd: descriptor of the shared file; owned and closed by `close`.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map: mmap.mmap | None = None
        self._size = 0

    def reserve(self, *arrays: tuple[tuple[int, ...], DTypeLike]) -> list[Slot]:
        """Room for arrays of these shapes and types, growing the file as needed. Slots of earlier calls are void."""
        slots, end = [], 0
        for shape, dtype in arrays:
            kind = np.dtype(dtype)
            slots.append((end, shape, kind.str))
            end += -(-math.prod(shape) * kind.itemsize // 64) * 64
        if os.fstat(self.fd).st_size < end:
            os.ftruncate(self.fd, end)
        return slots

    def view(self, slot: Slot, writeable: bool = True) -> NDArray[Any]:
        """The array at a slot, on shared memory."""
        offset, shape, dtype = slot
        size = os.fstat(self.fd).st_size
        if self._map is None or self._size < size:
            self._map, self._size = mmap.mmap(self.fd, size), size
        array = np.ndarray(shape, dtype, self._map, offset)
        array.flags.writeable = writeable
        return array

    def close(self) -> None:
        """Gives up the file; arrays still in use stay valid until they are dropped."""
        self._map = None
        os.close(self.fd)
