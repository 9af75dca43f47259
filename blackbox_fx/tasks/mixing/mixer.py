"""A trained mixing network, and what it does with a song."""

from __future__ import annotations

import dataclasses
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
from blackbox_fx.core.reasons import reason
from blackbox_fx.data.clips import SECONDS, Source
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
from blackbox_fx.tasks.mixing.measures import MixLoss
from blackbox_fx.tasks.mixing.network import MOST_STYLES, MixNet
from blackbox_fx.tasks.mixing.teacher import Teacher
from blackbox_fx.tasks.mixing.training import MixRecipe
from blackbox_fx.training import checkpoint

_ABOUT, _CONSOLE = "mixer.json", "console.toml"
_WINDOWS = 12  # of a song, which a network hears
_JUDGED = 4  # in which mixes of several styles are compared
_QUIET = 1e-3  # of full scale, below which a track says nothing in a window


def describe(folder: Path, teacher: Teacher, recipe: MixRecipe, console: Path | None) -> None:
    """Writes beside a training what `load_mixer` needs: the console, and how the network hears.

    Args:
        folder: of the run.
        teacher: that is learnt from.
        recipe: of the training.
        console: the file of the console; None for that of the demo.
    """
    about = {"sample_rate": teacher.sample_rate, "channels": teacher.channels}
    about |= {"seconds": recipe.seconds, "styles": recipe.styles}
    if console is not None:
        write_text(folder / _CONSOLE, console.read_text())
    write_text(folder / _ABOUT, json.dumps(about | {"console": _CONSOLE if console else "demo"}))


Settings = tuple[Tensor, Tensor]  # of tracks, (track, track_width), and of the mix, (1, bus_width), in [0, 1]


@final
@dataclasses.dataclass(frozen=True)
class Opinion:
    """What a network makes of a song: settings in each of its styles, and how probable these are.

    Args:
        rows: (styles, track, track_width) in [0, 1].
        buses: (styles, 1, bus_width) in [0, 1].
        likely: (styles,), the probabilities.
        spreads: of settings within a style on the axis of the logit, (track_width,) and (bus_width,).
    """

    rows: Tensor
    buses: Tensor
    likely: Tensor
    spreads: tuple[Tensor, Tensor]

    def draw(self, count: int, seed: int = 0) -> list[tuple[int, Settings]]:
        """Settings drawn at random, each with the number of its style. Styles are as frequent as they are probable.

        Args:
            count: how many.
            seed: of the draws, 0 or more.
        """
        rng = np.random.default_rng(seed)
        # evenly placed in the distribution: as unbiased as single draws, and as different as the styles allow
        places = (np.arange(count) + rng.random()) / count
        styles = np.searchsorted(np.cumsum(self.likely.double().numpy()) / float(self.likely.sum()), places)
        found = []
        for style in rng.permutation(np.minimum(styles, len(self.likely) - 1)):
            parts = zip((self.rows[style], self.buses[style]), self.spreads, strict=True)
            own, bus = (
                (x.clamp(1e-6, 1 - 1e-6).logit() + spread * torch.from_numpy(rng.standard_normal(x.shape)).float())
                for x, spread in parts
            )
            found.append((int(style), (own.sigmoid(), bus.sigmoid())))
        return found


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

    def settings(self, song: Source, progress: Progress = quiet) -> Settings:
        """The settings for a song; see `listen`.

        Of several styles, it is the one whose mix is the least distant from those of all, weighed by how probable they
        are: the mix that is expected to be the least wrong.
        """
        opinion = self.listen(song, progress)
        styles = len(opinion.likely)
        if styles == 1:
            return opinion.rows[0], opinion.buses[0]
        distance, risk = MixLoss(self.sample_rate), torch.zeros(styles)
        for start in self._starts(song, _JUDGED):
            tracks = torch.from_numpy(song.excerpt(start, self._length).stack(self.channels))
            mixes = torch.cat(
                [self.render(tracks, song.roles, each) for each in zip(opinion.rows, opinion.buses, strict=True)]
            )
            for k, wet in enumerate(mixes):
                apart = torch.stack([distance(wet[None], other[None]) for other in mixes])
                risk[k] += apart @ opinion.likely
        best = int(risk.argmin())
        return opinion.rows[best], opinion.buses[best]

    @torch.no_grad()
    def render(self, tracks: Tensor, roles: Sequence[str], settings: Settings) -> Tensor:
        """The mix of an excerpt, (1, 2, time), of tracks (track, channel, time)."""
        return self.console(tracks, torch.zeros(len(tracks), dtype=torch.long), *settings, role=roles)

    @torch.no_grad()
    def listen(self, song: Source, progress: Progress = quiet) -> Opinion:
        """What the network makes of a song.

        It hears windows of it, evenly placed; what it chooses for a track counts in those where the track plays.

        Args:
            song: with as many tracks as there are.
            progress: called for each window.

        Raises:
            DataError: a track that cannot be read.
        """
        length, log_mel, starts = self._length, LogMel(self.sample_rate), self._starts(song, _WINDOWS)
        rows, buses, likely, plays = [], [], [], []
        for k, start in enumerate(starts):
            progress(k, len(starts), "listening")
            excerpt = song.excerpt(start, length)
            if isinstance(song, SongFiles) and len(excerpt.tracks) != len(song.files):
                raise DataError(f"A track of {song.name} cannot be read ({song.skipped[-1][1]}); replace its file.")
            tracks = torch.from_numpy(excerpt.stack(self.channels))
            heard = self.network.hear(log_mel(tracks), torch.zeros(len(tracks), dtype=torch.long), 1)
            styles = [self.network.logits(heard, torch.tensor([k])) for k in range(self.network.styles)]
            rows.append(torch.stack([own.sigmoid() for own, _ in styles]))
            buses.append(torch.stack([bus.sigmoid() for _, bus in styles]))
            likely.append(self.network.weigh(heard)[0].exp())
            plays.append((tracks.abs().amax((1, 2)) > _QUIET).float())
        played = torch.stack(plays) + 1e-3
        loud = played.sum(1) / played.sum()
        return Opinion(
            torch.einsum("wstc,wt->stc", torch.stack(rows), played / played.sum(0)).clamp(0, 1),
            torch.einsum("wsbc,w->sbc", torch.stack(buses), loud).clamp(0, 1),
            torch.einsum("ws,w->s", torch.stack(likely), loud),
            self.network.spreads(),
        )

    @property
    def _length(self) -> int:
        return round(self.seconds * self.sample_rate)

    def _starts(self, song: Source, count: int) -> list[int]:
        """Where windows of a song begin, evenly placed from its first sample to its last."""
        last = max(song.length - self._length, 0)
        return sorted({round(last * k / max(count - 1, 1)) for k in range(count)})

    def mix(self, song: SongFiles, rows: Tensor, buses: Tensor, progress: Progress = quiet) -> Audio:
        """The mix of a whole song at settings, (2, time), track by track; see `mixdown`."""
        return mixdown(
            self.console, song.files, rows, buses, role=song.roles, channels=self.channels, progress=progress
        )

    def save_session(
        self, path: Path, song: SongFiles, rows: Tensor, buses: Tensor, progress: Progress = quiet
    ) -> SessionReport:
        """Writes the mix as a session; see `save_session`."""
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
        styles = int(about.get("styles", 1))
        own = about["console"] != "demo"
        fits = check_sample_rate(rate) and channels in (1, 2) and SECONDS[0] <= seconds <= SECONDS[1]
        if not fits or not 1 <= styles <= MOST_STYLES:
            raise ValueError(f"{channels} channels, {seconds:g} s, {styles} styles")
    except (OSError, ValueError, KeyError, TypeError, AudioError) as error:
        raise DataError(
            f"Cannot read {path} ({reason(error)}); name the folder of a run of blackbox-fx train mix."
        ) from error
    console = load_console(folder / _CONSOLE, pool=pool) if own else demo_console(pool, rate, 0)
    network = MixNet(console.track_width, console.bus_width, styles=styles)
    if not checkpoint.load_part(folder, network, "network"):
        raise DataError(f"{folder} holds no checkpoint; train until the first is written, see save_every.")
    return Mixer(network, console, channels, seconds)
