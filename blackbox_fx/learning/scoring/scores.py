"""Measures the scores of a proxy on held-out clips and settings, and those of simple baselines."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.audio.loudness import loudness
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.composer import ComposedSong
from blackbox_fx.effects.base import Effect
from blackbox_fx.estimators import Call
from blackbox_fx.estimators.audio_rules.certifying import correlation
from blackbox_fx.estimators.autodiff import check_gradient, check_output
from blackbox_fx.estimators.surrogates import Differentiable
from blackbox_fx.estimators.truth import AudioTruth
from blackbox_fx.learning.scoring.held_out import HeldOutSet, best_gain, make_held_out
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.card import DRY
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.records import AudioGradient, ParameterGradient, Scores, Sound
from blackbox_fx.runtime import Pool

HELD_OUT = 2_000_000_000  # songs and settings of cards come from seeds from here on; train on none of them
_SONGS, _SHORTEST_SONG = 8, 4.0
_STORED = 100  # settings of a look-up table
_AT, _DIRECTIONS, _TRIED = 4, 24, 6  # items and directions of the audio gradient, and directions that choose a step
_TIMED_S, _TIMES = 3.0, 5  # seconds of audio, how often


def render_held_out(
    effect: Effect,
    pool: Pool,
    sample_rate: float,
    seconds: float = 1.5,
    items: int = 24,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> HeldOutSet:
    """Renders clips of songs at settings that no training uses, with the true gradients there.

    Args:
        effect: with the parameters that the proxy has.
        pool: where it renders.
        sample_rate: in Hz.
        seconds: length of a clip.
        items: clips, with a setting each.
        loss: see `make_held_out`.

    Raises:
        DataError: the soundfont is missing, or a length that is not allowed.
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    length = max(_SHORTEST_SONG, 2 * seconds)
    songs = [ComposedSong(HELD_OUT + k, length, sample_rate) for k in range(min(items, _SONGS))]
    return make_held_out(ClipStream(effect, songs, pool, seconds, items, HELD_OUT), loss)


def sound(wet: Tensor, held_out: HeldOutSet) -> Sound:
    """The distances of (batch, 1, time) to the held-out renders."""
    target, rate = held_out.batch.wet, held_out.stream.clips.sample_rate
    measure = MultiResolutionSTFT()
    ratios = esr(wet, target).numpy()
    spectra = np.array([float(measure(w[None], t[None])) for w, t in zip(wet, target, strict=True)])
    levels = np.array([[loudness(x.numpy(), rate) for x in audio] for audio in (wet, target)])
    differences = np.abs(levels[0] - levels[1])
    median = float(np.median(ratios))
    return Sound(*_mean(ratios), median, *_mean(spectra), *_mean(differences))


def _mean(values: NDArray[np.floating]) -> tuple[float, float]:
    """The mean and its standard error."""
    values = values.astype(np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def baselines(held_out: HeldOutSet) -> dict[str, Sound]:
    """Scores of the dry audio, of the dry audio at the best gain for every item, and of 100 stored settings."""
    batch, stream = held_out.batch, held_out.stream
    points = batch.params.double().numpy()
    table = stream.settings(_STORED, np.random.default_rng([stream.seed, 2]))
    nearest = table[np.linalg.norm(points[:, None] - table, axis=2).argmin(axis=1)]
    call = dataclasses.replace(held_out.call(), params=torch.from_numpy(nearest).float())
    looked_up = torch.from_numpy(call.respond(batch.audio.numpy(), np.arange(len(points))))
    found = {
        DRY: batch.audio,
        "dry at the best gain": best_gain(batch.audio, batch.wet),
        f"nearest of {_STORED} stored settings": looked_up,
    }
    return {name: sound(wet, held_out) for name, wet in found.items()}


def measure(proxy: Differentiable, held_out: HeldOutSet, progress: Progress = quiet) -> Scores:
    """Measures all scores of a proxy's card.

    Args:
        proxy: called with (audio, params, sample_rate).
        held_out: of the effect, see `render_held_out`.
        progress: called with the parts done, all parts, and the name of the present one.

    Raises:
        AudioError: a proxy that gives NaN or infinity, or has such a gradient.
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    progress(0, 4, "output")
    wet = check_output(held_out.output(proxy), held_out.batch.wet)
    distances = sound(wet, held_out)
    progress(1, 4, "gradient of parameters")
    cosines = held_out.cosines(proxy)
    progress(2, 4, "gradient of audio")
    audio = _audio_gradient(proxy, held_out)
    progress(3, 4, "speed")
    speed = realtime(proxy, held_out)
    progress(4, 4, "")
    items, _, length = wet.shape
    return Scores(
        distances,
        _summary(cosines, items, held_out.unknown),
        audio,
        speed,
        items,
        length / held_out.stream.clips.sample_rate,
    )


def _summary(cosines: NDArray[np.float64], items: int, unknown: int) -> ParameterGradient:
    if not len(cosines):
        return ParameterGradient(None, None, None, None, 0, items, unknown)
    low, median = np.quantile(cosines, [0.1, 0.5])
    return ParameterGradient(*_mean(cosines), float(median), float(low), len(cosines), items, unknown)


def _audio_gradient(proxy: Differentiable, held_out: HeldOutSet) -> AudioGradient:
    where = np.flatnonzero(held_out.active) if held_out.active.any() else np.arange(len(held_out.batch.audio))
    rng = np.random.default_rng(held_out.stream.seed)
    found: list[tuple[float, float, float]] = []
    for k in where[:_AT]:
        call = held_out.call()
        call = Call(call.effect, call.pool, call.sample_rate, *(part[k : k + 1] for part in held_out.batch))
        dry = call.audio.clone().requires_grad_()
        g = held_out.cotangents[k : k + 1]
        g = g if g.any() else call.output  # parameters that do nothing give no distance to another setting
        v = g[0].numpy().astype(np.float64)
        wet = proxy(dry, call.params, call.sample_rate)
        (grad,) = torch.autograd.grad(wet, dry, g)
        truth = AudioTruth(call, v, held_out.stream.seed + int(k), _TRIED)
        us = rng.standard_normal((_DIRECTIONS, *v.shape))
        answers = truth(us)
        own, wire = (np.einsum("ct,nct->n", g, us) for g in (check_gradient(grad)[0].double().numpy(), v))
        found.append((correlation(own, answers), truth.agreement, correlation(wire, answers)))
    cosine, agreement, wire = np.mean(found, axis=0).tolist()
    chance = (1 - cosine**2) / np.sqrt(_DIRECTIONS * len(found))
    return AudioGradient(cosine, float(chance), agreement, wire, len(found), _DIRECTIONS)


@torch.no_grad()
def realtime(proxy: Differentiable, held_out: HeldOutSet) -> float:
    """Seconds of mono audio that the proxy renders in a second, on one core: the median of five."""
    rate = held_out.stream.clips.sample_rate
    clip, params = held_out.batch.audio[:1], held_out.batch.params[:1]
    audio = clip.repeat(1, 1, max(1, round(_TIMED_S * rate / clip.shape[-1])))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        taken: list[float] = []
        for _ in range(_TIMES + 1):
            start = time.perf_counter()
            proxy(audio, params, rate)
            taken.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return audio.shape[-1] / rate / statistics.median(taken[1:])
