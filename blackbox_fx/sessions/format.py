"""What a kind of session file has to do, so that a song can be written as one."""

from __future__ import annotations

import abc
import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, final

from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.bypass import Switched
from blackbox_fx.layers.direct import Direct
from blackbox_fx.layers.mix import Mix
from blackbox_fx.sessions.series import Member
from blackbox_fx.sessions.session import SessionDevice, SessionTrack

STATE = ".vstpreset"
_CLASS = slice(8, 40)  # of a .vstpreset: which plugin it is for
_MOST_KEPT = 2**24  # bytes of states
_KINDS = {
    "vst3": "this VST3 plugin gives no state that a DAW could read",
    "vst2": "the state of a VST2 plugin cannot be written",
    "pedalboard": "a built-in effect of pedalboard is no plugin that a DAW could load",
    "faust": "a Faust program is no plugin that a DAW could load",
    "command": "a program is no plugin that a DAW could load",
    "au": "the state of an AudioUnit cannot be written",
}

_kept: dict[tuple[str, str], bytes] = {}
_lock = threading.Lock()


@final
class Whole(NamedTuple):
    """All that stands in a session.

    Args:
        tracks: those of a group after it.
        tempo: in beats per minute.
        report: what became of every effect, as a text.
    """

    tracks: Sequence[SessionTrack]
    tempo: float
    report: str


class Format(abc.ABC):
    """One session file that is written; a subclass knows its kind.

    Attributes:
        name: of the kind.
        side_chains: why it has none, as a part of a sentence.
        scratch: a folder with room for sums of tracks.
    """

    name: ClassVar[str]
    side_chains: ClassVar[str]
    scratch: Path

    @abc.abstractmethod
    def audio_path(self, name: str) -> str:
        """The path within the session of an audio file with a name."""

    @abc.abstractmethod
    def audio(self, path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """An audio file at such a path, to be written from its beginning to its end."""

    @abc.abstractmethod
    def holds(self, kind: str, effect: Any) -> str:
        """Why it cannot hold a plugin of a host such as "vst3", as a part of a sentence; empty if it can."""

    @abc.abstractmethod
    def keep_device(self, member: Member, key: str) -> SessionDevice:
        """Keeps a plugin that it holds, with its settings, under a key of its own."""

    @abc.abstractmethod
    def claim(self, tracks: Sequence[SessionTrack]) -> str:
        """How a session sounds in which nothing was left out, as a sentence."""

    @abc.abstractmethod
    def notes(self, tracks: Sequence[SessionTrack], mutes_pre: bool) -> list[str]:
        """What is to be known of tracks, in sentences; `mutes_pre` if silent tracks have sends before their faders."""

    @abc.abstractmethod
    def write(self, whole: Whole) -> None:
        """Writes the documents."""

    def difference(self, member: Member, is_sent_to: bool = False) -> str:
        """Why a plugin that it holds would not sound the same, as a part of a sentence; empty if it does.

        Args:
            member: that is on.
            is_sent_to: whether it stands on the return of a send.
        """
        return ""

    @final
    def obstacle(self, member: Member) -> str:
        """Why it cannot hold a member as a plugin, as a part of a sentence; empty if it can."""
        layer = member.layer
        if isinstance(layer, Switched):
            return "its switch moves"
        if not isinstance(layer, BlackBox):
            return self._no_plugin(layer)
        effect = layer.effect
        kind = effect.name.partition(":")[0]
        if why := self.holds(kind, effect):
            return why
        if member.curves:
            return f"its settings move ({', '.join(member.curves)})"
        if effect.inputs:
            return self.side_chains
        return "its latency was set by hand" if getattr(effect, "latency_samples", None) is not None else ""

    def _no_plugin(self, layer: Any) -> str:
        if isinstance(layer, Direct):
            return "a twin or a proxy is no plugin that a DAW could load"
        if isinstance(layer, Mix):
            return f"{self.name} has no place for effects side by side"
        return f"a {type(layer).__name__} is no plugin that a DAW could load"

    @final
    def state(self, effect: Any, settings: Mapping[str, Any]) -> tuple[bytes, str]:
        """The state of a VST3 plugin at its settings, and its class id in 32 hexadecimal digits."""
        content = _state(effect, effect.space.complete(settings))
        return content, content[_CLASS].decode("ascii", "replace")


def _state(effect: Any, whole: Mapping[str, Any]) -> bytes:
    """The state of a plugin, from a session that was written before if it is there: each loads it in a process."""
    key = (effect.fingerprint, repr(sorted(whole.items())))
    content = _kept.get(key)
    if content is None:
        content = effect.write_state(STATE, whole)
        with _lock:
            _kept[key] = content
            while sum(map(len, _kept.values())) > _MOST_KEPT:
                del _kept[next(iter(_kept))]
    return content


def unheld(kind: str, name: str) -> str:
    """Why a format with a name has no place for plugins of a host, as a part of a sentence."""
    if kind in ("lv2", "ladspa"):
        return f"{name} has no place for {kind.upper()} plugins"
    return _KINDS.get(kind, "it is no plugin that a DAW could load")


def plugin_name(effect: Any) -> str:
    """The name of a plugin, as its file has it, or as it is named in a file of several."""
    return effect.name.rpartition(":")[2].removesuffix(".vst3")
