"""The state of a VST3 plugin, written and read by loading it: `isolation.call` runs this module."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.effects.hosts.vst3 import hosting
from blackbox_fx.effects.native import reseed
from blackbox_fx.effects.texts import raw_value
from blackbox_fx.space import Choice, Continuous, Parameter, Space, Value

KINDS = {".vstpreset": "preset_data", ".state": "raw_state"}  # what pedalboard calls them
_CLASS = slice(8, 40)  # of a .vstpreset: which plugin it is for
_NEAR = 6e-8  # in [0, 1]: raw values are float32
_BLOCKS = 36  # of the clip by which a state is compared with its parameters


def value_at(parameter: Parameter, raw: float) -> Value:
    """The value of a parameter whose control stands at `raw` in [0, 1]; of equal ones, the shortest decimal."""
    if isinstance(parameter, Choice):
        return parameter.options[round(raw * (len(parameter.options) - 1))]
    value = parameter.decode(np.array([raw]))
    if isinstance(parameter, Continuous):
        for digits in range(1, 17):
            short = min(max(float(f"{value:.{digits}g}"), parameter.low), parameter.high)
            if abs(raw_value(parameter, short) - raw) <= _NEAR:
                return short
    return value


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    """Writes the state at given raw values, or reads one; see `VST3`."""
    kind, channels = KINDS[question["ending"]], question["channels"]
    manners = hosting.Manners(*question["manners"])

    def plugin_at(prepare: Callable[[Any], None]) -> Any:
        reseed()
        plugin = hosting.load(question["path"], question["name"])
        if manners.settle:
            hosting.flush(plugin, channels, hosting.RATE)
            hosting.wait(manners.settle)
        prepare(plugin)
        report("loaded")
        return plugin

    def set_raws(plugin: Any, raws: Mapping[int, float]) -> None:
        hosting.apply(plugin, raws, channels, hosting.RATE, manners)

    if "content" not in question:
        plugin = plugin_at(lambda plugin: set_raws(plugin, dict(question["raws"])))
        return {"content": base64.b64encode(bytes(getattr(plugin, kind))).decode()}

    content = base64.b64decode(question["content"])
    index, ranges = question["index"], Space.from_json(question["ranges"]).parameters

    def restore(plugin: Any) -> None:
        if kind == "preset_data" and (own := bytes(plugin.preset_data)[_CLASS]) != content[_CLASS]:
            theirs = content[_CLASS].decode(errors="replace")
            raise ValueError(f"it is a preset of another plugin, class {theirs} instead of {own.decode()}")
        setattr(plugin, kind, content)
        hosting.flush(plugin, channels, hosting.RATE)  # until then the state is the one before

    plugin = plugin_at(restore)
    values = {n: value_at(p, float(plugin._parameters[index[n]].raw_value)) for n, p in ranges.items()}
    raws = {index[n]: raw_value(p, values[n]) for n, p in ranges.items()}
    audio = hosting.clip(channels, _BLOCKS)

    def wet(plugin: Any) -> Any:
        found = hosting.stream(plugin, audio, audio.shape[1], hosting.RATE, lambda k: None)
        report("rendered")
        return np.nan_to_num(found, nan=0.0, posinf=1e9, neginf=-1e9)

    stated, first, again = (
        wet(p) for p in (plugin, *(plugin_at(lambda plugin: set_raws(plugin, raws)) for _ in range(2)))
    )
    largest = max(1.0, float(np.abs(stated).max()))
    return {
        "values": values,
        "difference": float(np.abs(stated - first).max()) / largest,
        "noise": float(np.abs(first - again).max()) / largest,
    }


if __name__ == "__main__":
    isolation.answer(_reply)
