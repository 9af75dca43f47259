"""Tasks with a known answer: hidden settings of one clip, or hidden rules that a network learns; and their proxies."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data import compose
from blackbox_fx.effects import Effect
from blackbox_fx.errors import EffectError
from blackbox_fx.lab.case import RATE, draw_settings
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.learning.choose import choose_net, choose_objective
from blackbox_fx.learning.fit import fit
from blackbox_fx.profiling import profile
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.nets import make_net
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.runtime import Inline, shared_pool

_SONGS, _SONG_S = 6, 4.0
_TRIES = 20
_AUDIBLE = 1e-2  # of the peak


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Clips and what is wanted of them.

    Args:
        audio: dry, (n, 1, time).
        features: of the audio, (n, features), see `clip_features`.
        target: wanted output, (n, 1, time).
    """

    audio: Tensor
    features: Tensor
    target: Tensor


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Settings to be found: of one clip, or by a network for every clip.

    Args:
        name: for tables.
        effect: that has these settings.
        train: examples for training.
        unseen: examples for evaluation; the same if there is one clip.
        batch: examples per step.
        hidden: units of the network's hidden layer; 0 if one setting is learnt without a network.
        learning_rate: of Adam, falling to nothing along a half cosine.
    """

    name: str
    effect: Effect
    train: Examples
    unseen: Examples
    batch: int
    hidden: int
    learning_rate: float

    def learner(self, seed: int) -> nn.Module:
        """Maps features (batch, features) to params (batch, width); at first to the middle of every range."""
        if not self.hidden:
            return _Constant(self.effect.space.width)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            sizes = (self.train.features.shape[1], self.hidden, self.effect.space.width)
            last = nn.Linear(*sizes[1:])
            net = nn.Sequential(nn.Linear(*sizes[:2]), nn.Tanh(), last, nn.Sigmoid())
            for weight in last.parameters():
                nn.init.zeros_(weight)
        return net


@final
class _Constant(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        return self.logits.sigmoid().expand(len(features), -1)


def clip_features(audio: Tensor) -> Tensor:
    """Level, crest factor and six bands of the spectrum of clips (n, 1, time) as (n, 8), about -1 to 1."""
    rms, peak = audio.square().mean(dim=(1, 2)).sqrt(), audio.abs().amax(dim=(1, 2))
    power = torch.fft.rfft(audio[:, 0]).abs().square()
    edges = torch.tensor([0, 150, 400, 1000, 2500, 6000, 20000]) * 2 * power.shape[1] / RATE
    bands = [power[:, int(a) : int(b)].sum(1) for a, b in itertools.pairwise(edges)]
    shares = torch.stack(bands, 1) / power.sum(1, keepdim=True).clamp_min(1e-9)
    level = 20 * torch.log10(torch.stack([rms, peak / rms.clamp_min(1e-6)], 1).clamp_min(1e-6))
    return torch.cat([(level + torch.tensor([30.0, -15.0])) / 12, torch.log10(shares + 1e-4) / 2 + 1], 1)


def make_clips(effect: Effect, seconds: float, batch: int, seed: int) -> ClipStream:
    """Clips of composed songs with the effect's renders; another seed gives other songs."""
    songs = [compose(1000 * seed + k, _SONG_S, RATE) for k in range(_SONGS)]
    return ClipStream(effect, songs, shared_pool() if effect.native else Inline(), seconds, batch, seed)


def train_here(effect: Effect, seconds: float, seed: int = 0, progress: Progress = quiet) -> Proxy:
    """A proxy for a study, trained for `seconds` and not saved.

    Raises:
        EffectError: an effect without free parameters, or one that fails.
    """
    if not effect.space.width:
        raise EffectError(f"{effect.name} has no free parameters, so there is nothing to find.")
    recipe = ProxyRecipe(effect.name, minutes=seconds / 60, seed=seed)
    clips = make_clips(effect, recipe.seconds, recipe.batch, seed + 1)
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        found = profile(effect)
        net = make_net(choose_net(found), effect.space.width, RATE)
        objective = choose_objective(recipe, found, net, clips)
        fit(net, objective, make_clips(effect, recipe.seconds, 8, seed + 2).batch(0), recipe, Path(folder), progress)
    return Proxy(net, effect.space, effect.name, effect.fingerprint)


def _examples(effect: Effect, audio: Tensor, points: NDArray[np.float64]) -> Examples:
    with torch.no_grad():
        target = BlackBox(effect, sample_rate=RATE)(audio, torch.from_numpy(points).float())
    return Examples(audio, clip_features(audio), target)


def _audible(effect: Effect, clip: Tensor, seed: list[int]) -> Examples:
    rng = np.random.default_rng(seed)
    middle = _examples(effect, clip, np.full((1, effect.space.width), 0.5)).target
    for _ in range(_TRIES):
        found = _examples(effect, clip, draw_settings(effect, 1, int(rng.integers(2**31))))
        if float((found.target - middle).abs().max()) > _AUDIBLE * float(middle.abs().max()):
            return found
    raise EffectError(f"{effect.name} gives the same output at all settings of a clip; leave more parameters free.")


def clip_tasks(effect: Effect, count: int, seconds: float, seed: int = 0) -> list[Task]:
    """Tasks to find the hidden settings of one clip each, from the middle of every range."""
    audio = make_clips(effect, seconds, count, seed + 3).batch(0).audio
    each = [_audible(effect, clip[None], [seed, k]) for k, clip in enumerate(audio)]
    return [Task(f"clip {k}", effect, e, e, 1, 0, 0.2) for k, e in enumerate(each)]


def network_tasks(effect: Effect, count: int, seconds: float, seed: int = 0) -> list[Task]:
    """Tasks for a network to learn a hidden rule from a clip's features to settings; evaluated on unseen clips."""
    tasks = []
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        audio = make_clips(effect, seconds, 64, seed + 3 + k).batch(0).audio
        weights = rng.normal(0, 1.5, (clip_features(audio).shape[1], effect.space.width)) / np.sqrt(2)
        points = 0.1 + 0.8 / (1 + np.exp(-clip_features(audio).double().numpy() @ weights))
        every = _examples(effect, audio, effect.space.snap(points))
        unseen, train = (Examples(*(x[cut] for x in vars(every).values())) for cut in (slice(16), slice(16, None)))
        tasks.append(Task(f"rule {k}", effect, train, unseen, 4, 32, 5e-3))
    return tasks
