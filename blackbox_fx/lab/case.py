"""The cases that estimators are compared on: an effect at a setting, a clip of music, and a loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data import compose
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import Effect, load
from blackbox_fx.errors import EffectError
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.space import Choice, Toggle

RATE = 44100
PEAK = 0.5
SHORTEST_SONG = 2.0  # seconds


def load_effect(address: str) -> Effect:
    """The effect of an address of `load`, or of twin:NAME for an effect with a differentiable twin.

    Raises:
        EffectError: an unknown effect.
    """
    kind, _, name = address.partition(":")
    if kind != "twin":
        return load(address)
    if name not in TWINS:
        raise EffectError(f"Unknown twin {name!r}; known are {', '.join(TWINS)}.")
    return TWINS[name].effect()


def draw_settings(effect: Effect, n: int, seed: int, margin: float = 0.2) -> np.ndarray:
    """Random points (n, width) in [0, 1], with numbers kept `margin` away from both ends of their range.

    At the ends, many effects do nothing, and their gradient is zero.
    """
    points = effect.space.sample(n, seed)
    for name, columns in effect.space.slices.items():
        if not isinstance(effect.space.parameters[name], (Choice, Toggle)):
            points[:, columns] = margin + (1 - 2 * margin) * points[:, columns]
    return effect.space.snap(points)


def music(seed: int, seconds: float, channels: int = 1) -> Tensor:
    """A composed song mixed down, (channel, time), float32 at 44.1 kHz, with a peak of 0.5."""
    mix = compose(seed, max(seconds, SHORTEST_SONG), RATE).stack(channels).sum(axis=0)
    mix = mix[:, : max(1, round(seconds * RATE))]
    return torch.from_numpy(mix * (PEAK / max(float(np.abs(mix).max()), 1e-9))).float()


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """An effect at a setting, a clip, and the gradient of a loss with respect to the effect's output.

    Args:
        name: for tables.
        effect: whose free parameters are those of the gradient.
        audio: dry, (channel, time).
        target: the same effect at other settings, (channel, time).
        params: (width,) in [0, 1].
        cotangent: of the loss at the output, (channel, time).
        loss: at the setting.
        windows: of the loss, `MultiResolutionSTFT`.
        sample_rate: in Hz.
    """

    name: str
    effect: Effect
    audio: Tensor
    target: Tensor
    params: Tensor
    cotangent: Tensor
    loss: float
    windows: tuple[int, ...] = (512, 1024, 2048)
    sample_rate: float = RATE

    def distance(self) -> Callable[[Tensor], Tensor]:
        """The loss of an output (1, channel, time)."""
        measure = MultiResolutionSTFT(self.windows)
        return lambda wet: measure(wet, self.target[None])

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.audio.shape[-1] / self.sample_rate


def render(effect: Effect, audio: Tensor, point: np.ndarray) -> Tensor:
    """The effect's output for audio (channel, time) at a point (width,) in [0, 1]."""
    return torch.from_numpy(effect.render(audio.numpy(), effect.space.decode(point), RATE))


def make_case(
    effect: Effect,
    seed: int = 0,
    seconds: float = 3.0,
    channels: int = 1,
    windows: tuple[int, ...] = (512, 1024, 2048),
    setting: int = 0,
) -> Case:
    """A case from a seed: a song, a setting, and the output at another setting as the target.

    Args:
        effect: with one free parameter or more.
        seed: of the song, 0 or more.
        seconds: length of the clip.
        channels: 1 or 2.
        windows: of the loss, `MultiResolutionSTFT`.
        setting: another one gives another setting and target for the same song.

    Raises:
        EffectError: the effect has no free parameters.
    """
    if not effect.space.width:
        raise EffectError(f"{effect.name} has no free parameters, so there is no gradient to compare.")
    audio = music(seed, seconds, channels)
    here, there = draw_settings(effect, 2, seed * 1000 + setting)
    output = render(effect, audio, here).requires_grad_()
    target = render(effect, audio, there)
    loss = MultiResolutionSTFT(windows)(output[None], target[None])
    loss.backward()
    assert output.grad is not None
    params = torch.from_numpy(here).float()
    name = f"song {seed}, setting {setting}"
    return Case(name, effect, audio, target, params, output.grad, float(loss.detach()), windows)


def make_cases(
    effect: Effect,
    songs: int,
    settings: int = 1,
    seconds: float = 3.0,
    channels: int = 1,
    seed: int = 0,
    windows: tuple[int, ...] = (512, 1024, 2048),
    progress: Progress = quiet,
) -> list[Case]:
    """Cases for several songs, and several settings of each; see `make_case`."""
    cases: list[Case] = []
    for song in range(songs):
        for setting in range(settings):
            progress(len(cases), songs * settings, f"song {song}")
            cases.append(make_case(effect, seed * 1000 + song, seconds, channels, windows, setting))
    return cases
