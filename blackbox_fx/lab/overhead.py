"""Measures the time that the layer adds to the bare effect, on this machine."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.effects import Effect, Rack, load
from blackbox_fx.lab.boundary import bare_worker
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.runtime import Inline, Job, Pool, Processes, Threads

MEMBERS = ("LowShelfFilter", "PeakFilter", "HighShelfFilter", "Compressor", "Reverb")


@final
@dataclasses.dataclass(frozen=True)
class Timing:
    """Times of one way to render, relative to the bare loop and to Inline in the same round.

    Args:
        name: the way.
        seconds: median over rounds.
        to_bare, inline_to_this: ratios of each round, (rounds,).
        equal: whether the output was the bare loop's bit for bit.
    """

    name: str
    seconds: float
    to_bare: np.ndarray
    inline_to_this: np.ndarray
    equal: bool


def overhead(
    batch: int = 8,
    seconds: float = 5.0,
    rounds: int = 9,
    workers: int = 2,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Timing]:
    """Times the forward pass of EQ + compressor + reverb in every pool beside a bare loop over pedalboard calls.

    All ways run in turn in every round, so a slow phase of the machine hits them alike; ratios are taken within rounds.

    Args:
        batch: clips per pass.
        seconds: length of each stereo clip at 44.1 kHz.
        rounds: timed rounds, after one that is not.
        workers: of the pools with several.
        progress: called with the rounds done, their number, and a word.
    """
    rate = 44100
    rack = Rack([load(f"pedalboard:{name}") for name in MEMBERS])
    audio = 0.1 * torch.randn(batch, 2, int(seconds * rate), generator=torch.Generator().manual_seed(0))
    params = torch.from_numpy(rack.space.sample(batch, 0)).float()
    pools: list[Pool] = [Inline(), Threads(workers), Processes(workers)]
    layers = {type(p).__name__: BlackBox(rack, pool=p, sample_rate=rate) for p in pools}
    ways: dict[str, Callable[[], Tensor]] = {"bare loop": lambda: _bare(rack, audio, params, rate)}
    ways |= {name: (lambda layer=layer: layer(audio, params)) for name, layer in layers.items()}
    outputs: dict[str, Tensor] = {}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    try:
        with torch.no_grad():
            for k in range(rounds + 1):
                for name, way in ways.items():
                    began = time.perf_counter()
                    outputs[name] = way()
                    spent[name].append(time.perf_counter() - began)
                if progress:
                    progress(k, rounds, "round")
    finally:
        for pool in pools:
            pool.close()
    times = {name: np.array(values[1:]) for name, values in spent.items()}
    return [
        Timing(
            name,
            float(np.median(t)),
            t / times["bare loop"],
            times["Inline"] / t,
            bool(torch.equal(outputs[name], outputs["bare loop"])),
        )
        for name, t in times.items()
    ]


@final
@dataclasses.dataclass(frozen=True)
class Supervision:
    """What rendering in a worker costs for one effect, by rounds, (rounds,), in seconds.

    Args:
        name: of the effect.
        inside, worker, bare: one clip rendered in this process, in a worker, and in a process without supervision,
            which only copies the clip in and the output home.
        one, several: a batch in one worker, and in several.
        bare_one, bare_several: as many clips in one such process, and in several.
        equal: whether all outputs were the same bit for bit.
    """

    name: str
    inside: np.ndarray
    worker: np.ndarray
    bare: np.ndarray
    one: np.ndarray
    several: np.ndarray
    bare_one: np.ndarray
    bare_several: np.ndarray
    equal: bool


def supervision(
    effect: Effect,
    batch: int = 16,
    seconds: float = 5.0,
    rounds: int = 9,
    workers: int = 2,
    progress: Callable[[int, int, str], None] | None = None,
) -> Supervision:
    """Times one effect in this process and in workers, in turn in every round.

    Args:
        effect: what renders.
        batch: clips where workers are compared.
        seconds: length of each stereo clip at 44.1 kHz.
        rounds: timed rounds, after one that is not.
        workers: of the larger pool.
        progress: called with the rounds done, their number, and a word.
    """
    rate, rng = 44100, np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal((batch, 2, int(seconds * rate)))).astype(np.float32)
    points = effect.space.sample(batch, rng)
    whole = Job(effect, audio, points, np.arange(batch), rate)
    single = Job(effect, audio[:1], points[:1], np.zeros(1, np.int64), rate)
    values = effect.space.decode(points[0])
    spent, equal = np.zeros((7, rounds + 1)), True
    with (
        Processes(1) as one,
        Processes(workers) as several,
        contextlib.ExitStack() as stack,
        concurrent.futures.ThreadPoolExecutor(workers) as hands,
    ):
        bare = [stack.enter_context(bare_worker(effect, audio[0].shape, values, rate)) for _ in range(workers)]
        shares = [audio[k::workers] for k in range(workers)]
        ways = (
            lambda: effect.render(audio[0], values, rate),
            lambda: one.map(single)[0],
            lambda: bare[0](audio[0]),
            lambda: one.map(whole),
            lambda: several.map(whole),
            lambda: [bare[0](clip) for clip in audio],
            lambda: list(hands.map(lambda render, share: [render(clip) for clip in share], bare, shares)),
        )
        for turn in range(rounds + 1):
            outputs = []
            for way, times in zip(ways, spent, strict=True):
                began = time.perf_counter()
                outputs.append(way())
                times[turn] = time.perf_counter() - began
            inside, worker, alone, whole_one, whole_several, bare_one, bare_several = outputs
            equal &= all(np.array_equal(inside, y) for y in (worker, alone)) and np.array_equal(
                whole_one, whole_several
            )
            equal &= all(np.array_equal(bare_one[k::workers], share) for k, share in enumerate(bare_several))
            if progress:
                progress(turn, rounds, effect.name)
    return Supervision(effect.name, *spent[:, 1:], equal=equal)


def _bare(rack: Rack, audio: Tensor, params: Tensor, rate: int) -> Tensor:
    """What one would write without this package."""
    import pedalboard
    from pedalboard._pedalboard import Pedalboard

    wet = []
    for clip, point in zip(audio.numpy(), params.double().numpy(), strict=True):
        values = rack.space.decode(point)
        board = Pedalboard([getattr(pedalboard, name)() for name in MEMBERS])
        for (label, member), plugin in zip(rack.members.items(), board, strict=True):
            for name in member.space.free:
                setattr(plugin, name, float(values[f"{label}.{name}"]))
        wet.append(board(clip, rate))
    return torch.from_numpy(np.stack(wet))
