"""The tracks of one whole song with their settings, read and rendered one after another."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio, check_audio, info, read, to_channels
from blackbox_fx.core import checks
from blackbox_fx.dsp.mixing import place
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.layers.automation import Curves, call_layer, curves_below
from blackbox_fx.layers.chain import further_inputs
from blackbox_fx.layers.console import Console
from blackbox_fx.layers.desk import GAIN, PAN
from blackbox_fx.layers.routing import LEVEL, gain

_CHUNK = 1 << 18  # samples whose faders are computed at a time
Track = Audio | Tensor | str | os.PathLike[str]


@final
class Call(NamedTuple):
    """A layer and what it is called with beside audio.

    Args:
        layer: of the console; None for a wire.
        params: (1, its width).
        inputs: its further inputs, by name.
        curves: by its own columns.
    """

    layer: Any
    params: Tensor
    inputs: Mapping[str, Tensor]
    curves: Curves


@final
class Song:
    """The tracks of a song with their settings.

    Args:
        console: that mixes them.
        tracks: files or arrays (channel, time).
        track_params: (track, track_width).
        bus_params: (1, bus_width).
        role: of each track, where the console goes by roles.
        curves: in place of columns.
        channels: 1 or 2 for all tracks; as they are if not given.

    Raises:
        AudioError, ParameterError: see `mixdown`.
    """

    def __init__(
        self,
        console: Console,
        tracks: Sequence[Track],
        track_params: Tensor,
        bus_params: Tensor,
        role: Sequence[str] | None,
        curves: Curves,
        channels: int | None = None,
    ) -> None:
        checks.one_of("channels", channels, (None, 1, 2))
        if isinstance(tracks, str | os.PathLike) or not len(tracks):
            raise ParameterError(f"tracks must be a list of a track or more, got {tracks!r:.60}.")
        self.console, self.tracks, self.curves, self.channels = console, tracks, curves, channels
        self.roles = console.check_roles(role, len(tracks))
        console.check_params(track_params, bus_params, len(tracks), 1)
        console.check_curves(curves, len(tracks), 1)
        self.rate = console.sample_rate
        self.time = max(self.length(number) for number in range(len(tracks)))
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

    def strip(self, number: int) -> Call:
        """The strip of a track, with its settings and its key."""
        role, row = self.roles[number], slice(number, number + 1)
        label, strip = self.console.strip_of(role)
        if strip is None:
            return Call(None, torch.zeros(1, 0), {}, {})
        moving = curves_below(self.curves, label, strip.columns)
        moving = {name: curve.rows(row) for name, curve in moving.items()}
        return Call(strip, self.own[label][row], self._key_audio(role, further_inputs(strip)), moving)

    def part(self, name: str) -> Call:
        """A group, a return or the mix bus, with its settings; its further inputs get silence."""
        prefix, layer = self.console.part_of(name)
        if layer is None:
            return Call(None, torch.zeros(1, 0), {}, {})
        silence = {each: torch.zeros(1, 1, self.time) for each in further_inputs(layer)}
        moving = curves_below(self.curves, prefix, layer.columns)
        return Call(layer, self.parts[name][:, : len(layer.columns)], silence, moving)

    def add(self, number: int, own: Tensor, sums: Mapping[str, Tensor]) -> None:
        """Renders a track, and adds it to where it goes and to the sends."""
        call = self.strip(number)
        audio = self.read(number)[None]
        if call.layer is not None:
            audio = call_layer(call.layer, audio, call.params, call.inputs, call.curves)
        for part, placed, sent in self.pieces(number, audio, sums):
            own[..., part].add_(placed)  # and not +=, which copies the sum onto itself
            for name, each in sent.items():
                sums[name][..., part].add_(each)

    def pieces(
        self, number: int, audio: Tensor, sends: Container[str]
    ) -> Iterator[tuple[slice, Tensor, dict[str, Tensor]]]:
        """What comes out of the strip of a track, piece by piece: where, behind its fader, and as it goes to sends.

        Args:
            number: of the track.
            audio: (1, channel, time).
            sends: the names of those that are wanted.
        """
        for start in range(0, self.time, _CHUNK):
            part = slice(start, min(start + _CHUNK, self.time))
            behind, before = self._gains(number, part)
            piece = audio[..., part]
            placed, sent = place(piece, behind), {}
            for k, (name, send) in enumerate(self.console.sends.items()):
                if name in sends:
                    level = self._send_level(k, f"{name}.{LEVEL}", number, part)
                    sent[name] = (place(piece, before) if send.pre else placed) * level[:, None].to(placed)
            yield part, placed, sent

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
            mixed[..., part].add_(wet[..., part] * level[:, None].to(wet))

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
        together = torch.zeros_like(self.read(players[0]))
        for number in players:
            together = together + self.read(number)  # of one channel or two
        return {known[0]: together[None]}

    def length(self, number: int) -> int:
        """Of a track, in samples at the console's rate."""
        track = self.tracks[number]
        if isinstance(track, str | os.PathLike):
            found = info(track)
            return -(-found.frames * round(self.rate) // round(found.sample_rate))
        return track.shape[-1]

    def read(self, number: int) -> Tensor:
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
