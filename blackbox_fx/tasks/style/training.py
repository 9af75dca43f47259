"""Trains a style network through real effects: one readable loop, and the settings it reads."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from blackbox_fx.core.checks import one_of, within
from blackbox_fx.core.files import write_text
from blackbox_fx.core.hints import override
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.core.recipes import Recipe
from blackbox_fx.effects import Effect
from blackbox_fx.errors import DataError
from blackbox_fx.layers.black_box import report_failures
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.tasks.style.network import StyleNet
from blackbox_fx.tasks.style.pairs import Pairs
from blackbox_fx.training.run import Run
from blackbox_fx.training.schedule import learning_rate

_log = logging.getLogger("blackbox_fx")
WINDOWS = (512, 2048, 8192)  # of the loss, in samples
SECONDS = (0.1, 60.0)  # that a network may hear at once; the longest window must fit
_JUDGED = 8  # pairs that are rendered together where a loss is measured

Render = Callable[[Tensor, Tensor], Tensor]


@final
@dataclasses.dataclass(frozen=True)
class StyleRecipe(Recipe):
    """Settings of a training run; a TOML file with any of these names overrides the defaults.

    Args:
        steps: optimiser steps.
        batch: pairs per step.
        seconds: length of a place.
        channels: 1 for mono, 2 for stereo.
        pairs: that are trained on, rendered once.
        aside: pairs of other songs by which the best network is chosen.
        unseen: pairs of held-out songs, on which results are reported.
        across: share of pairs whose reference is another song, [0, 1].
        learning_rate: at the end of the warm-up; it falls to a fiftieth along a cosine.
        warm_up: steps over which the learning rate rises.
        clip: largest norm of the gradient.
        seed: of everything random.
        judge_every: steps between measurements on the pairs set aside, and between checkpoints.

    Raises:
        ParameterError: an unknown name, or a value that is not a positive number of its kind; seconds outside
            [0.1, 60]; channels other than 1 and 2; a share above 1.
    """

    steps: int = 1000
    batch: int = 6
    seconds: float = 1.5
    channels: int = 1
    pairs: int = 1500
    aside: int = 48
    unseen: int = 48
    across: float = 0.0
    learning_rate: float = 1e-3
    warm_up: int = 30
    clip: float = 1.0
    seed: int = 0
    judge_every: int = 100

    @override
    def check(self) -> None:
        within("seconds", self.seconds, *SECONDS)
        one_of("channels", self.channels, (1, 2))
        within("across", self.across, 0, 1)


@final
@dataclasses.dataclass(frozen=True)
class Learnt:
    """How a training went.

    Args:
        losses: of every step.
        judged: steps, and the loss on the pairs set aside after them.
        best: the step whose network was kept.
        seconds: of the training.
    """

    losses: list[float]
    judged: list[tuple[int, float]]
    best: int
    seconds: float


def train_step(
    network: StyleNet,
    render: Render,
    pairs: Pairs,
    recipe: StyleRecipe,
    optimizer: torch.optim.Optimizer,
    distance: MultiResolutionSTFT,
    step: int,
) -> float:
    """One optimiser step on a batch and a resolution that the seed and the number of the step draw; its loss."""
    draw = np.random.default_rng([recipe.seed, step])
    batch = pairs.take(draw.choice(len(pairs), min(recipe.batch, len(pairs)), replace=False).tolist())
    batch = batch.to(next(network.parameters()).device)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe.learning_rate, step, step / recipe.steps, recipe.warm_up)
    wet = render(batch.dry, network(batch.heard, batch.wanted))
    loss = distance(wet, batch.target, scale=int(draw.integers(len(distance.windows))))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
    optimizer.step()
    return float(loss.detach())


def mean_distance(wet: Tensor, target: Tensor) -> float:
    """The mean distance of audio, (items, channel, time), to targets at all resolutions, item by item."""
    distance = MultiResolutionSTFT(WINDOWS)
    return float(np.mean([float(distance(x[None], y[None])) for x, y in zip(wet, target, strict=True)]))


@torch.no_grad()
def judge(choose: Callable[[Pairs], Tensor], render: Render, pairs: Pairs) -> float:
    """The mean distance to the targets of what settings give that are chosen for pairs."""
    parts = [pairs.take(range(k, min(k + _JUDGED, len(pairs)))) for k in range(0, len(pairs), _JUDGED)]
    return mean_distance(torch.cat([render(part.dry, choose(part)).cpu() for part in parts]), pairs.target)


def chosen_by(network: StyleNet) -> Callable[[Pairs], Tensor]:
    """The settings that a network chooses for pairs, on the CPU."""
    device = next(network.parameters()).device
    return lambda pairs: network(pairs.heard.to(device), pairs.wanted.to(device)).cpu()


def fit(
    network: StyleNet,
    layer: nn.Module,
    effects: Mapping[str, Effect],
    train: Pairs,
    aside: Pairs,
    recipe: StyleRecipe,
    run: Run,
    progress: Progress = quiet,
) -> Learnt:
    """Trains the network through the chain; goes on from the run's checkpoint if there is one.

    Every `judge_every` steps the loss is measured on pairs set aside. The network that was best there is the one that
    `network` holds in the end, so that what is learnt by heart does no harm. Checkpoints hold all that a step depends
    on: an interrupted run goes on as if it had never stopped.

    Args:
        network: on any device; effects render on CPUs.
        layer: the chain.
        effects: in it, by label.
        train: pairs to learn from.
        aside: pairs to choose by.
        recipe: settings of the run.
        run: opened with this recipe.
        progress: called with the steps done, their number, and a word.

    Raises:
        DataError: a checkpoint of other effects or songs, or a damaged one.
    """
    distance = MultiResolutionSTFT(WINDOWS).to(next(network.parameters()).device)
    best = copy.deepcopy(network)
    model = nn.ModuleDict({"network": network, "best": best, "layer": layer})
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    run.require_effects(effects)
    kept = {"recipe": dataclasses.asdict(recipe), "songs": sorted(set(train.names))}
    state = run.resume(model, optimizer) or {"step": 0, "losses": [], "seconds": 0.0, "judged": [], **kept}
    if state.get("songs") != kept["songs"]:
        raise DataError(
            f"{run.folder} holds a run on other songs; train into another folder, or on the songs it began with."
        )
    write_text(run.folder / "recipe.toml", recipe.to_toml())
    losses, judged = state["losses"], [tuple(each) for each in state["judged"]]
    began = time.monotonic() - state["seconds"]
    for step in range(state["step"], recipe.steps):
        losses.append(train_step(network, layer, train, recipe, optimizer, distance, step))
        if (step + 1) % recipe.judge_every == 0 or step + 1 == recipe.steps:
            layer.eval()
            judged.append((step + 1, judge(chosen_by(network), layer, aside)))
            layer.train()
            if judged[-1][1] <= min(loss for _, loss in judged):
                best.load_state_dict(network.state_dict())
            done = {"step": step + 1, "losses": losses, "seconds": time.monotonic() - began, "judged": judged}
            run.save(model, optimizer, done | kept)
            run.write_table("curve.csv", [("step", "loss"), *enumerate(losses, 1)])
            run.write_table("judged.csv", [("step", "loss on pairs set aside"), *judged])
        progress(step + 1, recipe.steps, f"loss {np.mean(losses[-20:]):.3f}")
    for line in report_failures(model):
        _log.warning("Renders went wrong during this training: %s.", line)
    network.load_state_dict(best.state_dict())
    least = min(judged, key=lambda each: each[1], default=(0, math.inf))
    return Learnt(losses, judged, least[0], time.monotonic() - began)
