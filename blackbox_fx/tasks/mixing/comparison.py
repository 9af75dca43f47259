"""How a mixing network learns by different gradients, and beside SPSA as it was published."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from blackbox_fx.core.progress import Progress
from blackbox_fx.data.composer import compose
from blackbox_fx.estimators import SPSA, Estimator, FiniteDifference
from blackbox_fx.lab.published import PublishedSPSA
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.report.learning import Curve
from blackbox_fx.runtime import Pool
from blackbox_fx.tasks.mixing.engineer import HiddenEngineer, demo_console
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.tasks.mixing.training import Excerpt, MixRecipe, draw_excerpts, mix, train_step

_SONGS, _UNSEEN = 84, 14
_POINTS = 12  # of a curve


METHODS: dict[str, Callable[[torch.Generator], Estimator]] = {
    "SPSA as published": PublishedSPSA,
    "SPSA": lambda draw: SPSA(generator=draw),
    "one-sided differences": lambda draw: FiniteDifference(central=False),
}


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
