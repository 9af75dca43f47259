"""The settings of a console as files: JSON, a table, and a preset for every plugin."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final
from urllib.parse import quote

import torch
from torch import Tensor

from blackbox_fx.core import files
from blackbox_fx.effects import Effect
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.layers.automation import Curve, Curves
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.bypass import Switched
from blackbox_fx.layers.chain import Group
from blackbox_fx.layers.desk import Desk
from blackbox_fx.layers.routing import check_names, check_roles
from blackbox_fx.layers.table import flat, part_name, table_of

SETTINGS, TABLE, PRESETS = "settings.json", "settings.csv", "presets"
_LARGEST, _LONGEST = 64 << 20, 120


def save_settings(
    console: Desk,
    folder: str | os.PathLike[str],
    track_params: Tensor,
    bus_params: Tensor,
    role: Sequence[str] | None = None,
    curves: Curves = {},
    names: Sequence[str] | None = None,
) -> None:
    """Writes settings.json, which `load_settings` reads, settings.csv, and presets of all effects that render.

    A preset is the `Effect.save_preset` of a plugin, as .vstpreset where that is known, else as JSON, in a folder for
    each track, group, return and bus. The folder "presets" of an earlier call is replaced.

    Args:
        console: whose settings they are.
        folder: made if it does not exist.
        track_params: (track, track_width).
        bus_params: (mixes, bus_width).
        role: of each track, where strips go by role.
        curves: in place of columns. JSON has their points as they are, and the table their values at each.
        names: what the tracks are called in the table and in the folders of presets; their roles if not given.

    Raises:
        DataError: a folder that cannot be written to.
        ParameterError: see `Console.decode`, and `Console` for curves.
    """
    said = console.decode(track_params, bus_params, role)
    roles = check_roles(role, len(track_params), False)
    labels = roles if names is None else check_names(names, len(track_params))
    console.check_curves(curves, len(track_params), len(bus_params))
    target = Path(folder).expanduser()
    files.make_folder(target)
    try:
        moving = {name: {"rate_hz": c.rate_hz, "points": c.points.tolist()} for name, c in curves.items()}
        whole = {"columns": _columns(console), "roles": role and list(role), **said, "curves": moving}
        shutil.rmtree(target / PRESETS, ignore_errors=True)
        files.write_text(target / SETTINGS, json.dumps(whole, indent=1))
        table = [*table_of(said, labels), *_moves(console, track_params, bus_params, roles, labels, curves)]
        files.write_text(target / TABLE, _csv(table))
    except OSError as error:
        raise DataError(f"Cannot write to {target} ({error.strerror}); name a folder you may write to.") from error
    for where, layer, own in _layers(console, said, roles, labels):
        for path, effect, values in _effects(layer, own, where):
            ending = ".vstpreset" if ".vstpreset" in effect.states else ".json"
            preset = target / PRESETS / f"{path}{ending}"
            files.make_folder(preset.parent)
            effect.save_preset(preset, values)


@final
class Saved(NamedTuple):
    """What `save_settings` wrote: the arguments of a console beside its tracks.

    Args:
        track_params: (track, track_width).
        bus_params: (mixes, bus_width).
        role: of each track, or None.
        curves: by column.
    """

    track_params: Tensor
    bus_params: Tensor
    role: list[str] | None
    curves: dict[str, Curve]


def load_settings(console: Desk, folder: str | os.PathLike[str]) -> Saved:
    """What `save_settings` wrote.

    Raises:
        DataError: a file that is missing, damaged or of something else.
        ParameterError: settings of another console.
    """
    path = Path(folder).expanduser() / SETTINGS
    if not path.exists():
        raise DataError(f"There is no {SETTINGS} in {path.parent}; name a folder that save_settings wrote.")
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
        given = {name: Curve(torch.tensor(c["points"]), c["rate_hz"]) for name, c in said.get("curves", {}).items()}
        found = Saved(*console.encode(said, roles), roles, given)
        console.check_curves(given, len(found.track_params), len(found.bus_params))
        return found
    except (TypeError, AttributeError, ValueError, KeyError, RuntimeError, ArithmeticError) as error:
        raise DataError(f"{path} holds no settings of a console ({error}); save them again.") from error


def _columns(console: Desk) -> dict[str, list[str]]:
    return {"tracks": list(console.track_columns), "buses": list(console.bus_columns)}


def _is_rows(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(each, dict) for each in found)


def _csv(rows: Sequence[tuple[str, str, Any]]) -> str:
    text = io.StringIO()
    shown = [(*names, f"{value:.6g}" if isinstance(value, float) else value) for *names, value in rows]
    csv.writer(text).writerows([("part", "setting", "value"), *shown])
    return text.getvalue()


def _moves(
    console: Desk,
    track_params: Tensor,
    bus_params: Tensor,
    roles: Sequence[str],
    labels: Sequence[str],
    curves: Curves,
) -> Iterator[tuple[str, str, Any]]:
    """The values of curves at every break point, as rows of the table."""
    for name, curve in curves.items():
        on_track = name in console.track_columns
        columns = console.track_columns if on_track else console.bus_columns
        for k, points in enumerate(curve.points.detach()):
            still = (track_params if on_track else bus_params)[k : k + 1].detach()
            rows = still.repeat(len(points), 1)
            rows[:, columns.index(name)] = points.to(rows)
            where, part = console.setting_of(name), part_name(k, labels[k]) if on_track else f"mix {k + 1}"
            if on_track:
                said = console.decode(rows, bus_params[:0], [roles[k]] * len(points))["tracks"]
            else:
                said = console.decode(track_params[:0], rows, [])["buses"]
            for n, settings in enumerate(said):
                yield part, f"{where} at {n / curve.rate_hz:g} s", dict(flat(settings)).get(where, "")


def _file(name: str) -> str:
    """A name as part of a path; what has a meaning there is quoted."""
    return quote(name, safe=" ", errors="replace")[:_LONGEST]


def _layers(
    console: Desk, said: Mapping[str, Any], roles: Sequence[str], labels: Sequence[str]
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every layer of every track and mix, with a folder for it and its settings."""
    for k, (track, role) in enumerate(zip(said["tracks"], roles, strict=True)):
        yield _file(part_name(k, labels[k])), console.strip_of(role)[1], track["strip"]
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
