"""Layers that do not wait for each other, side by side: what they render goes to the pool together."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from blackbox_fx.layers.automation import Curves, call_layer
from blackbox_fx.layers.eager import eager
from blackbox_fx.runtime import Job, Pool


class Wanted(NamedTuple):
    """What a layer waits for.

    Args:
        pool: where it renders.
        job: what it renders.
    """

    pool: Pool
    job: Job


Outputs = list[NDArray[np.float32]]
Stages = Generator[list[Wanted], Outputs, Tensor]  # asks for renders, gets their outputs, and returns the sound


def stages_of(
    layer: Any, audio: Tensor, params: Tensor, inputs: Mapping[str, Tensor] = {}, curves: Curves = {}
) -> Stages:
    """The output of a layer, which asks for its renders one job after the other if it has `stages`; None is a wire."""
    if layer is None:
        return audio
    if hasattr(layer, "stages") and not _is_watched(layer):
        return (yield from layer.stages(audio, params, inputs, curves))
    return call_layer(layer, audio, params, inputs, curves)


def _is_watched(layer: nn.Module) -> bool:
    """Whether a call of the layer does more than its `forward`: hooks, or another function in its place."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(layer) or any(getattr(layer, name) for name in hooks)


def beside(runs: Sequence[Stages]) -> Generator[list[Wanted], Outputs, list[Tensor]]:
    """The outputs of several layers, which ask for their next renders together."""
    found: dict[int, Tensor] = {}
    asked: dict[int, list[Wanted]] = {}

    def resume(k: int, outputs: Outputs | None) -> None:
        try:
            asked[k] = next(runs[k]) if outputs is None else runs[k].send(outputs)
        except StopIteration as done:
            found[k] = done.value

    for k in range(len(runs)):
        resume(k, None)
    while asked:
        outputs = iter((yield [wanted for own in asked.values() for wanted in own]))
        answered = {k: [next(outputs) for _ in own] for k, own in asked.items()}
        asked.clear()
        for k, own in answered.items():
            resume(k, own)
    return [found[k] for k in range(len(runs))]


@eager
def together(runs: Sequence[Stages]) -> list[Tensor]:
    """The outputs of several layers, whose next jobs are rendered at the same time, as far as they share a pool."""
    stages = beside(runs)
    try:
        asked = next(stages)
        while True:
            asked = stages.send(_render(asked))
    except StopIteration as done:
        return done.value


def _render(asked: Sequence[Wanted]) -> Outputs:
    by_pool: dict[int, list[int]] = {}
    for k, wanted in enumerate(asked):
        by_pool.setdefault(id(wanted.pool), []).append(k)
    found: dict[int, NDArray[np.float32]] = {}
    for numbers in by_pool.values():
        outputs = asked[numbers[0]].pool.map_all([asked[k].job for k in numbers])
        found.update(zip(numbers, outputs, strict=True))
    return [found[k] for k in range(len(asked))]
