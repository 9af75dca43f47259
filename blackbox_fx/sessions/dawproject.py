"""A session as a DAWproject file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, final

from blackbox_fx import __version__
from blackbox_fx.core import files
from blackbox_fx.sessions import document
from blackbox_fx.sessions.container import METADATA, PROJECT, NewArchive
from blackbox_fx.sessions.format import STATE, Format, Whole, plugin_name, unheld
from blackbox_fx.sessions.points import above
from blackbox_fx.sessions.series import Member
from blackbox_fx.sessions.session import SessionDevice, SessionTrack

ENDING = ".dawproject"


@contextlib.contextmanager
def new_dawproject(target: Path) -> Iterator[DawProject]:
    """A file that appears whole at its path at the end, or not at all."""
    with files.replacing(target) as temporary, NewArchive(temporary) as archive:
        yield DawProject(archive, target.stem)


@final
class DawProject(Format):
    """A DAWproject file that is written; it holds VST3 plugins.

    Args:
        archive: to write to.
        title: of the song.
    """

    name = "DAWproject"
    side_chains = "DAWproject has no side-chains"

    def __init__(self, archive: NewArchive, title: str) -> None:
        self._archive, self._title, self.scratch = archive, title, archive.path.parent

    def audio_path(self, name: str) -> str:
        """See `Format.audio_path`."""
        return f"audio/{name}.wav"

    def audio(self, path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """See `Format.audio`."""
        return self._archive.entry(path)

    def holds(self, kind: str, effect: Any) -> str:
        """See `Format.holds`."""
        return "" if kind == "vst3" and STATE in effect.states else unheld(kind, self.name)

    def keep_device(self, member: Member, key: str) -> SessionDevice:
        """Writes the state of a plugin as a file; as many channels come out of a VST3 plugin as go in."""
        effect = member.layer.effect
        content, plugin_id = self.state(effect, effect.space.decode(member.params[0]))
        path = f"plugins/{key}{STATE}"
        self._archive.write(path, content)
        return SessionDevice("vst3", plugin_name(effect), plugin_id, path, member.on, member.label)

    def claim(self, tracks: Sequence[SessionTrack]) -> str:
        """See `Format.claim`."""
        return "It sounds as mixdown does, in a DAW with the same pan law."

    def notes(self, tracks: Sequence[SessionTrack], mutes_pre: bool) -> list[str]:
        """See `Format.notes`."""
        found, loud = [], above(tracks)
        if loud:
            found.append(f"The faders of some DAWs end at 6 dB, and these go higher: {', '.join(map(repr, loud))}.")
        if any(document.plain(track.name) != track.name for track in tracks):
            found.append("Some names hold characters that XML cannot hold; there is U+FFFD in their place.")
        if mutes_pre:
            found.append("Some DAWs still send muted tracks from before their faders.")
        return found

    def write(self, whole: Whole) -> None:
        """See `Format.write`."""
        self._archive.write(PROJECT, document.project(whole.tracks, whole.tempo, __version__))
        self._archive.write(METADATA, document.metadata(self._title, whole.report))
