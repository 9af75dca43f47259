"""Whether `Auto` is at least as good as `SPSA`: squared error of the gradient of params, at equal time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import Effect, load
from blackbox_fx.estimators import SPSA, Auto, Estimator, FiniteDifference, Identity
from blackbox_fx.lab.step import RATE, shipped_effects
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.learning.scoring.held_out import HeldOutSet
from blackbox_fx.learning.scoring.scores import render_held_out
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.runtime import Inline

_RENDERS = 4
_FINER = 0.00125  # step of other central differences, on the [0, 1] axis
_ITEMS, _SECONDS = 8, 1.5
_PEDALBOARD = (
    "Chorus",
    "Clipping",
    "Compressor",
    "Delay",
    "Distortion",
    "Gain",
    "HighShelfFilter",
    "HighpassFilter",
    "LadderFilter",
    "Limiter",
    "NoiseGate",
    "PeakFilter",
    "Phaser",
    "Reverb",
)
_ZAM = ("ZaMaximX2", "ZamAutoSat", "ZamComp", "ZamCompX2", "ZamDelay", "ZamEQ2", "ZamGEQ31", "ZamGate")


def _waveform(wet: Tensor, target: Tensor) -> Tensor:
    return (wet - target).square().mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"spectral": MultiResolutionSTFT(), "waveform": _waveform}


@final
@dataclasses.dataclass(frozen=True)
class Compared:
    """`Auto` beside `SPSA` with as many renders, on one effect and loss, over 8 clips and settings.

    Args:
        effect: its name.
        loss: its name.
        spsa, auto: squared error over the squared gradient, mean over draws.
        known: the same of central differences with two steps: below this, the truth is not known.
        doubt: standard error of the ratio of both.
        spsa_ms, auto_ms: of a gradient, for each clip.
        by: what `Auto` chose.
    """

    effect: str
    loss: str
    spsa: float
    auto: float
    known: float
    doubt: float
    spsa_ms: float
    auto_ms: float
    by: str

    @property
    def ratio(self) -> float:
        """Error of `Auto` over the one that `SPSA` would have in its time, which falls as the inverse of time."""
        return max(self.auto, self.known) / max(self.spsa * self.spsa_ms / self.auto_ms, self.known)

    @property
    def is_worse(self) -> bool:
        """Whether it is worse by more than 10 %, beyond two standard errors, and not `SPSA` itself."""
        return self.by != "SPSA" and self.ratio - 2 * self.doubt > 1.1


def compared_effects(addresses: Sequence[str]) -> list[Effect]:
    """The effects of addresses; those of the shipped proxies, and 22 over their whole ranges, if there is none."""
    if addresses:
        return [load(address) for address in addresses]
    listed = [*(f"pedalboard:{name}" for name in _PEDALBOARD), *(f"vst3:{name}" for name in _ZAM)]
    return [*shipped_effects(), *map(load, listed)]


def compare(effects: Sequence[Effect], draws: int, seed: int, progress: Progress = quiet) -> Iterator[Compared]:
    """Compares both on each effect and loss; those without a known gradient are left out.

    Args:
        effects: with free parameters.
        draws: gradients from each estimator.
        seed: of the estimators.
        progress: called with comparisons done, all, and the present one.
    """
    with Inline() as pool:
        for done, (effect, loss) in enumerate((e, name) for e in effects for name in LOSSES):
            progress(done, len(effects) * len(LOSSES), f"{effect.name}, {loss}")
            held_out = render_held_out(effect, pool, RATE, _SECONDS, _ITEMS, LOSSES[loss])
            if held_out.active.any():
                yield _compare(held_out, loss, draws, seed)


def _compare(held_out: HeldOutSet, loss: str, draws: int, seed: int) -> Compared:
    effect, seeds = held_out.stream.effect, [torch.Generator().manual_seed(seed) for _ in range(2)]
    pairs = max(n for n in range(1, _RENDERS // 2 + 1) if n == 1 or SPSA(n).cost(effect.space) <= _RENDERS)
    plain, chosen = SPSA(pairs, generator=seeds[0]), Auto(_RENDERS, generator=seeds[1])
    (spsa, spsa_ms), (auto, auto_ms) = _errors((plain, chosen), held_out, draws)
    finer = FiniteDifference(_FINER).vjp(held_out.call(), held_out.cotangents).double().numpy()
    known = _error(finer, held_out)
    parts = [np.std(errors) / errors.mean() for errors in (spsa, auto)]
    found = Compared(
        effect.name, loss, float(spsa.mean()), float(auto.mean()), known, 0.0, spsa_ms, auto_ms, chosen.in_use
    )
    return dataclasses.replace(found, doubt=float(found.ratio * np.hypot(*parts) / np.sqrt(draws)))


def _errors(
    estimators: Sequence[Estimator], held_out: HeldOutSet, draws: int
) -> list[tuple[NDArray[np.float64], float]]:
    """For each estimator, in turns: squared errors over the squared gradient, (draws,), and milliseconds a clip."""
    layers = [
        BlackBox(held_out.stream.effect, one, audio_rule=Identity(), pool=Inline(), sample_rate=RATE)
        for one in estimators
    ]
    errors, spent = np.zeros((2, len(layers), draws + 1))
    for draw in range(draws + 1):  # the first may measure the effect
        for k, layer in enumerate(layers):
            params = held_out.batch.params.clone().requires_grad_()
            wet = layer(held_out.batch.audio, params)
            began = time.perf_counter()
            wet.backward(held_out.cotangents)
            spent[k, draw] = time.perf_counter() - began
            assert params.grad is not None
            errors[k, draw] = _error(params.grad.double().numpy(), held_out)
    ms = 1e3 * np.median(spent[:, 1:], axis=1) / len(held_out.gradients)
    return [(own[1:], float(each)) for own, each in zip(errors, ms, strict=True)]


def _error(gradient: NDArray[np.float64], held_out: HeldOutSet) -> float:
    """The squared error over the squared gradient, where that is known."""
    true, there = held_out.gradients, held_out.active
    return float(np.square((gradient - true)[there]).sum() / np.square(true[there]).sum())
