"""Ardour sessions of this library and of others, read back."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, final
from xml.etree.ElementTree import Element

import numpy as np

from blackbox_fx.errors import DataError
from blackbox_fx.sessions import strict
from blackbox_fx.sessions.ardour.folder import Folder
from blackbox_fx.sessions.ardour.laws import PANNERS, console_lines, from_ardour
from blackbox_fx.sessions.ardour.playlists import Playlists, seconds
from blackbox_fx.sessions.channels import class_id
from blackbox_fx.sessions.points import decibels
from blackbox_fx.sessions.session import Points, Session, SessionDevice, SessionSend, SessionTrack
from blackbox_fx.sessions.skipped import Skipped

_TEMPO = 120.0
_MIDDLE = 0.5
_DEVICES = {"vst3": "vst3", "lxvst": "vst2", "windows-vst": "vst2", "mac-vst": "vst2", "lv2": "lv2", "ladspa": "ladspa"}
_DEVICES |= {"audiounit": "au", "luaproc": "builtin"}
_PORTS = ("lv2", "ladspa")
_USUAL = {
    "diskreader",
    "diskwriter",
    "triggerbox",
    "polarity",
    "meter",
    "intreturn",
    "trim",
    "amp",
    "main-outs",
    "intsend",
}
_BUILT_IN = {"MonitorOut", "Auditioner", "FoldbackBus", "VCA", "MidiTrack"}


def read_ardour(path: str | os.PathLike[str]) -> Session:
    """See `read_session`."""
    folder = Folder(path)
    try:
        return _Reading(folder).session()
    except strict.Wrong as error:
        raise folder.damaged(str(error)) from error
    except RecursionError as error:
        raise DataError(f"{folder.path} is nested deeper than any session is; save it again.") from error


@final
class _Strip:
    """The processors of a route, in order: plugins, sends before the fader, the fader, and sends behind it."""

    def __init__(self, route: Element) -> None:
        self.all = route.findall("Processor")
        kinds = [processor.get("type") for processor in self.all]
        self.fader = kinds.index("amp") if "amp" in kinds else len(kinds)

    def of(self, kind: str) -> Element | None:
        """The first processor of a kind."""
        return next((processor for processor in self.all if processor.get("type") == kind), None)


@final
class _Reading:
    """One document that is read."""

    def __init__(self, folder: Folder) -> None:
        self._folder, self._skipped = folder, Skipped()
        self._root = strict.parse(folder.document(), "Session")
        version = self._root.get("version", "")
        if not re.fullmatch("[789][0-9]{3}", version):
            raise strict.Wrong(f"its version is {version!r:.20}, and this release reads 7000 to 9999")
        self._rate = strict.count(self._root, "sample-rate", 1, 10_000_000)
        self._playlists = Playlists(self._root, folder.audio_path, self._skipped.add, self._rate)
        found = self._root.findall("Routes/Route")
        self._routes = [route for route in found if self._is_read(route)]
        self._ids = {name: self._id(route) for route in self._routes if (name := route.get("name", ""))}
        self._require_different([self._id(route) for route in self._routes], "id")
        self._require_different([route.get("name", "") for route in self._routes], "name")
        self._kinds = {self._id(route): self._kind(route) for route in self._routes}

    def session(self) -> Session:
        """What it says."""
        tracks = tuple(self._track(route) for route in sorted(self._routes, key=self._order))
        program = self._root.find("ProgramVersion")
        return Session(
            path=self._folder.path,
            title=self._root.findtext("Metadata/title") or self._root.get("name", ""),
            comment=self._root.findtext("Metadata/comment") or "",
            application="" if program is None else program.get("modified-with", ""),
            tempo=self._tempo(),
            tracks=tracks,
            skipped=self._skipped.sentences,
        )

    def _id(self, route: Element) -> str:
        return route.get("id", "")

    def _order(self, route: Element) -> float:
        shown = route.find("PresentationInfo")
        return 0.0 if shown is None else strict.number(shown, "order", 0.0)

    def _flags(self, route: Element) -> set[str]:
        shown = route.find("PresentationInfo")
        return set() if shown is None else set(shown.get("flags", "").split(","))

    def _is_read(self, route: Element) -> bool:
        flags = self._flags(route)
        if flags & _BUILT_IN:
            if not flags & {"MonitorOut", "Auditioner"}:
                self._skipped.add(f"the {min(flags & _BUILT_IN)} {route.get('name', '')!r:.40}")
            return False
        return True

    def _require_different(self, found: list[str], what: str) -> None:
        known: set[str] = set()
        for text in found:
            if not text:
                raise strict.Wrong(f"a track has no {what}")
            if text in known:
                raise strict.Wrong(f"two of its tracks have the {what} {text!r:.40}")
            known.add(text)

    def _kind(self, route: Element) -> str:
        flags = self._flags(route)
        if "MasterOut" in flags:
            return "master"
        if "AudioTrack" in flags:
            return "track"
        return "return" if _Strip(route).of("intreturn") is not None else "group"

    def _tempo(self) -> float:
        tempos = self._root.findall("TempoMap/Tempos/Tempo")
        if len(tempos) > 1:
            self._skipped.add("the tempo where it changes")
        tempo = strict.number(tempos[0], "npm", _TEMPO) if tempos else _TEMPO
        if tempo <= 0:
            raise strict.Wrong(f"its tempo is {tempo:g}, and must be above 0")
        return tempo

    def _track(self, route: Element) -> SessionTrack:
        key, name, strip = self._id(route), route.get("name", ""), _Strip(route)
        kind, to, channels = self._kinds[key], self._to(route), self._channels(route)
        fader, place = (
            self._gain(strip.of("amp"), "gain", f"the fader of {name!r:.40}"),
            self._place(route, strip, channels),
        )
        return SessionTrack(
            key,
            name,
            kind,
            role=route.findtext("Comment") or "",
            mute=strict.truth(route.find("MuteMaster"), "muted", False),
            solo=strict.truth(_controllable(route, "solo"), "self-solo", False),
            channels=channels,
            to=to,
            group=to if self._kinds.get(to) == "group" else "",
            sends=tuple(self._sends(route, strip, place, channels)),
            devices=tuple(self._devices(strip, name)),
            clips=self._playlists.clips(route.get("audio-playlist", ""), name) if kind == "track" else (),
            **_console(fader, place, channels),
        )

    def _channels(self, route: Element) -> int:
        """How many go through its panner: those that come in, if there is no more than one."""
        takes = [side for side in route.findall("IO") if side.get("direction") == "Input"]
        ports = [port for side in takes for port in side.findall("Port") if port.get("type") == "audio"]
        return 1 if len(ports) == 1 else 2

    def _to(self, route: Element) -> str:
        """The track that it goes to."""
        sides = [side for side in route.findall("IO") if side.get("direction") == "Output"]
        others = [link.get("other", "") for side in sides for link in side.iter("Connection")]
        names = dict.fromkeys(other.partition("/audio_in")[0] for other in others)
        known = [name for name in names if name in self._ids]
        lost = next((name for name in names if name not in self._ids and ":" not in name), None)
        if lost is not None:
            raise strict.Wrong(f"{route.get('name')!r:.40} goes to {lost!r:.40}, which does not exist")
        if len(names) > 1 and known:
            self._skipped.add(f"that {route.get('name')!r:.40} goes to more than one place")
        return self._ids[known[0]] if known else ""

    def _place(self, route: Element, strip: _Strip, channels: int) -> _Line:
        """Where it stands between left and right, from 0 to 1."""
        pannable, name = route.find("Pannable"), route.get("name", "")
        if pannable is None or not self._is_panned(strip, channels, name):
            return _Line(_MIDDLE)
        place = _value(_controllable(pannable, "pan-azimuth"), _MIDDLE)
        points = self._points(pannable, "pan-azimuth", f"the place of {name!r:.40}")
        if any(not 0 <= p <= 1 for p in (place, *(p for _, p in points))):
            raise strict.Wrong(f"the place of {name!r:.40} is not from 0 to 1")
        return _Line(place, points)

    def _is_panned(self, strip: _Strip, channels: int, name: str) -> bool:
        """Whether the panner of its channels is in use, which is one of those that this library knows."""
        outputs = strip.of("main-outs")
        shell = None if outputs is None else outputs.find("PannerShell")
        if shell is None or strict.truth(shell, "bypassed", False):
            return False
        panner = shell.get("user-panner", "")
        if panner not in (PANNERS[channels], "") or (channels == 2 and not panner):
            if panner:
                self._skipped.add(f"the panner {panner!r:.60} of {name!r:.40}")
            return False
        return True

    def _gain(self, home: Element | None, automation: str, what: str) -> _Line:
        if home is None:
            return _Line(1.0)
        value = _value(_controllable(home, "gaincontrol"), 1.0)
        points = self._points(home, automation, what)
        if any(gain < 0 for gain in (value, *(gain for _, gain in points))):
            raise strict.Wrong(f"{what} is below 0")
        return _Line(value, points)

    def _points(self, home: Element, name: str, what: str) -> Points:
        """Automation that is played."""
        for found in home.findall("Automation/AutomationList"):
            if found.get("automation-id") != name or found.get("state") not in ("Play", "Touch", "Latch"):
                continue
            if found.get("time-domain") == "BeatTime":
                self._skipped.add(f"the automation of {what}, which is in beats")
                return ()
            if found.get("interpolation-style") != "Linear":
                self._skipped.add(f"how the points of {what} are joined; straight lines join them instead")
            return _events(found, what)
        return ()

    def _sends(self, route: Element, strip: _Strip, place: _Line, channels: int) -> Iterator[SessionSend]:
        """The sends of a track, which follow its place."""
        name = route.get("name", "")
        for k, processor in enumerate(strip.all):
            if processor.get("type") != "intsend" or processor.get("role") != "Aux":
                continue
            to, pre = processor.get("target", ""), k < strip.fader
            if to not in self._kinds:
                raise strict.Wrong(f"a send of {name!r:.40} goes to {to!r:.40}, which does not exist")
            shell = processor.find("PannerShell")
            if shell is not None and not strict.truth(shell, "linked-to-route", False):
                self._skipped.add(f"the own place of a send of {name!r:.40}")
            level = self._gain(processor, "send", f"a send of {name!r:.40}")
            said = _console(level, place, channels) if pre else _levels(level.still, level.points)
            yield SessionSend(to, pre=pre, enabled=strict.truth(processor, "active", True), **said)

    def _devices(self, strip: _Strip, name: str) -> Iterator[SessionDevice]:
        for processor in strip.all:
            kind, label = processor.get("type", ""), processor.get("name", "")
            if kind in _DEVICES:
                yield self._device(processor, _DEVICES[kind], label)
            elif kind not in _USUAL:
                self._skipped.add(f"the {kind:.20} {label!r:.40} on {name!r:.40}")

    def _device(self, processor: Element, kind: str, label: str) -> SessionDevice:
        plugin_id = processor.get("unique-id", "")
        plugin_id = class_id(plugin_id) if kind == "vst3" else plugin_id
        held = processor.find(kind)
        state = processor.get("id", "") if kind == "vst3" and processor.findtext("vst3/chunk") else ""
        values = tuple(_port(port) for port in held.findall("Port")) if held is not None and kind in _PORTS else ()
        takes = processor.find("CustomSinks/Channels")
        channels = 0 if takes is None else strict.count(takes, "count", 0, 64)
        if kind not in ("vst3", *_PORTS):
            self._skipped.add(f"the settings of the plugin {label!r:.40}")
        if any(found.get("state") == "Play" for found in processor.findall("Automation/AutomationList")):
            self._skipped.add(f"the automation of the plugin {label!r:.40}")
        enabled = strict.truth(processor, "active", True)
        return SessionDevice(kind, label, plugin_id, state, enabled, label, values, channels)


@final
class _Line(NamedTuple):
    """A value that stands, or its points where it moves."""

    still: float
    points: Points = ()


def _levels(still: float, points: Points) -> dict[str, Any]:
    """A level as it stands or moves."""
    return {"gain_db": decibels(points[0][1] if points else still), "volume_points": points}


def _console(level: _Line, place: _Line, channels: int) -> dict[str, Any]:
    """A level and a place of Ardour by the console's law."""
    (gain,), (pan,) = from_ardour(np.array([level.still]), np.array([place.still]), channels)
    gains, pans = console_lines(level.points, level.still, place.points, place.still, channels)
    where = {"pan": pans[0][1] if pans else float(pan), "pan_points": pans}
    return _levels(float(gain), gains) | where


def _port(port: Element) -> tuple[str, float]:
    name = port.get("symbol", port.get("number", ""))
    return name, strict.number(port, "value")


def _events(found: Element, what: str) -> Points:
    """The points of automation, in seconds."""
    points: list[tuple[float, float]] = []
    for line in (found.findtext("events") or "").splitlines():
        time, _, value = line.strip().partition(" ")
        if not time:
            continue
        try:
            points.append((seconds(time), float(value)))
        except ValueError:
            raise strict.Wrong(f"a point of {what} is {line!r:.40}") from None
        if not math.isfinite(points[-1][1]) or (len(points) > 1 and points[-1][0] < points[-2][0]):
            raise strict.Wrong(f"the points of {what} are not in order, or no numbers")
    return tuple(points)


def _controllable(home: Element, name: str) -> Element | None:
    return next((found for found in home.findall("Controllable") if found.get("name") == name), None)


def _value(found: Element | None, default: float) -> float:
    return default if found is None else strict.number(found, "value", default)
