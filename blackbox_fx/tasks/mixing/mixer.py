"""A trained mixing network, and what it does with a song."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio, check_sample_rate
from blackbox_fx.core.files import write_text
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import SECONDS
from blackbox_fx.data.folder import SongFiles
from blackbox_fx.errors import AudioError, DataError
from blackbox_fx.layers.console import Console
from blackbox_fx.layers.description import load_console
from blackbox_fx.layers.mixdown import mixdown
from blackbox_fx.models.encoders import LogMel
from blackbox_fx.runtime import Pool
from blackbox_fx.sessions.report import SessionReport
from blackbox_fx.sessions.saving import save_session
from blackbox_fx.tasks.mixing.engineer import demo_console
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.tasks.mixing.teacher import Teacher
from blackbox_fx.training import checkpoint

_ABOUT, _CONSOLE = "mixer.json", "console.toml"
_WINDOWS = 12  # of a song, which a network hears
_QUIET = 1e-3  # of full scale, below which a track says nothing in a window


def describe(folder: Path, teacher: Teacher, seconds: float, console: Path | None) -> None:
    """Writes beside a training what `load_mixer` needs: the console, and how the network hears.

    Args:
        folder: of the run.
        teacher: that is learnt from.
        seconds: length of an excerpt.
        console: the file of the console; None for that of the demo.
    """
    about = {"sample_rate": teacher.sample_rate, "channels": teacher.channels, "seconds": seconds}
    if console is not None:
        write_text(folder / _CONSOLE, console.read_text())
    write_text(folder / _ABOUT, json.dumps(about | {"console": _CONSOLE if console else "demo"}))


@final
class Mixer:
    """A trained network with its console.

    Args:
        network: that chooses settings.
        console: that it sets.
        channels: of tracks, as in its training.
        seconds: of the windows that it hears.
    """

    def __init__(self, network: MixNet, console: Console, channels: int, seconds: float) -> None:
        self.network, self.console, self.channels, self.seconds = network.eval(), console, channels, seconds
        self.sample_rate = console.sample_rate

    @torch.no_grad()
    def settings(self, song: SongFiles, progress: Progress = quiet) -> tuple[Tensor, Tensor]:
        """The settings for a song, (track, track_width) and (1, bus_width).

        The network hears windows of it, evenly placed; what it chooses for a track counts in those where the track
        plays.

        Raises:
            DataError: a track that cannot be read.
        """
        length, log_mel = round(self.seconds * self.sample_rate), LogMel(self.sample_rate)
        last = max(song.length - length, 0)
        starts = sorted({round(last * k / max(_WINDOWS - 1, 1)) for k in range(_WINDOWS)})
        rows, buses, plays = [], [], []
        for k, start in enumerate(starts):
            progress(k, len(starts), "listening")
            excerpt = song.excerpt(start, length)
            if len(excerpt.tracks) != len(song.files):
                raise DataError(f"A track of {song.name} cannot be read ({song.skipped[-1][1]}); replace its file.")
            tracks = torch.from_numpy(excerpt.stack(self.channels))
            own, bus = self.network(log_mel(tracks), torch.zeros(len(tracks), dtype=torch.long), 1)
            rows.append(own)
            buses.append(bus)
            plays.append((tracks.abs().amax((1, 2)) > _QUIET).float())
        weights = torch.stack(plays) + 1e-3
        weights = (weights / weights.sum(0))[:, :, None]
        loud = torch.stack(plays).sum(1) + 1e-3
        bus = (torch.stack(buses) * (loud / loud.sum())[:, None, None]).sum(0)
        return (torch.stack(rows) * weights).sum(0).clamp(0, 1), bus.clamp(0, 1)

    def mix(self, song: SongFiles, rows: Tensor, buses: Tensor, progress: Progress = quiet) -> Audio:
        """The mix of a whole song at settings, (2, time), track by track; see `mixdown`."""
        return mixdown(
            self.console, song.files, rows, buses, role=song.roles, channels=self.channels, progress=progress
        )

    def save_session(
        self, path: Path, song: SongFiles, rows: Tensor, buses: Tensor, progress: Progress = quiet
    ) -> SessionReport:
        """Writes the mix as a DAWproject file; see `save_session`."""
        how = {"role": song.roles, "names": song.track_names, "channels": self.channels, "progress": progress}
        return save_session(self.console, path, song.files, rows, buses, **how)


def load_mixer(folder: Path, pool: Pool) -> Mixer:
    """The network of a finished training, or of one that was interrupted, as it was at its last checkpoint.

    Args:
        folder: of the run.
        pool: where its effects render.

    Raises:
        DataError: no training, or a damaged one.
    """
    path = folder / _ABOUT
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        rate, channels, seconds = float(about["sample_rate"]), int(about["channels"]), float(about["seconds"])
        own = about["console"] != "demo"
        if not (check_sample_rate(rate) and channels in (1, 2) and SECONDS[0] <= seconds <= SECONDS[1]):
            raise ValueError(f"{channels} channels, {seconds:g} s")
    except (OSError, ValueError, KeyError, TypeError, AudioError) as error:
        raise DataError(f"Cannot read {path} ({error}); name the folder of a run of blackbox-fx train mix.") from error
    console = load_console(folder / _CONSOLE, pool=pool) if own else demo_console(pool, rate, 0)
    network = MixNet(console.track_width, console.bus_width)
    if not checkpoint.load_part(folder, network, "network"):
        raise DataError(f"{folder} holds no checkpoint; train until the first is written, see save_every.")
    return Mixer(network, console, channels, seconds)


def loudest(audio: Sequence[Audio] | Audio, length: int) -> int:
    """Where the loudest stretch of a mix of this length begins, (channel, time)."""
    power = np.square(np.asarray(audio, np.float64)).sum(0)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    if len(power) <= length:
        return 0
    step = max(1, length // 10)
    starts = np.arange(0, len(power) - length, step)
    return int(starts[np.argmax(sums[starts + length] - sums[starts])])
