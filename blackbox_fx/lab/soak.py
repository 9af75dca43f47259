"""What faults cost: thousands of renders through effects that crash, hang and give NaN, and training through one."""

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
    """What a soak found.

    Attributes:
        wanted: renders.
        effects: names.
        wrong: renders that differ from those of the pool without faults.
        counters, clean_counters: of the pool with faults and of that without.
        seconds, clean_seconds: that each spent.
        waiting: of the seconds, those in which hangs were waited for.
        parent, workers: memory without what is shared, in the last tenth relative to the first.
        left: processes, folders and descriptors left behind.
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
    left: tuple[str, ...]


def installed(addresses: Sequence[str] = ADDRESSES) -> list[Effect]:
    """Those of the effects that can be loaded here."""
    found = []
    for address in addresses:
        with contextlib.suppress(EffectError):
            found.append(load(address))
    return found


def _own(pid: int) -> int:
    """Pages of a process that it does not share; 0 where the system does not tell."""
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
    """Renders random settings of random effects in two pools by turns: as they are, and with faults put in.

    Args:
        renders: in each pool.
        share: of renders that crash, hang or give NaN, a third each.
        seconds: length of a stereo clip.
        workers: of each pool.
        deadline: seconds that a render may take.
        seed: of effects, settings, clips and faults.
        progress: called with the renders done, their number, and the counters.
    """
    rng = np.random.default_rng(seed)
    clips = (0.2 * rng.standard_normal((_BATCH, 2, round(seconds * RATE)))).astype(np.float32)
    cotangent = rng.standard_normal(clips.shape).astype(np.float32)
    folders, pids = _folders(), set[int]()
    wrong, waiting = 0, 0.0
    spent, usual = np.zeros(2), defaultdict[str, list[float]](list)
    memory: list[tuple[int, float]] = []
    jobs = -(-renders // _BATCH)
    with tempfile.TemporaryDirectory(prefix="blackbox_fx-soak-") as tickets:
        effects = [Faulty(effect, Path(tickets)) for effect in installed()]
        pools = Processes(workers, deadline), Processes(workers, deadline)
        descriptors = _descriptors()
        with pools[0], pools[1]:
            for pool in pools:
                for effect in effects:
                    pool.map(Job(effect, clips, _settings(effect, rng, 0, 0.0), np.arange(_BATCH), RATE))
                pool.reset_counters()
            for k in range(jobs):
                effect = effects[rng.integers(len(effects))]
                params = _settings(effect, rng, k, share)
                faulty = Job(effect, clips, params, np.arange(_BATCH), RATE)
                healthy = dataclasses.replace(faulty, points=_healthy(effect, params))
                found, times = [], np.zeros(2)
                for which in (k % 2, 1 - k % 2):  # which goes first must not matter
                    pool, job, hangs = pools[which], (healthy, faulty)[which], pools[which].counters.hangs
                    began = time.perf_counter()
                    result = pool.map(job) if k % 4 else pool.project(job, cotangent)
                    times[which] = time.perf_counter() - began
                    found.append(result)
                    if which and (hung := pool.counters.hangs - hangs):
                        typical = np.median(usual[effect.name] or [0.0])
                        waiting += min(hung * deadline, max(0.0, times[1] - float(typical)))
                spent += times
                usual[effect.name].append(times[0])
                wrong += int(np.any(found[0] != found[1], axis=tuple(range(1, found[0].ndim))).sum())
                team = [pid for pool in pools for pid in pool.worker_pids]
                pids.update(team)
                memory.append((_own(os.getpid()), float(np.mean([_own(pid) for pid in team]))))
                if progress:
                    progress(min((k + 1) * _BATCH, renders), renders, str(pools[1].counters))
            counters = [pool.counters for pool in pools]
    tenth = max(1, jobs // 10)
    early, late = np.mean(memory[:tenth], axis=0), np.mean(memory[-tenth:], axis=0)
    left = [f"process {pid}" for pid in pids if Path(f"/proc/{pid}").exists()]
    left += [f"folder {path}" for path in _folders() - folders]
    if (more := _descriptors() - descriptors) > 0:
        left.append(f"{more} descriptors")
    ratio = late / np.where(early > 0, early, 1)
    names = tuple(effect.name for effect in effects)
    totals = (jobs * _BATCH, names, wrong, counters[1], counters[0], float(spent[1]), float(spent[0]), waiting)
    return Soak(*totals, float(ratio[0]), float(ratio[1]), tuple(left))


def _settings(effect: Faulty, rng: np.random.Generator, k: int, share: float) -> np.ndarray:
    rows = effect.space.sample(_BATCH, rng)
    kinds = np.where(rng.random(_BATCH) < share, rng.integers(1, len(FAULTS), _BATCH), 0)
    for n, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
        row[effect.space.slices[FAULT]] = effect.space.parameters[FAULT].encode(int(kind))
        row[effect.space.slices[TICKET]] = effect.space.parameters[TICKET].encode(k * _BATCH + n)
    return rows


def _healthy(effect: Faulty, rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows[:, effect.space.slices[FAULT]] = 0.0
    return rows


@final
@dataclasses.dataclass(frozen=True)
class Training:
    """One training through an effect that may crash.

    Attributes:
        how: see `Crashing`.
        policy: of the pool.
        seed: of weights, clips and estimates.
        loss: at the end, on clips kept aside, through the effect itself.
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
    """Trains a small network to set a compressor by what it hears, with and without crashes.

    Args:
        steps: of each training.
        seeds: trainings of each kind.
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
        """Clips of any level, what the network hears of them, and what it should arrive at."""
        level = torch.rand(count, 1, generator=random_numbers)
        noise = torch.randn(count, 2, RATE // 2, generator=random_numbers)
        beat = torch.exp(-6 * ((torch.arange(RATE // 2) / RATE * 4) % 1))
        audio = noise * beat * (0.02 + 0.2 * level[..., None])
        with torch.no_grad():
            target = judge(audio, torch.cat([0.55 + 0.3 * level, 0.8 - 0.5 * level], dim=1))
        return audio, torch.cat([2 * level - 1, (2 * level - 1) ** 2], dim=1), target

    def distance(box: BlackBox, audio: torch.Tensor, heard: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        error = (box(audio, network(heard)) - target).square().mean(dim=(1, 2))
        return (error / target.square().mean(dim=(1, 2))).mean()

    aside = draw(16)
    with torch.no_grad():
        first = float(distance(judge, *aside))
    for _ in range(steps):
        loss = distance(layer, *draw(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return Training(how, policy, seed, float(distance(judge, *aside)), first, pool.counters)
