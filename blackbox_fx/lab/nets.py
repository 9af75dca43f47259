"""Nets for proxies, and ways to train them, each for the same time on the same clips and settings."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from blackbox_fx.core.progress import Progress
from blackbox_fx.lab.case import quiet
from blackbox_fx.learning.train import train_proxy
from blackbox_fx.proxy.card import Card
from blackbox_fx.proxy.nets import Structured, make_net
from blackbox_fx.proxy.recipe import ProxyRecipe

# Each has the batch and clip length that suit it: a step of the TCN over a whole batch takes as long as four over two
# clips, and a step of the LSTM over a long clip as long as ten over short ones.
RIVALS: dict[str, Mapping[str, Any]] = {
    "TCN": {"net": {"kind": "tcn"}, "batch": 2},
    "LSTM-32": {"net": {"kind": "recurrent"}, "seconds": 0.2},
}
_AS_IS = "the recipe's"
_SLOPES = 0.5


def tricks(recipe: ProxyRecipe) -> dict[str, Mapping[str, Any]]:
    """Changes to a recipe that are tried one at a time.

    Pre-emphasis, clips of noise, a saturated or logarithmic error-to-signal ratio (which gives quiet clips more weight)
    and other learning rates were tried too. None was better in equal time, so no recipe has settings for them.
    """
    net = make_net(recipe.net, 1, recipe.sample_rate) if recipe.net else None
    if recipe.impulses and isinstance(net, Structured) and net.is_filter:
        return {"learnt from clips": {"impulses": False}}
    others: dict[str, Mapping[str, Any]] = {
        "without matched slopes" if recipe.slopes else "slopes matched": {"slopes": 0.0 if recipe.slopes else _SLOPES},
        "clips twice as long": {"seconds": 2 * recipe.seconds},
        "clips half as long": {"seconds": recipe.seconds / 2},
    }
    if recipe.net.get("capacitor"):
        others["without a capacitor"] = {"net": {**recipe.net, "capacitor": False}}
    return others


@final
@dataclasses.dataclass(frozen=True, eq=False)
class NetScore:
    """The score of one net on one effect.

    Args:
        effect: name of the effect.
        net: name of the net, or of the change to its training.
        card: its scores and its training.
    """

    effect: str
    net: str
    card: Card


@final
@dataclasses.dataclass(frozen=True)
class Nets:
    """A comparison of the net of each recipe with published ones of the usual size, or with its own tricks.

    Args:
        recipes: by name.
        minutes: of training for each.
        seed: of weights, clips and settings.
        of_tricks: whether the net stays and its training changes, see `tricks`.
    """

    recipes: Mapping[str, ProxyRecipe]
    minutes: float = 3.0
    seed: int = 0
    of_tricks: bool = False

    def run(self, progress: Progress = quiet) -> Iterator[NetScore]:
        """Yields one score after the other; the progress is that within a training."""
        for name, recipe in self.recipes.items():
            others = tricks(recipe) if self.of_tricks else RIVALS
            for net, changes in {_AS_IS: {}, **others}.items():
                chosen = dataclasses.replace(recipe, minutes=self.minutes, steps=0, seed=self.seed, **changes)

                def report(done: int, total: int, words: str, label: str = f"{name}, {net}") -> None:
                    progress(done, total, f"{label}: {words}")

                with tempfile.TemporaryDirectory(prefix="blackbox_fx-") as folder:
                    yield NetScore(name, net, train_proxy(chosen, Path(folder), progress=report).card)


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


def brought(scores: Sequence[NetScore]) -> dict[str, str]:
    """The effect of each trick on the scores of one effect, for its card."""
    base = next(score for score in scores if score.net == _AS_IS).card
    minutes = f"after {base.training.seconds / 60:.2g} minutes"
    return {score.net: f"{_words(score.card)}, instead of {_words(base)}, {minutes}" for score in scores[1:]}


def _words(card: Card) -> str:
    cosine = card.scores.parameters.mean
    return f"ESR {card.scores.sound.esr:.3g}" + ("" if cosine is None else f" and cosine {cosine:.3f}")
