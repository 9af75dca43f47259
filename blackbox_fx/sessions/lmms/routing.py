"""The ways of an LMMS project, brought into the form of a console: strips, groups, returns and a mix bus.

An FX channel may get sound from any others. Without effects, it is nothing but gains; with a single source that goes
nowhere else, it prolongs the chain of that source. Both are taken out exactly. What is left are channels with effects
and several sources: those whose sources go nowhere else are groups, the others are returns. A `Console` has no way from
a group or a return to another, and `Routing.lost` says what is left out where a project has one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import final

from blackbox_fx.sessions.lmms.plugins import AuthorEffect
from blackbox_fx.sessions.lmms.project import LmmsProject, place_name

MASTER = 0


@final
@dataclasses.dataclass(frozen=True)
class Gains:
    """Gains of left and right."""

    left: float
    right: float

    def times(self, other: Gains) -> Gains:
        """Both, one after the other."""
        return Gains(self.left * other.left, self.right * other.right)

    @property
    def amount(self) -> float:
        """The gain by which `gain_pan` multiplies a stereo sound."""
        return math.hypot(self.left, self.right) / math.sqrt(2)

    @property
    def pan(self) -> float:
        """The place by which `gain_pan` does it, in [-1, 1]."""
        return math.atan2(self.right, self.left) * 4 / math.pi - 1 if self.amount else 0.0


UNITY = Gains(1.0, 1.0)


def both(gain: float) -> Gains:
    """The same gain on both sides."""
    return Gains(gain, gain)


Stage = Gains | AuthorEffect


@final
@dataclasses.dataclass
class Way:
    """What a sound goes through, and where it goes then.

    Args:
        stages: effects and gains, in order.
        outs: the gains with which it goes to FX channels, by number.
    """

    stages: list[Stage]
    outs: dict[int, float]

    def append(self, stages: Iterable[Stage]) -> None:
        """Adds stages, and makes one of gains that follow each other."""
        for stage in stages:
            last = self.stages[-1] if self.stages else None
            if isinstance(stage, Gains) and isinstance(last, Gains):
                self.stages[-1] = last.times(stage)
            else:
                self.stages.append(stage)

    @property
    def has_effects(self) -> bool:
        """Whether it is more than gains."""
        return any(isinstance(stage, AuthorEffect) for stage in self.stages)

    def split(self) -> tuple[list[Stage], Gains]:
        """The stages before the last gains, and these."""
        *others, last = self.stages or [UNITY]
        return (others, last) if isinstance(last, Gains) else ([*others, last], UNITY)


@final
class Routing:
    """The ways of a project.

    Args:
        project: that is read.
        effects: the effects of each track and each FX channel that can be used, in their order.

    Attributes:
        tracks: a way for each track, to groups or returns and to the master.
        channels: those that are left, by number, each of which goes to the master.
        bus: that of the master.
        lost: what is left out, in sentences.
    """

    def __init__(
        self,
        project: LmmsProject,
        track_effects: list[list[AuthorEffect]],
        channel_effects: dict[int, list[AuthorEffect]],
    ) -> None:
        self.lost: list[str] = []
        self._names = {channel.number: place_name(channel) for channel in project.channels}
        silent = {channel.number for channel in project.channels if channel.mute and channel.number}
        self.tracks: list[Way] = []
        for track, effects in zip(project.tracks, track_effects, strict=True):
            right, left = min(1.0, 1.0 + track.pan), min(1.0, 1.0 - track.pan)
            way = Way([], {track.channel: 1.0} if track.volume and track.channel not in silent else {})
            way.append([Gains(left * track.volume, right * track.volume), *effects])
            self.tracks.append(way)
        self.channels: dict[int, Way] = {}
        for channel in project.channels:
            outs = {send.to: channel.volume * send.amount for send in channel.sends if send.to not in silent}
            outs = {to: gain for to, gain in outs.items() if gain}
            if channel.number not in silent:
                self.channels[channel.number] = Way(list(channel_effects[channel.number]), outs)
        self.bus = self.channels.pop(MASTER)
        self.bus.append([both(project.channels[0].volume * project.volume)])
        self._order = self._sorted()
        self._simplify()
        while self._nested():
            self._simplify()

    def sources(self, number: int) -> list[Way]:
        """The ways that go to an FX channel."""
        return [way for way in (*self.tracks, *self.channels.values()) if number in way.outs]

    def is_group(self, number: int) -> bool:
        """Whether the sources of an FX channel go nowhere else."""
        return all(set(way.outs) == {number} for way in self.sources(number))

    def _sorted(self) -> list[int]:
        """The FX channels, each behind those that it gets sound from; there are no circles."""
        waits = dict.fromkeys(self.channels, 0)
        for way in self.channels.values():
            for to in way.outs:
                waits[to] = waits.get(to, 0) + 1
        ready, order = [number for number in self.channels if not waits[number]], []
        while ready:
            number = ready.pop()
            order.append(number)
            for to in self.channels[number].outs:
                waits[to] -= 1
                if not waits[to] and to in self.channels:
                    ready.append(to)
        return order

    def _simplify(self) -> None:
        """Takes out FX channels that are not needed, without a change of what is heard."""
        for number in [number for number in self._order if number in self.channels]:
            way, sources = self.channels[number], self.sources(number)
            if sources and not way.has_effects:
                gain = way.split()[1].left
                for source in sources:
                    self._spread(source, number, {to: gain * out for to, out in way.outs.items()})
            elif len(sources) == 1 and set(sources[0].outs) == {number}:
                sources[0].append([both(sources[0].outs.pop(number)), *way.stages])
                sources[0].outs.update(way.outs)
            elif sources and way.outs:
                continue
            for source in sources:
                source.outs.pop(number, None)
            del self.channels[number]

    def _spread(self, source: Way, number: int, outs: dict[int, float]) -> None:
        amount = source.outs.pop(number)
        for to, gain in outs.items():
            source.outs[to] = source.outs.get(to, 0.0) + amount * gain

    def _nested(self) -> bool:
        """Takes away one way between FX channels with effects; False if there is none."""
        for number in [number for number in self._order if number in self.channels]:
            name = self._names[number]
            for source in self.channels:
                way = self.channels[source]
                if number not in way.outs:
                    continue
                if len(way.outs) > 1:
                    del way.outs[number]
                    self.lost.append(
                        f"The send of {self._names[source]} to {name} is left out: a Console has no sends of groups."
                    )
                else:
                    self.channels[number].stages = [both(1.0)]
                    self.lost.append(
                        f"The effects of {name} are left out: it sums others with effects, such as "
                        f"{self._names[source]}, and groups of a Console go straight to the mix bus."
                    )
                return True
        return False
