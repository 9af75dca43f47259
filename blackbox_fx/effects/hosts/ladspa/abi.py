"""The LADSPA interface (ladspa.h 1.1) in ctypes; as a program, it lists the plugins of a library."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

from blackbox_fx import isolation

INPUT, OUTPUT, CONTROL, AUDIO = 1, 2, 4, 8
BOUNDED_BELOW, BOUNDED_ABOVE, TOGGLED, SAMPLE_RATE, LOGARITHMIC, INTEGER, DEFAULT = 1, 2, 4, 8, 16, 32, 0x3C0


class RangeHint(ctypes.Structure):
    """What a port says of its range."""

    _fields_ = (("hint", ctypes.c_int), ("low", ctypes.c_float), ("high", ctypes.c_float))


class Descriptor(ctypes.Structure):
    """A kind of plugin."""


_Handle = ctypes.c_void_p
_Act = ctypes.CFUNCTYPE(None, _Handle)
Descriptor._fields_ = (
    ("unique_id", ctypes.c_ulong),
    ("label", ctypes.c_char_p),
    ("properties", ctypes.c_int),
    ("name", ctypes.c_char_p),
    ("maker", ctypes.c_char_p),
    ("copyright", ctypes.c_char_p),
    ("port_count", ctypes.c_ulong),
    ("port_kinds", ctypes.POINTER(ctypes.c_int)),
    ("port_names", ctypes.POINTER(ctypes.c_char_p)),
    ("port_hints", ctypes.POINTER(RangeHint)),
    ("implementation_data", ctypes.c_void_p),
    ("instantiate", ctypes.CFUNCTYPE(_Handle, ctypes.POINTER(Descriptor), ctypes.c_ulong)),
    ("connect_port", ctypes.CFUNCTYPE(None, _Handle, ctypes.c_ulong, ctypes.c_void_p)),
    ("activate", _Act),
    ("run", ctypes.CFUNCTYPE(None, _Handle, ctypes.c_ulong)),
    ("run_adding", ctypes.c_void_p),
    ("set_run_adding_gain", ctypes.c_void_p),
    ("deactivate", _Act),
    ("cleanup", _Act),
)


def descriptors(path: str) -> dict[str, Any]:
    """Pointers to the plugins of a library by label; runs the library's code. Raises OSError if it is not one."""
    try:
        describe = ctypes.CDLL(path).ladspa_descriptor
    except AttributeError:
        raise OSError("it exports no ladspa_descriptor") from None
    describe.restype, describe.argtypes = ctypes.POINTER(Descriptor), (ctypes.c_ulong,)
    found: dict[str, Any] = {}
    for index in itertools.count():
        if not (plugin := describe(index)):
            break
        found.setdefault(_text(plugin.contents.label), plugin)
    return found


def ports(plugin: Any, kind: int) -> dict[int, str]:
    """Names of the ports of a kind, such as INPUT | AUDIO, by their index."""
    of = plugin.contents
    return {k: _text(of.port_names[k]) for k in range(of.port_count) if of.port_kinds[k] & kind == kind}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _contents(path: str) -> dict[str, Any]:
    """Names of the audio inputs and outputs of the plugins in a library, by label; or why it cannot be loaded."""
    try:
        found = descriptors(path)
    except OSError as error:
        return {"error": str(error)}
    sides = (INPUT | AUDIO, OUTPUT | AUDIO)
    return {
        "plugins": {label: [list(ports(plugin, side).values()) for side in sides] for label, plugin in found.items()}
    }


def _reply(paths: list[str], report: Callable[[Any], None]) -> None:
    for path in paths:
        report(_contents(path))


if __name__ == "__main__":
    isolation.answer(_reply)
