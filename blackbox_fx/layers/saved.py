"""The settings of a console as files: JSON, a table, and a preset for every plugin."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import Tensor

from blackbox_fx.core import files
from blackbox_fx.effects import Effect
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.bypass import Switched
from blackbox_fx.layers.chain import Group
from blackbox_fx.layers.desk import Desk
from blackbox_fx.layers.routing import check_roles

SETTINGS, TABLE, PRESETS = "settings.json", "settings.csv", "presets"
_LARGEST, _LONGEST = 64 << 20, 120


def save_settings(
    console: Desk,
    folder: str | os.PathLike[str],
    track_params: Tensor,
    bus_params: Tensor,
    role: Sequence[str] | None = None,
) -> None:
    """Writes settings.json, which `load_settings` reads, settings.csv, and presets of all effects that render.

    A preset is the `Effect.save_preset` of a plugin, as .vstpreset where that is known, else as JSON, in a folder for
    each track, group, return and bus.

    Args:
        console: whose settings they are.
        folder: made if it does not exist.
        track_params: (track, track_width).
        bus_params: (mixes, bus_width).
        role: of each track, where strips go by role.

    Raises:
        DataError: a folder that cannot be written to.
        ParameterError: see `Console.decode`.
    """
    said = console.decode(track_params, bus_params, role)
    roles = check_roles(role, len(track_params), False)
    target = Path(folder).expanduser()
    _make(target)
    try:
        whole = {"columns": _columns(console), "roles": role and list(role), **said}
        files.write_text(target / SETTINGS, json.dumps(whole, indent=1))
        files.write_text(target / TABLE, _table(said, roles))
    except OSError as error:
        raise DataError(f"Cannot write to {target} ({error.strerror}); name a folder you may write to.") from error
    for where, layer, own in _layers(console, said, roles):
        for path, effect, values in _effects(layer, own, where):
            ending = ".vstpreset" if ".vstpreset" in effect.states else ".json"
            preset = target / PRESETS / f"{path}{ending}"
            _make(preset.parent)
            effect.save_preset(preset, values)


def load_settings(console: Desk, folder: str | os.PathLike[str]) -> tuple[Tensor, Tensor, list[str] | None]:
    """What `save_settings` wrote, as track_params, bus_params and the roles of tracks.

    Raises:
        DataError: a file that is missing, damaged or of something else.
        ParameterError: settings of another console.
    """
    path = Path(folder).expanduser() / SETTINGS
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path} is larger than any settings of a console; check the path.")
        said = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"Cannot read {path} ({error}); save the settings again.") from error
    if not isinstance(said, dict) or not all(_is_rows(said.get(name)) for name in ("tracks", "buses")):
        raise DataError(f"{path} holds no settings of a console; save them again.")
    if said.get("columns", _columns(console)) != _columns(console):
        raise ParameterError(f"{path} holds settings of another console; load them into one with the same columns.")
    roles = said.get("roles")
    try:
        return *console.encode(said, roles), roles
    except (TypeError, AttributeError, ValueError, KeyError, RuntimeError, ArithmeticError) as error:
        raise DataError(f"{path} holds no settings of a console ({error}); save them again.") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"Cannot make {folder} ({error.strerror}); name a folder you may write to.") from error


def _columns(console: Desk) -> dict[str, list[str]]:
    return {"tracks": list(console.track_columns), "buses": list(console.bus_columns)}


def _is_rows(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(each, dict) for each in found)


def _table(said: Mapping[str, Any], roles: Sequence[str]) -> str:
    rows = [("part", "setting", "value")]
    for k, (track, role) in enumerate(zip(said["tracks"], roles, strict=True)):
        rows += [(_named(k, role), name, value) for name, value in _flat(track)]
    for k, bus in enumerate(said["buses"]):
        rows += [(f"mix {k + 1}", name, value) for name, value in _flat(bus)]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested settings, by dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _named(number: int, role: str) -> str:
    return f"track {number + 1} {role}".rstrip()


def _file(name: str) -> str:
    """A name as part of a path; what has a meaning there is quoted."""
    return quote(name, safe=" ", errors="replace")[:_LONGEST]


def _layers(
    console: Desk, said: Mapping[str, Any], roles: Sequence[str]
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every layer of every track and mix, with a folder for it and its settings."""
    for k, (track, role) in enumerate(zip(said["tracks"], roles, strict=True)):
        yield _file(_named(k, role)), console.strip_of(role)[1], track["strip"]
    for k, bus in enumerate(said["buses"]):
        home = f"mix {k + 1}"
        for kind, layers in (("groups", console.groups), ("returns", console.returns)):
            for name, layer in layers.items():
                yield f"{home}/{_file(name)}", layer, bus[kind][name]
        beside = bool(console.groups or console.sends)
        yield f"{home}/bus", console.bus, bus["bus"] if beside else bus


def _effects(layer: Any, settings: Mapping[str, Any], path: str) -> Iterator[tuple[str, Effect, Mapping[str, Any]]]:
    """Every effect that renders in a layer, with the name of its preset and its settings."""
    if isinstance(layer, Switched):
        yield from _effects(layer.layer, {n: v for n, v in settings.items() if n != "on"}, path)
    elif isinstance(layer, Group):
        for name, member in layer.members.items():
            yield from _effects(member, settings[name], f"{path}/{_file(name)}")
    elif isinstance(layer, BlackBox):
        free = layer.effect.space.free  # a fader of a group stands beside them
        yield path, layer.effect, {name: value for name, value in settings.items() if name in free}
