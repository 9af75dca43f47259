"""What an LMMS project says, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import final


@final
@dataclasses.dataclass(frozen=True)
class LmmsEffect:
    """An effect of a track or an FX channel, as its author left it.

    Args:
        kind: "ladspa", or the name of an effect of LMMS itself, such as "eq".
        file: the library of a LADSPA plugin, without ".so".
        label: of a LADSPA plugin.
        values: what its control inputs stand at, by number of the port: one mapping for both sides, or one for each.
            They are what LMMS stores: physical values, and milliseconds where a port is in seconds.
        on: whether it is switched on, and the chain that it stands in.
        wet: how much of it is heard, in [-1, 1]: the sound that comes in has the gain 1 - wet.
        gate: the level under which LMMS lets it sleep.
        moves: what moves by automation or a controller: "wet", "on", or ports such as "port04" (side 0, port 4).
    """

    kind: str
    file: str = ""
    label: str = ""
    values: tuple[Mapping[int, float], ...] = ()
    on: bool = True
    wet: float = 1.0
    gate: float = 0.0
    moves: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The plugin's library and label, or the name of an effect of LMMS itself."""
        return f"{self.file}:{self.label}" if self.kind == "ladspa" else self.kind


@final
@dataclasses.dataclass(frozen=True)
class LmmsSend:
    """A send of an FX channel, behind its fader.

    Args:
        to: number of the FX channel that it goes to; 0 for the master.
        amount: its gain, in [0, 1].
        moves: whether that moves.
    """

    to: int
    amount: float = 1.0
    moves: bool = False


@final
@dataclasses.dataclass(frozen=True)
class LmmsTrack:
    """A track that makes sound.

    Args:
        name: for people; several may have the same.
        kind: "instrument" or "sample".
        role: what it is, by its name, see `data.role_of`.
        volume: its gain in [0, 2], before its effects.
        pan: its place in [-1, 1], before its effects: at 1 the left side is silent, and the right one as it was.
        mute: whether it is silent.
        channel: number of the FX channel that it goes to; 0 for the master.
        effects: its effects, in order.
        moves: what moves: "volume" or "pan".
    """

    name: str
    kind: str
    role: str
    volume: float = 1.0
    pan: float = 0.0
    mute: bool = False
    channel: int = 0
    effects: tuple[LmmsEffect, ...] = ()
    moves: tuple[str, ...] = ()


@final
@dataclasses.dataclass(frozen=True)
class LmmsChannel:
    """An FX channel.

    Args:
        number: 0 for the master.
        name: for people.
        volume: the gain of its fader in [0, 2], behind its effects.
        mute: whether it is silent.
        sends: where it goes; the master goes nowhere, and a channel without sends is not heard.
        effects: its effects, in order.
        moves: what moves: "volume".
    """

    number: int
    name: str
    volume: float = 1.0
    mute: bool = False
    sends: tuple[LmmsSend, ...] = ()
    effects: tuple[LmmsEffect, ...] = ()
    moves: tuple[str, ...] = ()


@final
@dataclasses.dataclass(frozen=True)
class LmmsProject:
    """A project, as `read_lmms` gives it.

    Args:
        path: of the file.
        version: of the LMMS that wrote it.
        tempo: in beats per minute, at the beginning.
        volume: the gain of the whole song, in [0, 2].
        tracks: those that make sound, in the order of the file.
        channels: FX channels by number, the master first.
        skipped: what the file holds and is not understood, in sentences.
    """

    path: Path
    version: str
    tempo: float
    volume: float
    tracks: tuple[LmmsTrack, ...]
    channels: tuple[LmmsChannel, ...]
    skipped: tuple[str, ...] = ()

    @property
    def effects(self) -> tuple[tuple[str, LmmsEffect], ...]:
        """All effects, each with the name of where it stands, such as "track 'Kick'"."""
        parts = [*self.tracks, *self.channels]
        return tuple((place_name(part), effect) for part in parts for effect in part.effects)


def place_name(part: LmmsTrack | LmmsChannel) -> str:
    """What a sentence calls a track or a channel."""
    if isinstance(part, LmmsTrack):
        return f"track {part.name!r:.60}"
    return f"FX channel {part.number} {part.name!r:.60}" if part.number else "the master"
