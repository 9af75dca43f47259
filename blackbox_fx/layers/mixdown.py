"""Whole songs through a console, one track after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from blackbox_fx.audio import Audio
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.layers.automation import Curves
from blackbox_fx.layers.console import Console
from blackbox_fx.layers.routing import MIX_BUS, audible
from blackbox_fx.layers.song import Song, Track


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
    song = Song(console, tracks, track_params, bus_params, role, curves, channels)
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
