"""Tracks and their channels as the document of DAWproject 1.0."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from blackbox_fx.sessions.points import amplitude
from blackbox_fx.sessions.session import Points, SessionClip, SessionDevice, SessionSend, SessionTrack

VERSION = "1.0"
ROLES = {"track": "regular", "group": "submix", "return": "effect", "master": "master"}
DEVICES = {"vst3": "Vst3Plugin", "vst2": "Vst2Plugin", "clap": "ClapPlugin", "au": "AuPlugin"}
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_USUAL_TOP = 2.0  # of faders, as a factor


def plain(text: str) -> str:
    """A text with what XML cannot hold, such as control characters, replaced by U+FFFD."""
    return _UNWRITABLE.sub("\ufffd", text)


def project(tracks: Sequence[SessionTrack], tempo: float, version: str) -> bytes:
    """The document project.xml.

    Args:
        tracks: those of a group after it.
        tempo: in beats per minute.
        version: of this library.
    """
    root = Element("Project", version=VERSION)
    SubElement(root, "Application", name="blackbox_fx", version=version)
    transport = SubElement(root, "Transport")
    _real(transport, "Tempo", "tempo", tempo, "bpm")
    SubElement(transport, "TimeSignature", id="meter", numerator="4", denominator="4")
    homes = {"": SubElement(root, "Structure")}
    for track in tracks:
        homes[track.id] = _track(homes[track.group], track)
    lanes = SubElement(SubElement(root, "Arrangement", id="arrangement"), "Lanes", id="lanes", timeUnit="seconds")
    for track in tracks:
        _lane(lanes, track)
    return _bytes(root)


def metadata(title: str, comment: str) -> bytes:
    """The document metadata.xml."""
    root = Element("MetaData")
    SubElement(root, "Title").text = plain(title)
    SubElement(root, "Comment").text = plain(comment)
    return _bytes(root)


def _bytes(root: Element) -> bytes:
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _track(home: Element, track: SessionTrack) -> Element:
    said = {"comment": plain(track.role)} if track.role else {}
    content = "audio tracks" if track.kind == "group" else "audio"
    found = SubElement(
        home,
        "Track",
        {"id": f"{track.id}-track", "name": plain(track.name), **said},
        contentType=content,
        loaded="true",
    )
    where = {"destination": track.to} if track.to else {}
    channel = SubElement(
        found,
        "Channel",
        {"id": track.id, "role": ROLES[track.kind], "audioChannels": str(track.channels), **where},
        solo=_bool(track.solo),
    )
    if track.devices:
        devices = SubElement(channel, "Devices")
        for k, device in enumerate(track.devices):
            _device(devices, device, f"{track.id}-device{k + 1}")
    SubElement(channel, "Mute", id=f"{track.id}-mute", name="Mute", value=_bool(track.mute))
    _pan(channel, f"{track.id}-pan", track.pan, track.pan_points)
    if track.sends:
        sends = SubElement(channel, "Sends")
        for k, send in enumerate(track.sends):
            _send(sends, send, _send_id(track, k))
    _volume(channel, f"{track.id}-volume", track.gain_db, track.volume_points)
    return found


def _device(home: Element, device: SessionDevice, key: str) -> None:
    found = SubElement(
        home,
        DEVICES[device.kind],
        {"id": key, "name": plain(device.label or device.name), "deviceName": plain(device.name)},
        deviceID=device.plugin_id,
        deviceRole="audioFX",
        loaded="true",
    )
    SubElement(found, "Parameters")
    SubElement(found, "Enabled", id=f"{key}-on", name="On/Off", value=_bool(device.enabled))
    SubElement(found, "State", path=device.state)


def _send(home: Element, send: SessionSend, key: str) -> None:
    kind = "pre" if send.pre else "post"
    found = SubElement(home, "Send", id=key, destination=send.to, type=kind)
    SubElement(found, "Enable", id=f"{key}-on", name="Enable", value=_bool(send.enabled))
    _pan(found, f"{key}-pan", send.pan, send.pan_points)
    _volume(found, f"{key}-volume", send.gain_db, send.volume_points)


def _volume(home: Element, key: str, gain_db: float, points: Points) -> None:
    value = amplitude(gain_db)
    top = max(_USUAL_TOP, value, *(factor for _, factor in points))
    _real(home, "Volume", key, value, "linear", 0.0, top)


def _pan(home: Element, key: str, pan: float, points: Points) -> None:
    _real(home, "Pan", key, (pan + 1) / 2, "normalized", 0.0, 1.0)


def _real(home: Element, tag: str, key: str, value: float, unit: str, *ends: float) -> None:
    limits = dict(zip(("min", "max"), map(number, ends), strict=False))
    SubElement(home, tag, id=key, name=tag, unit=unit, value=number(value), **limits)


def _lane(home: Element, track: SessionTrack) -> None:
    lane = SubElement(home, "Lanes", id=f"{track.id}-lane", track=f"{track.id}-track")
    if track.clips:
        clips = SubElement(lane, "Clips", id=f"{track.id}-clips")
        for k, clip in enumerate(track.clips):
            _clip(clips, clip, f"{track.id}-audio{k + 1}", track.name)
    for key, unit, points in _moving(track):
        moves = SubElement(lane, "Points", id=f"{key}-points", timeUnit="seconds", unit=unit)
        SubElement(moves, "Target", parameter=key)
        for time, value in points:
            SubElement(moves, "RealPoint", time=number(time), value=number(value), interpolation="linear")


def _moving(track: SessionTrack) -> Iterator[tuple[str, str, Iterable[tuple[float, float]]]]:
    """What moves on a track: the id of a parameter, its unit and its points."""
    owners: list[tuple[str, Any]] = [(track.id, track)]
    owners += [(_send_id(track, k), send) for k, send in enumerate(track.sends)]
    for key, owner in owners:
        if owner.volume_points:
            yield f"{key}-volume", "linear", owner.volume_points
        if owner.pan_points:
            yield f"{key}-pan", "normalized", [(time, (pan + 1) / 2) for time, pan in owner.pan_points]


def _clip(home: Element, clip: SessionClip, key: str, name: str) -> None:
    found = SubElement(
        home,
        "Clip",
        name=plain(name),
        time=number(clip.start),
        duration=number(clip.duration),
        contentTimeUnit="seconds",
        playStart=number(clip.offset),
    )
    audio = SubElement(
        found,
        "Audio",
        id=key,
        duration=number(clip.offset + clip.duration),
        channels=str(clip.channels),
        sampleRate=str(clip.sample_rate),
    )
    SubElement(audio, "File", path=clip.path)


def _send_id(track: SessionTrack, k: int) -> str:
    return f"{track.id}-send{k + 1}"


def number(value: float) -> str:
    """The shortest decimal that reads back as the same number."""
    return repr(float(value))


def _bool(value: bool) -> str:
    return "true" if value else "false"
