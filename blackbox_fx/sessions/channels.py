"""The tracks of a document, with their channels, sends and devices."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, final
from xml.etree.ElementTree import Element

from blackbox_fx.sessions import strict
from blackbox_fx.sessions.document import DEVICES, ROLES
from blackbox_fx.sessions.points import decibels
from blackbox_fx.sessions.session import SessionDevice, SessionSend, SessionTrack
from blackbox_fx.sessions.timeline import Timeline

_KINDS = {role: kind for kind, role in ROLES.items()}
_TAGS = {tag: kind for kind, tag in DEVICES.items()}
_CLASS = re.compile(r"\{?([0-9A-Fa-f]{8})-?([0-9A-Fa-f]{4})-?([0-9A-Fa-f]{4})-?([0-9A-Fa-f]{4})-?([0-9A-Fa-f]{12})\}?")
_FACTORS = {"linear": 1.0, "percent": 0.01}


def class_id(text: str) -> str:
    """The class id of a VST3 plugin in 32 hexadecimal digits, of one with dashes or without; empty if it is none.

    >>> class_id("5653544D-7632-7a7a-616d-657132000000")
    '5653544D76327A7A616D657132000000'
    """
    found = _CLASS.fullmatch(text.strip())
    return "".join(found.groups()).upper() if found else ""


def volume(value: float, unit: str) -> float | None:
    """A volume as a factor of amplitude; None in a unit that is no level."""
    if unit == "decibel":
        return 10 ** (min(value, 400.0) / 20)
    return max(value, 0.0) * _FACTORS[unit] if unit in _FACTORS else None


def place(value: float, unit: str) -> float | None:
    """A place in [-1, 1]; None in a unit that is none."""
    found = {"normalized": 2 * value - 1, "linear": value, "percent": value / 100}.get(unit)
    return None if found is None else min(max(found, -1.0), 1.0)


@final
class Parameter(NamedTuple):
    """A parameter that may move.

    Args:
        owner: id of the channel or send.
        convert: a value and a unit, to a factor or a place.
        unit: of the parameter itself.
        is_volume: whether it is one, and not a place.
    """

    owner: str
    convert: Callable[[float, str], float | None]
    unit: str
    is_volume: bool


@final
class Channels:
    """The tracks of a document.

    Args:
        root: of the document.
        check: raises an error unless a path is in the file.
        skip: is told what is not understood.

    Attributes:
        parameters: volumes and places by their ids.
        tracks: ids of channels by those of their tracks.
    """

    def __init__(self, root: Element, check: Callable[[str], str], skip: Callable[[str], None]) -> None:
        self._check, self._skip = check, skip
        self.parameters: dict[str, Parameter] = {}
        self.tracks: dict[str, str] = {}
        self._found: list[SessionTrack] = []
        self._send_ids: dict[str, list[str]] = {}
        self._known: set[str] = set()
        structure = root.find("Structure")
        for child in () if structure is None else structure:
            self._read(child, "")
        self._check_routes()

    def found(self, timeline: Timeline) -> tuple[SessionTrack, ...]:
        """All tracks, with what a timeline has for them."""
        return tuple(self._filled(track, timeline) for track in self._found)

    def _filled(self, track: SessionTrack, timeline: Timeline) -> SessionTrack:
        sends = tuple(
            dataclasses.replace(
                send, volume_points=timeline.volumes.get(key, ()), pan_points=timeline.places.get(key, ())
            )
            for send, key in zip(track.sends, self._send_ids[track.id], strict=True)
        )
        return dataclasses.replace(
            track,
            sends=sends,
            clips=tuple(timeline.clips.get(track.id, ())),
            volume_points=timeline.volumes.get(track.id, ()),
            pan_points=timeline.places.get(track.id, ()),
        )

    def _new(self, key: str) -> str:
        if key in self._known:
            raise strict.Wrong(f"two of its elements have the id {key!r:.40}")
        self._known.add(key)
        return key

    def _read(self, element: Element, group: str) -> None:
        """A track with those in it, or a channel without a track."""
        name = element.get("name", "")
        if element.tag not in ("Track", "Channel"):
            self._skip(f"a {element.tag:.40} among the tracks")
            return
        channel = element if element.tag == "Channel" else element.find("Channel")
        key = self._new(element.get("id") or f"track{len(self._found) + 1}")
        if channel is not None and channel is not element:
            self.tracks[key] = self._new(channel.get("id") or f"{key}-channel")
            key = self.tracks[key]
        else:
            self.tracks[key] = key
        inner = element.findall("Track")
        self._found.append(self._channel(element, channel, key, name, group, bool(inner)))
        for child in inner:
            self._read(child, key)

    def _channel(
        self, element: Element, channel: Element | None, key: str, name: str, group: str, holds: bool
    ) -> SessionTrack:
        is_group = holds or "tracks" in element.get("contentType", "").split()
        role = "" if channel is None else channel.get("role", "")
        kind = _KINDS.get(role, "track")
        said: dict[str, Any] = {"id": key, "name": name, "role": element.get("comment", ""), "group": group}
        said["kind"] = "group" if is_group and kind in ("track", "master") else kind
        if role not in _KINDS and role:
            self._skip(f"the role {role!r:.20} of {name!r:.40}")
        if channel is None:
            self._send_ids[key] = []
            return SessionTrack(**said)
        sends = list(self._sends(channel, key, name))
        self._send_ids[key] = [send_key for send_key, _ in sends]
        return SessionTrack(
            **said,
            gain_db=decibels(self._value(channel, "Volume", key, name, 1.0)),
            pan=self._value(channel, "Pan", key, name, 0.0),
            mute=strict.truth(channel.find("Mute"), "value", False),
            solo=strict.truth(channel, "solo", False),
            channels=strict.count(channel, "audioChannels", 0, 64) if "audioChannels" in channel.attrib else 2,
            to=channel.get("destination", ""),
            sends=tuple(send for _, send in sends),
            devices=tuple(self._devices(channel, name)),
        )

    def _value(self, home: Element, tag: str, owner: str, name: str, default: float) -> float:
        """A volume as a factor, or a place in [-1, 1]."""
        found = home.find(tag)
        if found is None:
            return default
        convert = volume if tag == "Volume" else place
        unit = found.get("unit", "")
        if key := found.get("id"):
            self.parameters[self._new(key)] = Parameter(owner, convert, unit, tag == "Volume")
        value = convert(strict.number(found, "value", 0.0), unit) if "value" in found.attrib else default
        if value is None:
            self._skip(f"the {tag.lower()} of {name!r:.40}, whose unit is {unit!r:.20}")
        return default if value is None else value

    def _sends(self, channel: Element, key: str, name: str) -> Iterator[tuple[str, SessionSend]]:
        for k, send in enumerate(channel.findall("Sends/Send")):
            own = self._new(send.get("id") or f"{key}-send{k + 1}")
            kind = send.get("type", "post")
            if kind not in ("pre", "post"):
                raise strict.Wrong(f"the type of a send is {kind!r:.20}, and must be pre or post")
            yield (
                own,
                SessionSend(
                    to=send.get("destination", ""),
                    gain_db=decibels(self._value(send, "Volume", own, f"a send of {name}", 1.0)),
                    pan=self._value(send, "Pan", own, f"a send of {name}", 0.0),
                    pre=kind == "pre",
                    enabled=strict.truth(send.find("Enable"), "value", True),
                ),
            )

    def _devices(self, channel: Element, name: str) -> Iterator[SessionDevice]:
        home = channel.find("Devices")
        for found in () if home is None else home:
            kind, label = _TAGS.get(found.tag, "builtin"), found.get("deviceName", "")
            if kind == "builtin":
                self._skip(f"the settings of the {found.tag:.40} {label!r:.40} on {name!r:.40}")
            plugin_id = found.get("deviceID", "")
            if kind == "vst3":
                plugin_id = class_id(plugin_id)
                if not plugin_id:
                    self._skip(f"the class id {found.get('deviceID', '')!r:.50} of {label!r:.40}")
            state, path = found.find("State"), ""
            if state is not None and strict.truth(state, "external", False):
                self._skip(f"the state of {label!r:.40}, which lies outside the file")
            elif state is not None:
                path = self._check(state.get("path", ""))
            enabled = strict.truth(found.find("Enabled"), "value", True)
            yield SessionDevice(kind, label, plugin_id, path, enabled, found.get("name", ""))

    def _check_routes(self) -> None:
        """Raises Wrong for a way that leads to no track."""
        ids = {track.id for track in self._found}
        for track in self._found:
            for to in (track.to, *(send.to for send in track.sends)):
                if to and to not in ids:
                    raise strict.Wrong(f"{track.name!r:.40} goes to {to!r:.40}, which does not exist")
