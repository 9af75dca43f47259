"""Trains a mixing network through real effects: one readable loop, and the settings it reads."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.core.progress import Progress
from blackbox_fx.core.recipes import read_toml, require_known
from blackbox_fx.data.clips import Clips, Source
from blackbox_fx.effects import presets
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.layers.black_box import BlackBox, report_failures
from blackbox_fx.layers.console import Console, join
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.models.encoders import LogMel
from blackbox_fx.tasks.mixing.engineer import HiddenEngineer
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.training import checkpoint

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
        unseen: excerpts of songs kept aside, on which the loss is reported.
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
    """A few seconds of a song: what the network hears, and what it should arrive at.

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
    hear = LogMel(clips.sample_rate)
    found = []
    for index in range(count):
        clip = clips.clip(index)
        tracks, song = join([torch.from_numpy(clip.tracks)])
        target = engineer.console(tracks, song, *engineer.decide(tracks, song, 1))[0]
        found.append(Excerpt(clip.song, clip.track_names, tracks, hear(tracks), target))
        if progress:
            progress(index + 1, count, clip.song)
    return found


def mix(network: MixNet, console: Console, batch: Sequence[Excerpt]) -> Tensor:
    """The network's mixes of excerpts, (batch, 2, time), on the network's device."""
    device = next(network.parameters()).device
    tracks, song = (x.to(device) for x in join([e.tracks for e in batch]))
    mel = torch.cat([e.mel for e in batch]).to(device)
    return console(tracks, song, *network(mel, song, len(batch)))


def require_same_run(folder: Path, recipe: MixRecipe) -> None:
    """Raises DataError if a folder cannot be written or holds another recipe's run: before anything is rendered."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"Cannot make the folder {folder} ({error.strerror}); name another with --out.") from error
    state = checkpoint.read_state(folder)
    if state is not None and state.get("recipe") != dataclasses.asdict(recipe):
        raise DataError(f"{folder} holds a run with other settings; train into another folder, or use its recipe.toml.")


def require_same_effects(folder: Path, console: Console) -> None:
    """Writes what the effects of a console are and where they stand to effects.json in the folder of a run.

    Raises:
        DataError: the folder holds the checkpoint of a run with other effects, or with other versions of them.
    """
    now = {name: presets.record(m.effect) for name, m in console.named_modules() if isinstance(m, BlackBox)}
    now["gain_pan"] = presets.record(console.gain_pan.effect())
    path = folder / "effects.json"
    if checkpoint.read_state(folder) is None:
        checkpoint.write_text(path, json.dumps(now, indent=1))
        return
    try:
        then = json.loads(path.read_text())
        found = [presets.change(then[name], now[name]) for name in then.keys() & now.keys()]
        found += [f"other effects ({', '.join(then)})"] * (then.keys() != now.keys())
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"Cannot read {path} ({error}); train into another folder.") from error
    if changes := [said for said in found if said]:
        raise DataError(f"{folder} holds a run with {changes[0]}; go back to it, or train into another folder.")


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a run that has made all its steps and written its page."""
    state = checkpoint.read_state(folder)
    return state is not None and state["step"] == state["recipe"]["steps"] and (folder / "index.html").exists()


def fit(
    network: MixNet,
    console: Console,
    train: Sequence[Excerpt],
    recipe: MixRecipe,
    folder: Path,
    progress: Progress | None = None,
) -> list[float]:
    """Trains the network through the console; goes on from the folder's checkpoint if there is one.

    Checkpoints hold all that a step depends on, so an interrupted run goes on as if it had never stopped, from the last
    multiple of `save_every` steps. If renders crashed, hung or were skipped, a line in the log says how many.

    Args:
        network: on any device; effects render on CPUs.
        console: what it operates.
        train: excerpts to learn from.
        recipe: settings of the run.
        folder: of its checkpoints, and of effects.json, which says what the effects are and where they stand.
        progress: called with the steps done, their number, and a word.

    Returns:
        The loss of every step, also in curve.csv.

    Raises:
        DataError: a checkpoint of another recipe or of other effects, or a damaged one.
    """
    distance = MultiResolutionSTFT()
    model = torch.nn.ModuleDict({"network": network, "console": console})
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    require_same_run(folder, recipe)
    require_same_effects(folder, console)
    kept = {"recipe": dataclasses.asdict(recipe), "excerpts": [e.name for e in train]}
    state = checkpoint.load(folder, model, optimizer) or {"step": 0, "losses": [], "seconds": 0.0, **kept}
    if state.get("excerpts") != kept["excerpts"]:
        raise DataError(
            f"{folder} holds a run on other songs; train into another folder, or on the songs it began with."
        )
    checkpoint.write_text(folder / "recipe.toml", recipe.to_toml())
    losses, first, began = state["losses"], state["step"], time.monotonic() - state["seconds"]

    def save(step: int) -> None:
        done = {"step": step, "losses": losses, "seconds": time.monotonic() - began}
        checkpoint.save(folder, model, optimizer, done | kept)
        table = io.StringIO()
        csv.writer(table).writerows([("step", "loss"), *enumerate(losses, 1)])
        checkpoint.write_text(folder / "curve.csv", table.getvalue())

    for step in range(first, recipe.steps):
        draw = np.random.default_rng([recipe.seed, step])
        batch = [train[i] for i in draw.choice(len(train), min(recipe.batch, len(train)), replace=False)]
        for group in optimizer.param_groups:
            fall = 0.51 + 0.49 * np.cos(np.pi * step / recipe.steps)
            group["lr"] = recipe.learning_rate * fall * min(1.0, (step + 1) / recipe.warm_up)
        wet = mix(network, console, batch)
        target = torch.stack([e.target for e in batch]).to(wet.device)
        loss = distance(wet, target, scale=int(draw.integers(len(distance.windows))))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        losses.append(float(loss.detach()))
        # only between steps: whatever interrupts a step, the last checkpoint is whole
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            save(step + 1)
        if progress:
            progress(step + 1, recipe.steps, f"loss {np.mean(losses[-20:]):.3f}")
    for line in report_failures(model):
        _log.warning("Renders went wrong during this training: %s.", line)
    return losses
