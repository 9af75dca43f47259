"""A song of a console as a DAWproject file."""

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

from blackbox_fx import __version__
from blackbox_fx.core import checks, files
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.errors import AudioError, BlackBoxError, DataError, ParameterError
from blackbox_fx.layers.automation import Curves
from blackbox_fx.layers.console import Console
from blackbox_fx.layers.desk import GAIN, PAN
from blackbox_fx.layers.routing import LEVEL, MIX_BUS, audible
from blackbox_fx.layers.song import Song, Track
from blackbox_fx.sessions import document
from blackbox_fx.sessions.container import METADATA, PROJECT, NewArchive
from blackbox_fx.sessions.points import decibels, level, pan_points, volume_points
from blackbox_fx.sessions.report import Fate, SessionReport, fates_of, fates_on_bus
from blackbox_fx.sessions.series import STATE, Member, in_series, obstacle, printed, through
from blackbox_fx.sessions.session import SessionClip, SessionDevice, SessionSend, SessionTrack
from blackbox_fx.sessions.sums import DiskSum
from blackbox_fx.sessions.wave import write_wave

ENDING = ".dawproject"
_MOST_POINTS = 400_000
_USUAL_TOP_DB = 6.02  # of faders
_CLASS = slice(8, 40)  # of a .vstpreset: which plugin it is for
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
    """Writes one song of a console as a DAWproject file, with which an engineer goes on in a DAW.

    Tracks keep their audio, at the console's sample rate, their faders, places, sends, mutes and solos; groups and
    returns are channels, and the mix bus is the master. VST3 plugins stay plugins, with their class id and their state.
    The format cannot hold other effects, nor plugins whose settings move or that hear a key. On a track, these are
    printed to audio, with everything before them; VST3 plugins behind them stay live. A group or return with such an
    effect is printed as a track of its own, beside the channel itself, which stands at volume 0 and keeps its tracks
    and sends. On the mix bus such an effect is left out. The report says what became of each effect, and why.

    Pan law: the console gives a mono track cos and sin of a quarter turn, -3.0 dB on both sides in the middle and 0 dB
    on one side at the ends, as DAWs with the usual constant power law do: they give the same mix. A DAW that leaves
    mono tracks at 0 dB in the middle plays them 3.0 dB louder there. A stereo track is balanced by the same law, 3.0 dB
    higher: 0 dB in the middle, 3.0 dB on one side at the ends. A DAW whose law for stereo tracks is at -3.0 dB in the
    middle plays them 3.0 dB softer everywhere, and one that only fades the other side plays them the same in the middle
    and 3.0 dB softer at the ends. Sends before the fader are written with the place of their track as their own place,
    for DAWs that take them off before the place; others place them twice. Some DAWs still send muted tracks there.

    Tracks are read and rendered one after another, and memory holds one of them. What goes into groups and returns that
    are printed lies on disk meanwhile, beside the file.

    Args:
        console: whose key inputs go by role, if it has any.
        path: of the file, which ends in ".dawproject". It appears whole or not at all.
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
        DataError: another ending, or a file that cannot be written.
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
        with files.replacing(target) as temporary, NewArchive(temporary) as archive:
            writer = _Writer(song, archive, called, heard, sample_accurate, progress)
            writer.write()
            report = writer.report(target)
            archive.write(PROJECT, document.project(writer.tracks, tempo, __version__))
            archive.write(METADATA, document.metadata(target.stem, str(report)))
    except OSError as error:
        if isinstance(error, BlackBoxError):
            raise
        raise DataError(
            f"Cannot write {target} ({error.strerror}); name a file in a folder you may write to."
        ) from error
    return report


def _target(path: str | os.PathLike[str]) -> Path:
    target = Path(path).expanduser()
    if target.suffix != ENDING:
        raise DataError(f"{target} is no name of a DAWproject file; end it with {ENDING}.")
    if not target.parent.is_dir():
        raise DataError(f"Cannot write {target}: the folder {target.parent} does not exist; create it first.")
    return target


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
        self, song: Song, archive: NewArchive, names: list[str], heard: _Heard, dense: bool, progress: Progress
    ) -> None:
        self._song, self._archive, self._names, self._heard = song, archive, names, heard
        self._dense, self._progress = dense, progress
        self._rate = round(song.rate)
        if self._rate != song.rate:
            raise AudioError(
                f"A session needs a whole sample rate, got {song.rate} Hz; make the console at another one."
            )
        self._seconds = song.time / song.rate
        self._states: dict[tuple[str, str], bytes] = {}
        self._points = self._done = 0
        self.tracks: list[SessionTrack] = []
        self._fates: list[Fate] = []
        self._notes: list[str] = []
        self._complete = True
        self._returns = {name: in_series(*song.part(name)) for name in song.console.sends}
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
        return self._files.enter_context(contextlib.closing(DiskSum(self._song.time, self._archive.path.parent)))

    def report(self, path: Path) -> SessionReport:
        """What became of every effect."""
        return SessionReport(path, tuple(self._fates), tuple(self._warnings()), self._complete)

    def _warnings(self) -> list[str]:
        found = list(self._notes)
        levels = [(track.name, track.gain_db, track.volume_points) for track in self.tracks]
        loud = [n for n, db, points in levels if max([db, *(decibels(v) for _, v in points)]) > _USUAL_TOP_DB]
        if loud:
            found.append(f"The faders of some DAWs end at 6 dB, and these go higher: {', '.join(map(repr, loud))}.")
        if any(document.plain(name) != name for name in self._names):
            found.append("Some names hold characters that XML cannot hold; there is U+FFFD in their place.")
        pre = any(send.pre for send in self._song.console.sends.values())
        if pre and not all(self._heard.sounds):
            found.append("Some DAWs still send muted tracks from before their faders.")
        return found

    def _track(self, number: int, group: str, own: DiskSum | None) -> None:
        """Writes a track, and adds what comes out of its strip to a group that is printed, and to such returns."""
        name, song = self._names[number], self._song
        self._progress(self._done, len(self._names), name)
        self._done += 1
        members = in_series(*song.strip(number))
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
        key, members = f"group{list(song.console.routes).index(name) + 1}", in_series(*song.part(name))
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
        members = in_series(*self._song.part(MIX_BUS))
        self._fates += fates_on_bus("mix bus", members)
        self._complete = not any(member.on and obstacle(member) for member in members)
        devices = self._devices(_MASTER, members)
        self._add(SessionTrack(_MASTER, "Master", "master", devices=devices))

    def _audio(self, name: str, audio: Tensor, called: str) -> tuple[SessionClip]:
        path = f"audio/{name}.wav"
        with self._archive.entry(path) as target:
            write_wave(target, audio.numpy(), self._rate, called)
        channels, frames = audio.shape
        return (SessionClip(path, 0.0, frames / self._rate, 0.0, channels, self._rate),)

    def _devices(self, key: str, members: Sequence[Member]) -> tuple[SessionDevice, ...]:
        """The plugins among members, with their states; as many channels come out of a VST3 plugin as go in."""
        found: list[SessionDevice] = []
        for member in members:
            if obstacle(member):
                continue  # it is switched off, or left out
            effect = member.layer.effect
            content = self._state(effect, effect.space.decode(member.params[0]))
            path = f"plugins/{key}-{len(found) + 1}{STATE}"
            self._archive.write(path, content)
            plugin_id = content[_CLASS].decode("ascii", "replace")
            found.append(SessionDevice("vst3", _plugin(effect), plugin_id, path, member.on, member.label))
        return tuple(found)

    def _state(self, effect: Any, settings: Any) -> bytes:
        whole = effect.space.complete(settings)
        key = (effect.fingerprint, repr(sorted(whole.items())))
        if key not in self._states:
            self._states[key] = effect.write_state(STATE, whole)
        return self._states[key]


def _return_id(k: int) -> str:
    return f"return{k + 1}"


def _print_name(name: str) -> str:
    return f"{name} (printed)"


def _plugin(effect: Any) -> str:
    """The name of a plugin, as its file has it, or as it is named in a file of several."""
    return effect.name.rpartition(":")[2].removesuffix(".vst3")


def _slug(name: str) -> str:
    """A name as a part of a path that every system can have."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[:40].strip("-") or "track"
