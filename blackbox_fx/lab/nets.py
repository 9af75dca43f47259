"""Nets for proxies, each trained for the same time on the same clips and settings."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from blackbox_fx.lab.case import Progress, quiet
from blackbox_fx.proxy.card import Card
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.proxy.train import train_proxy

# An LSTM learns from many short clips: one step over a long one takes as long as ten of these.
RIVALS: dict[str, Mapping[str, Any]] = {
    "TCN": {"net": {"kind": "tcn"}},
    "LSTM-32": {"net": {"kind": "recurrent"}, "seconds": 0.2},
}


@final
@dataclasses.dataclass(frozen=True, eq=False)
class NetScore:
    """How one net did on one effect.

    Attributes:
        effect, net: which.
        card: with its scores and its training.
    """

    effect: str
    net: str
    card: Card


@final
@dataclasses.dataclass(frozen=True)
class Nets:
    """A comparison of the net of each recipe with published ones of the usual size.

    Args:
        recipes: by name.
        minutes: of training for each.
        seed: of weights, clips and settings.
    """

    recipes: Mapping[str, ProxyRecipe]
    minutes: float = 3.0
    seed: int = 0

    def run(self, progress: Progress = quiet) -> Iterator[NetScore]:
        """Yields one score after the other; the progress is that within a training."""
        for name, recipe in self.recipes.items():
            for net, changes in {"the recipe's": {}, **RIVALS}.items():
                chosen = dataclasses.replace(recipe, minutes=self.minutes, steps=0, seed=self.seed, **changes)

                def told(done: int, total: int, words: str, label: str = f"{name}, {net}") -> None:
                    progress(done, total, f"{label}: {words}")

                with tempfile.TemporaryDirectory(prefix="blackbox_fx-") as folder:
                    yield NetScore(name, net, train_proxy(chosen, Path(folder), progress=told).card)


def net_table(scores: Sequence[NetScore]) -> list[tuple[str, ...]]:
    """Headings and a row for each score."""
    table = [("effect", "net", "ESR", "median", "STFT distance", "cosine, parameters", "steps", "times real time")]
    for score in scores:
        sound, slope = score.card.scores.sound, score.card.scores.parameters.mean
        cosine = "-" if slope is None else f"{slope:.3f}"
        row = (f"{sound.esr:.3g}", f"{sound.esr_median:.2g}", f"{sound.stft:.3f}", cosine)
        speed = f"{score.card.scores.realtime:.0f}"
        table.append((score.effect, score.net, *row, str(score.card.training.steps), speed))
    return table
