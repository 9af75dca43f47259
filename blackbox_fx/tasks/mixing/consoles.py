"""The same console of twins and of black boxes, trained side by side on composed songs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data import compose
from blackbox_fx.data.clips import Clips, Source
from blackbox_fx.dsp import TWINS
from blackbox_fx.estimators import SPSA, Identity
from blackbox_fx.layers.console import Console, join
from blackbox_fx.layers.routing import Send
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.models.encoders import LogMel
from blackbox_fx.runtime import Inline
from blackbox_fx.tasks.mixing.features import listen
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.tasks.mixing.training import Excerpt, MixRecipe, mix, train_step

RATE = 44100
_SONGS, _UNSEEN, _SONG_S = 24, 6, 8.0
_REACH = 0.35  # of hidden settings to either side of the middle
AUTODIFF, DEFAULT, PUBLISHED = "twins, autodiff", "black boxes, default layers", "black boxes, SPSA(1) and Identity"
_WAYS: dict[str, dict[str, Any]] = {
    AUTODIFF: {},
    DEFAULT: {"direct": False},
    PUBLISHED: {"direct": False, "estimator": SPSA, "audio_rule": Identity},
}


@final
@dataclasses.dataclass(frozen=True)
class Trained:
    """One training.

    Args:
        way: what gave the gradients.
        seed: of the network and the batches.
        steps: that were made.
        seconds: that they took.
        before: loss on excerpts of other songs, before the training.
        after: the same after it.
    """

    way: str
    seed: int
    steps: int
    seconds: float
    before: float
    after: float


def make_console(way: str) -> Console:
    """A console of equaliser and compressor on each track, a send to a room, and a compressor on the bus."""
    how = {name: make() if isinstance(make, type) else make for name, make in _WAYS[way].items()}
    gains = ("low_shelf_gain_db", "peak_gain_db", "high_shelf_gain_db")
    narrow = {"threshold_db": (-45, -10), "ratio": (1.2, 8)}
    comp = TWINS["compressor"].fix(attack_ms=5, release_ms=80, makeup_db=0).within(narrow).only(*narrow)
    room = TWINS["reverberation"].fix(dry_db=-96, wet_db=0).within(mid_decay_s=(0.3, 2)).only("mid_decay_s")
    return Console(
        {"eq": TWINS["parametric_eq"].within(dict.fromkeys(gains, (-12, 12))).only(*gains), "comp": comp},
        bus=comp,
        gain_db=(-18, 12),
        sends={"room": Send(room, level_db=(-40, 0))},
        sample_rate=RATE,
        pool=Inline(),
        **how,
    )


def compare_consoles(steps: int, seeds: int, excerpts: int = 96, progress: Progress = quiet) -> Iterator[Trained]:
    """Trains a mixing network through each console, for as many steps on the same batches.

    Args:
        steps: of each training.
        seeds: trainings of each way.
        excerpts: of two seconds that are trained on; an eighth as many of other songs, two at least, give the losses.
        progress: called with trainings done, their number, and the present one.
    """
    songs = [compose(k, _SONG_S, RATE) for k in range(min(_SONGS, _UNSEEN + excerpts))]
    made = make_console(AUTODIFF)
    few = max(excerpts // 8, 2)
    train, unseen = (_draw(made, part, count) for part, count in ((songs[_UNSEEN:], excerpts), (songs[:_UNSEEN], few)))
    for seed in range(seeds):
        for k, way in enumerate(_WAYS):
            progress(seed * len(_WAYS) + k, seeds * len(_WAYS), f"{way}, seed {seed}")
            yield _train(way, train, unseen, MixRecipe(steps=steps, seed=seed))


@torch.no_grad()
def _draw(console: Console, songs: Sequence[Source], count: int) -> list[Excerpt]:
    """Excerpts, with the mixes of settings that follow from what is heard."""
    clips, log_mel = Clips(songs, seconds=2.0, seed=0), LogMel(RATE)
    draw = torch.Generator().manual_seed(0)
    weights = [torch.randn(3, width, generator=draw) for width in (console.track_width, console.bus_width)]
    found = []
    for index in range(count):
        clip = clips.clip(index)
        tracks, song = join([torch.from_numpy(clip.tracks)])
        heard = torch.stack(listen(tracks, RATE), 1)
        rows, buses = (_hidden(x @ w) for x, w in zip((heard, heard.mean(0, keepdim=True)), weights, strict=True))
        target = console(tracks, song, rows, buses)[0]
        found.append(Excerpt(clip.song, clip.track_names, tracks, log_mel(tracks), target))
    return found


def _hidden(numbers: Tensor) -> Tensor:
    return 0.5 + _REACH * torch.tanh(numbers)


def _train(way: str, train: Sequence[Excerpt], unseen: Sequence[Excerpt], recipe: MixRecipe) -> Trained:
    console = make_console(way)
    torch.manual_seed(recipe.seed)  # only now, since estimators draw seeds of their own
    network, distance = MixNet(console.track_width, console.bus_width), MultiResolutionSTFT()
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)

    @torch.no_grad()
    def loss() -> float:
        return float(distance(mix(network, console, unseen), torch.stack([e.target for e in unseen])))

    before, began = loss(), time.perf_counter()
    for step in range(recipe.steps):
        train_step(network, console, train, recipe, optimizer, distance, step)
    return Trained(way, recipe.seed, recipe.steps, time.perf_counter() - began, before, loss())
