"""Trains a mixing network through real effects: one readable loop, and the settings it reads."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.core.files import write_text
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.core.recipes import read_toml, require_known
from blackbox_fx.data.clips import Clips, Source
from blackbox_fx.effects import Effect
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.layers.black_box import BlackBox, report_failures
from blackbox_fx.layers.console import Console, join
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.models.encoders import LogMel
from blackbox_fx.tasks.mixing.engineer import HiddenEngineer
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.training.run import Run
from blackbox_fx.training.schedule import learning_rate

_log = logging.getLogger("blackbox_fx")


@final
@dataclasses.dataclass(frozen=True)
class MixRecipe:
    """Settings of a training run; a TOML file with any of these names overrides the defaults.

    Args:
        steps: optimiser steps.
        batch: excerpts per step.
        seconds: length of an excerpt.
        excerpts: training excerpts, drawn once and rendered once by the hidden engineer.
        unseen: excerpts of held-out songs, on which the loss is reported.
        learning_rate: at the end of the warm-up; it falls to a fiftieth along a cosine.
        warm_up: steps over which the learning rate rises: without it, one run in several lost all tracks to one
            setting in its first hundred steps, and did not come back.
        clip: largest norm of the gradient.
        seed: of everything random.
        save_every: steps between checkpoints.

    Raises:
        ParameterError: an unknown name, or a value that is not a positive number of its kind.
    """

    steps: int = 340
    batch: int = 4
    seconds: float = 2.0
    excerpts: int = 320
    unseen: int = 24
    learning_rate: float = 2e-3
    warm_up: int = 30
    clip: float = 1.0
    seed: int = 0
    save_every: int = 25

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole = isinstance(field.default, int)
            kinds = (int,) if whole else (int, float)
            fits = isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < float("inf")
            if not fits or (value == 0 and field.default != 0):  # the seed alone may be 0
                kind = "a positive whole number" if whole else "a positive number"
                raise ParameterError(f"{field.name} must be {kind}, got {value!r}.")

    @classmethod
    def read(cls, path: Path) -> MixRecipe:
        """The recipe of a TOML file."""
        return cls.make(read_toml(path))

    @classmethod
    def make(cls, values: dict[str, Any]) -> MixRecipe:
        """A recipe of named values."""
        require_known(cls, values)
        return cls(**values)

    def to_toml(self) -> str:
        """The text that `read` reads back."""
        return "".join(f"{name} = {value}\n" for name, value in dataclasses.asdict(self).items())


@final
@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A few seconds of a song: the network's input, and its target.

    Args:
        name, track_names: of the song.
        tracks: (track, 1, time).
        mel: (track, bands, frames), the log-mel spectrograms of the tracks.
        target: (2, time), the hidden engineer's mix.
    """

    name: str
    track_names: tuple[str, ...]
    tracks: Tensor
    mel: Tensor
    target: Tensor


@torch.no_grad()
def draw_excerpts(
    songs: Sequence[Source], engineer: HiddenEngineer, count: int, recipe: MixRecipe, progress: Progress | None = None
) -> list[Excerpt]:
    """Draws excerpts of songs and renders the hidden engineer's mixes, the same for the same seed."""
    clips = Clips(songs, seconds=recipe.seconds, seed=recipe.seed)
    log_mel = LogMel(clips.sample_rate)
    found = []
    for index in range(count):
        clip = clips.clip(index)
        tracks, song = join([torch.from_numpy(clip.tracks)])
        target = engineer.console(tracks, song, *engineer.decide(tracks, song, 1))[0]
        found.append(Excerpt(clip.song, clip.track_names, tracks, log_mel(tracks), target))
        if progress:
            progress(index + 1, count, clip.song)
    return found


def mix(network: MixNet, console: Console, batch: Sequence[Excerpt]) -> Tensor:
    """The network's mixes of excerpts, (batch, 2, time), on the network's device."""
    device = next(network.parameters()).device
    tracks, song = (x.to(device) for x in join([e.tracks for e in batch]))
    mel = torch.cat([e.mel for e in batch]).to(device)
    return console(tracks, song, *network(mel, song, len(batch)))


def effects_of(console: Console) -> dict[str, Effect]:
    """The effects of a console by the names of their layers, with the faders."""
    found = {name: m.effect for name, m in console.named_modules() if isinstance(m, BlackBox)}
    return {**found, "gain_pan": console.gain_pan.effect()}


def open_run(folder: Path, recipe: MixRecipe) -> Run:
    """The run of a recipe in a folder; see `Run` for errors."""
    return Run(folder, dataclasses.asdict(recipe))


def is_finished(run: Run) -> bool:
    """Whether a run has made all its steps and written its page."""
    steps = None if run.state is None else run.state["recipe"]["steps"]
    return run.state is not None and run.state["step"] == steps and (run.folder / "index.html").exists()


def fit(
    network: MixNet,
    console: Console,
    train: Sequence[Excerpt],
    recipe: MixRecipe,
    run: Run,
    progress: Progress = quiet,
) -> list[float]:
    """Trains the network through the console; goes on from the run's checkpoint if there is one.

    Checkpoints hold all that a step depends on, so an interrupted run goes on as if it had never stopped, from the last
    multiple of `save_every` steps. If renders crashed, hung or were skipped, a line in the log says how many.

    Args:
        network: on any device; effects render on CPUs.
        console: what it operates.
        train: excerpts to learn from.
        recipe: settings of the run.
        run: opened with this recipe, see `open_run`.
        progress: called with the steps done, their number, and a word.

    Returns:
        The loss of every step, also in curve.csv.

    Raises:
        DataError: a checkpoint of other effects or songs, or a damaged one.
    """
    distance = MultiResolutionSTFT()
    model = torch.nn.ModuleDict({"network": network, "console": console})
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    run.require_effects(effects_of(console))
    kept = {"recipe": dataclasses.asdict(recipe), "excerpts": [e.name for e in train]}
    state = run.resume(model, optimizer) or {"step": 0, "losses": [], "seconds": 0.0, **kept}
    if state.get("excerpts") != kept["excerpts"]:
        raise DataError(
            f"{run.folder} holds a run on other songs; train into another folder, or on the songs it began with."
        )
    write_text(run.folder / "recipe.toml", recipe.to_toml())
    losses, began = state["losses"], time.monotonic() - state["seconds"]
    for step in range(state["step"], recipe.steps):
        losses.append(train_step(network, console, train, recipe, optimizer, distance, step))
        # only between steps: whatever interrupts a step, the last checkpoint is whole
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            done = {"step": step + 1, "losses": losses, "seconds": time.monotonic() - began}
            run.save(model, optimizer, done | kept)
            run.write_table("curve.csv", [("step", "loss"), *enumerate(losses, 1)])
        progress(step + 1, recipe.steps, f"loss {np.mean(losses[-20:]):.3f}")
    for line in report_failures(model):
        _log.warning("Renders went wrong during this training: %s.", line)
    return losses


def train_step(
    network: MixNet,
    console: Console,
    train: Sequence[Excerpt],
    recipe: MixRecipe,
    optimizer: torch.optim.Optimizer,
    distance: MultiResolutionSTFT,
    step: int,
) -> float:
    """One optimiser step on a batch that the seed and the number of the step draw; its loss."""
    draw = np.random.default_rng([recipe.seed, step])
    batch = [train[i] for i in draw.choice(len(train), min(recipe.batch, len(train)), replace=False)]
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe.learning_rate, step, step / recipe.steps, recipe.warm_up)
    wet = mix(network, console, batch)
    target = torch.stack([e.target for e in batch]).to(wet.device)
    loss = distance(wet, target, scale=int(draw.integers(len(distance.windows))))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
    optimizer.step()
    return float(loss.detach())
