"""The hosts of effects, a module or a folder each. A new host is one line here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "pedalboard": "pedalboard",
    "vst3": "vst3.effect",
    "ladspa": "ladspa.effect",
    "vst2": "dawdreamer.vst2",
    "lv2": "dawdreamer.lv2",
    "faust": "dawdreamer.faust",
    "command": "command",
}
NAMES = tuple(_MODULES)


def find_host(name: str) -> Any:
    """The `Host` of this name. Raises KeyError if there is none."""
    return import_module(f"{__name__}.{_MODULES[name]}").HOST
