"""Trains a proxy of an effect, and finds out how good it is."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch

from blackbox_fx.data.clips import Source
from blackbox_fx.data.composer import compose
from blackbox_fx.errors import ParameterError
from blackbox_fx.profiling import profile
from blackbox_fx.proxy import weights
from blackbox_fx.proxy.card import Card, Training, make_card
from blackbox_fx.proxy.choose import choose_net
from blackbox_fx.proxy.fit import Course, fit, flushed
from blackbox_fx.proxy.material import Material
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.nets import make_net
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.proxy.score import Progress
from blackbox_fx.proxy.scores import baselines, held_out, measure, quiet
from blackbox_fx.proxy.store import save_proxy
from blackbox_fx.runtime import Inline, Processes

_SONGS, _SONG_S = 64, 6.0
_RINGING_S = 2.0
_LOOKED_AT = 32  # renders by which the best is told
_ASIDE = 1_000_000_000  # seed of those

_log = logging.getLogger("blackbox_fx")


@final
@dataclasses.dataclass(frozen=True)
class Trained:
    """A proxy that was trained.

    Attributes:
        proxy, card: itself, and what is known of it.
        course: its training.
    """

    proxy: Proxy
    card: Card
    course: Course


def train_proxy(
    recipe: ProxyRecipe,
    out: Path,
    songs: Sequence[Source] | None = None,
    progress: Progress = quiet,
) -> Trained:
    """Trains a proxy of an effect on random clips and settings, scores it on others, and keeps it in a folder.

    The effect renders in a process of its own while the net trains. Interrupted, it goes on where the folder's last
    checkpoint is; renders that fail are left out and counted.

    Args:
        recipe: the effect, the net and the settings of the training.
        out: folder for recipe.toml, weights.safetensors, card.json, and the training's checkpoint and curves.
        songs: whose tracks are heard; composed ones if not given. The last eighth is kept aside to tell which weights
            are best. The card's own clips are composed and the same for all.
        progress: called with parts done, all parts, and a few words.

    Returns:
        The proxy with its card.

    Raises:
        ParameterError: an effect without free parameters, or a net that cannot be made.
        DataError: a folder that holds a training by another recipe, or cannot be written.
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    effect = recipe.load_effect()
    if not effect.space.width:
        raise ParameterError(f"{effect.name} has no free parameters, so there is nothing for a proxy to learn.")
    rate = recipe.sample_rate
    progress(0, 1, f"measuring {effect.name}")
    found = profile(effect)
    net_config = dict(recipe.net) or choose_net(found)
    recipe = dataclasses.replace(recipe, net=net_config)
    with torch.random.fork_rng(devices=[]):  # a caller's own draws go on as they were
        torch.manual_seed(recipe.seed)
        net = make_net(net_config, effect.space.width, rate)
    if songs is None:
        songs = []
        for k in range(_SONGS):
            progress(k, _SONGS, "composing")
            songs.append(compose(recipe.seed * _SONGS + k, _SONG_S, rate))
    aside = max(1, len(songs) // 8)
    with Processes(1, on_failure="skip") if effect.native else Inline() as pool:
        arguments = effect, songs[:-aside] or songs, pool, recipe.seconds, recipe.batch, recipe.seed
        material = Material(*arguments, paired=recipe.slopes > 0)
        net.meet(material.ringing(_RINGING_S))
        looked_at = Material(effect, songs[-aside:], pool, recipe.seconds, _LOOKED_AT, _ASIDE).batch(0)
        course = fit(net, material, looked_at, recipe, out, progress)
        if course.skipped or course.unstable:
            _log.warning("%d renders and %d steps were left out.", course.skipped, course.unstable)
        weights.round_weights(net)
        proxy = Proxy(net.eval(), effect.space, effect.name, effect.fingerprint)
        progress(0, 1, "scoring")
        with flushed():
            exam = held_out(effect, pool, rate)
            scores, plain = measure(proxy, exam, progress), baselines(exam)
    spent = Training(course.seconds, course.steps, recipe.batch, torch.get_num_threads(), recipe.seed, course.waited)
    card = make_card(effect, proxy, net_config, spent, scores, plain, found=found)
    return Trained(proxy, save_proxy(out, proxy, recipe, card), course)
