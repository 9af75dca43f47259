"""A song of a console as a session of another program."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from blackbox_fx.core import checks
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.errors import AudioError, BlackBoxError, DataError, ParameterError
from blackbox_fx.layers.automation import Curves
from blackbox_fx.layers.console import Console
from blackbox_fx.layers.desk import GAIN, PAN
from blackbox_fx.layers.routing import LEVEL, MIX_BUS, audible
from blackbox_fx.layers.song import Call, Song, Track
from blackbox_fx.sessions import dawproject
from blackbox_fx.sessions.ardour import folder
from blackbox_fx.sessions.ardour.format import new_ardour, session_file
from blackbox_fx.sessions.dawproject import new_dawproject
from blackbox_fx.sessions.format import Format, Whole
from blackbox_fx.sessions.points import decibels, level, pan_points, volume_points
from blackbox_fx.sessions.report import Fate, SessionReport, fates_of, fates_on_bus
from blackbox_fx.sessions.series import Member, in_series, printed, through
from blackbox_fx.sessions.session import SessionClip, SessionDevice, SessionSend, SessionTrack
from blackbox_fx.sessions.sums import DiskSum
from blackbox_fx.sessions.wave import write_wave

_MOST_POINTS = 400_000
_SILENT, _MASTER = float("-inf"), "master"


@torch.no_grad()
def save_session(
    console: Console,
    path: str | os.PathLike[str],
    tracks: Sequence[Track],
    track_params: Tensor,
    bus_params: Tensor,
    *,
    role: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    curves: Curves = {},
    mute: Tensor | None = None,
    solo: Tensor | None = None,
    channels: int | None = None,
    sample_accurate: bool = True,
    tempo: float = 120.0,
    progress: Progress = quiet,
) -> SessionReport:
    """Writes one song of a console as a session, with which an engineer goes on in a DAW.

    The ending of the name says what is written: a DAWproject file, for several DAWs, or an Ardour session.

    Tracks keep their audio, at the console's sample rate, their faders, places, sends, mutes and solos; groups and
    returns are channels, and the mix bus is the master. VST3 plugins stay plugins, with their class id and their state;
    in Ardour, LV2 and LADSPA plugins do, too. The format cannot hold other effects, nor plugins whose settings move or
    that hear a key. On a track, these are printed to audio, with everything before them; plugins behind them stay live.
    A group or return with such an effect is printed as a track of its own, beside the channel itself, which stands at
    volume 0 and keeps its tracks and sends. On the mix bus such an effect is left out. The report says what became of
    each effect, and why.

    Ardour: "song.ardour" stands in a folder "song" with its audio, as Ardour keeps sessions; open the file there. What
    Ardour exports then is what `mixdown` gives, to 1e-6 of full scale, or to the rounding of plugins that do not
    compute in floating point. Its panners have another law than the console, so each place is one where both sides are
    in the same ratio, and the fader makes up for the level: by less than 0.1 dB for mono tracks, and by 0 to 3 dB for
    stereo tracks. Sends follow the place of their track. Groups and returns are isolated from solos. Plugins that sound
    different after silence, or in blocks of other lengths, are printed, since a DAW runs them so: those that modulate
    by themselves, begin with a fade, or move their settings once a block. On the mix bus they are live, and the report
    says so. Plugins with latency are printed on returns. Faders that move lag in Ardour; the report states by how much.
    Ardour knows VST3 plugins only after it has scanned for them.

    Pan law of DAWproject files: the console gives a mono track cos and sin of a quarter turn, -3.0 dB on both sides in
    the middle and 0 dB on one side at the ends, as DAWs with the usual constant power law do: they give the same mix. A
    DAW that leaves mono tracks at 0 dB in the middle plays them 3.0 dB louder there. A stereo track is balanced by the
    same law, 3.0 dB higher: 0 dB in the middle, 3.0 dB on one side at the ends. A DAW whose law for stereo tracks is at
    -3.0 dB in the middle plays them 3.0 dB softer everywhere, and one that only fades the other side plays them the
    same in the middle and 3.0 dB softer at the ends. Sends before the fader are written with the place of their track
    as their own place, for DAWs that take them off before the place; others place them twice. Some DAWs still send
    muted tracks there.

    Tracks are read and rendered one after another, and memory holds one of them. What goes into groups and returns that
    are printed lies on disk meanwhile, beside the session.

    Args:
        console: whose key inputs go by role, if it has any.
        path: of the file, which ends in ".dawproject" or ".ardour"; "song.ardour" and "song/song.ardour" are the same.
            It appears whole or not at all. The folder of an Ardour session is replaced only if nothing was added to it
            and no other program saved the session.
        tracks: files, read at the console's sample rate, or arrays (channel, time), of one channel or two.
        track_params: (track, track_width) in [0, 1].
        bus_params: (1, bus_width) in [0, 1].
        role: a name for each track, where the console goes by roles; the comment of the track.
        names: what the tracks are called; their files, roles or numbers if not given.
        curves: in place of columns, see `Console`. Those of gains, places and levels are automation of the DAW.
        mute: (track,) bool.
        solo: (track,) bool.
        channels: 1 or 2 for all tracks, as in `mixdown`; as they are, if not given.
        sample_accurate: whether automation has so many points that straight lines of amplitude between them follow
            levels, which move in dB, to 2e-6. Otherwise it has the points of the curve alone, which are easier to edit.
        tempo: of the session, in beats per minute; nothing depends on it.
        progress: called with tracks done, their number, and a few words.

    Raises:
        DataError: another ending, a file that cannot be written, or a folder that holds the work of others.
        AudioError: a track that cannot be read, is empty, or has more than two channels; more than 4 GiB of one track.
        ParameterError: params of another shape, other names than there are tracks, more than 400000 points of
            automation, and what else `Console` refuses.
        EffectError, WorkerDied, RenderTimeout: an effect failed.
    """
    target = _target(path)
    song = Song(console, tracks, track_params, bus_params, role, curves, channels)
    sounding = audible(mute, solo, torch.zeros(len(tracks), dtype=torch.long), 1)
    checks.one_of("sample_accurate", sample_accurate, (True, False))
    checks.within("tempo", tempo, 1, 1000)
    sounds = [True] * len(tracks) if sounding is None else sounding.tolist()
    heard = _Heard(_flags(mute, len(tracks)), _flags(solo, len(tracks)), sounds)
    called = _names(song, names)
    try:
        with _new(target, song, sample_accurate) as kind:
            writer = _Writer(song, kind, called, heard, sample_accurate, progress)
            writer.write()
            report = writer.report(target)
            kind.write(Whole(writer.tracks, tempo, str(report)))
    except OSError as error:
        if isinstance(error, BlackBoxError):
            raise
        raise DataError(
            f"Cannot write {target} ({error.strerror}); name a file in a folder you may write to."
        ) from error
    return report


def _target(path: str | os.PathLike[str]) -> Path:
    target = Path(path).expanduser()
    if target.suffix not in (dawproject.ENDING, folder.ENDING):
        raise DataError(f"{target} is no name of a session; end it with {dawproject.ENDING} or {folder.ENDING}.")
    is_folder = target.suffix == folder.ENDING
    target = session_file(target) if is_folder else target
    parent = target.parent.parent if is_folder else target.parent
    if not parent.is_dir():
        raise DataError(f"Cannot write {target}: the folder {parent} does not exist; create it first.")
    return target


def _new(target: Path, song: Song, dense: bool) -> contextlib.AbstractContextManager[Format]:
    """A session of the kind that the ending names, which appears whole at the end, or not at all."""
    rate = round(song.rate)
    if rate != song.rate:
        raise AudioError(f"A session needs a whole sample rate, got {song.rate} Hz; make the console at another one.")
    return new_ardour(target, rate, dense) if target.suffix == folder.ENDING else new_dawproject(target)


def _flags(given: Tensor | None, tracks: int) -> list[bool]:
    return [False] * tracks if given is None else given.tolist()


def _names(song: Song, names: Sequence[str] | None) -> list[str]:
    """What each track is called."""
    if names is None:
        given = [song.name(k) for k in range(len(song.tracks))]
        is_file = [isinstance(track, str | os.PathLike) for track in song.tracks]
        return [Path(name).stem if file else name for name, file in zip(given, is_file, strict=True)]
    if isinstance(names, str) or not all(isinstance(name, str) for name in names) or len(names) != len(song.tracks):
        raise ParameterError(
            f"names must be a list of {len(song.tracks)} texts, one for each track, got {names!r:.80}."
        )
    return list(names)


@final
@dataclasses.dataclass(frozen=True)
class _Heard:
    """Which tracks are muted, which are solo, and which of them sound."""

    mute: list[bool]
    solo: list[bool]
    sounds: list[bool]


@final
class _Writer:
    """Writes audio and states, and collects the tracks of the document."""

    def __init__(
        self, song: Song, kind: Format, names: list[str], heard: _Heard, dense: bool, progress: Progress
    ) -> None:
        self._song, self._format, self._names, self._heard = song, kind, names, heard
        self._dense, self._progress = dense, progress
        self._rate = round(song.rate)
        self._seconds = song.time / song.rate
        self._points = self._done = 0
        self.tracks: list[SessionTrack] = []
        self._fates: list[Fate] = []
        self._notes: list[str] = []
        self._complete = True
        self._returns = {name: self._members(song.part(name), True) for name in song.console.sends}
        self._sums: dict[str, DiskSum] = {}
        self._files = contextlib.ExitStack()

    def write(self) -> None:
        """Writes all tracks, groups and returns, and the master."""
        with self._files:
            self._sums = {name: self._sum() for name, members in self._returns.items() if printed(members)}
            self._write()

    def _write(self) -> None:
        routes, roles = self._song.console.routes, self._song.roles
        homes = {role: name for name, group in routes.items() for role in group.roles}
        order = dict.fromkeys(homes.get(role, k) for k, role in enumerate(roles))
        for each in (*order, *(name for name in routes if name not in order)):
            if isinstance(each, int):
                self._track(each, "", None)
            else:
                self._group(each, [k for k, role in enumerate(roles) if homes.get(role) == each])
        for k, name in enumerate(self._returns):
            self._return(name, _return_id(k))
        self._master()

    def _sum(self) -> DiskSum:
        """A sum on disk, beside the file that is written."""
        return self._files.enter_context(contextlib.closing(DiskSum(self._song.time, self._format.scratch)))

    def report(self, path: Path) -> SessionReport:
        """What became of every effect."""
        return SessionReport(
            path, tuple(self._fates), tuple(self._warnings()), self._complete, self._format.claim(self.tracks)
        )

    def _warnings(self) -> list[str]:
        pre = any(send.pre for send in self._song.console.sends.values())
        return self._notes + self._format.notes(self.tracks, pre and not all(self._heard.sounds))

    def _members(self, call: Call, is_sent_to: bool = False) -> list[Member]:
        """The members of a layer in series, with what stands against each; those that would sound different, too."""
        found = [member._replace(why=self._format.obstacle(member)) for member in in_series(*call)]
        return [m._replace(why=m.why or self._format.difference(m, is_sent_to)) if m.on else m for m in found]

    def _track(self, number: int, group: str, own: DiskSum | None) -> None:
        """Writes a track, and adds what comes out of its strip to a group that is printed, and to such returns."""
        name, song = self._names[number], self._song
        self._progress(self._done, len(self._names), name)
        self._done += 1
        members = self._members(song.strip(number))
        count = printed(members)
        audio = through(members[:count], song.read(number)[None])
        key, place = f"track{number + 1}", f"track {number + 1} {name!r}"
        self._fates += fates_of(place, members, count)
        length = song.time if count else song.length(number)
        clips = self._audio(f"{number + 1:02d}-{_slug(name)}", audio[0, :, :length], name)
        gain_db, pan = self._fader(number)
        made = SessionTrack(
            key,
            name,
            role=song.roles[number],
            mute=self._heard.mute[number],
            solo=self._heard.solo[number],
            channels=audio.shape[1],
            to=group or _MASTER,
            group=group,
            devices=self._devices(key, members[count:]),
            clips=clips,
            **gain_db,
            **pan,
        )
        self._add(dataclasses.replace(made, sends=self._sends(number, pan)))
        if self._heard.sounds[number] and (own is not None or self._sums):
            for part, placed, sent in song.pieces(number, through(members[count:], audio), self._sums):
                if own is not None:
                    own.add(part, placed)
                for name, each in sent.items():
                    self._sums[name].add(part, each)

    def _fader(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fader and the place of a track."""
        song, column = self._song, self._song.faders[number]
        ends = song.console.physical(GAIN, torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        gain_db = self._level(GAIN, number, float(column[0]), (ends[0], ends[1]))
        if PAN not in song.curves:
            return gain_db, {"pan": 2 * float(column[1]) - 1}
        points = pan_points(song.curves[PAN], number, self._seconds)
        return gain_db, {"pan": points[0][1], "pan_points": points}

    def _level(self, name: str, row: int, column: float, level_db: tuple[float, float]) -> dict[str, Any]:
        """A level as it stands or moves."""
        if name not in self._song.curves:
            return {"gain_db": level(column, level_db)}
        points = volume_points(self._song.curves[name], row, level_db, self._seconds, self._dense)
        return {"gain_db": decibels(points[0][1]), "volume_points": points}

    def _add(self, track: SessionTrack) -> None:
        self._points += sum(len(each.volume_points) + len(each.pan_points) for each in (track, *track.sends))
        if self._points > _MOST_POINTS:
            raise ParameterError(
                f"The curves need more than {_MOST_POINTS} points of automation; say sample_accurate=False, or give "
                "curves with fewer points."
            )
        self.tracks.append(track)

    def _sends(self, number: int, pan: dict[str, Any]) -> tuple[SessionSend, ...]:
        found = []
        for k, (name, send) in enumerate(self._song.console.sends.items()):
            column = float(self._song.levels[number, k])
            said = self._level(f"{name}.{LEVEL}", number, column, send.level_db)
            found.append(SessionSend(_return_id(k), pre=send.pre, **said, **(pan if send.pre else {})))
        return tuple(found)

    def _group(self, name: str, numbers: list[int]) -> None:
        """A group with its tracks, and the track that it is printed to, if it is."""
        song = self._song
        key, members = f"group{list(song.console.routes).index(name) + 1}", self._members(song.part(name))
        count = printed(members)
        column, level_db = float(song.parts[name][0, -1]), song.console.routes[name].level_db
        fader = self._level(f"{name}.{LEVEL}", 0, column, level_db)
        self._add(self._bus(key, name, "group", members, count, fader))
        own = self._sum() if count else None
        for number in numbers:
            self._track(number, key, own)
        self._fates += fates_of(f"group {name!r}", members, count)
        if own is not None:
            self._print(key, name, members, count, own.whole(), fader)

    def _return(self, name: str, key: str) -> None:
        """The return of a send, and the track that it is printed to, if it is."""
        members = self._returns[name]
        count = printed(members)
        self._fates += fates_of(f"return {name!r}", members, count)
        self._add(self._bus(key, name, "return", members, count, {}))
        if count:
            self._print(key, name, members, count, self._sums.pop(name).whole(), {})

    def _bus(
        self, key: str, name: str, kind: str, members: Sequence[Member], count: int, fader: dict[str, Any]
    ) -> SessionTrack:
        """The channel of a group or return; at volume 0 if it is printed."""
        if not count:
            return SessionTrack(key, name, kind, to=_MASTER, devices=self._devices(key, members), **fader)
        self._notes.append(
            f"The {kind} {name!r} is printed as the track {_print_name(name)!r}, and its own channel stands at volume "
            "0, for another effect in its place."
        )
        return SessionTrack(key, name, kind, to=_MASTER, gain_db=_SILENT)

    def _print(
        self, key: str, name: str, members: Sequence[Member], count: int, mix: Tensor, fader: dict[str, Any]
    ) -> None:
        """Writes what comes out of a group or return as a track, which is solo if any is."""
        audio, own, called = through(members[:count], mix), f"{key}-print", _print_name(name)
        clips = self._audio(f"{key}-{_slug(name)}", audio[0], called)
        devices, solo = self._devices(own, members[count:]), any(self._heard.solo)
        self._add(
            SessionTrack(
                own, called, to=_MASTER, solo=solo, channels=audio.shape[1], devices=devices, clips=clips, **fader
            )
        )

    def _master(self) -> None:
        found = in_series(*self._song.part(MIX_BUS))
        members = [member._replace(why=self._format.obstacle(member)) for member in found]
        self._fates += fates_on_bus("mix bus", members)
        self._complete = not any(member.on and member.why for member in members)
        for member in members:
            if member.on and not member.why and (why := self._format.difference(member)):
                self._complete = False
                self._notes.append(f"On the mix bus, {member.name} is live, but {why}.")
        self._add(SessionTrack(_MASTER, "Master", "master", devices=self._devices(_MASTER, members)))

    def _audio(self, name: str, audio: Tensor, called: str) -> tuple[SessionClip]:
        path = self._format.audio_path(name)
        with self._format.audio(path) as target:
            write_wave(target, audio.numpy(), self._rate, called)
        channels, frames = audio.shape
        return (SessionClip(path, 0.0, frames / self._rate, 0.0, channels, self._rate),)

    def _devices(self, key: str, members: Sequence[Member]) -> tuple[SessionDevice, ...]:
        """The plugins among members; the others are switched off, or left out."""
        held = [member for member in members if not member.why]
        return tuple(self._format.keep_device(member, f"{key}-{k + 1}") for k, member in enumerate(held))


def _return_id(k: int) -> str:
    return f"return{k + 1}"


def _print_name(name: str) -> str:
    return f"{name} (printed)"


def _slug(name: str) -> str:
    """A name as a part of a path that every system can have."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[:40].strip("-") or "track"
