"""An LMMS project as a console, with the settings of its author."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from blackbox_fx.dsp import TWINS
from blackbox_fx.errors import DataError, EffectError
from blackbox_fx.estimators import AudioRule, Estimator
from blackbox_fx.layers.console import Console
from blackbox_fx.layers.mix import Mix
from blackbox_fx.layers.routing import LEVEL, Bus, Send
from blackbox_fx.runtime import Pool
from blackbox_fx.sessions.lmms.plugins import AuthorEffect, load_author_effect
from blackbox_fx.sessions.lmms.project import LmmsChannel, LmmsEffect, LmmsProject, LmmsTrack, place_name
from blackbox_fx.sessions.lmms.routing import MASTER, UNITY, Gains, Routing, Stage, Way, both
from blackbox_fx.sessions.points import decibels

_FADER_DB, _TOP_DB = (-48.0, 12.0), 24.0  # of a `gain_pan`, which ends there
_WET_DB, _LEVEL_DB = (-120.0, 0.0), (-120.0, 12.0)
_SILENT_DB = -200.0
_SILENT, _PLAIN = "no direct sound", "no effects"
_TAKEN = {"strip", "bus", _SILENT, _PLAIN}
_GAIN_PAN = TWINS["gain_pan"]


@final
@dataclasses.dataclass(frozen=True, eq=False)
class LmmsConsole:
    """A console like that of an LMMS project, and the settings of its author.

    Args:
        console: with a strip for each track, groups and sends for FX channels, and the master as bus.
        track_params: in [0, 1], (track, `console.track_width`), for the tracks of the project in their order.
        bus_params: in [0, 1], (1, `console.bus_width`).
        role: the role of each track: its name, made different from others, or "no effects" where it has no strip and
            no group.
        mute: which tracks are silent, (track,) bool.
        lost: what the console does not hold or does otherwise, in sentences.
    """

    console: Console
    track_params: Tensor
    bus_params: Tensor
    role: tuple[str, ...]
    mute: Tensor
    lost: tuple[str, ...]

    def __repr__(self) -> str:
        return f"LmmsConsole({len(self.role)} tracks, {self.console.track_width} columns, {len(self.lost)} lost)"


def lmms_console(
    project: LmmsProject,
    estimator: Estimator | None = None,
    *,
    audio_rule: AudioRule | None = None,
    pool: Pool | None = None,
    sample_rate: float = 44100.0,
    direct: bool | None = None,
) -> LmmsConsole:
    """The console of an LMMS project, with those of its effects that are installed LADSPA plugins.

    Each track is a strip: its volume and place, its effects, and those of an FX channel that is its alone. FX channels
    with several sources are groups, or returns where these go elsewhere as well. The master is the bus. Gains, places
    and an effect that is partly wet are exact, for stereo tracks; LMMS has the volume of a track before its effects,
    and so has the strip. `lost` names what is left out: effects that are not installed, are switched off or are LMMS'
    own, ways between groups, sides with settings of their own, what moves, and gates. Plugins are run as this library
    does: latency is compensated, also beside what is dry.

    Args:
        project: from `read_lmms`.
        estimator: for the effects, a copy for each.
        audio_rule: the same.
        pool: where effects render.
        sample_rate: in Hz.
        direct: see `Console`.

    Raises:
        DataError: the project has no tracks.
    """
    if not project.tracks:
        raise DataError(f"{project.path} has no tracks that make sound; choose another project.")
    how = {"estimator": estimator, "audio_rule": audio_rule, "pool": pool, "direct": direct, "sample_rate": sample_rate}
    return _Making(project, how).console()


@final
class _Making:
    """The parts of a console that is made.

    Args:
        project: that is read.
        how: arguments of layers.
    """

    def __init__(self, project: LmmsProject, how: Mapping[str, Any]) -> None:
        self._how, self._project = how, project
        self.lost: list[str] = []
        self._routing = Routing(
            project,
            [self._usable(track) for track in project.tracks],
            {channel.number: self._usable(channel) for channel in project.channels},
        )
        self._names = _different([track.name for track in project.tracks], _TAKEN)
        left = {each.number: each.name for each in project.channels if each.number in self._routing.channels}
        self._labels = dict(zip(left, _different(left.values(), {*_TAKEN, *self._names}), strict=True))

    def _usable(self, part: LmmsTrack | LmmsChannel) -> list[AuthorEffect]:
        """The effects of a track or a channel that a console can have; says what is lost."""
        where = place_name(part)
        self.lost += [f"The {what} of {where} moves; it stands where the project was saved." for what in part.moves]
        if isinstance(part, LmmsChannel):
            moving = [send.to for send in part.sends if send.moves]
            self.lost += [f"The send of {where} to {to} moves; it stands where the project was saved." for to in moving]
        if isinstance(part, LmmsChannel) and part.mute and not part.number:
            self.lost.append("The master is silent in the project, and sounds in the console.")
        return [found for effect in part.effects if (found := self._found(effect, where)) is not None]

    def _found(self, effect: LmmsEffect, where: str) -> AuthorEffect | None:
        try:
            if not effect.on or not effect.wet:
                raise EffectError(f"{effect.name} is switched off.")
            if effect.wet < 0:
                raise EffectError(f"{effect.name} is mixed in with its sign reversed (wet={effect.wet:g}).")
            found = load_author_effect(effect)
        except EffectError as error:
            self.lost.append(f"An effect of {where} is left out: {error}")
            return None
        if found.right is not None:
            self.lost.append(
                f"{effect.name} of {where} has settings of its own on the right; the left ones stand for both."
            )
        if effect.moves:
            self.lost.append(f"{effect.name} of {where} moves ({', '.join(effect.moves)}); it stands as it was saved.")
        if effect.gate:
            self.lost.append(f"{effect.name} of {where} has a gate at {effect.gate:g}, which ends quiet tails in LMMS.")
        return found

    def console(self) -> LmmsConsole:
        """The console and its settings."""
        routing, buses = self._routing, {"groups": {}, "returns": {}, "bus": {}}
        groups = [number for number in routing.channels if routing.is_group(number)]
        early = {number: self._is_early(number, groups) for number in routing.channels if number not in groups}
        strips: dict[str, Any] = {}
        tracks, indirect = [], []
        for name, way in zip(self._names, routing.tracks, strict=True):
            members, track = self._track(name, way, early)
            if members:
                strips[name] = members
            tracks.append(track)
            if way.outs and not set(way.outs) - set(early):
                indirect.append(name)
        made = self._buses(groups, early, indirect, buses)
        bus, buses["bus"] = self._members(_joined(routing.bus.stages))
        return self._finished(strips, made, bus, tracks, buses)

    def _is_early(self, number: int, groups: Sequence[int]) -> bool:
        """Whether a return gets tracks that go to neither the master nor a group, and so from before their faders."""
        heard = {MASTER, *groups}
        return any(not heard & set(way.outs) for way in self._routing.sources(number))

    def _track(self, name: str, way: Way, early: Mapping[int, bool]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The strip of a track, and its settings; returns are told by whether they get it before its fader."""
        stages, last = way.split()
        members, settings = self._members(stages)
        direct = sum(gain for to, gain in way.outs.items() if to not in early)
        sends = {
            self._labels[to]: self._decibels(way.outs[to] * (last.amount if pre else 1 / direct), _LEVEL_DB, name)
            for to, pre in early.items()
            if to in way.outs
        }
        level = self._decibels(last.amount * (direct or 1.0), (_FADER_DB[0], _TOP_DB), name)
        return members, {"strip": settings, "gain_db": level, "pan": last.pan, "sends": sends}

    def _finished(
        self,
        strips: Mapping[str, Any],
        made: tuple[dict[str, Bus], dict[str, Send]],
        bus: Mapping[str, Any],
        tracks: list[dict[str, Any]],
        buses: dict[str, Any],
    ) -> LmmsConsole:
        groups, sends = made
        gain_db = _FADER_DB[0], max([_FADER_DB[1], *(track["gain_db"] for track in tracks)])
        ways = zip(self._project.tracks, self._routing.tracks, strict=True)
        mute = [track.mute or not way.outs or not way.split()[1].amount for track, way in ways]
        console = Console(None, bus or None, gain_db, strips=strips, groups=groups, sends=sends, **self._how)
        if not (strips or groups or sends):
            buses = buses["bus"]
        used = {*strips, *(role for group in groups.values() for role in group.roles)}
        role = tuple(name if name in used else _PLAIN for name in self._names)
        params = console.encode({"tracks": tracks, "buses": [buses]}, role)
        lost = tuple(dict.fromkeys([*self.lost, *self._routing.lost]))
        return LmmsConsole(console, *params, role, torch.tensor(mute), lost)

    def _buses(
        self,
        groups: Sequence[int],
        early: Mapping[int, bool],
        indirect: list[str],
        buses: dict[str, Any],
    ) -> tuple[dict[str, Bus], dict[str, Send]]:
        """The groups and sends of the console; their settings are put down."""
        made: dict[str, Bus] = {}
        sends: dict[str, Send] = {}
        for number in groups:
            way, name = self._routing.channels[number], self._labels[number]
            members, settings = self._members(way.stages)
            roles = [
                role for role, track in zip(self._names, self._routing.tracks, strict=True) if number in track.outs
            ]
            made[name] = Bus(roles, members or None, _LEVEL_DB)
            buses["groups"][name] = settings | {LEVEL: self._decibels(way.outs[MASTER], _LEVEL_DB, name)}
        if indirect:
            made[_SILENT] = Bus(indirect, None, (_SILENT_DB, 0.0))
            buses["groups"][_SILENT] = {LEVEL: _SILENT_DB}
        for number in early:
            way, name = self._routing.channels[number], self._labels[number]
            stages = _joined([*way.stages, both(way.outs[MASTER])])
            members, buses["returns"][name] = self._members(stages)
            sends[name] = Send(members, _LEVEL_DB, pre=early[number])
        return made, sends

    def _members(self, stages: Iterable[Stage]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Effects and gains in series by label, and their settings."""
        members: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for stage in stages:
            label = f"{len(members) + 1}_{'gain' if isinstance(stage, Gains) else _word(stage.source.label)}"
            if not isinstance(stage, Gains):
                members[label], settings[label] = self._wet(stage)
            elif stage != UNITY:
                level = self._decibels(stage.amount, (_FADER_DB[0], _TOP_DB), "a gain")
                members[label], settings[label] = _GAIN_PAN, {"gain_db": level, "pan": stage.pan}
        return members, settings

    def _wet(self, found: AuthorEffect) -> tuple[Any, dict[str, Any]]:
        """An effect and its settings, beside the dry sound if that is heard."""
        wet = found.source.wet
        if wet == 1:
            return found.effect, dict(found.settings)
        levels = {
            name: {LEVEL: self._decibels(gain, _WET_DB, found.source.name)}
            for name, gain in (("dry", 1 - wet), ("wet", wet))
        }
        layer = Mix({"dry": None, "wet": found.effect}, level_db=_WET_DB, **self._how)
        return layer, {"dry": levels["dry"], "wet": {**found.settings, **levels["wet"]}}

    def _decibels(self, gain: float, level_db: tuple[float, float], what: str) -> float:
        """A gain in dB within a range; says so if it is not."""
        level = decibels(gain)
        if math.isfinite(level) and not level_db[0] <= level <= level_db[1]:
            self.lost.append(
                f"A gain of {what} is {level:.1f} dB, and a console has {level_db[0]:g} to {level_db[1]:g} dB."
            )
        return min(max(level, level_db[0]), level_db[1])


def _joined(stages: Iterable[Stage]) -> list[Stage]:
    """Stages in which gains that follow each other are one."""
    way = Way([], {})
    way.append(stages)
    return way.stages


def _word(name: str) -> str:
    """A name that may be a label in a chain."""
    return re.sub(r"\W+", "_", name)[:60]


def _different(names: Iterable[str], taken: set[str]) -> list[str]:
    """Names without dots that are different from each other, and from others."""
    known, found = set(taken), []
    last: dict[str, int] = {}
    for name in names:
        base = new = name.replace(".", " ").strip()[:80] or "unnamed"
        while new in known:
            last[base] = last.get(base, 1) + 1
            new = f"{base} {last[base]}"
        known.add(new)
        found.append(new)
    return found
