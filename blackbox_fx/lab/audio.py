"""Measures the accuracy of the audio gradient: its cosine to the true one, from random directions."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.core.progress import Progress
from blackbox_fx.effects import Effect, Rack, load
from blackbox_fx.estimators import AudioRule, Call, FiniteDifference, Verified
from blackbox_fx.estimators.audio_rules.certifying import correlation
from blackbox_fx.estimators.truth import AudioTruth
from blackbox_fx.lab.case import RATE, draw_settings, music
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import Chain
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.runtime import Inline, Job, Pool, Processes

SINGLE = (
    *("LowShelfFilter", "PeakFilter", "HighShelfFilter", "LowpassFilter", "HighpassFilter", "LadderFilter"),
    *("Compressor", "Limiter", "NoiseGate", "Distortion", "Clipping", "Delay", "Reverb", "Phaser", "Chorus"),
)
FLANGER = {"centre_delay_ms": (1.0, 4.0), "depth": (0.0, 0.3), "rate_hz": (0.1, 2.0)}
PLUGINS = ("ZamCompX2", "ZamEQ2", "ZamGEQ31", "ZamDelay", "ZaMaximX2", "ZaMultiCompX2", "ZamGateX2", "ZamTube")
_AT_ONCE = 40
_DEADLINE = 3600.0  # seconds, for a process to score one more effect


@final
@dataclasses.dataclass(frozen=True)
class AudioScore:
    """The score of one effect, on a clip and at a setting that its rule was not chosen on.

    Args:
        kind: "single", "chain", "rack" or "plugin".
        name: of the effect.
        rule: that `Verified` chose.
        renders: that the rule makes for each clip; for a chain, the most of any member.
        cosine: of the rule's gradient to the true one.
        error: standard error of the cosine.
        truth: correlation of the true answers at two sizes of the change; no cosine can be expected to exceed it.
        identity: cosine of a plain wire, which passes the gradient unchanged.
        spsa: cosine of SPSA over all samples with two renders.
    """

    kind: str
    name: str
    rule: str
    renders: int
    cosine: float
    error: float
    truth: float
    identity: float
    spsa: float


def _stable(effect: Effect) -> Effect:
    """The effect without a freeze mode, whose output would never end."""
    frozen = {name: False for name in effect.space.parameters if name.endswith("freeze_mode")}
    return effect.fix(frozen)


def subjects(kinds: Sequence[str], count: int, seed: int) -> list[tuple[str, str, Any]]:
    """The effects to compare as (kind, name, effect or list of effects); `count` chains and racks each of 2 and 3."""
    found: list[tuple[str, str, Any]] = []
    if "single" in kinds:
        found += [("single", name, _stable(load(f"pedalboard:{name}"))) for name in SINGLE]
        found.append(("single", "Chorus as flanger", load("pedalboard:Chorus").within(FLANGER)))
    for kind in ("chain", "rack"):
        rng = np.random.default_rng(seed)  # the same effects for both
        for k in range(2 * count if kind in kinds else 0):
            names = [str(name) for name in rng.choice(SINGLE, 2 + k % 2, replace=False)]
            members = [_stable(load(f"pedalboard:{name}")) for name in names]
            found.append((kind, " + ".join(names), members))
    if "plugin" in kinds:
        found += [("plugin", name, load(f"vst3:{name}")) for name in PLUGINS]
    return found


@final
@dataclasses.dataclass(frozen=True)
class Comparison:
    """Scores every subject at every setting.

    `Verified` chooses its rule on other songs and at other settings. The loss is `MultiResolutionSTFT` to the effect's
    output at another setting.

    Args:
        kinds: of "single", "chain", "rack" and "plugin".
        settings: random settings, with a song each.
        directions: random directions for each cosine.
        seconds: length of the clips.
        count: chains and racks of 2, and as many of 3.
        seed: of songs, settings and directions.
    """

    kinds: tuple[str, ...]
    settings: int = 2
    directions: int = 200
    seconds: float = 3.0
    count: int = 5
    seed: int = 0

    def run(self, workers: int, progress: Progress) -> Iterator[tuple[int, list[AudioScore]]]:
        """Yields the number of a subject and its scores, in the order in which they are done.

        Subjects are spread over processes. Each makes its own certificates: it uses none from earlier runs, and keeps
        none.

        Args:
            workers: processes.
            progress: called with the subjects done, their number, and a name.
        """
        names = [name for _, name, _ in subjects(self.kinds, self.count, self.seed)]
        progress(0, len(names), "")
        with tempfile.TemporaryDirectory(prefix="blackbox_fx-") as folder:
            context = multiprocessing.get_context("spawn")
            with context.Pool(workers, _begin, (folder,)) as processes:
                results = processes.imap_unordered(self._numbered, range(len(names)))
                for done in range(1, len(names) + 1):
                    n, found = results.next(_DEADLINE)
                    yield n, found
                    progress(done, len(names), names[n])

    def _numbered(self, n: int) -> tuple[int, list[AudioScore]]:
        return n, self.scores(n)

    def scores(self, n: int) -> list[AudioScore]:
        """Of the n-th subject."""
        kind, name, effect = subjects(self.kinds, self.count, self.seed)[n]
        with Processes(1) if kind == "plugin" else Inline() as pool:
            layer = _layer(kind, effect, pool)
            whole = Rack(effect) if isinstance(effect, list) else effect
            channels = 2 if getattr(whole, "channels", 1) == 2 else 1
            _choose_rule(layer, whole, music(self.seed + 900, self.seconds, channels), self.seed + 90)
            found = []
            for k in range(self.settings):
                clip = music(self.seed + k, self.seconds, channels)
                points = draw_settings(whole, 2, self.seed + 31 * k, margin=0.1)
                found.append(_score(kind, name, layer, whole, clip, points, self.directions, pool, self.seed + k))
            return found


def _begin(folder: str) -> None:
    """Sets up a process that scores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["XDG_CACHE_HOME"] = folder
    torch.set_num_threads(1)
    logging.getLogger("blackbox_fx").setLevel(logging.ERROR)


def _layer(kind: str, effect: Any, pool: Pool) -> Any:
    if kind == "chain":
        return Chain(effect, FiniteDifference(), audio_rule=Verified(), pool=pool, sample_rate=RATE)
    whole = Rack(effect) if isinstance(effect, list) else effect
    return BlackBox(whole, FiniteDifference(), audio_rule=Verified(), pool=pool, sample_rate=RATE)


def _gradient(layer: Any, audio: Tensor, point: np.ndarray, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of the loss with respect to audio, and with respect to the output."""
    dry = audio[None].clone().requires_grad_()
    wet = layer(dry, torch.from_numpy(point[None]).float())
    wet.retain_grad()
    MultiResolutionSTFT()(wet, target[None]).backward()
    assert dry.grad is not None and wet.grad is not None
    return dry.grad[0].double(), wet.grad[0].double()


def _choose_rule(layer: Any, whole: Effect, clip: Tensor, seed: int) -> None:
    """Lets `Verified` choose its rule on another clip and setting than those it is scored on."""
    point, other = draw_settings(whole, 2, seed)
    target = torch.from_numpy(whole.render(clip.numpy(), whole.space.decode(other), RATE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # uncertain rules show in the table
        _gradient(layer, clip, point, target)


def _score(
    kind: str,
    name: str,
    layer: Any,
    whole: Effect,
    clip: Tensor,
    points: np.ndarray,
    directions: int,
    pool: Pool,
    seed: int,
) -> AudioScore:
    point = points[0]
    job = Job(whole, clip[None].numpy(), points[1:], np.zeros(1, np.int64), RATE)
    target = torch.from_numpy(pool.map(job)[0])
    gradient, v = (g.numpy() for g in _gradient(layer, clip, point, target))
    truth = AudioTruth(
        Call(whole, pool, RATE, clip[None], torch.from_numpy(point[None]).float(), clip[None]), v, seed + 1
    )
    rng = np.random.default_rng(seed)
    columns: list[tuple[float, float, float]] = []  # true, found, wire
    first = 0.0
    for start in range(0, directions, _AT_ONCE):
        us = rng.standard_normal((min(_AT_ONCE, directions - start), *v.shape))
        columns += zip(truth(us), np.einsum("ct,nct->n", gradient, us), np.einsum("ct,nct->n", v, us), strict=True)
        first = first or float(np.linalg.norm(us[0]))
    true, found, wire = np.array(columns).T
    cosine = correlation(found, true)
    # |true gradient| from the directions themselves: one direction holds about |g|^2 of <g, u>^2
    spsa = abs(float(true[0])) / (first * np.sqrt(np.mean(np.square(true))) + 1e-30)
    rules = [m.audio_rule for m in layer.modules() if isinstance(m, BlackBox)]
    return AudioScore(
        kind,
        name,
        "; ".join(_brief(rule) for rule in rules),
        max(rule.cost(v.shape[0]) for rule in rules),
        cosine,
        (1 - cosine**2) / np.sqrt(len(true)),
        truth.agreement,
        correlation(wire, true),
        spsa,
    )


def _brief(rule: AudioRule) -> str:
    found = rule.certificate if isinstance(rule, Verified) else None
    return "none" if found is None else " or ".join(name.split("(")[0] for name in dict.fromkeys(found.rules))
