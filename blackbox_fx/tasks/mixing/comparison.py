"""How a mixing network learns by different gradients, and beside SPSA as it was published."""

from __future__ import annotations

import csv
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch

from blackbox_fx.core.files import write_text
from blackbox_fx.core.progress import Progress
from blackbox_fx.data.composer import compose
from blackbox_fx.estimators import SPSA, Call, Estimator, FiniteDifference, Plan, Probing
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.runtime import Pool
from blackbox_fx.space import Space
from blackbox_fx.tasks.mixing.engineer import HiddenEngineer, demo_console
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.tasks.mixing.training import Excerpt, MixRecipe, draw_excerpts, mix, train_step

_SONGS, _UNSEEN = 84, 14
_POINTS = 12  # of a curve


@final
class PublishedSPSA(Probing):
    """SPSA as DeepAFx-ST has it: one random sign for each parameter, shared by the whole batch, and a step of 5e-4.

    Ends are clipped to [0, 1] and divided by the whole step.

    Args:
        generator: draws the signs.
        step: on the [0, 1] axis.

    References:
        "Style transfer of audio effects with differentiable signal processing" (Steinmetz et al., 2022).
    """

    def __init__(self, generator: torch.Generator, step: float = 5e-4) -> None:
        super().__init__()
        self.generator, self.step = generator, step

    def plan(self, call: Call) -> Plan:
        """Two renders for each item."""
        batch, width = call.points.shape
        signs = torch.randint(2, (1, width), generator=self.generator).numpy() * 2.0 - 1.0
        points = np.concatenate([np.clip(call.points + way * self.step * signs, 0, 1) for way in (1, -1)])

        def combine(scores: np.ndarray, here: np.ndarray) -> np.ndarray:
            up, down = np.split(scores, 2)
            return (up - down)[:, None] / (2 * self.step * signs)

        return Plan(points, np.tile(np.arange(batch), 2), combine)

    def cost(self, space: Space) -> int:
        """Two."""
        return 2


METHODS: dict[str, Callable[[torch.Generator], Estimator]] = {
    "SPSA as published": PublishedSPSA,
    "SPSA": lambda draw: SPSA(generator=draw),
    "one-sided differences": lambda draw: FiniteDifference(central=False),
}


@final
@dataclasses.dataclass(frozen=True)
class Curve:
    """The loss on unseen songs while a network learned.

    Args:
        method: how gradients were obtained.
        seed: of songs, weights and gradients.
        steps, seconds, losses: when, and what the loss was; seconds are those of training alone.
    """

    method: str
    seed: int
    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    losses: tuple[float, ...]


@torch.no_grad()
def unseen_loss(network: MixNet, engineer: HiddenEngineer, unseen: Sequence[Excerpt]) -> float:
    """The mean distance of the network's mixes to the hidden engineer's."""
    distance = MultiResolutionSTFT()
    return float(np.mean([float(distance(mix(network, engineer.console, [e]), e.target[None])) for e in unseen]))


def learn(method: str, recipe: MixRecipe, pool: Pool, progress: Progress) -> Curve:
    """Trains the network of the demo by one method.

    Args:
        method: a name in `METHODS`.
        recipe: of the training.
        pool: where the effects render.
        progress: called with the steps done, all steps, and a few words.
    """
    songs = [compose(recipe.seed * 10_000 + k, 6.0) for k in range(_SONGS + _UNSEEN)]
    rate = songs[0].sample_rate
    target = HiddenEngineer(demo_console(pool, rate, recipe.seed))
    train = draw_excerpts(songs[:_SONGS], target, recipe.excerpts, recipe)
    unseen = draw_excerpts(songs[_SONGS:], target, recipe.unseen, dataclasses.replace(recipe, seed=recipe.seed + 1))
    engineer = HiddenEngineer(demo_console(pool, rate, recipe.seed, METHODS[method]))
    torch.manual_seed(recipe.seed)
    network = MixNet(engineer.console.track_width, engineer.console.bus_width)
    optimizer, distance = torch.optim.Adam(network.parameters()), MultiResolutionSTFT()
    steps, seconds, losses = [0], [0.0], [unseen_loss(network, engineer, unseen)]
    spent = 0.0
    for step in range(recipe.steps):
        began = time.monotonic()
        train_step(network, engineer.console, train, recipe, optimizer, distance, step)
        spent += time.monotonic() - began
        if (step + 1) % max(1, recipe.steps // _POINTS) == 0 or step + 1 == recipe.steps:
            steps.append(step + 1)
            seconds.append(spent)
            losses.append(unseen_loss(network, engineer, unseen))
        progress(step + 1, recipe.steps, f"{method}, seed {recipe.seed}: loss on unseen songs {losses[-1]:.3f}")
    return Curve(method, recipe.seed, tuple(steps), tuple(seconds), tuple(losses))


def write_curves(path: Path, curves: Sequence[Curve]) -> None:
    """Writes curves as CSV, a row for each point."""
    rows = [("method", "seed", "step", "seconds", "loss")]
    for curve in curves:
        points = zip(curve.steps, curve.seconds, curve.losses, strict=True)
        rows += [(curve.method, curve.seed, step, f"{s:.2f}", f"{loss:.6f}") for step, s, loss in points]
    write_text(path, "".join(",".join(map(str, row)) + "\n" for row in rows))


def read_curves(path: Path) -> list[Curve]:
    """The curves that `write_curves` wrote; none where there is no file."""
    if not path.exists():
        return []
    found: dict[tuple[str, int], list[tuple[int, float, float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            point = int(row["step"]), float(row["seconds"]), float(row["loss"])
            found.setdefault((row["method"], int(row["seed"])), []).append(point)
    return [Curve(*key, *zip(*points, strict=True)) for key, points in found.items()]
