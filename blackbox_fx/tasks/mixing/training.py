"""Trains a mixing network through real effects: one readable loop, and the settings it reads."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from blackbox_fx.core.files import write_text
from blackbox_fx.core.hints import override
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.core.recipes import Recipe
from blackbox_fx.data.clips import SILENCE, Clip, Clips, Source
from blackbox_fx.effects import Effect
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.layers.black_box import BlackBox, report_failures
from blackbox_fx.layers.console import Console, join
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.models.encoders import LogMel
from blackbox_fx.tasks.mixing.network import MOST_STYLES, MixNet
from blackbox_fx.tasks.mixing.teacher import Teacher
from blackbox_fx.training.board import Board
from blackbox_fx.training.run import Run
from blackbox_fx.training.schedule import learning_rate

_log = logging.getLogger("blackbox_fx")
_TEMPERATURE = 0.05  # difference of two losses that makes one style e times as probable as another


@final
@dataclasses.dataclass(frozen=True)
class MixRecipe(Recipe):
    """Settings of a training run; a TOML file with any of these names overrides the defaults.

    Args:
        steps: optimiser steps.
        batch: excerpts per step.
        seconds: length of an excerpt.
        excerpts: that are trained on, drawn and mixed once; of real mixes, there are always new ones.
        unseen: excerpts of held-out songs, on which the loss is reported.
        learning_rate: at the end of the warm-up; it falls to a fiftieth along a cosine.
        warm_up: steps over which the learning rate rises: without it, one run in several lost all tracks to one
            setting in its first hundred steps, and did not come back.
        clip: largest norm of the gradient.
        seed: of everything random.
        save_every: steps between checkpoints.
        styles: of mixes that the network tells apart, see `MixNet`; each costs as many renders as one.
        jitter_db, speed: of excerpts that are trained on, see `Clips`.
        most_tracks: of excerpts that are trained on, see `Clips`; 0 for any number.

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
    styles: int = 1
    jitter_db: float = 0.0
    speed: float = 0.0
    most_tracks: int = 0

    @override
    def check(self) -> None:
        if self.styles > MOST_STYLES:
            raise ParameterError(f"styles must be in [1, {MOST_STYLES}], got {self.styles}.")

    def plain(self, **changes: Any) -> MixRecipe:
        """The recipe without variations of excerpts, with other changes."""
        return dataclasses.replace(self, jitter_db=0.0, speed=0.0, most_tracks=0, **changes)


@final
@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A few seconds of a song: the network's input, and its target.

    Args:
        name, track_names: of the song.
        tracks: (track, channel, time).
        mel: (track, bands, frames), the log-mel spectrograms of the tracks.
        target: (2, time), the teacher's mix.
        roles: what each track is.
    """

    name: str
    track_names: tuple[str, ...]
    tracks: Tensor
    mel: Tensor
    target: Tensor
    roles: tuple[str, ...] = ()


@final
class Excerpts(Sequence[Excerpt]):
    """Excerpts of songs, drawn anew whenever they are asked for; the same for the same seed and number.

    Args:
        songs: of which they are.
        teacher: whose mixes are their targets.
        count: how many there are.
        recipe: whose `seconds` and `seed` count.
    """

    def __init__(self, songs: Sequence[Source], teacher: Teacher, count: int, recipe: MixRecipe) -> None:
        self.teacher, self.size = teacher, count
        self.clips = Clips(
            songs,
            recipe.seconds,
            teacher.channels,
            recipe.seed,
            jitter_db=recipe.jitter_db,
            speed=recipe.speed,
            most_tracks=recipe.most_tracks or None,
        )
        self.log_mel = LogMel(self.clips.sample_rate)

    def __len__(self) -> int:
        return self.size

    @torch.no_grad()
    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.size:
            raise IndexError(index)
        clip = _sounding(self.clips.clip(index))
        tracks, song = join([torch.from_numpy(clip.tracks)])
        target = self.teacher.target(tracks, song, clip)
        return Excerpt(clip.song, clip.track_names, tracks, self.log_mel(tracks), target, clip.roles)


def _sounding(clip: Clip) -> Clip:
    """The clip without tracks that are silent in it: they would cost renders, and change nothing."""
    kept = [k for k, track in enumerate(clip.tracks) if np.abs(track).max() >= SILENCE]
    names, roles = ([each[k] for k in kept if each] for each in (clip.track_names, clip.roles))
    return clip._replace(tracks=clip.tracks[kept], track_names=tuple(names), roles=tuple(roles))


def draw_excerpts(
    songs: Sequence[Source], teacher: Teacher, count: int, recipe: MixRecipe, progress: Progress = quiet
) -> list[Excerpt]:
    """Draws excerpts of songs, and keeps them with the teacher's mixes; the same for the same seed."""
    found = []
    for excerpt in Excerpts(songs, teacher, count, recipe):
        found.append(excerpt)
        progress(len(found), count, excerpt.name)
    return found


def mix(network: MixNet, console: Console, batch: Sequence[Excerpt]) -> Tensor:
    """The network's mixes of excerpts in the most probable style, (batch, 2, time), on the network's device."""
    tracks, song, mel, role = _gather(network, batch)
    return console(tracks, song, *network(mel, song, len(batch)), role=role)


def draw_styles(
    network: MixNet, console: Console, batch: Sequence[Excerpt], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A mix of each excerpt in each style of the network, settings drawn at random within it.

    Args:
        network: that mixes.
        console: what it sets; renders all mixes at once.
        batch: excerpts.
        rng: draws.

    Returns:
        the mixes, (styles, batch, 2, time), and how probable each style is, (styles, batch), as logarithms.
    """
    tracks, song, mel, role = _gather(network, batch)
    styles, mixes = network.styles, len(batch)
    heard = network.hear(mel, song, mixes)
    rows, buses = [], []
    for style in range(styles):
        logits = network.logits(heard, song.new_full((mixes,), style))
        noise = (torch.from_numpy(rng.standard_normal(x.shape)).to(x) for x in logits)
        own, bus = ((x + spread * z).sigmoid() for x, spread, z in zip(logits, network.spreads(), noise, strict=True))
        rows.append(own)
        buses.append(bus)
    every = torch.cat([song + k * mixes for k in range(styles)])
    wet = console(tracks.repeat(styles, 1, 1), every, torch.cat(rows), torch.cat(buses), role=role * styles)
    return wet.unflatten(0, (styles, mixes)), network.weigh(heard, rng).T


def _gather(network: MixNet, batch: Sequence[Excerpt]) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Tracks, songs, spectrograms and roles of excerpts, on the network's device."""
    device = next(network.parameters()).device
    tracks, song = (x.to(device) for x in join([e.tracks for e in batch]))
    role = [role for e in batch for role in e.roles or ("",) * len(e.tracks)]
    return tracks, song, torch.cat([e.mel for e in batch]).to(device), role


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
    distance: nn.Module | None = None,
    board: Board | None = None,
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
        distance: see `Teacher.distance`; `MultiResolutionSTFT()` if not given.
        board: gets the losses with every checkpoint.

    Returns:
        The loss of every step, also in curve.csv.

    Raises:
        DataError: a checkpoint of other effects or songs, or a damaged one.
    """
    distance = MultiResolutionSTFT() if distance is None else distance
    model = torch.nn.ModuleDict({"network": network, "console": console})
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    run.require_effects(effects_of(console))
    kept = {"recipe": dataclasses.asdict(recipe), "excerpts": _names(train)}
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
            if board:
                board.write("loss", losses)
        progress(step + 1, recipe.steps, f"loss {np.mean(losses[-20:]):.3f}")
    for line in report_failures(model):
        _log.warning("Renders went wrong during this training: %s.", line)
    return losses


def _names(train: Sequence[Excerpt]) -> list[str]:
    """Of the songs that are trained on."""
    return [song.name for song in train.clips.songs] if isinstance(train, Excerpts) else [e.name for e in train]


def _unlikelihood(wet: Tensor, target: Tensor, likely: Tensor, distance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """How improbable the targets are, where the probability of a mix falls with its distance from the one drawn.

    A style is drawn towards those targets that it is nearest to: where songs have several right mixes, styles part.

    Args:
        wet: (styles, batch, 2, time).
        target: (batch, 2, time).
        likely: (styles, batch), logarithms of the probabilities of styles.
        distance: of two batches.
    """
    each = [torch.stack([distance(own[None], right[None]) for own, right in zip(x, target, strict=True)]) for x in wet]
    return -_TEMPERATURE * (likely - torch.stack(each) / _TEMPERATURE).logsumexp(0).mean()


def train_step(
    network: MixNet,
    console: Console,
    train: Sequence[Excerpt],
    recipe: MixRecipe,
    optimizer: torch.optim.Optimizer,
    distance: nn.Module,
    step: int,
) -> float:
    """One optimiser step on a batch that the seed and the number of the step draw; its loss."""
    draw = np.random.default_rng([recipe.seed, step])
    batch = [train[i] for i in draw.choice(len(train), min(recipe.batch, len(train)), replace=False)]
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe.learning_rate, step, step / recipe.steps, recipe.warm_up)
    scales: Any = distance.windows
    scale = int(draw.integers(len(scales)))
    target = torch.stack([e.target for e in batch])
    if network.styles == 1:
        wet = mix(network, console, batch)
        loss = distance(wet, target.to(wet.device), scale=scale)
    else:
        wet, likely = draw_styles(network, console, batch, draw)
        loss = _unlikelihood(wet, target.to(wet.device), likely, lambda x, y: distance(x, y, scale=scale))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
    optimizer.step()
    return float(loss.detach())
