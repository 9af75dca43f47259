"""Whole songs through a console, one track after another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio, check_audio, info, read, to_channels
from blackbox_fx.core import checks
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.dsp.mixing import place
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.layers.automation import Curves, call_layer, curves_below
from blackbox_fx.layers.chain import further_inputs
from blackbox_fx.layers.console import Console
from blackbox_fx.layers.desk import GAIN, PAN
from blackbox_fx.layers.routing import LEVEL, MIX_BUS, audible, gain

_CHUNK = 1 << 18  # samples whose faders are computed at a time
Track = Audio | Tensor | str | os.PathLike[str]


@torch.no_grad()
def mixdown(
    console: Console,
    tracks: Sequence[Track],
    track_params: Tensor,
    bus_params: Tensor,
    *,
    role: Sequence[str] | None = None,
    mute: Tensor | None = None,
    solo: Tensor | None = None,
    curves: Curves = {},
    channels: int | None = None,
    progress: Progress = quiet,
) -> Audio:
    """The mix of one whole song, as the console gives it at once: bit for bit, where nothing moves.

    Tracks are read and rendered one after another, so memory holds one of them, the mix, a group and the sends,
    whatever the number of tracks. Shorter ones end in silence.

    Args:
        console: whose key inputs go by role, if it has any.
        tracks: files, read at the console's sample rate, or arrays (channel, time), of one channel or two.
        track_params: (track, track_width) in [0, 1].
        bus_params: (1, bus_width) in [0, 1].
        role: a name for each track, where the console goes by roles.
        mute: (track,) bool.
        solo: (track,) bool.
        curves: in place of columns, see `Console`.
        channels: 1 or 2 for all tracks, whatever the files have: a mono track on both sides is 3 dB louder than one
            that the console places. As they are, if not given.
        progress: called with tracks done, their number, and a few words.

    Returns:
        (2, time).

    Raises:
        AudioError: a track that cannot be read, is empty, or has more than two channels.
        ParameterError: params of another shape, and what else `Console` refuses.
        EffectError, WorkerDied, RenderTimeout: an effect failed.
    """
    song = _Song(console, tracks, track_params, bus_params, role, curves, channels)
    sounding = audible(mute, solo, torch.zeros(len(tracks), dtype=torch.long), 1)
    mixed = song.silence()
    sums = {name: song.silence() for name in console.sends}
    count = 0
    for target, numbers in song.stages():
        own = mixed if target is None else song.silence()
        for number in numbers:
            progress(count, len(tracks), song.name(number))
            if sounding is None or bool(sounding[number]):
                song.add(number, own, sums)
            count += 1
        if target is not None:
            song.add_group(target, own, mixed)
    for name in console.sends:
        progress(count, len(tracks), name)
        mixed += console.through(name, sums.pop(name), song.parts[name], curves)
    progress(count, len(tracks), "mix bus")
    return console.through(MIX_BUS, mixed, song.parts[MIX_BUS], curves)[0].numpy()


@final
class _Song:
    """The tracks of a song with their settings."""

    def __init__(
        self,
        console: Console,
        tracks: Sequence[Track],
        track_params: Tensor,
        bus_params: Tensor,
        role: Sequence[str] | None,
        curves: Curves,
        channels: int | None,
    ) -> None:
        checks.one_of("channels", channels, (None, 1, 2))
        if isinstance(tracks, str | os.PathLike) or not len(tracks):
            raise ParameterError(f"tracks must be a list of a track or more, got {tracks!r:.60}.")
        self.console, self.tracks, self.curves, self.channels = console, tracks, curves, channels
        self.roles = console.check_roles(role, len(tracks))
        console.check_params(track_params, bus_params, len(tracks), 1)
        console.check_curves(curves, len(tracks), 1)
        self.rate = console.sample_rate
        self.time = max(self._length(track) for track in tracks)
        self.own, self.faders, self.levels = console.split_tracks(track_params)
        self.parts = console.split_buses(bus_params)
        # for all tracks together, as the console does it: the last bit of a power depends on its neighbours
        self.still = console.fader_gains(self.faders[:, :1], self.faders[:, 1:])

    def silence(self) -> Tensor:
        """A stereo mix of nothing."""
        return torch.zeros(1, 2, self.time)

    def name(self, number: int) -> str:
        """Of a track, for people."""
        track = self.tracks[number]
        return Path(track).name if isinstance(track, str | os.PathLike) else self.roles[number] or f"track {number + 1}"

    def stages(self) -> Iterator[tuple[str | None, list[int]]]:
        """The tracks in no group, then those of each group by its name."""
        yield None, self.console.alone(self.roles)
        for name, group in self.console.routes.items():
            yield name, [k for k, role in enumerate(self.roles) if role in group.roles]

    def add(self, number: int, own: Tensor, sums: Mapping[str, Tensor]) -> None:
        """Adds a track to where it goes, and to the sends."""
        console, role = self.console, self.roles[number]
        label, strip = console.strip_of(role)
        audio = self._read(number)[None]
        if strip is not None:
            inputs, own_row = self._key_audio(role, further_inputs(strip)), slice(number, number + 1)
            moving = curves_below(self.curves, label, strip.columns)
            moving = {name: curve.rows(own_row) for name, curve in moving.items()}
            audio = call_layer(strip, audio, self.own[label][own_row], inputs, moving)
        for start in range(0, self.time, _CHUNK):
            part = slice(start, min(start + _CHUNK, self.time))
            self._add_part(number, audio[..., part], part, own, sums)

    def _add_part(self, number: int, audio: Tensor, part: slice, own: Tensor, sums: Mapping[str, Tensor]) -> None:
        behind, before = self._gains(number, part)
        placed = place(audio, behind)
        own[..., part].add_(placed)  # and not +=, which copies the sum onto itself
        for k, (name, send) in enumerate(self.console.sends.items()):
            level = self._send_level(k, f"{name}.{LEVEL}", number, part)
            sums[name][..., part].add_((place(audio, before) if send.pre else placed) * level[:, None])

    def _gains(self, number: int, part: slice) -> tuple[Tensor, Tensor]:
        """The gains of a track behind its fader and before it, (1, 2, 1 or samples)."""
        if GAIN not in self.curves and PAN not in self.curves:
            behind, before = self.still
            return behind[number : number + 1], before[number : number + 1]
        columns = (self._column(name, self.faders[:, k], number, part) for k, name in enumerate((GAIN, PAN)))
        return self.console.fader_gains(*columns)

    def _send_level(self, k: int, name: str, number: int, part: slice) -> Tensor:
        """The gain with which a track goes to a send, (1, 1 or samples)."""
        level_db = list(self.console.sends.values())[k].level_db
        if name in self.curves:
            return gain(self._column(name, self.levels[:, k], number, part), level_db)
        return gain(self.levels[:, k : k + 1], level_db)[number : number + 1]

    def add_group(self, name: str, own: Tensor, mixed: Tensor) -> None:
        """Adds what comes out of a group to the mix."""
        columns = self.parts[name]
        wet = self.console.through(name, own, columns, self.curves)
        for start in range(0, self.time, _CHUNK):
            part = slice(start, min(start + _CHUNK, self.time))
            level = gain(self._column(f"{name}.{LEVEL}", columns[:, -1], 0, part), self.console.routes[name].level_db)
            mixed[..., part].add_(wet[..., part] * level[:, None])

    def _column(self, name: str, column: Tensor, row: int, part: slice) -> Tensor:
        """A column of one row as it stands or moves, (1, 1 or samples)."""
        if name not in self.curves:
            return column[row : row + 1, None]
        return self.curves[name].rows(slice(row, row + 1)).samples(part.stop - part.start, self.rate, part.start)

    def _key_audio(self, role: str, known: Sequence[str]) -> dict[str, Tensor]:
        source = self.console.keys.get(role)
        players = [k for k, each in enumerate(self.roles) if source and each == source]
        if len(known) != 1 or not players:
            return {}
        together = torch.zeros_like(self._read(players[0]))
        for number in players:
            together = together + self._read(number)  # of one channel or two
        return {known[0]: together[None]}

    def _length(self, track: Track) -> int:
        if isinstance(track, str | os.PathLike):
            found = info(track)
            return -(-found.frames * round(self.rate) // round(found.sample_rate))
        return track.shape[-1]

    def _read(self, number: int) -> Tensor:
        """A track as long as the song, (channel, time)."""
        track = self.tracks[number]
        if isinstance(track, str | os.PathLike):
            audio = read(track, self.rate)[0]
        else:
            audio = check_audio(track.numpy() if isinstance(track, Tensor) else track)
        if len(audio) > 2:
            raise AudioError(f"{self.name(number)} has {len(audio)} channels, and must have one or two.")
        audio = audio if self.channels is None else to_channels(audio, self.channels)
        missing = self.time - audio.shape[1]
        if missing < -1:  # resampling may round up
            raise AudioError(
                f"{self.name(number)} is {-missing} samples longer than its header says; convert it to WAV."
            )
        return torch.from_numpy(np.pad(audio, ((0, 0), (0, missing))) if missing > 0 else audio[:, : self.time])
