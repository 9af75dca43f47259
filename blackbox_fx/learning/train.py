"""Trains a proxy of an effect, and scores it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import torch

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import Source
from blackbox_fx.data.composer import ComposedSong
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.learning.choose import choose_objective
from blackbox_fx.learning.fit import BUDGET, TrainingLog, fit, flushed
from blackbox_fx.learning.scoring.scores import baselines, measure, render_held_out
from blackbox_fx.learning.start import start_net, training_pool
from blackbox_fx.profiling import profile
from blackbox_fx.proxy import weights
from blackbox_fx.proxy.card import Card, Training, make_card
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.proxy.store import CARD, save_proxy
from blackbox_fx.training.run import Run

_SONGS, _SONG_S = 64, 6.0
_EVALUATED = 32  # held-out renders that decide which weights are best
_EVALUATED_SEED = 1_000_000_000
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # these errors name no file

_log = logging.getLogger("blackbox_fx")


@final
@dataclasses.dataclass(frozen=True)
class Trained:
    """A proxy that was trained.

    Args:
        proxy: with its trained weights.
        card: its properties and scores.
        log: of its training.
    """

    proxy: Proxy
    card: Card
    log: TrainingLog


def train_proxy(
    recipe: ProxyRecipe,
    out: str | os.PathLike[str],
    songs: Sequence[Source] | None = None,
    progress: Progress = quiet,
    effect: Effect | None = None,
    scored: int = 24,
) -> Trained:
    """Trains a proxy of an effect on random clips and settings, scores it on others, and writes it to a folder.

    A native effect renders in a process of its own while the net trains. Renders that fail there are skipped and
    counted. An interrupted training resumes from the folder's last checkpoint; one that has ended goes on if the
    recipe has more minutes or steps than before.

    Args:
        recipe: the effect, the net and the settings of the training.
        out: folder for recipe.toml, weights.safetensors, card.json, and the training's checkpoint and curves.
        songs: whose tracks are the input; composed ones if not given. The last eighth is held out to decide which
            weights are best. The card's scores are from composed songs, the same for all proxies.
        progress: called with parts done, all parts, and a few words.
        effect: if no address names it, such as a `bfx.function`; the recipe narrows it like any other.
        scored: held-out clips of the card.

    Returns:
        The proxy with its card.

    Raises:
        ParameterError: an effect without free parameters, a net that cannot be made, or songs at another sample rate.
        DataError: a folder that holds a training by another recipe or another proxy, in which another training runs,
            or which cannot be written.
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    if not isinstance(recipe, ProxyRecipe):
        raise ParameterError(
            f"recipe must be a ProxyRecipe, such as bfx.ProxyRecipe('vst3:ZamTube'), got {recipe!r:.80}."
        )
    effect = recipe.load_effect(effect)
    if not effect.space.width:
        raise ParameterError(f"{effect.name} has no free parameters, so there is nothing for a proxy to learn.")
    rate = recipe.sample_rate
    for song in songs or ():
        if song.sample_rate != rate:
            raise ParameterError(
                f"Songs are at {song.sample_rate:g} Hz, the recipe is for {rate:g} Hz; read them at that rate."
            )
    with _held(Path(out)) as run:
        _require_same_training(run, recipe)
        if run.state is not None and not recipe.net:
            recipe = dataclasses.replace(recipe, net=tomllib.loads(run.state["recipe"]).get("net", {}))
        return _train(recipe, effect, run.folder, songs, progress, scored)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Run]:
    """The run in a folder. A failure to write there becomes a DataError."""
    try:
        with Run(folder) as run:
            yield run
    except OSError as error:
        if error.errno not in _FULL and folder not in Path(error.filename or "").parents:
            raise  # not of this folder
        raise DataError(f"Cannot write to {folder} ({error.strerror}); mend that and run it again to go on.") from error


def _require_same_training(run: Run, recipe: ProxyRecipe) -> None:
    """Raises DataError if a folder holds the training of another recipe, before anything is rendered."""
    folder, state = run.folder, run.state
    if state is None:
        if (folder / CARD).exists():
            raise DataError(f"{folder} holds a trained proxy, which is not written over; train into another folder.")
        return
    try:
        then, now = tomllib.loads(state["recipe"]), tomllib.loads(recipe.to_toml())
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} holds a damaged checkpoint ({error}); train into another folder.") from error
    if not recipe.net:
        then.pop("net", None)
    for name in BUDGET:
        then[name] = now[name]
    if other := [name for name in now | then if now.get(name) != then.get(name)]:
        raise DataError(
            f"{folder} holds a training by another recipe (its {', '.join(other)} differ); train into another folder."
        )


def _train(
    recipe: ProxyRecipe,
    effect: Effect,
    out: Path,
    songs: Sequence[Source] | None,
    progress: Progress,
    scored: int,
) -> Trained:
    rate = recipe.sample_rate
    progress(0, 1, f"measuring {effect.name}")
    found = profile(effect)
    if songs is None:
        songs = [ComposedSong(recipe.seed * _SONGS + k, _SONG_S, rate) for k in range(_SONGS)]
    count = max(1, len(songs) // 8)
    with training_pool(effect) as pool:
        arguments = effect, songs[:-count] or songs, pool, recipe.seconds, recipe.batch, recipe.seed
        stream = ClipStream(*arguments, paired=recipe.slopes > 0)
        net_config, net = start_net(recipe, found, stream, songs, progress)
        recipe = dataclasses.replace(recipe, net=net_config)
        evaluated = ClipStream(effect, songs[-count:], pool, recipe.seconds, _EVALUATED, _EVALUATED_SEED).batch(0)
        log = fit(net, choose_objective(recipe, found, net, stream), evaluated, recipe, out, progress)
        if log.skipped or log.unstable:
            _log.warning("%d renders and %d steps were skipped.", log.skipped, log.unstable)
        if log.repeated:
            why = "since the effect renders more slowly than the net learns"
            _log.info("%d of %d steps were made on renders used before, %s.", log.repeated, log.steps, why)
        weights.round_weights(net)
        proxy = Proxy(net.eval(), effect.space, effect.name, effect.fingerprint, address=recipe.effect)
        progress(0, 1, "scoring")
        with flushed():
            held_out = render_held_out(effect, pool, rate, items=scored)
            scores, plain = measure(proxy, held_out, progress), baselines(held_out)
    spent = Training(log.seconds, log.steps, recipe.batch, torch.get_num_threads(), recipe.seed, log.waited)
    card = make_card(effect, proxy, net_config, spent, scores, plain, found=found)
    proxy.failure = card.failure
    return Trained(proxy, save_proxy(out, proxy, recipe, card), log)
