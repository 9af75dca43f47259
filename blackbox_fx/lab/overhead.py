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
from blackbox_fx.estimators import SPSA, Identity
from blackbox_fx.lab.boundary import bare_worker
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.runtime import Inline, Job, Pool, Processes, Threads

MEMBERS = ("LowShelfFilter", "PeakFilter", "HighShelfFilter", "Compressor", "Reverb")
CLIPS, LENGTHS = 16, (0.25, 1.0, 4.0)  # of a training step, mono, in seconds


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


@final
@dataclasses.dataclass(frozen=True)
class Speedup:
    """How many times as fast as Inline the training step of a layer is in other pools, by rounds, (rounds,).

    Args:
        seconds: length of a clip.
        render: seconds that a render takes, on average over a step with Inline.
        threads, processes: the pools as they come.
        bare: as many renders in as many processes without supervision, which leave out the inner products.
        equal: whether all gradients were the same bit for bit.
    """

    seconds: float
    render: float
    threads: np.ndarray
    processes: np.ndarray
    bare: np.ndarray
    equal: bool


def speedup(
    seconds: float,
    rounds: int = 9,
    workers: int = 2,
    progress: Callable[[int, int, str], None] | None = None,
) -> Speedup:
    """Times a forward and a backward pass of 16 clips through EQ + compressor with SPSA(2), in turn in every round.

    Args:
        seconds: length of each mono clip at 44.1 kHz.
        rounds: timed rounds, after one that is not.
        workers: of the pools with several.
        progress: called with the rounds done, their number, and a word.
    """
    rate, rack = 44100, Rack([load(f"pedalboard:{name}") for name in MEMBERS[:4]])
    random = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(CLIPS, 1, int(seconds * rate), generator=random)
    points = torch.from_numpy(rack.space.sample(CLIPS, 0)).float()
    renders = CLIPS * (1 + SPSA(2).cost(rack.space))
    spent, equal = np.zeros((4, rounds + 1)), True

    def step(pool: Pool, seed: int) -> Tensor:
        params, estimator = points.clone().requires_grad_(), SPSA(2, generator=torch.Generator().manual_seed(seed))
        layer = BlackBox(rack, estimator, audio_rule=Identity(), pool=pool, sample_rate=rate)
        layer(audio, params).backward(audio)
        assert params.grad is not None
        return params.grad

    with (
        Threads(workers) as threads,
        Processes(workers) as processes,
        contextlib.ExitStack() as stack,
        concurrent.futures.ThreadPoolExecutor(workers) as hands,
    ):
        values, shape = rack.space.decode(points[0].double()), (1, audio.shape[2])
        bare = [stack.enter_context(bare_worker(rack, shape, values, rate)) for _ in range(workers)]
        clips = [audio[n % CLIPS].numpy() for n in range(renders)]
        shares = [clips[k::workers] for k in range(workers)]
        for turn in range(rounds + 1):
            gradients: list[Tensor] = []
            for k, pool in enumerate((Inline(), threads, processes)):
                began = time.perf_counter()
                gradients.append(step(pool, turn))
                spent[k, turn] = time.perf_counter() - began
            began = time.perf_counter()
            list(hands.map(lambda render, share: [render(clip) for clip in share], bare, shares))
            spent[3, turn] = time.perf_counter() - began
            equal &= all(torch.equal(gradients[0], gradient) for gradient in gradients)
            if progress:
                progress(turn, rounds, f"round of {seconds:g} s")
    inline, *others = spent[:, 1:]
    return Speedup(seconds, float(np.median(inline)) / renders, *(inline / times for times in others), equal=equal)


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
