"""A whole training of a style network: songs, pairs, training, and how near it comes beside simple ways."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import Source
from blackbox_fx.effects import Effect, Rack
from blackbox_fx.errors import DataError
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import Chain
from blackbox_fx.runtime import Pool
from blackbox_fx.tasks.style.network import StyleNet
from blackbox_fx.tasks.style.pairs import Pairs, draw_pairs
from blackbox_fx.tasks.style.rules import by_nearest, by_rule
from blackbox_fx.tasks.style.styler import About, write_styler
from blackbox_fx.tasks.style.training import StyleRecipe, chosen_by, fit, judge, mean_distance
from blackbox_fx.training.run import Run

_log = logging.getLogger("blackbox_fx")
_ASIDE = 0.1  # of the songs to train on, by which the best network is chosen
TRAINED = "trained network"


@final
class StyleStudy:
    """A training and what it is compared with.

    Args:
        effects: of the chain, by label.
        said: the tables that describe them, see `load_console`.
        songs: to train on; some of them are set aside to choose the best network.
        unseen: to report results on.
        recipe: of the training.
        pool: where the effects render.
        device: of the network.
    """

    def __init__(
        self,
        effects: Mapping[str, Effect],
        said: Mapping[str, Any],
        songs: Sequence[Source],
        unseen: Sequence[Source],
        recipe: StyleRecipe,
        pool: Pool,
        device: str = "cpu",
    ) -> None:
        if len(songs) < 2 or not unseen:
            raise DataError(
                f"{len(songs)} songs to train on and {len(unseen)} held out are too few; give three or more."
            )
        _tell_short([*songs, *unseen], recipe.seconds)
        self.effects, self.said, self.recipe, self.pool = effects, said, recipe, pool
        self.sample_rate = songs[0].sample_rate
        count = max(1, round(_ASIDE * len(songs)))
        self._songs = {"aside": songs[:count], "train": songs[count:], "unseen": unseen}
        self.rack = Rack(effects)
        self.real = BlackBox(self.rack, pool=pool, sample_rate=self.sample_rate, surrogates=())
        self.layer = Chain(dict(effects), pool=pool, sample_rate=self.sample_rate)
        torch.manual_seed(recipe.seed)
        widths = {label: effect.space.width for label, effect in effects.items()}
        self.network = StyleNet(widths, recipe.channels).to(device)

    def run(self, run: Run, progress: Progress = quiet) -> dict[str, float]:
        """Draws pairs, trains, and writes style.json and weights.safetensors; distances on unseen songs by way.

        Args:
            run: opened with the recipe; goes on from its checkpoint. Songs are let go of once pairs are drawn.
            progress: called all along.
        """
        pairs = {name: self._draw(name, progress) for name in list(self._songs)}
        learnt = fit(self.network, self.layer, self.effects, pairs["train"], pairs["aside"], self.recipe, run, progress)
        scores = self.compare(pairs["train"], pairs["unseen"])
        card = {
            "made": datetime.date.today().isoformat(),
            "songs": len({*pairs["train"].names}),
            "recipe": dataclasses.asdict(self.recipe),
            "best step": learnt.best,
            "seconds": round(learnt.seconds),
            "distance on unseen songs": {name: round(value, 4) for name, value in scores.items()},
            "pairs left out": sum(p.left_out for p in pairs.values()),
        }
        columns = tuple(f"{label}.{c}" for label, effect in self.effects.items() for c in effect.space.columns)
        about = About(self.said, columns, self.sample_rate, self.recipe.seconds, self.recipe.channels, card)
        write_styler(run.folder, self.network, about)
        return scores

    def compare(self, known: Pairs, unseen: Pairs) -> dict[str, float]:
        """Mean distances to the true output on unseen songs, by way of choosing settings."""
        draw = torch.Generator().manual_seed(self.recipe.seed)
        width = unseen.params.shape[1]
        return {
            "untouched": mean_distance(unseen.dry, unseen.target),
            "random settings": judge(lambda pairs: torch.rand(len(pairs), width, generator=draw), self.real, unseen),
            "rule: spectrum and level": mean_distance(by_rule(unseen, self.sample_rate), unseen.target),
            "nearest of 1000 settings": judge(by_nearest(known), self.real, unseen),
            TRAINED: judge(chosen_by(self.network), self.real, unseen),
        }

    def _draw(self, name: str, progress: Progress) -> Pairs:
        recipe = self.recipe
        counts = {"train": recipe.pairs, "aside": recipe.aside, "unseen": recipe.unseen}
        seed = recipe.seed + {"train": 0, "aside": 1, "unseen": 2}[name] * 1_000_003
        return draw_pairs(
            self._songs.pop(name), self.rack, counts[name], recipe.seconds, recipe.channels, seed, self.pool, progress,
            across=recipe.across, keep_references=name == "unseen",
        )  # fmt: skip


def _tell_short(songs: Sequence[Source], seconds: float) -> None:
    """Warns of songs in which a place does not fit."""
    if short := [song.name for song in songs if song.length < round(seconds * song.sample_rate)]:
        _log.warning(
            "%d of %d songs, such as %s, are shorter than the %g s of a place, and end in silence; "
            "lower seconds in the recipe, or leave them out.", len(short), len(songs), short[0], seconds,
        )  # fmt: skip
