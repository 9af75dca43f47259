"""What a session file says, as plain data."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import final

from blackbox_fx.audio import Audio, read
from blackbox_fx.errors import ParameterError
from blackbox_fx.sessions.ardour.folder import Folder, is_ardour
from blackbox_fx.sessions.container import Archive

Points = tuple[tuple[float, float], ...]  # seconds and values, with straight lines between them
KINDS = ("track", "group", "return", "master")


@final
@dataclasses.dataclass(frozen=True)
class SessionClip:
    """A piece of audio on a track.

    Args:
        path: of its file within the session.
        start: where it begins, in seconds.
        duration: in seconds.
        offset: seconds of its file that are left out before it.
        channels: of its file.
        sample_rate: of its file, in Hz.
    """

    path: str
    start: float
    duration: float
    offset: float
    channels: int
    sample_rate: int


@final
@dataclasses.dataclass(frozen=True)
class SessionDevice:
    """A plugin on a channel.

    Args:
        kind: "vst3", "vst2", "lv2", "ladspa", "clap", "au" or "builtin".
        name: of the plugin.
        plugin_id: its class id, for VST3 in 32 hexadecimal digits, its URI for LV2, and its number for LADSPA; empty if
            the file has none that is one.
        state: path of its state within the session, or the id of the element that holds it; empty if there is none.
        enabled: whether it is not bypassed.
        label: what the session calls it.
        values: what the ports of an LV2 plugin stand at, by symbol, or those of a LADSPA plugin, by number.
        channels: of the plugin itself, 1 or 2; 0 if the session does not say.
    """

    kind: str
    name: str
    plugin_id: str = ""
    state: str = ""
    enabled: bool = True
    label: str = ""
    values: tuple[tuple[str, float], ...] = ()
    channels: int = 0


@final
@dataclasses.dataclass(frozen=True)
class SessionSend:
    """A send of a channel.

    Args:
        to: id of the track that it goes to.
        gain_db: its level; -inf for silence.
        pan: its place in [-1, 1].
        pre: whether it goes off before the fader and the place of the track.
        enabled: whether it is on.
        volume_points: its level where that moves, as factors of amplitude.
        pan_points: its place where that moves, in [-1, 1].
    """

    to: str
    gain_db: float = 0.0
    pan: float = 0.0
    pre: bool = False
    enabled: bool = True
    volume_points: Points = ()
    pan_points: Points = ()


@final
@dataclasses.dataclass(frozen=True)
class SessionTrack:
    """A track, a group, a return or the master, with its channel.

    Args:
        id: by which others name it.
        name: for people; several may have the same.
        kind: "track", "group", "return" or "master".
        role: what it is, such as "vocals": the comment of the file.
        gain_db: of its fader; -inf for silence.
        pan: its place in [-1, 1].
        mute: whether it is silent.
        solo: whether others are.
        channels: of its audio, 1 or 2.
        to: id of the track that it goes to; empty if the file does not say.
        group: id of the group that it lies in; empty for none.
        sends: where else it goes.
        devices: its plugins, in order.
        clips: its audio.
        volume_points: its fader where that moves, as factors of amplitude.
        pan_points: its place where that moves, in [-1, 1].
    """

    id: str
    name: str
    kind: str = "track"
    role: str = ""
    gain_db: float = 0.0
    pan: float = 0.0
    mute: bool = False
    solo: bool = False
    channels: int = 2
    to: str = ""
    group: str = ""
    sends: tuple[SessionSend, ...] = ()
    devices: tuple[SessionDevice, ...] = ()
    clips: tuple[SessionClip, ...] = ()
    volume_points: Points = ()
    pan_points: Points = ()


@final
@dataclasses.dataclass(frozen=True)
class Session:
    """A session, as `read_session` gives it. Audio and states stay in the file until they are asked for.

    Args:
        path: of the file.
        title: of the song.
        comment: what the file says about it.
        application: that wrote it.
        tempo: in beats per minute, at the beginning.
        tracks: all of them, in the order of the file; those of a group come after it.
        skipped: what the file holds and this library does not understand, in sentences.
    """

    path: Path
    title: str = ""
    comment: str = ""
    application: str = ""
    tempo: float = 120.0
    tracks: tuple[SessionTrack, ...] = ()
    skipped: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> tuple[SessionTrack, ...]:
        """The tracks of a kind: "track", "group", "return" or "master"."""
        if kind not in KINDS:
            raise ParameterError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
        return tuple(track for track in self.tracks if track.kind == kind)

    def audio(self, clip: SessionClip) -> tuple[Audio, float]:
        """The whole audio file of a clip, (channel, time), and its sample rate in Hz.

        Raises:
            DataError: the file is not in the session, or is damaged.
            AudioError: it is no audio.
        """
        with tempfile.TemporaryDirectory(prefix="blackbox_fx-") as folder, self._opened() as source:
            target = Path(folder) / f"audio{Path(clip.path).suffix[:8]}"
            source.extract(clip.path, target)
            return read(target)

    def state(self, device: SessionDevice) -> bytes:
        """The state of a plugin, as its preset file holds it: for VST3 that of a ".vstpreset".

        Raises:
            DataError: the session has none, or it is damaged.
            ParameterError: the device has no state.
        """
        if not device.state:
            raise ParameterError(f"{device.name} has no state in {self.path}; its settings are not known.")
        with self._opened() as source:
            return source.state(device.state)

    def _opened(self) -> contextlib.AbstractContextManager[Archive | Folder]:
        return contextlib.nullcontext(Folder(self.path)) if is_ardour(self.path) else Archive(self.path)
