"""Measures the time saved by renders that start before the backward pass."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.effects import function
from blackbox_fx.estimators import FiniteDifference, Identity
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.runtime import Processes
from blackbox_fx.space import Continuous, Space

COLUMNS = 8


@final
@dataclasses.dataclass(frozen=True)
class Saving:
    """Times of one training step, in seconds.

    Args:
        network: the network alone.
        plugin: its renders alone, in the pool.
        waiting: network and plugin, with perturbed renders in the backward pass.
        ahead: network and plugin, with perturbed renders that start in the forward pass.
    """

    network: NDArray[np.float64]
    plugin: NDArray[np.float64]
    waiting: NDArray[np.float64]
    ahead: NDArray[np.float64]


def _slow(audio: Any, sample_rate: float, ms: float, **gains: float) -> Any:
    import time

    time.sleep(ms / 1000)  # to this process, the same as a plugin on a core of its own
    return audio * (1 + sum(gains.values()))


def lookahead(share: float, batch: int, rounds: int, workers: int, progress: Callable[[int, int, str], None]) -> Saving:
    """Times a training step of a network behind a slow effect.

    The effect sleeps, so that it takes no core from the network, as if the machine had more cores. Its renders, forward
    and central differences of 8 parameters together, take `share` of the network's time. All ways run in turn in every
    round.

    Args:
        share: the plugin's time over the network's.
        batch: clips.
        rounds: timed, after one that is not.
        workers: of the pool.
        progress: called with the rounds done, their number, and a word.
    """
    torch.manual_seed(0)
    stages = [stage for _ in range(4) for stage in (torch.nn.Conv1d(16, 16, 31, padding=15), torch.nn.GELU())]
    network = torch.nn.Sequential(*stages)
    audio = 0.1 * torch.randn(batch, 1, 8192, generator=torch.Generator().manual_seed(0))
    params = torch.full((batch, COLUMNS), 0.5, requires_grad=True)

    def loss(wet: torch.Tensor) -> torch.Tensor:
        return network(wet.expand(-1, 16, -1)).square().mean()

    def alone() -> None:
        loss(audio * params.mean(1)[:, None, None]).backward()

    alone()
    began = time.perf_counter()
    for _ in range(3):
        alone()
    ms = 1000 * (time.perf_counter() - began) / 3 * share * workers / (batch * (1 + 2 * COLUMNS))
    gains = {f"p{k}": Continuous(0, 1, 0.5) for k in range(COLUMNS)}
    effect = function(_slow, Space({"ms": Continuous(0, 10_000, ms), **gains}, list(gains)))
    spent: dict[str, list[float]] = {}
    with Processes(workers) as pool:
        layers = {
            ahead: BlackBox(effect, FiniteDifference(), audio_rule=Identity(), pool=pool, lookahead=ahead)
            for ahead in (False, True)
        }
        ways: dict[str, Callable[[], Any]] = {
            "network": alone,
            "plugin": lambda: layers[False](audio, params).sum().backward(),
            "waiting": lambda: loss(layers[False](audio, params)).backward(),
            "ahead": lambda: loss(layers[True](audio, params)).backward(),
        }
        for k in range(rounds + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                spent.setdefault(name, []).append(time.perf_counter() - began)
            progress(k, rounds, "round")
    return Saving(**{name: np.array(times[1:]) for name, times in spent.items()})
