"""The audio on the tracks of an Ardour session."""

from __future__ import annotations

from collections.abc import Callable
from typing import final
from xml.etree.ElementTree import Element

from blackbox_fx.sessions import strict
from blackbox_fx.sessions.ardour.document import SECOND
from blackbox_fx.sessions.session import SessionClip

_MOST_CHANNELS = 64


def seconds(text: str) -> float:
    """A time of Ardour in seconds. Raises ValueError for one that is no time, or that counts beats."""
    if not text.startswith("a"):
        raise ValueError(text)
    return int(text[1:]) / SECOND


@final
class Playlists:
    """The playlists of a document.

    Args:
        root: of the document.
        audio_path: gives the path of an audio file within the session, or raises an error.
        skip: is told what is not understood.
        sample_rate: of the session, in Hz, which Ardour keeps its audio at.
    """

    def __init__(
        self, root: Element, audio_path: Callable[[str], str], skip: Callable[[str], None], sample_rate: int
    ) -> None:
        self._audio_path, self._skip, self._rate = audio_path, skip, sample_rate
        self._sources = {found.get("id", ""): found for found in root.findall("Sources/Source")}
        self._lists = {found.get("id", ""): found for found in root.findall("Playlists/Playlist")}

    def clips(self, key: str, name: str) -> tuple[SessionClip, ...]:
        """The clips of the playlist with an id, which a track with a name plays."""
        if not key:
            return ()
        if key not in self._lists:
            raise strict.Wrong(f"{name!r:.40} plays the playlist {key!r:.40}, which does not exist")
        found = [self._clip(region, name) for region in self._lists[key].findall("Region")]
        return tuple(sorted((clip for clip in found if clip is not None), key=lambda clip: clip.start))

    def _clip(self, region: Element, name: str) -> SessionClip | None:
        called = region.get("name", "")
        if strict.truth(region, "muted", False) or region.get("type", "audio") != "audio":
            self._skip(f"the region {called!r:.40} on {name!r:.40}, which is muted or no audio")
            return None
        files = self._files(region)
        if len(set(files)) != 1:
            self._skip(f"the region {called!r:.40} on {name!r:.40}, which is made of several files")
            return None
        length, _, start = region.get("length", "").partition("@")
        if files[0].startswith("/") or "b" in (length[:1], start[:1]):
            self._skip(f"the region {called!r:.40} on {name!r:.40}, whose audio is elsewhere, or which is set in beats")
            return None
        if any(strict.truth(region, fade, False) for fade in ("fade-in-active", "fade-out-active", "envelope-active")):
            self._skip(f"the fades or gains of the region {called!r:.40} on {name!r:.40}")
        if strict.number(region, "scale-amplitude", 1.0) != 1:
            self._skip(f"the gain of the region {called!r:.40} on {name!r:.40}")
        begin, duration = self._time(start, called), self._time(length, called)
        offset, path = self._time(region.get("start", ""), called), self._audio_path(files[0])
        return SessionClip(path, begin, duration, offset, len(files), self._rate)

    def _time(self, text: str, name: str) -> float:
        try:
            return seconds(text)
        except ValueError:
            raise strict.Wrong(f"a time of the region {name!r:.40} is {text!r:.40}, and no time of audio") from None

    def _files(self, region: Element) -> list[str]:
        """The file of each channel of a region."""
        keys = [region.get(f"source-{k}", "") for k in range(strict.count(region, "channels", 1, _MOST_CHANNELS))]
        lost = next((key for key in keys if key not in self._sources), None)
        if lost is not None:
            raise strict.Wrong(f"the region {region.get('name')!r:.40} plays {lost!r:.40}, which does not exist")
        return [self._sources[key].get("name", "") for key in keys]
