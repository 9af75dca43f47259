"""Profile, proxy and certificate of an effect in one go, so that its gradients are right and cheap from the start."""

from __future__ import annotations

import dataclasses
import hashlib
import statistics
import time
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import check_sample_rate
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import Clips
from blackbox_fx.data.composer import compose
from blackbox_fx.effects import Effect
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators import Auto, Verified
from blackbox_fx.estimators.audio_rules.certificate import Certificate
from blackbox_fx.estimators.decision import Decision
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.learning.start import as_effect
from blackbox_fx.learning.train import train_proxy
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.profiling import Profile, profile
from blackbox_fx.proxy.card import Card
from blackbox_fx.proxy.find import prepared_folder
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.proxy.store import CARD, RECIPE, read_card, read_recipe

_SONGS, _SONG_S = 24, 6.0
_SCORED = 16  # held-out clips of the card; at kinks and jumps no gradient is known, so that few may count
_CLIP_S, _BATCH = 1.5, 8  # on which gradients are compared and timed
_TIMES = 3
_SEED = 2_000_000_000  # of songs that neither training nor scoring uses


@final
@dataclasses.dataclass(frozen=True)
class Prepared:
    """What is known of an effect, and what its gradients cost.

    Args:
        effect: its name.
        profile: of the effect.
        card: of its proxy.
        certificate: of its audio gradient.
        decision: how its parameter gradient is obtained; None where renders are all there is.
        forward_ms: of a forward pass for each clip of 1.5 s, in ms.
        backward_ms: of a backward pass for params and audio.
        folder: of the proxy.
    """

    effect: str
    profile: Profile
    card: Card
    certificate: Certificate
    decision: Decision | None
    forward_ms: float
    backward_ms: float
    folder: Path

    @property
    def failure(self) -> str:
        """Why the proxy is not used, as a sentence; or ""."""
        return self.card.failure

    @property
    def times_forward(self) -> float:
        """Time of a backward pass over that of a forward pass."""
        return self.backward_ms / self.forward_ms

    def rows(self) -> list[tuple[str, str]]:
        """What was found: names and values."""
        sound, parameters = self.card.scores.sound, self.card.scores.parameters
        cosine = "no gradient is known" if parameters.mean is None else f"{parameters.mean:.3f}"
        chosen = "renders" if self.decision is None else self.decision.best.name
        return [
            ("proxy's error-to-signal ratio", f"{sound.esr:.2g}"),
            ("cosine of its parameter gradient", cosine),
            ("cosine of its audio gradient", f"{self.card.scores.audio.mean:.3f}"),
            ("params by", chosen),
            ("audio by", str(self.certificate)),
            ("forward, ms a clip", f"{self.forward_ms:.3g}"),
            ("backward, ms a clip", f"{self.backward_ms:.3g} ({self.times_forward:.1f} times the forward)"),
        ]

    def __str__(self) -> str:
        """A few lines to read."""
        return "\n".join([self.effect, *(f"  {name}: {value}" for name, value in self.rows())])


def prepare(
    effect: Effect | str,
    minutes: float = 3.0,
    *,
    sample_rate: float = 44100,
    seed: int = 0,
    progress: Progress = quiet,
) -> Prepared:
    """Profiles an effect, trains a proxy of it, and certifies the gradients that a layer of it then has.

    All is kept in the user's cache: every `BlackBox` of this effect uses it, also with fewer free parameters, narrower
    ranges or another order of columns. An interrupted preparation goes on where it was; more minutes than before train
    the proxy further.

    Args:
        effect: or its address; its free parameters and ranges are what the proxy learns.
        minutes: of the proxy's training; the rest takes one to three more.
        sample_rate: in Hz, of the layers that will use it.
        seed: of weights, clips and settings.
        progress: called with parts done, all parts, and a few words.

    Returns:
        What was found. See `Prepared.failure`: a proxy that is worse than the dry audio, or whose parameter gradient
        has a cosine below 0.5, is never used.

    Raises:
        ParameterError: an effect without free parameters, or a number that is not positive.
        EffectError, MissingHost, WorkerDied, RenderTimeout: the effect failed.
        DataError: another process prepares it now, or the cache cannot be written.
    """
    effect = as_effect(effect)
    if not effect.space.width:
        raise ParameterError(f"{effect.name} has no free parameters, so there is nothing to prepare.")
    rate = check_sample_rate(sample_rate)
    recipe = ProxyRecipe(effect.address or effect.name, minutes=minutes, sample_rate=rate, seed=seed)
    folder = prepared_folder() / _key(effect, rate)
    if not _is_done(folder, minutes):
        songs = []
        for k in range(_SONGS):
            progress(k, _SONGS, "composing")
            songs.append(compose(seed * _SONGS + k, _SONG_S, rate))
        train_proxy(recipe, folder, songs, progress, effect, scored=_SCORED)
    progress(0, 1, "comparing gradients")
    layer, forward, backward = _timed(effect, rate)
    assert isinstance(layer.audio_rule, Verified) and isinstance(layer.estimator, Auto)
    assert layer.audio_rule.certificate is not None
    found = profile(effect), read_card(folder), layer.audio_rule.certificate, layer.estimator.decision
    return Prepared(effect.name, *found, 1e3 * forward, 1e3 * backward, folder)


def _key(effect: Effect, rate: float) -> str:
    return hashlib.blake2b(f"{effect.fingerprint} {rate:g}".encode(), digest_size=12).hexdigest()


def _is_done(folder: Path, minutes: float) -> bool:
    """Whether a proxy was trained there for that long."""
    return (folder / CARD).exists() and (folder / RECIPE).exists() and read_recipe(folder).minutes >= minutes


def _timed(effect: Effect, rate: float) -> tuple[BlackBox, float, float]:
    """A layer that has chosen its gradients, and seconds for each clip, forward and backward."""
    clips = Clips([compose(_SEED + k, 6.0, rate) for k in range(2)], _CLIP_S, seed=_SEED)
    tracks = [clips.clip(k).tracks for k in range(_BATCH)]
    audio = torch.from_numpy(np.stack([own[np.abs(own).max(axis=(1, 2)).argmax()][:1] for own in tracks]))
    layer, loss = BlackBox(effect, sample_rate=rate), MultiResolutionSTFT()
    target = layer(audio, _settings(effect, _TIMES + 1))
    forwards, backwards = [], []
    for k in range(_TIMES + 1):
        x, params = audio.clone().requires_grad_(), _settings(effect, k).requires_grad_()
        began = time.perf_counter()
        wet = layer(x, params)
        forwards.append(time.perf_counter() - began)
        (cotangent,) = torch.autograd.grad(loss(kept := wet.detach().requires_grad_(), target), kept)
        began = time.perf_counter()
        wet.backward(cotangent)
        backwards.append(time.perf_counter() - began)
    return layer, statistics.median(forwards[1:]) / _BATCH, statistics.median(backwards[1:]) / _BATCH


def _settings(effect: Effect, seed: int) -> Tensor:
    return torch.from_numpy(effect.space.sample(_BATCH, seed)).float()
