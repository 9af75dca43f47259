"""libopenmpt through ctypes: what plays tracker modules. Only worker processes load modules with it."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterable
from typing import Any, final

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.errors import DataError

LONGEST_S = 900.0
_BLOCK = 1 << 14
_INTERACTIVE = 16  # functions of the interface; these are the places of two of them
_MUTE = {"channel": 10, "instrument": 12}
_POINTER, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "get_library_version": (ctypes.c_uint32, ()),
    "free_string": (None, (_POINTER,)),
    "module_ext_create_from_memory": (_POINTER, (ctypes.c_char_p, _SIZE, *(_POINTER,) * 7)),
    "module_ext_destroy": (None, (_POINTER,)),
    "module_ext_get_module": (_POINTER, (_POINTER,)),
    "module_ext_get_interface": (_INT, (_POINTER, ctypes.c_char_p, _POINTER, _SIZE)),
    "module_select_subsong": (_INT, (_POINTER, ctypes.c_int32)),
    "module_read_float_stereo": (_SIZE, (_POINTER, ctypes.c_int32, _SIZE, _POINTER, _POINTER)),
    **{f"module_get_num_{kind}s": (ctypes.c_int32, (_POINTER,)) for kind in ("channel", "instrument", "sample")},
    **{
        f"module_get_{kind}_name": (_POINTER, (_POINTER, ctypes.c_int32))
        for kind in ("channel", "instrument", "sample")
    },
}


def find() -> str:
    """The name of the library. Raises DataError if it is not installed."""
    found = ctypes.util.find_library("openmpt") or ctypes.util.find_library("libopenmpt")
    if found is None:
        raise DataError(
            "Tracker modules need the system library libopenmpt, which is not installed; on Debian and Ubuntu its "
            "package is libopenmpt0 (apt-get install libopenmpt0), elsewhere libopenmpt."
        )
    return found


@final
class Library:
    """The library.

    Args:
        name: as `find` gives it.

    Raises:
        DataError: it cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        try:
            self._library = ctypes.CDLL(name)
            for function, (result, arguments) in _SIGNATURES.items():
                entry = getattr(self._library, f"openmpt_{function}")
                entry.restype, entry.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise DataError(f"Cannot use the library {name} ({error}); install libopenmpt 0.6 or newer.") from error

    def __getattr__(self, function: str) -> Any:
        return getattr(self._library, f"openmpt_{function}")

    @property
    def version(self) -> int:
        """A number that differs between versions."""
        return self.get_library_version()


@final
class Module:
    """A module at the beginning of its first subsong.

    Args:
        library: that plays it.
        content: of its file.

    Raises:
        ValueError: it is none, or a damaged one.
    """

    def __init__(self, library: Library, content: bytes) -> None:
        self._library = library
        reason = ctypes.c_char_p()
        arguments = (None, None, None, None, None, ctypes.byref(reason), None)
        self._whole = library.module_ext_create_from_memory(content, len(content), *arguments)
        if not self._whole:
            said = (reason.value or b"unknown format").decode(errors="replace").strip(" .").removeprefix("openmpt: ")
            raise ValueError(f"libopenmpt says: {said or 'nothing'}")
        self._module = library.module_ext_get_module(self._whole)
        functions = (_POINTER * _INTERACTIVE)()
        size = ctypes.sizeof(functions)
        if not library.module_ext_get_interface(self._whole, b"interactive", ctypes.byref(functions), size):
            raise ValueError("this libopenmpt cannot mute; install 0.6 or newer")
        mute = ctypes.CFUNCTYPE(_INT, _POINTER, ctypes.c_int32, _INT)
        self._mute = {kind: mute(functions[place] or 0) for kind, place in _MUTE.items()}
        library.module_select_subsong(self._module, 0)

    def close(self) -> None:
        """Frees its memory."""
        self._library.module_ext_destroy(self._whole)

    def count(self, kind: str) -> int:
        """How many there are of a kind: channel, instrument or sample."""
        return max(getattr(self._library, f"module_get_num_{kind}s")(self._module), 0)

    def name(self, kind: str, index: int) -> str:
        """What one of a kind is called, in one line."""
        place = getattr(self._library, f"module_get_{kind}_name")(self._module, index)
        text = ctypes.string_at(place).decode(errors="replace") if place else ""
        self._library.free_string(place)
        return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())

    def mute(self, kind: str, indices: Iterable[int]) -> None:
        """Mutes some of a kind; where a module has no instruments, samples are its instruments."""
        mute = self._mute["channel" if kind == "channel" else "instrument"]
        for index in indices:
            if not mute(self._whole, index, 1):
                raise ValueError(f"libopenmpt does not mute {kind} {index}")

    def render(self, sample_rate: int) -> Audio:
        """From here to the end, or to 15 minutes, (2, time)."""
        most, blocks, total = round(LONGEST_S * sample_rate), [], 0
        while total < most:
            block = np.empty((2, min(_BLOCK, most - total)), np.float32)
            left, right = (side.ctypes.data for side in block)
            count = self._library.module_read_float_stereo(self._module, sample_rate, block.shape[1], left, right)
            if not count:
                break
            blocks.append(block[:, :count])
            total += count
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((2, 0), np.float32)
