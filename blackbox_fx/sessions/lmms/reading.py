"""LMMS projects, read."""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple, final
from xml.etree.ElementTree import Element

from blackbox_fx.data.roles import role_of
from blackbox_fx.errors import DataError
from blackbox_fx.sessions import strict
from blackbox_fx.sessions.lmms.file import ProjectFile
from blackbox_fx.sessions.lmms.project import LmmsChannel, LmmsEffect, LmmsProject, LmmsSend, LmmsTrack
from blackbox_fx.sessions.skipped import Skipped

_KINDS = {"0": "instrument", "2": "sample"}
_SILENT_KINDS = {"1": "patterns of beats", "3": "events", "4": "video", "5": "automation", "6": "automation"}
_MOST_CHANNELS, _MOST_SENDS = 512, 4096
_LEGACY_CHANNELS = 64  # more without a single send are those of LMMS before 1.0, which all went to the master
_PORT = re.compile(r"port([0-9])([0-9]{1,4})")
_LADSPA = "ladspa"


def read_lmms(path: str | os.PathLike[str]) -> LmmsProject:
    """A project of LMMS (.mmp, .mmpz): its tracks and FX channels, and their effects with the settings of its author.

    No plugin is loaded, nothing else than the file is read, and nothing is written. Notes, samples, patterns and the
    course of automation are not read: what moves is named, and stands where the project was saved. Values that are
    out of LMMS' own ranges are moved into them, and sends that lead in a circle left out, as LMMS does.

    Args:
        path: of the file.

    Raises:
        DataError: no such file, or one that is damaged, larger than 64 MiB, or holds what no project needs.
    """
    file = ProjectFile(path)
    try:
        return _Reading(file).project()
    except strict.Wrong as error:
        raise file.damaged(str(error)) from error
    except RecursionError as error:
        raise DataError(f"{file.path} is nested deeper than any project is; save it again in LMMS.") from error


@final
class _Value(NamedTuple):
    """Where something stands, and whether it moves."""

    still: float
    moves: bool = False


@final
class _Reading:
    """One document that is read."""

    def __init__(self, file: ProjectFile) -> None:
        self._file, self._skipped = file, Skipped()
        self._root = file.document()
        patterns = [each for each in self._root.iter("automationpattern") if each.find("time") is not None]
        self._automated = {each.get("id") for pattern in patterns for each in pattern.findall("object")}

    def project(self) -> LmmsProject:
        """What it says."""
        head = self._root.find("head")
        head = Element("head") if head is None else head
        channels = self._channels()
        return LmmsProject(
            path=self._file.path,
            version=self._root.get("creatorversion", ""),
            tempo=self._value(head, "bpm", 140.0, 10.0, 999.0).still,
            volume=self._value(head, "mastervol", 100.0, 0.0, 200.0).still / 100,
            tracks=tuple(self._tracks({channel.number for channel in channels})),
            channels=channels,
            skipped=self._skipped.sentences,
        )

    def _value(self, home: Element, name: str, default: float, low: float, high: float) -> _Value:
        """A value, which is an attribute, or an element if it may move; older projects name elements as attributes."""
        inside = home.find(name)
        text = home.get(name) if inside is None else inside.get("value")
        moves = (inside is not None and inside.get("id") in self._automated) or (
            home.find(f"connection/{name}") is not None
        )
        value = default if text is None else _number(text, f"{name} of <{home.tag}>")
        return _Value(min(max(value, low), high), moves)

    def _tracks(self, channels: set[int]) -> Iterator[LmmsTrack]:
        """The tracks that make sound, those of beats among them."""
        for track in self._root.iter("track"):
            number = track.get("type", "")
            kind, name = _KINDS.get(number), track.get("name", "")
            home = None if kind is None else track.find(f"{kind}track")
            if kind is None or home is None:
                self._skipped.add(f"{_SILENT_KINDS.get(number, 'something else')} in the track {name!r:.60}")
                continue
            volume = self._value(home, "vol", 100.0, 0.0, 200.0)
            pan = self._value(home, "pan", 0.0, -100.0, 100.0)
            channel = round(self._value(home, "fxch", 0.0, 0.0, 1e6).still)
            if channel not in channels:
                self._skipped.add(f"that {name!r:.60} goes to the FX channel {channel}, which does not exist")
                channel = 0
            yield LmmsTrack(
                name,
                kind,
                role_of(name),
                volume.still / 100,
                pan.still / 100,
                self._value(track, "muted", 0.0, 0.0, 1.0).still > 0,
                channel,
                tuple(self._effects(home)),
                tuple(what for what, value in (("volume", volume), ("pan", pan)) if value.moves),
            )

    def _channels(self) -> tuple[LmmsChannel, ...]:
        """The FX channels by number, with a master."""
        found = {0: Element("fxchannel", num="0", name="Master")}
        mixer = self._root.find(".//fxmixer")
        elements = [] if mixer is None else mixer.findall("fxchannel")
        if len(elements) > _MOST_CHANNELS:
            raise strict.Wrong(f"it has {len(elements)} FX channels, and {_MOST_CHANNELS} are allowed")
        seen: set[int] = set()
        for element in elements:
            number = strict.count(element, "num", 0, 1_000_000)
            if number in seen:
                raise strict.Wrong(f"two of its FX channels have the number {number}")
            seen.add(number)
            found[number] = element
        sends = self._sends(found)
        return tuple(self._channel(number, found[number], sends[number]) for number in sorted(found))

    def _channel(self, number: int, element: Element, sends: dict[int, LmmsSend]) -> LmmsChannel:
        volume = self._value(element, "volume", 1.0, 0.0, 2.0)
        mute = self._value(element, "muted", 0.0, 0.0, 1.0).still > 0
        moves = ("volume",) if volume.moves else ()
        effects = tuple(self._effects(element))
        return LmmsChannel(number, element.get("name", ""), volume.still, mute, tuple(sends.values()), effects, moves)

    def _sends(self, channels: dict[int, Element]) -> dict[int, dict[int, LmmsSend]]:
        """The sends of each channel, without those that would close a circle."""
        found: dict[int, dict[int, LmmsSend]] = {number: {} for number in channels}
        given = [(number, send) for number, element in channels.items() for send in element.findall("send")]
        if not given and len(channels) > _LEGACY_CHANNELS:
            return {number: {0: LmmsSend(0)} if number else {} for number in channels}
        if len(given) > _MOST_SENDS:
            raise strict.Wrong(f"it has {len(given)} sends, and {_MOST_SENDS} are allowed")
        for number, send in given:
            to = strict.count(send, "channel", 0, 1_000_000)
            if to not in channels:
                self._skipped.add(f"a send of the FX channel {number} to {to}, which does not exist")
            elif number == 0 or _leads(found, to, number):
                self._skipped.add(f"a send of the FX channel {number} to {to}, which leads in a circle")
            else:
                amount = self._value(send, "amount", 1.0, 0.0, 1.0)
                found[number][to] = LmmsSend(to, amount.still, amount.moves)
        return found

    def _effects(self, home: Element) -> Iterator[LmmsEffect]:
        chain = home.find("fxchain")
        if chain is None:
            return
        on = self._value(chain, "enabled", 1.0, 0.0, 1.0).still > 0
        for element in chain.findall("effect"):
            yield self._effect(element, on)

    def _effect(self, element: Element, chain_on: bool) -> LmmsEffect:
        name = element.get("name", "")
        on, wet = self._value(element, "on", 1.0, 0.0, 1.0), self._value(element, "wet", 1.0, -1.0, 1.0)
        moves = [what for what, value in (("on", on), ("wet", wet)) if value.moves]
        values: list[dict[int, float]] = []
        said: dict[str, str] = {}
        if name == "ladspaeffect":
            said = {each.get("name", ""): each.get("value", "") for each in element.findall("key/attribute")}
            values, moving = self._ports(element.find("ladspacontrols"))
            moves += moving
        return LmmsEffect(
            kind=_LADSPA if name == "ladspaeffect" else name,
            file=said.get("file", "").removesuffix(".so"),
            label=said.get("plugin", ""),
            values=tuple(values),
            on=chain_on and on.still > 0,
            wet=wet.still,
            gate=self._value(element, "gate", 0.0, 0.0, 1.0).still,
            moves=tuple(moves),
        )

    def _ports(self, home: Element | None) -> tuple[list[dict[int, float]], list[str]]:
        """What the ports of each side stand at, and the names of those that move.

        Where both sides are linked, as they are if the project does not say, LMMS takes the right one for both.
        """
        if home is None:
            return [], []
        sides: defaultdict[str, dict[int, float]] = defaultdict(dict)
        moves = []
        for name in dict.fromkeys([*(child.tag for child in home), *home.keys()]):
            port = _PORT.fullmatch(name)
            if port is None:
                continue
            value = self._port(home, name)
            if value is not None:
                sides[port[1]][int(port[2])] = value.still
            if value is not None and value.moves:
                moves.append(name)
        for port in sides["0"].keys() & sides["1"].keys():
            if _is_linked(home, f"port0{port}"):
                sides["0"][port] = sides["1"][port]
        return [sides[side] for side in sorted(sides) if sides[side]], moves

    def _port(self, home: Element, name: str) -> _Value | None:
        """What a port stands at; None if the project does not say."""
        element = home.find(name)
        if element is None or element.get("value") is not None:  # before 1.0
            return self._value(home, name, 0.0, -math.inf, math.inf)
        if element.get("data") is None and element.find("data") is None:
            return None
        return self._value(element, "data", 0.0, -math.inf, math.inf)


def _is_linked(home: Element, name: str) -> bool:
    owner, attribute = home, f"{name}link"  # before 1.0
    element = home.find(name)
    if element is not None and element.get("value") is None:
        owner, attribute = element, "link"
    text = owner.get(attribute)
    return text is None or _number(text, f"the link of {name}") > 0


def _number(text: str, what: str) -> float:
    """A finite number, which some releases of LMMS wrote with a comma."""
    try:
        value = float(text.replace(",", ".")) if len(text) < 400 else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise strict.Wrong(f"{what:.60} is {text!r:.40} and no number")
    return value


def _leads(sends: dict[int, dict[int, LmmsSend]], start: int, end: int) -> bool:
    """Whether a way along sends leads from one channel to another."""
    seen, todo = {start}, [start]
    while todo:
        number = todo.pop()
        if number == end:
            return True
        new = set(sends[number]) - seen
        seen |= new
        todo += new
    return False
