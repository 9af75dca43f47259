"""The clips and automation of a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final
from xml.etree.ElementTree import Element

from blackbox_fx.sessions import strict
from blackbox_fx.sessions.session import Points, SessionClip

_AUDIO_CHANNELS, _RATES = (1, 64), (1, 10_000_000)


@final
class Timeline:
    """What a document has over time.

    Args:
        root: of the document.
        tempo: in beats per minute.
        check: raises an error unless a path is in the file.
        skip: is told what is not understood.
        parameters: volumes and places by their ids.
        tracks: ids of channels by those of their tracks.

    Attributes:
        clips: by id of the channel.
        volumes: points of volumes, by id of the channel or send.
        places: points of places, by id of the channel or send.
    """

    def __init__(
        self,
        root: Element,
        tempo: float,
        check: Callable[[str], str],
        skip: Callable[[str], None],
        parameters: Mapping[str, Any],
        tracks: Mapping[str, str],
    ) -> None:
        self._check, self._skip, self._parameters, self._tracks = check, skip, parameters, tracks
        self._beat = 60 / tempo
        self.clips: dict[str, list[SessionClip]] = {}
        self.volumes: dict[str, Points] = {}
        self.places: dict[str, Points] = {}
        arrangement = root.find("Arrangement")
        if arrangement is None:
            return
        moving = arrangement.find("TempoAutomation")
        self._still = moving is None or len(moving) <= 2  # its target, and one point
        if not self._still:
            skip("the tempo where it moves, with everything that is counted in beats")
        for child in arrangement:
            if child.tag == "Lanes":
                self._lanes(child, "beats", "")
            elif child.tag != "TempoAutomation" and len(child):
                skip(f"the {child.tag:.40} of the arrangement")

    def _unit(self, element: Element, unit: str, name: str = "timeUnit") -> str:
        found = element.get(name, unit)
        if found not in ("beats", "seconds"):
            raise strict.Wrong(f"a {name} is {found!r:.20}, and must be beats or seconds")
        return found

    def _track(self, element: Element, track: str) -> str:
        given = element.get("track")
        if given is None:
            return track
        if given not in self._tracks:
            raise strict.Wrong(f"a {element.tag} is of the track {given!r:.40}, which does not exist")
        return self._tracks[given]

    def _seconds(self, unit: str) -> float:
        """How many seconds a unit has; 0 if that is not known."""
        return 1.0 if unit == "seconds" else self._beat if self._still else 0.0

    def _lanes(self, lanes: Element, unit: str, track: str) -> None:
        unit, track = self._unit(lanes, unit), self._track(lanes, track)
        for child in lanes:
            own, of = self._unit(child, unit), self._track(child, track)
            if child.tag == "Lanes":
                self._lanes(child, own, of)
            elif child.tag == "Points":
                self._points(child, own)
            elif child.tag == "Clips":
                for clip in child.findall("Clip"):
                    self._clip(clip, own, of)
            else:
                self._skip(f"{child.tag:.40} in the arrangement")

    def _points(self, points: Element, unit: str) -> None:
        target = points.find("Target")
        key = "" if target is None else target.get("parameter", "")
        parameter, scale = self._parameters.get(key), self._seconds(unit)
        if parameter is None or not scale:
            self._skip(f"the automation of {key!r:.40}" if scale else "automation in beats")
            return
        given = points.get("unit", parameter.unit)
        found: list[tuple[float, float]] = []
        for point in points.findall("RealPoint"):
            value = parameter.convert(strict.number(point, "value"), given)
            if value is None:
                self._skip(f"the automation of {key!r:.40}, whose unit is {given!r:.20}")
                return
            time = strict.number(point, "time") * scale
            if point.get("interpolation") == "hold":
                self._skip(f"the steps in the automation of {key!r:.40}, whose points are joined by lines instead")
            if found and time < found[-1][0]:
                raise strict.Wrong(f"the points of {key!r:.40} are not in order")
            found.append((time, value))
        target_points = self.volumes if parameter.is_volume else self.places
        if parameter.owner in target_points or len(found) < len(points) - 1:
            self._skip(f"a part of the automation of {key!r:.40}")
        target_points[parameter.owner] = tuple(found)

    def _clip(self, clip: Element, unit: str, track: str) -> None:
        name, scale = clip.get("name", ""), self._seconds(unit)
        start, audio = strict.number(clip, "time"), clip.find("Audio")
        nested = [] if audio is not None else list(clip.iter("Audio"))
        if len(nested) == 1:
            audio = nested[0]
            self._skip(f"the warps or inner clips of the clip {name!r:.40}")
        if audio is None or not track or not scale:
            self._skip(f"the clip {name!r:.40}, which has no single audio file, no track or no fixed time")
            return
        file = audio.find("File")
        if file is None or strict.truth(file, "external", False):
            self._skip(f"the audio of the clip {name!r:.40}, which lies outside the file")
            return
        if strict.truth(clip, "enable", True) is False:
            self._skip(f"the clip {name!r:.40}, which is off")
            return
        if any(
            clip.get(each, "0") not in ("0", "0.0") for each in ("fadeInTime", "fadeOutTime", "loopStart", "loopEnd")
        ):
            self._skip(f"the fades or loops of the clip {name!r:.40}")
        inner = self._seconds(self._unit(clip, unit, "contentTimeUnit"))
        whole = strict.number(audio, "duration") / scale
        self.clips.setdefault(track, []).append(
            SessionClip(
                path=self._check(file.get("path", "")),
                start=start * scale,
                duration=strict.number(clip, "duration", whole) * scale,
                offset=strict.number(clip, "playStart", 0.0) * inner,
                channels=strict.count(audio, "channels", *_AUDIO_CHANNELS),
                sample_rate=strict.count(audio, "sampleRate", *_RATES),
            )
        )
