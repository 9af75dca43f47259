"""Measures what faults cost: thousands of renders through effects that crash, hang and give NaN, and training."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch

from blackbox_fx.core.progress import Progress
from blackbox_fx.effects import Effect, load
from blackbox_fx.errors import EffectError
from blackbox_fx.estimators import SPSA, Identity
from blackbox_fx.isolation import limits
from blackbox_fx.lab.faults import FAULT, FAULTS, TICKET, Crashing, Faulty, How
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.runtime import Counters, Inline, Job, Processes

RATE = 44100
ADDRESSES = (
    *(f"vst3:{name}" for name in ("ZamCompX2", "ZamEQ2", "ZamGateX2", "ZamDelay")),
    *(f"ladspa:{label}" for label in ("sc4", "tap_reverb", "tap_equalizer", "fastLookaheadLimiter")),
    *(f"pedalboard:{name}" for name in ("Compressor", "Reverb", "LadderFilter", "Phaser")),
)
_BATCH = 8


@final
@dataclasses.dataclass(frozen=True)
class Soak:
    """Results of `soak`.

    Args:
        wanted: number of renders in each pool.
        effects: names.
        wrong: number of renders that differ from those of the pool without faults.
        counters: of the pool with faults.
        clean_counters: of the pool without faults.
        seconds: that the pool with faults took.
        clean_seconds: that the pool without faults took.
        waiting: part of `seconds` that was spent waiting for hung renders.
        parent: unshared memory of this process in the last tenth of the jobs, relative to the first tenth.
        workers: the same of a worker, on average.
        residual: processes, folders and descriptors that remained afterwards.
    """

    wanted: int
    effects: tuple[str, ...]
    wrong: int
    counters: Counters
    clean_counters: Counters
    seconds: float
    clean_seconds: float
    waiting: float
    parent: float
    workers: float
    residual: tuple[str, ...]


def installed(addresses: Sequence[str] = ADDRESSES) -> list[Effect]:
    """The effects that can be loaded here."""
    found = []
    for address in addresses:
        with contextlib.suppress(EffectError):
            found.append(load(address))
    return found


def _own(pid: int) -> int:
    """Number of memory pages that a process does not share; 0 where the system does not report it."""
    with contextlib.suppress(OSError):
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        return int(resident) - int(shared)
    return 0


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(f"{limits.PREFIX}{os.getpid()}-*"))


def soak(
    renders: int = 10_000,
    share: float = 0.01,
    seconds: float = 5.0,
    workers: int = 2,
    deadline: float = 2.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Soak:
    """Renders random settings of random effects in two pools by turns: without faults, and with faults added.

    Args:
        renders: in each pool.
        share: fraction of the renders that crash, hang or give NaN, a third each.
        seconds: length of a stereo clip.
        workers: of each pool.
        deadline: seconds that a render may take.
        seed: of effects, settings, clips and faults.
        progress: called with the renders done, their number, and the counters.
    """
    rng = np.random.default_rng(seed)
    audio = (0.2 * rng.standard_normal((_BATCH, 2, round(seconds * RATE)))).astype(np.float32)
    cotangent = rng.standard_normal(audio.shape).astype(np.float32)
    folders, jobs = _folders(), -(-renders // _BATCH)
    with tempfile.TemporaryDirectory(prefix="blackbox_fx-soak-") as tickets:
        effects = [Faulty(effect, Path(tickets)) for effect in installed()]
        comparison = _Comparison(Processes(workers, deadline), Processes(workers, deadline), deadline, cotangent)
        remains = _Remains(folders)
        with comparison.clean, comparison.faulty:
            for effect in effects:
                comparison.warm_up(Job(effect, audio, _settings(effect, rng, 0, 0.0), np.arange(_BATCH), RATE))
            for pool in comparison.pools:
                pool.reset_counters()
            for k in range(jobs):
                effect = effects[rng.integers(len(effects))]
                points = _settings(effect, rng, k, share)
                comparison.run(k, Job(effect, audio, points, np.arange(_BATCH), RATE))
                remains.note([pid for pool in comparison.pools for pid in pool.worker_pids])
                if progress:
                    progress(min((k + 1) * _BATCH, renders), renders, str(comparison.faulty.counters))
            clean_counters, counters = (pool.counters for pool in comparison.pools)
    parent, children = remains.growth()
    clean_seconds, faulty_seconds = map(float, comparison.seconds)
    return Soak(
        jobs * _BATCH,
        tuple(effect.name for effect in effects),
        comparison.wrong,
        counters,
        clean_counters,
        faulty_seconds,
        clean_seconds,
        comparison.waiting,
        parent,
        children,
        remains.found(),
    )


@final
class _Comparison:
    """The same jobs in a pool without faults and in one with them.

    Args:
        clean: the pool that renders without faults.
        faulty: the pool that renders with them.
        deadline: of both.
        cotangent: for the jobs that are projected.
    """

    def __init__(self, clean: Processes, faulty: Processes, deadline: float, cotangent: np.ndarray) -> None:
        self.clean, self.faulty, self.pools = clean, faulty, (clean, faulty)
        self.seconds, self.waiting, self.wrong = np.zeros(2), 0.0, 0
        self._deadline, self._cotangent = deadline, cotangent
        self._usual: dict[str, list[float]] = defaultdict(list)

    def warm_up(self, job: Job) -> None:
        for pool in self.pools:
            pool.map(job)

    def run(self, k: int, job: Job) -> None:
        """Renders job number k, whose settings ask for faults, in both pools, and compares the results."""
        assert isinstance(job.effect, Faulty)
        name, hangs = job.effect.name, self.faulty.counters.hangs
        jobs = dataclasses.replace(job, points=_healthy(job.effect, job.points)), job
        results: dict[int, np.ndarray] = {}
        spent = np.zeros(2)
        for which in (k % 2, 1 - k % 2):  # which goes first must not matter
            pool, began = self.pools[which], time.perf_counter()
            results[which] = pool.map(jobs[which]) if k % 4 else pool.project(jobs[which], self._cotangent)
            spent[which] = time.perf_counter() - began
        if hung := self.faulty.counters.hangs - hangs:
            typical = float(np.median(self._usual[name] or [0.0]))
            self.waiting += min(hung * self._deadline, max(0.0, spent[1] - typical))
        self._usual[name].append(spent[0])
        self.seconds += spent
        self.wrong += int(np.any(results[0] != results[1], axis=tuple(range(1, results[0].ndim))).sum())


@final
class _Remains:
    """What this process and its workers hold while they render, and what remains afterwards.

    Args:
        folders: that were there before.
    """

    def __init__(self, folders: set[Path]) -> None:
        self._folders, self._descriptors = folders, _descriptors()
        self._pids: set[int] = set()
        self._memory: list[tuple[int, float]] = []

    def note(self, pids: list[int]) -> None:
        """Measures the memory of this process and of its workers."""
        self._pids.update(pids)
        self._memory.append((_own(os.getpid()), float(np.mean([_own(pid) for pid in pids]))))

    def growth(self) -> tuple[float, float]:
        """Memory of this process and of its workers in the last tenth, relative to the first."""
        tenth = max(1, len(self._memory) // 10)
        early, late = np.mean(self._memory[:tenth], axis=0), np.mean(self._memory[-tenth:], axis=0)
        parent, workers = late / np.where(early > 0, early, 1)
        return float(parent), float(workers)

    def found(self) -> tuple[str, ...]:
        """Processes, folders and descriptors that remain."""
        found = [f"process {pid}" for pid in self._pids if Path(f"/proc/{pid}").exists()]
        found += [f"folder {path}" for path in _folders() - self._folders]
        more = _descriptors() - self._descriptors
        return tuple(found + [f"{more} descriptors"] * (more > 0))


def _settings(effect: Faulty, rng: np.random.Generator, k: int, share: float) -> np.ndarray:
    points = effect.space.sample(_BATCH, rng)
    kinds = np.where(rng.random(_BATCH) < share, rng.integers(1, len(FAULTS), _BATCH), 0)
    for n, (point, kind) in enumerate(zip(points, kinds, strict=True)):
        point[effect.space.slices[FAULT]] = effect.space.parameters[FAULT].encode(int(kind))
        point[effect.space.slices[TICKET]] = effect.space.parameters[TICKET].encode(k * _BATCH + n)
    return points


def _healthy(effect: Faulty, points: np.ndarray) -> np.ndarray:
    points = points.copy()
    points[:, effect.space.slices[FAULT]] = 0.0
    return points


@final
@dataclasses.dataclass(frozen=True)
class Training:
    """Result of one training through an effect that may crash.

    Args:
        how: see `Crashing`.
        policy: of the pool.
        seed: of weights, clips and estimates.
        loss: at the end, on held-out clips, through the effect itself.
        first: the same at the beginning.
        counters: of the pool.
    """

    how: str
    policy: str
    seed: int
    loss: float
    first: float
    counters: Counters


def crashes(
    steps: int = 150, seeds: int = 3, every: int = 200, workers: int = 2, progress: Progress | None = None
) -> list[Training]:
    """Trains a small network to set a compressor by the level of its input, with and without crashes.

    Args:
        steps: of each training.
        seeds: number of trainings of each kind.
        every: renders for each crash, on average.
        workers: processes.
        progress: called with the trainings done, their number, and the last one's counters.
    """
    ways: list[tuple[How, Literal["raise", "skip"]]]
    ways = [("never", "raise"), ("by time", "raise"), ("by settings", "skip")]
    found: list[Training] = []
    for seed in range(seeds):
        for how, policy in ways:
            with Processes(workers, on_failure=policy) as pool:
                found.append(_train(how, policy, seed, steps, every, pool))
            if progress:
                progress(len(found), seeds * len(ways), str(found[-1].counters))
    return found


def _train(how: How, policy: str, seed: int, steps: int, every: int, pool: Processes) -> Training:
    address = next(e.name for e in installed(("vst3:ZamCompX2", "pedalboard:Compressor")))
    names = ("threshold_db", "ratio")
    bare = load(address.removesuffix(".vst3")).only(*names)
    random_numbers = torch.Generator().manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2), torch.nn.Sigmoid())
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=random_numbers))
    layer = BlackBox(
        Crashing(bare, how, every).only(*names), SPSA(2, generator=random_numbers), audio_rule=Identity(), pool=pool
    )
    judge = BlackBox(bare, audio_rule=Identity(), pool=Inline())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Clips of random levels, the network's input, and the target outputs."""
        level = torch.rand(count, 1, generator=random_numbers)
        noise = torch.randn(count, 2, RATE // 2, generator=random_numbers)
        beat = torch.exp(-6 * ((torch.arange(RATE // 2) / RATE * 4) % 1))
        audio = noise * beat * (0.02 + 0.2 * level[..., None])
        with torch.no_grad():
            target = judge(audio, torch.cat([0.55 + 0.3 * level, 0.8 - 0.5 * level], dim=1))
        return audio, torch.cat([2 * level - 1, (2 * level - 1) ** 2], dim=1), target

    def distance(box: BlackBox, audio: torch.Tensor, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        error = (box(audio, network(features)) - target).square().mean(dim=(1, 2))
        return (error / target.square().mean(dim=(1, 2))).mean()

    held_out = draw(16)
    with torch.no_grad():
        first = float(distance(judge, *held_out))
    for _ in range(steps):
        loss = distance(layer, *draw(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return Training(how, policy, seed, float(distance(judge, *held_out)), first, pool.counters)
