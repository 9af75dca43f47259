"""Tracks and their channels as the document of an Ardour session."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from blackbox_fx.sessions.ardour.laws import PANNERS, fader_lines, send_line, to_ardour
from blackbox_fx.sessions.document import number, plain
from blackbox_fx.sessions.points import amplitude
from blackbox_fx.sessions.session import Points, SessionClip, SessionDevice, SessionSend, SessionTrack

SECOND = 282_240_000  # Ardour counts time in these
VERSION = "7002"  # of the document: Ardour 7
FLAGS = {"track": "AudioTrack", "group": "AudioBus", "return": "AudioBus", "master": "MasterOut"}
_CONFIG = {"native-file-data-format": "FormatFloat", "native-file-header-format": "WAVE"}
_MUTED = "PreFader,PostFader,Listen,Main"
_PLAIN_REGION = (
    ("muted", "opaque", "locked", "automatic", "import", "external", "hidden", "position-locked", "default-fade-in"),
    ("default-fade-out", "fade-in-active", "fade-out-active", "envelope-active", "scale-amplitude", "layering-index"),
)
_ON = {"opaque", "scale-amplitude"}


@final
class Document:
    """The document of a session, which is made at once.

    Args:
        name: of the session.
        tracks: those of a group after it; their names differ, and hold no colons.
        sample_rate: in Hz.
        tempo: in beats per minute.
        states: of VST3 plugins, by what their devices say.
        dense: whether places that move get points in between, see `fader_lines`.
        program: that writes it, with its version.
        comment: about it.
    """

    def __init__(
        self,
        name: str,
        tracks: Sequence[SessionTrack],
        sample_rate: int,
        tempo: float,
        states: Mapping[str, bytes],
        dense: bool,
        program: str,
        comment: str,
    ) -> None:
        self._tracks, self._rate, self._states, self._dense = tracks, sample_rate, states, dense
        self._count, self._sends = itertools.count(100), itertools.count(1)
        self._ids = {track.id: self._new() for track in tracks}
        self._names = {track.id: track.name for track in tracks}
        said = {"version": VERSION, "name": name, "sample-rate": str(sample_rate), "session-range-is-free": "1"}
        self.root = Element("Session", said)
        SubElement(self.root, "ProgramVersion", {"created-with": program, "modified-with": program})
        self._head(name, comment)
        self._sources, self._regions = (SubElement(self.root, tag) for tag in ("Sources", "Regions"))
        self._range()
        self._routes, self._playlists = (SubElement(self.root, tag) for tag in ("Routes", "Playlists"))
        for order, track in enumerate(tracks):
            self._route(track, order)
        for tag in ("UnusedPlaylists", "RouteGroups"):
            SubElement(self.root, tag)
        self._tempo(tempo)
        self.root.set("id-counter", self._new())

    def content(self) -> bytes:
        """The file."""
        ElementTree.indent(self.root, " ")
        return ElementTree.tostring(self.root, encoding="UTF-8", xml_declaration=True)

    def _new(self) -> str:
        return str(next(self._count))

    def _head(self, name: str, comment: str) -> None:
        config, about = SubElement(self.root, "Config"), SubElement(self.root, "Metadata")
        for option, value in _CONFIG.items():
            SubElement(config, "Option", name=option, value=value)
        SubElement(about, "title").text = plain(name)
        SubElement(about, "comment").text = plain(comment)

    def _range(self) -> None:
        """What is exported: the whole song."""
        end = max((clip.start + clip.duration for track in self._tracks for clip in track.clips), default=0.0)
        home = SubElement(self.root, "Locations")
        said = {"id": self._new(), "name": "session", "start": "a0", "end": self._time(end), "locked": "0", "cue": "0"}
        SubElement(home, "Location", said, flags="IsSessionRange")

    def _tempo(self, tempo: float) -> None:
        home = SubElement(self.root, "TempoMap", {"superclocks-per-second": str(SECOND)})
        start = {"sclock": "0", "quarters": "0:0", "bbt": "1|1|0"}
        speed = {"npm": number(tempo), "enpm": number(tempo), "note-type": "4", "type": "Tempo::Constant"}
        flags = {"active": "1", "locked-to-meter": "0", "continuing": "0", "omega": "0"}
        SubElement(SubElement(home, "Tempos"), "Tempo", speed | flags | start)
        meter = {"note-value": "4", "divisions-per-bar": "4"}
        SubElement(SubElement(home, "Meters"), "Meter", meter | start)

    def _time(self, seconds: float) -> str:
        """A time, which lies on a sample."""
        return f"a{round(seconds * self._rate) * SECOND // self._rate}"

    def _route(self, track: SessionTrack, order: int) -> None:
        master = track.kind == "master"
        said = {"version": VERSION, "id": self._ids[track.id], "name": track.name, "default-type": "audio"}
        kind = {"strict-io": str(int(master)), "active": "1", "denormal-protection": "0", "mode": "Normal"}
        points = {"meter-point": "MeterPostFader", "disk-io-point": "DiskIOPreFader"}
        route = SubElement(self._routes, "Route", said | kind | points)
        flags = f"{FLAGS[track.kind]},OrderSet"
        SubElement(route, "PresentationInfo", order=str(order), flags=flags, color="0")
        if track.role:
            SubElement(route, "Comment").text = plain(track.role)
        self._control(route, "solo", int(track.solo), **{"self-solo": str(int(track.solo))})
        if track.kind in ("group", "return"):  # what is solo has to be heard through them
            self._control(route, "solo-iso", 1, **{"solo-isolated": "1"})
        self._ports(route, track)
        SubElement(route, "MuteMaster", {"mute-point": _MUTED, "muted": str(int(track.mute))})
        self._strip(route, track)
        if track.kind == "track":
            self._playlist(route, track)

    def _control(self, home: Element, name: str, value: float, **said: str) -> None:
        SubElement(home, "Controllable", {"name": name, "id": self._new(), "value": number(value), **said})

    def _ports(self, route: Element, track: SessionTrack) -> None:
        """What comes in, and where the two channels go that come out."""
        to = f"{self._names[track.to]}/audio_in " if track.to else "system:playback_"
        channels = track.channels if track.kind == "track" else 2
        for direction, end, count in (("Input", "in", channels), ("Output", "out", 2)):
            said = {"name": track.name, "id": self._new(), "direction": direction, "default-type": "audio"}
            side = SubElement(route, "IO", said)
            for k in range(count):
                port = SubElement(side, "Port", type="audio", name=f"{track.name}/audio_{end} {k + 1}")
                if direction == "Output":
                    SubElement(port, "Connection", other=f"{to}{k + 1}")

    def _strip(self, route: Element, track: SessionTrack) -> None:
        """Everything that the audio of a track goes through, in order."""
        channels, gain = track.channels, amplitude(track.gain_db)
        (fader,), (place,) = to_ardour(np.array([gain]), np.array([track.pan]), channels)
        fader_points, place_points = fader_lines(track, self._dense)
        pannable = SubElement(route, "Pannable")
        self._control(pannable, "pan-azimuth", float(place))
        self._automation(pannable, "pan-azimuth", place_points)
        if track.kind == "track":
            self._processor(route, track.name, "diskreader")
        if track.kind == "return":
            self._processor(route, "Return", "intreturn")
        for device in track.devices:
            self._plugin(route, device, channels)
        for send in track.sends:
            if send.pre:
                self._send(route, send, track)
        self._amplifier(self._processor(route, "Amp", "amp"), "gain", float(fader), fader_points)
        for send in track.sends:
            if not send.pre:
                self._send(route, send, track)
        said = {"own-input": "1", "own-output": "0", "output": track.name, "role": "Main"}
        outputs = self._processor(route, track.name, "main-outs", **said)
        panner = "" if track.kind == "master" else PANNERS[channels]
        SubElement(outputs, "PannerShell", {"bypassed": "0", "user-panner": panner, "linked-to-route": "1"})

    def _processor(self, route: Element, name: str, kind: str, **said: str) -> Element:
        always = {"id": self._new(), "name": plain(name), "active": "1", "type": kind}
        return SubElement(route, "Processor", always | said)

    def _amplifier(self, home: Element, automation: str, value: float, points: Points) -> None:
        self._automation(home, automation, points)
        self._control(home, "gaincontrol", value, flags="GainLike")

    def _automation(self, home: Element, name: str, points: Points) -> None:
        if not points:
            return
        said = {"automation-id": name, "id": self._new(), "interpolation-style": "Linear", "time-domain": "AudioTime"}
        found = SubElement(SubElement(home, "Automation"), "AutomationList", said, state="Play")
        events = (f"a{round(time * SECOND)} {number(value)}\n" for time, value in points)
        SubElement(found, "events").text = "".join(events)

    def _send(self, route: Element, send: SessionSend, track: SessionTrack) -> None:
        """A send that follows the place of its track, for which it makes up where the fader behind it does."""
        level = amplitude(send.gain_db)
        if send.pre:
            (level,), _ = to_ardour(np.array([level]), np.array([track.pan]), track.channels)
        slot = {"bitslot": str(next(self._sends)), "selfdestruct": "0", "allow-feedback": "0"}
        said = {"own-input": "1", "own-output": "1", "role": "Aux", "target": self._ids[send.to]}
        found = self._processor(route, self._names[send.to], "intsend", **said, **slot)
        found.set("active", str(int(send.enabled)))
        SubElement(found, "PannerShell", {"bypassed": "0", "user-panner": "", "linked-to-route": "1"})
        self._amplifier(found, "send", float(level), send_line(send, track, self._dense))

    def _plugin(self, route: Element, device: SessionDevice, channels: int) -> None:
        """A plugin; a mono one once for each channel, and of a stereo one on a mono track the left output."""
        count = channels if device.channels == 1 else 1
        said = {"unique-id": device.plugin_id, "count": str(count), "custom": "1"}
        found = self._processor(route, device.label or device.name, device.kind, **said)
        found.set("active", str(int(device.enabled)))
        sides = ("ConfiguredInput", channels), ("CustomSinks", device.channels), ("ConfiguredOutput", channels)
        for tag, width in sides:
            SubElement(SubElement(found, tag), "Channels", type="audio", count=str(width))
        for k in range(count):
            takes, gives = SubElement(found, f"InputMap-{k}"), SubElement(found, f"OutputMap-{k}")
            for channel in range(device.channels):
                said = {"type": "audio", "from": str(channel)}
                SubElement(takes, "Channelmap", said, to=str(min(k + channel, channels - 1)))
                if channel < channels:
                    SubElement(gives, "Channelmap", said, to=str(k + channel))
        home = SubElement(found, device.kind)
        if device.kind == "vst3":
            SubElement(home, "chunk").text = base64.b64encode(self._states[device.state]).decode()
        for port, value in device.values:
            SubElement(home, "Port", {"symbol" if device.kind == "lv2" else "number": port}, value=number(value))

    def _playlist(self, route: Element, track: SessionTrack) -> None:
        key = self._new()
        route.set("audio-playlist", key)
        said = {"id": key, "name": track.name, "type": "audio", "frozen": "0", "combine-ops": "0"}
        home = SubElement(self._playlists, "Playlist", said, **{"orig-track-id": self._ids[track.id]})
        for clip in track.clips:
            sources = [self._source(clip, channel) for channel in range(clip.channels)]
            self._region(self._regions, clip, sources, "1")
            self._region(home, clip, sources, "0")

    def _source(self, clip: SessionClip, channel: int) -> str:
        key, name = self._new(), clip.path.rpartition("/")[2]
        said = {"id": key, "name": name, "take-id": "", "type": "audio", "flags": "", "channel": str(channel)}
        SubElement(self._sources, "Source", said, origin="", gain="1")
        return key

    def _region(self, home: Element, clip: SessionClip, sources: Iterable[str], whole: str) -> None:
        name = clip.path.rpartition("/")[2].rpartition(".")[0]
        said: dict[str, Any] = {name: str(int(name in _ON)) for names in _PLAIN_REGION for name in names}
        length = f"{self._time(clip.duration)}@{self._time(clip.start)}"
        place = {"start": self._time(clip.offset), "length": length, "whole-file": whole, "contents": "0"}
        own = {"name": name, "id": self._new(), "type": "audio", "first-edit": "nothing", "tags": ""}
        for k, source in enumerate(sources):
            own |= {f"source-{k}": source, f"master-source-{k}": source, "channels": str(k + 1)}
        SubElement(home, "Region", said | place | own)
