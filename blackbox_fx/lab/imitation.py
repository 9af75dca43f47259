"""Trains a small network through a chain of two effects, by default layers, by autodiff and by SPSA.

The network hears a clip, and as a reference another place of the same song through the effects at hidden settings. It
sets the effects so that the clip sounds as if they had processed it at these settings, too.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data import compose
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import Effect, Rack
from blackbox_fx.estimators import SPSA, Identity
from blackbox_fx.lab.step import RATE
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import Chain
from blackbox_fx.learning.prepare import prepare
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.models.encoders import BANDS, LogMel
from blackbox_fx.proxy.store import load_proxy
from blackbox_fx.runtime import Inline, Job
from blackbox_fx.training.schedule import learning_rate

_SONGS, _UNSEEN, _SONG_S = 60, 12, 12.0
_TIME = 65_536  # samples of a clip
_PAIRS, _HELD_OUT = 2_000, 48
_BATCH, _RATE, _WARM_UP, _CLIP = 6, 1e-3, 30, 1.0
_WINDOWS = (512, 2048, 8192)
_EVERY = 25  # steps between evaluations
AUTODIFF, PUBLISHED = "autodiff", "SPSA(1, step=5e-4) on the rack, as published"
REFERENCES = {"twins": AUTODIFF, "plugins": PUBLISHED}  # what other ways are held against
_LOUDEST, _QUIETEST = -3.0, -18.0  # dB, peaks of the songs


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Clips with a reference each, and the clips as they should sound: (pairs, 1, time); with their spectrograms."""

    audio: Tensor
    wet: Tensor
    heard: Tensor
    reference: Tensor


@final
@dataclasses.dataclass(frozen=True)
class Learnt:
    """One training.

    Args:
        task: "twins" or "plugins".
        way: how the gradient was had.
        seed: of the network, the batches and the estimators.
        seconds: spent in steps, at each evaluation.
        losses: on held-out pairs of unseen songs, at each evaluation.
    """

    task: str
    way: str
    seed: int
    seconds: tuple[float, ...]
    losses: tuple[float, ...]

    def seconds_to(self, loss: float) -> float:
        """Seconds until the held-out loss was first as low as this; infinite if it never was."""
        reached = (s for s, own in zip(self.seconds, self.losses, strict=True) if own <= loss)
        return next(reached, float("inf"))


@final
class _Imitator(nn.Module):
    """Settings in [0, 1] from the spectrograms of a clip and of a reference."""

    def __init__(self, width: int, size: int = 96) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(BANDS, size, 5, 2, 2), nn.GELU(), nn.Conv1d(size, size, 5, 2, 2), nn.GELU()
        )
        features = 2 * (2 * size + 2 * BANDS)
        self.head = nn.Sequential(
            nn.Linear(features, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 128), nn.GELU()
        )
        self.last = nn.Linear(128, width)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, heard: Tensor, reference: Tensor) -> Tensor:
        """Spectrograms (batch, bands, frames) to (batch, width)."""
        return torch.sigmoid(self.last(self.head(torch.cat([self._sum_up(heard), self._sum_up(reference)], 1))))

    def _sum_up(self, mel: Tensor) -> Tensor:
        encoded = self.encoder(mel)
        return torch.cat([encoded.mean(-1), encoded.std(-1), mel.mean(-1), mel.std(-1)], 1)


Make = Callable[[torch.Generator], nn.Module]


def tasks(names: Sequence[str], minutes: float, progress: Progress = quiet) -> dict[str, tuple[Rack, dict[str, Make]]]:
    """The effects of each task in series, and the ways to train through them, each called with a generator of draws.

    Args:
        names: "twins", an equaliser and a compressor that can be differentiated; "plugins", pedalboard's equaliser and
            ZamCompX2, whose proxies are shipped.
        minutes: of preparing each twin as if it were a black box.
        progress: of preparing.
    """
    found: dict[str, tuple[Rack, dict[str, Make]]] = {}
    if "twins" in names:
        twins = TWINS["parametric_eq"], TWINS["compressor"]
        effects = {twin.name: twin.effect() for twin in twins}
        for effect in effects.values():
            prepare(effect, minutes, progress=progress)
        found["twins"] = Rack(effects), {AUTODIFF: lambda draws: Chain(twins)} | _ways(effects)
    if "plugins" in names:
        effects = {name: load_proxy(name).effect() for name in ("pedalboard-eq", "zam-comp-x2")}
        found["plugins"] = Rack(effects), _ways(effects)
    return found


def _ways(effects: Mapping[str, Effect]) -> dict[str, Make]:
    def chain(draws: torch.Generator) -> nn.Module:
        return Chain({name: BlackBox(effect, pool=Inline(), sample_rate=RATE) for name, effect in effects.items()})

    def rack(step: float) -> Make:
        return lambda draws: BlackBox(
            Rack(effects), SPSA(1, step, draws), audio_rule=Identity(), pool=Inline(), sample_rate=RATE
        )

    return {
        "default layers in a chain": chain,
        "SPSA(1) on the rack": rack(0.02),
        PUBLISHED: rack(5e-4),
    }


def study(
    listed: Mapping[str, tuple[Rack, Mapping[str, Make]]], seeds: int, steps: int, progress: Progress = quiet
) -> Iterator[Learnt]:
    """Trains by every way of every task, with each seed.

    Args:
        listed: see `tasks`.
        seeds: trainings of each.
        steps: of each training, with 6 pairs.
        progress: called with trainings done, all, and the present one.
    """
    songs = []
    for k in range(_SONGS + _UNSEEN):
        progress(0, 1, f"composing song {k + 1} of {_SONGS + _UNSEEN}")
        mix = compose(1000 + k, _SONG_S, RATE).stack(1).sum(axis=0)[0]
        songs.append(torch.from_numpy(mix / max(float(np.abs(mix).max()), 1e-6)).float())
    total, done = sum(len(ways) for _, ways in listed.values()) * seeds, 0
    for task, (rack, ways) in listed.items():
        pairs = _make_pairs(rack, songs[:_SONGS], _PAIRS, 11), _make_pairs(rack, songs[_SONGS:], _HELD_OUT, 7)
        for seed in range(seeds):
            for way, make in ways.items():
                progress(done, total, f"{task}, {way}, seed {seed}")
                yield Learnt(task, way, seed, *_train(make, rack, pairs, seed, steps))
                done += 1


def _make_pairs(rack: Rack, songs: Sequence[Tensor], count: int, seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    clips, references = [], []
    for _ in range(count):
        song, peak = songs[int(rng.integers(len(songs)))], 10 ** (rng.uniform(_QUIETEST, _LOUDEST) / 20)
        here, there = rng.integers(len(song) - _TIME, size=2)
        clips.append(song[here : here + _TIME] * peak)
        references.append(song[there : there + _TIME] * peak)
    settings = rng.uniform(0, 1, (count, rack.space.width))
    audio, reference = torch.stack(clips)[:, None], torch.stack(references)[:, None]
    wet, reference = (_render(rack, x, settings) for x in (audio, reference))
    mel = LogMel(RATE)
    return Pairs(audio, wet, mel(audio), mel(reference))


def _render(rack: Rack, audio: Tensor, settings: np.ndarray) -> Tensor:
    with Inline() as pool:
        return torch.from_numpy(pool.map(Job(rack, audio.numpy(), settings, np.arange(len(settings)), RATE)))


def _train(
    make: Make, rack: Rack, pairs: tuple[Pairs, Pairs], seed: int, steps: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds and held-out losses at each evaluation."""
    own, held_out = pairs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Imitator(rack.space.width)
    layer, distance = make(torch.Generator().manual_seed(seed)), MultiResolutionSTFT(_WINDOWS)
    optimizer, rng = torch.optim.Adam(network.parameters(), _RATE), np.random.default_rng([seed, 3])
    spent, seconds, losses = 0.0, [], []
    for step in range(steps):
        drawn, scale = rng.choice(len(own.audio), _BATCH, replace=False), int(rng.integers(len(_WINDOWS)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(_RATE, step, step / steps, _WARM_UP)
        began = time.perf_counter()
        wet = layer(own.audio[drawn], network(own.heard[drawn], own.reference[drawn]))
        optimizer.zero_grad()
        distance(wet, own.wet[drawn], scale).backward()
        nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimizer.step()
        spent += time.perf_counter() - began
        if (step + 1) % _EVERY == 0 or step + 1 == steps:
            with torch.no_grad():
                settings = network(held_out.heard, held_out.reference).double().numpy()
            seconds.append(spent)
            losses.append(float(distance(_render(rack, held_out.audio, settings), held_out.wet)))
    return tuple(seconds), tuple(losses)
