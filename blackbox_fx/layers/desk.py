"""The parts of a mixing console, the columns that set them, and their physical settings."""

from __future__ import annotations

import abc
import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blackbox_fx.core import checks
from blackbox_fx.dsp import TWINS
from blackbox_fx.dsp.mixing import side_gains
from blackbox_fx.errors import ParameterError, did_you_mean
from blackbox_fx.estimators import AudioRule, Estimator
from blackbox_fx.layers.automation import Curves, check_curves, curves_below
from blackbox_fx.layers.chain import Dry, How, as_layer, common_rate, further_inputs
from blackbox_fx.layers.routing import LEVEL, MIX_BUS, Bus, Parts, Send, check_parts, check_range, check_roles
from blackbox_fx.layers.stages import Stages, stages_of, together
from blackbox_fx.layers.table import Row, table_of
from blackbox_fx.runtime import Pool
from blackbox_fx.space import Continuous

GAIN, PAN, STRIP = "gain_db", "pan", "strip"
_log = logging.getLogger("blackbox_fx")
_said: set[str] = set()  # roles of which it was said that they are unknown
_SENDS, _GROUPS, _RETURNS = "sends", "groups", "returns"


class Desk(nn.Module, abc.ABC):
    """What a `Console` is made of; see there for the arguments."""

    def __init__(
        self,
        strip: Any = None,
        bus: Any = None,
        gain_db: tuple[float, float] = (-24.0, 12.0),
        *,
        strips: Mapping[str, Any] = {},
        groups: Mapping[str, Bus] = {},
        sends: Mapping[str, Send] = {},
        keys: Mapping[str, str] = {},
        estimator: Estimator | None = None,
        audio_rule: AudioRule | None = None,
        pool: Pool | None = None,
        sample_rate: float | None = None,
        direct: bool | None = None,
    ) -> None:
        super().__init__()
        check_parts(groups, sends)
        parts = [strip, bus, *strips.values(), *(part.effect for part in (*groups.values(), *sends.values()))]
        self.sample_rate = common_rate("Console", parts, sample_rate)
        checks.one_of("direct", direct, (None, True, False))
        how = How(estimator, audio_rule, pool, self.sample_rate, direct)

        def layer(given: Any, what: str) -> Any:
            return None if given is None else as_layer(given, how, f"The {what} of a Console")

        def named(given: Mapping[str, Any], what: str) -> Parts:
            return Parts({name: layer(each, f"{what} {name}") or Dry() for name, each in given.items()})

        if STRIP in strips:
            raise ParameterError(f"No role can be called {STRIP!r}, as the strip of all others is; rename it.")
        self.strip, self.bus = layer(strip, STRIP), layer(bus, MIX_BUS)
        self.strips = named(strips, STRIP)
        self.groups = named({name: group.effect for name, group in groups.items()}, "group")
        self.returns = named({name: send.effect for name, send in sends.items()}, "return")
        self.routes, self.sends, self.keys = dict(groups), dict(sends), dict(keys)
        self._check_keyed()
        faders = TWINS["gain_pan"]
        within = faders.space.within(gain_db=check_range("gain_db", gain_db))
        self.gain_pan = dataclasses.replace(faders, space=within)
        for columns in () if self._is_plain else (self.track_columns, self.bus_columns):
            if twice := [name for name in columns if columns.count(name) > 1]:
                raise ParameterError(f"Two columns of this Console are called {twice[0]!r}; rename a part of it.")

    @property
    def _is_plain(self) -> bool:
        """Whether there is nothing but one strip and a bus, whose columns then have no prefix."""
        return not (self.strips or self.groups or self.sends)

    @property
    def _own_prefix(self) -> str:
        return "" if self._is_plain else f"{STRIP}."

    @property
    def track_columns(self) -> tuple[str, ...]:
        """A name for every column of track_params: strips, then "gain_db", "pan", and the levels of sends."""
        strips = [f"{prefix}{c}" for prefix, layer in self.all_strips() for c in layer.columns]
        return (*strips, *self.gain_pan.space.columns, *(f"{name}.{LEVEL}" for name in self.sends))

    @property
    def bus_columns(self) -> tuple[str, ...]:
        """A name for every column of bus_params: groups with their levels, returns, and the mix bus."""
        groups = [c for name, group in self._named(self.groups) for c in (*group, f"{name}.{LEVEL}")]
        returns = [c for _, columns in self._named(self.returns) for c in columns]
        bus = self.bus.columns if self.bus else ()
        return (*groups, *returns, *(c if self._is_plain else f"{MIX_BUS}.{c}" for c in bus))

    @property
    def track_width(self) -> int:
        """How many columns track_params has."""
        return len(self.track_columns)

    @property
    def bus_width(self) -> int:
        """How many columns bus_params has."""
        return len(self.bus_columns)

    def decode(self, track_params: Any, bus_params: Any, role: Sequence[str] | None = None) -> dict[str, Any]:
        """Columns in [0, 1] to physical settings.

        Args:
            track_params: (track, track_width).
            bus_params: (mixes, bus_width).
            role: of each track, where strips go by role.

        Returns:
            {"tracks": [{"strip": {...}, "gain_db": ..., "pan": ..., "sends": {"room": ...}}, ...], "buses": [...]},
            where a bus is {"groups": {"drums": {..., "level_db": ...}}, "returns": {"room": {...}}, "bus": {...}}, or
            the settings of the mix bus alone if there is nothing else.
        """
        rows, buses = (torch.as_tensor(given).detach() for given in (track_params, bus_params))
        self.check_params(rows, buses, len(rows), len(buses))
        names = check_roles(role, len(rows), bool(self.strips))
        own, faders, sends = self.split_tracks(rows)
        tracks = []
        for k, (name, fader) in enumerate(zip(names, self.gain_pan.space.decode(faders), strict=True)):
            label, strip = self.strip_of(name)
            track = {STRIP: strip.decode(own[label][k]) if strip else {}, **fader}
            levels = {send: _level(sends[k, j], self.sends[send].level_db) for j, send in enumerate(self.sends)}
            tracks.append(track | ({_SENDS: levels} if self.sends else {}))
        return {"tracks": tracks, "buses": [self._decode_bus(row) for row in buses]}

    def _decode_bus(self, row: Tensor) -> dict[str, Any]:
        parts = self.split_buses(row[None])
        bus = self.bus.decode(parts[MIX_BUS][0]) if self.bus else {}
        if self._is_plain:
            return bus
        groups = {
            name: {**layer.decode(parts[name][0, :-1]), LEVEL: _level(parts[name][0, -1], self.routes[name].level_db)}
            for name, layer in self.groups.items()
        }
        returns = {name: layer.decode(parts[name][0]) for name, layer in self.returns.items()}
        return {_GROUPS: groups, _RETURNS: returns, MIX_BUS: bus}

    def table(self, track_params: Any, bus_params: Any, role: Sequence[str] | None = None) -> list[Row]:
        """All settings in physical units as rows: a track or a mix, a setting by its dotted name, and its value.

        Args:
            track_params: (track, track_width).
            bus_params: (mixes, bus_width).
            role: of each track, where strips go by role.
        """
        return table_of(self.decode(track_params, bus_params, role), check_roles(role, len(track_params), False))

    def encode(self, settings: Mapping[str, Any], role: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """What `decode` gave, to (track, track_width) and (mixes, bus_width) in [0, 1]."""
        names = check_roles(role, len(settings["tracks"]), bool(self.strips))
        tracks = [self._encode_track(track, name) for track, name in zip(settings["tracks"], names, strict=True)]
        buses = [self._encode_bus(bus) for bus in settings["buses"]]
        return (
            torch.stack(tracks) if tracks else torch.zeros(0, self.track_width),
            torch.stack(buses) if buses else torch.zeros(0, self.bus_width),
        )

    def _encode_track(self, track: Mapping[str, Any], role: str) -> Tensor:
        label, _ = self.strip_of(role)
        _require("A track", track, (STRIP, GAIN, PAN, _SENDS))
        _require("The sends of a track", track.get(_SENDS, {}), self.sends)
        strips = [strip.encode(track.get(STRIP, {}) if prefix == label else {}) for prefix, strip in self.all_strips()]
        own = {name: value for name, value in track.items() if name not in (STRIP, _SENDS)}
        faders = torch.from_numpy(self.gain_pan.space.encode(own)).float()
        given = track.get(_SENDS, {})
        levels = [_place(given.get(name, send.level_db[0]), send.level_db) for name, send in self.sends.items()]
        return torch.cat([*strips, faders, torch.tensor(levels)])

    def _encode_bus(self, bus: Mapping[str, Any]) -> Tensor:
        if self._is_plain:
            return self.bus.encode(bus) if self.bus else torch.zeros(0)
        _require("A mix", bus, (_GROUPS, _RETURNS, MIX_BUS))
        _require("The groups of a mix", bus.get(_GROUPS, {}), self.routes)
        _require("The returns of a mix", bus.get(_RETURNS, {}), self.sends)
        parts = []
        for name, layer in self.groups.items():
            own = dict(bus.get(_GROUPS, {}).get(name, {}))
            level = _place(own.pop(LEVEL, _level_at_zero(self.routes[name].level_db)), self.routes[name].level_db)
            parts += [layer.encode(own), torch.tensor([level])]
        parts += [layer.encode(bus.get(_RETURNS, {}).get(name, {})) for name, layer in self.returns.items()]
        own = bus.get(MIX_BUS, {})
        _require("The bus of a mix", own, own if self.bus else ())
        return torch.cat([*parts, self.bus.encode(own) if self.bus else torch.zeros(0)])

    def physical(self, name: str, column: Tensor) -> Tensor:
        """A column of the faders in its own unit."""
        p = self.gain_pan.space.parameters[name]
        assert isinstance(p, Continuous)
        return p.low + (p.high - p.low) * column

    def fader_gains(self, level: Tensor, pan: Tensor) -> tuple[Tensor, Tensor]:
        """The gains of both sides, behind faders and before them, (track, 2, 1 or time).

        Args:
            level: columns of the faders, (track, 1 or time).
            pan: those of the places.
        """
        gain_db, place = self.physical(GAIN, level.clamp(0, 1)), self.physical(PAN, pan.clamp(0, 1))
        behind = side_gains(gain_db, place)
        pre = any(send.pre for send in self.sends.values())
        return behind, side_gains(torch.zeros_like(gain_db), place) if pre else behind

    def through(self, name: str, mix: Tensor, params: Tensor, curves: Curves) -> Tensor:
        """Stereo mixes through a group, a return or the mix bus; see `part_stages`."""
        return together([self.part_stages(name, mix, params, curves)])[0]

    def part_stages(self, name: str, mix: Tensor, params: Tensor, curves: Curves) -> Stages:
        """What comes out of a group, a return or the mix bus, whose further inputs get silence.

        Args:
            name: of the part.
            mix: (mixes, 2, time).
            params: its columns, before the level of a group.
            curves: of all columns.
        """
        prefix, layer = self.part_of(name)
        if layer is None:
            return mix
        silence = {each: torch.zeros_like(mix[:, :1]) for each in further_inputs(layer)}
        moving = curves_below(curves, prefix, layer.columns)
        return (yield from stages_of(layer, mix, params[:, : len(layer.columns)], silence, moving))

    def part_of(self, name: str) -> tuple[str, Any]:
        """The prefix of the columns of a group, a return or the mix bus, and its layer; None for a wire."""
        layer = next((part[name] for part in (self.groups, self.returns) if name in part), self.bus)
        return "" if self._is_plain else f"{name}.", layer

    def check_roles(self, role: Any, tracks: int) -> tuple[str, ...]:
        """The role of each track; says once in the log which look like another name.

        Raises:
            ParameterError: none where they are wanted, or not one name for each track.
        """
        roles = check_roles(role, tracks, bool(self.strips or self.groups or self.keys))
        grouped = (each for group in self.routes.values() for each in group.roles)
        known = {*self.strips.names, *grouped, *self.keys, *self.keys.values()}
        for name in sorted({*roles} - known - _said):
            if question := did_you_mean(name, known):
                _said.add(name)
                _log.warning("No strip, group or key of this Console has the role %r%s.", name, question)
        return roles

    def check_params(self, track_params: Tensor, bus_params: Tensor, tracks: int, mixes: int) -> None:
        """Raises ParameterError unless both have their shape, and all columns lie in [0, 1]."""
        for name, params, columns, rows in (
            ("track_params", track_params, self.track_columns, tracks),
            ("bus_params", bus_params, self.bus_columns, mixes),
        ):
            wanted = (rows, len(columns))
            if not isinstance(params, Tensor) or tuple(params.shape) != wanted:
                got = tuple(params.shape) if isinstance(params, Tensor) else params
                raise ParameterError(f"{name} must have shape {wanted}, got {got!r:.60}.")
            inside = (params >= 0) & (params <= 1)
            if not bool(inside.all()):
                row, column = (~inside).nonzero()[0].tolist()
                raise ParameterError(
                    f"{name}[{row}] ({columns[column]}) is {float(params[row, column].detach()):.3g}, and must be in "
                    "[0, 1]; put a sigmoid before the console."
                )

    def check_curves(self, curves: Curves, tracks: int, mixes: int) -> None:
        """Raises ParameterError unless each is the curve of a column, with as many rows."""
        columns = (*self.track_columns, *self.bus_columns)
        if twice := [name for name in curves if columns.count(name) > 1]:
            raise ParameterError(f"Two columns of this Console are called {twice[0]!r}; give its strip a label.")
        rows = dict.fromkeys(self.track_columns, tracks) | dict.fromkeys(self.bus_columns, mixes)
        check_curves(curves, rows, "a Console")

    def alone(self, roles: Sequence[str]) -> list[int]:
        """The numbers of the tracks that are in no group."""
        grouped = {role for group in self.routes.values() for role in group.roles}
        return [k for k, role in enumerate(roles) if role not in grouped]

    def order(self, roles: Sequence[str]) -> list[int]:
        """The numbers of all tracks as they are summed: those in no group, then group after group."""
        members = [[k for k, role in enumerate(roles) if role in group.roles] for group in self.routes.values()]
        return [*self.alone(roles), *(k for own in members for k in own)]

    def setting_of(self, column: str) -> str:
        """Where the value of a column stands in what `decode` gives, such as "strip.comp.ratio"."""
        name = column.partition("=")[0]
        for prefix, layer in self.all_strips():
            if column.startswith(prefix) and column.removeprefix(prefix) in layer.columns:
                return f"{STRIP}.{name.removeprefix(prefix)}"
        if column in self.track_columns:
            send, _, level = name.rpartition(".")
            return f"{_SENDS}.{send}" if level == LEVEL else name
        part = name.partition(".")[0]
        kinds = [kind for kind, parts in ((_GROUPS, self.groups), (_RETURNS, self.returns)) if part in parts]
        return ".".join([*kinds, name])

    def _named(self, layers: Parts) -> list[tuple[str, list[str]]]:
        return [(name, [f"{name}.{c}" for c in layer.columns]) for name, layer in layers.items()]

    def all_strips(self) -> Iterator[tuple[str, Any]]:
        """All strips that have columns, by the prefix of these."""
        if self.strip:
            yield self._own_prefix, self.strip
        for name, layer in self.strips.items():
            yield f"{name}.", layer

    def strip_of(self, role: str) -> tuple[str, Any]:
        """The prefix of the strip of a role, and the strip; none for a wire."""
        if role in self.strips:
            return f"{role}.", self.strips[role]
        return self._own_prefix, self.strip

    def users(self, roles: Sequence[str]) -> dict[str, list[str]]:
        """The roles that go through each strip, by its prefix."""
        found: dict[str, list[str]] = {}
        for role in dict.fromkeys(roles):
            found.setdefault(self.strip_of(role)[0], []).append(role)
        return found

    def split_tracks(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The columns of each strip by its prefix, of faders, and of sends."""
        labels, widths = [], []
        for prefix, layer in self.all_strips():
            labels.append(prefix)
            widths.append(len(layer.columns))
        *own, faders, sends = rows.split([*widths, 2, len(self.sends)], dim=1)
        return dict(zip(labels, own, strict=True)), faders, sends

    def split_buses(self, rows: Tensor) -> dict[str, Tensor]:
        """The columns of groups with their levels, of returns, and of the bus, by name."""
        widths = {name: len(columns) + 1 for name, columns in self._named(self.groups)}
        widths |= {name: len(columns) for name, columns in self._named(self.returns)}
        widths[MIX_BUS] = len(self.bus.columns) if self.bus else 0
        return dict(zip(widths, rows.split(list(widths.values()), dim=1), strict=True))

    def _check_keyed(self) -> None:
        """Raises ParameterError if a role that has a key goes through a strip without one further input."""
        for role, source in self.keys.items():
            if not isinstance(source, str) or source == role:
                raise ParameterError(f"The key of {role} must be the name of another role, got {source!r}.")
            known = further_inputs(self.strip_of(role)[1])
            if len(known) != 1:
                raise ParameterError(
                    f"The strip of {role} has the inputs {', '.join(known) or 'none'}, and a key needs exactly one; "
                    "leave it out of keys, or choose an effect with a side-chain."
                )


def _require(what: str, settings: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises ParameterError for a name that is not known."""
    names = list(known)
    if unknown := [name for name in settings if name not in names]:
        question = did_you_mean(unknown[0], names)
        raise ParameterError(f"{what} has no {unknown[0]!r}{question}; known are {', '.join(names) or 'none'}.")


def _level(column: Tensor, level_db: tuple[float, float]) -> float:
    low, high = level_db
    return min(max(low + (high - low) * float(column), low), high)


def _level_at_zero(level_db: tuple[float, float]) -> float:
    """0 dB, or the nearest end of the range."""
    return min(max(0.0, level_db[0]), level_db[1])


def _place(level: Any, level_db: tuple[float, float]) -> float:
    low, high = level_db
    return (checks.within(LEVEL, level, low, high) - low) / (high - low)
