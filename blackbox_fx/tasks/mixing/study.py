"""Trains a mixing network towards the mixes of a teacher, and compares it with simple mixes on unseen songs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.core.lazy import scipy
from blackbox_fx.core.progress import Progress
from blackbox_fx.data.clips import Source
from blackbox_fx.layers.console import join
from blackbox_fx.tasks.mixing.evaluation import (
    BEST_OF_3,
    TRAINED,
    Score,
    best_way,
    nearest_way,
    network_way,
    passages,
    random_way,
    score,
    simple_ways,
)
from blackbox_fx.tasks.mixing.mixer import Mixer
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.tasks.mixing.teacher import Teacher
from blackbox_fx.tasks.mixing.training import Excerpt, Excerpts, MixRecipe, draw_excerpts, fit, mix
from blackbox_fx.training.board import Board
from blackbox_fx.training.run import Run

SECONDS_TO_HEAR = 10.0
_ENDLESS = 1 << 30


@final
class MixStudy:
    """One training run: its data, its network, and the loss on held-out songs before and after.

    Args:
        songs: to train on.
        unseen: held-out songs.
        recipe: settings of the run.
        teacher: whose mixes are learnt, through its console.
        device: of the network.

    Attributes:
        network: that mixes.
        scores: loss on unseen excerpts by name, the trained network last; filled by `prepare` and `train`.
        losses: of every training step.
        seconds: that training took, earlier sessions counted in.
    """

    def __init__(
        self,
        songs: Sequence[Source],
        unseen: Sequence[Source],
        recipe: MixRecipe,
        teacher: Teacher,
        device: torch.device | str = "cpu",
    ) -> None:
        self.songs, self.unseen_songs, self.recipe, self.teacher = songs, unseen, recipe, teacher
        torch.manual_seed(recipe.seed)
        console = teacher.console
        self.network = MixNet(console.track_width, console.bus_width, styles=recipe.styles).to(device)
        self.distance = teacher.distance()
        self.scores: dict[str, float] = {}
        self.losses: list[float] = []
        self.seconds = 0.0

    def prepare(self, progress: Progress) -> None:
        """Draws the excerpts with the teacher's mixes, and scores the mixes that need no training.

        Excerpts of real mixes are drawn while it trains, so that memory holds none of them.
        """
        recipe = self.recipe
        held_out = recipe.plain(seed=recipe.seed + 1)
        endless = self.teacher.endless
        first = 0 if endless else recipe.excerpts
        total = first + recipe.unseen

        def later(done: int, _: int, name: str) -> None:
            progress(first + done, total, name)

        if endless:
            self.train_excerpts = Excerpts(self.songs, self.teacher, _ENDLESS, recipe)
        else:
            self.train_excerpts = draw_excerpts(
                self.songs, self.teacher, recipe.excerpts, recipe, lambda done, _, name: progress(done, total, name)
            )
        self.unseen = draw_excerpts(self.unseen_songs, self.teacher, recipe.unseen, held_out, later)
        sums = [e.tracks.sum(0).expand(2, -1) for e in self.unseen]
        self.scores["plain sum"] = self.score(sums)
        if self.teacher.level_counts:
            scaled = scipy.optimize.minimize_scalar(
                lambda db: self.score([x * 10 ** (db / 20) for x in sums]), bounds=(-30, 12), options={"xatol": 0.25}
            )
            self.scores["best-scaled sum"] = float(scaled.fun)
        self.scores["random console"] = self.score(self._random_mixes())
        self.scores["untrained network"] = self.score(self._network_mixes())

    @torch.no_grad()
    def score(self, mixes: Sequence[Tensor]) -> float:
        """The mean loss of mixes of the unseen excerpts."""
        pairs = zip(mixes, self.unseen, strict=True)
        return float(np.mean([float(self.distance(wet[None], e.target[None])) for wet, e in pairs]))

    @torch.no_grad()
    def _network_mixes(self) -> list[Tensor]:
        return [mix(self.network, self.teacher.console, [e])[0].cpu() for e in self.unseen]

    @torch.no_grad()
    def _random_mixes(self) -> list[Tensor]:
        console, draw = self.teacher.console, torch.Generator().manual_seed(self.recipe.seed)
        mixes = []
        for excerpt in self.unseen:
            tracks, song = join([excerpt.tracks])
            per_track = torch.rand(len(tracks), console.track_width, generator=draw)
            per_bus = torch.rand(1, console.bus_width, generator=draw)
            mixes.append(console(tracks, song, per_track, per_bus, role=excerpt.roles)[0])
        return mixes

    def train(self, run: Run, progress: Progress, board: Board | None = None) -> None:
        """Trains the network in an open run, resuming what is there, and scores it."""
        console, train = self.teacher.console, self.train_excerpts
        self.losses = fit(self.network, console, train, self.recipe, run, progress, self.distance, board)
        self.seconds = (run.state or {})["seconds"]
        self.scores["trained network"] = self.score(self._network_mixes())

    def compare(self, progress: Progress) -> list[Score]:
        """The distances of the trained network's mixes, and of others, to the real mixes of the held-out songs.

        Raises:
            DataError: none of these has a mix that sounds in its middle.
        """
        mixer, rate = self.mixer(), self.teacher.sample_rate
        unseen = passages(self.unseen_songs, self.teacher.channels)
        torch.manual_seed(self.recipe.seed)
        fresh = MixNet(*mixer.network.widths, styles=self.recipe.styles)
        ways = {
            **simple_ways(rate),
            "random console": random_way(mixer, self.recipe.seed),
            "untrained network": network_way(Mixer(fresh, mixer.console, mixer.channels, mixer.seconds)),
            "nearest training track": nearest_way(mixer, self.songs, progress),
            TRAINED: network_way(mixer),
        }
        if self.recipe.styles > 1:
            ways[BEST_OF_3] = best_way(mixer, self.recipe.seed)
        return score(ways, unseen, rate, self.recipe.seed, progress)

    def mixer(self) -> Mixer:
        """The network with its console, on the CPU."""
        return Mixer(self.network.cpu(), self.teacher.console, self.teacher.channels, self.recipe.seconds)

    def song_to_hear(self) -> Excerpt:
        """An excerpt of the first unseen song, long enough to listen to."""
        song = self.unseen_songs[0]
        seconds = min(SECONDS_TO_HEAR, song.length / song.sample_rate)
        longer = self.recipe.plain(seconds=seconds)
        return draw_excerpts([song], self.teacher, 1, longer)[0]
