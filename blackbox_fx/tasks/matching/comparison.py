"""Known settings found again: the hybrid search beside nevergrad's, on real effects, with their switches free."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import Effect
from blackbox_fx.effects.rack import label
from blackbox_fx.errors import DataError
from blackbox_fx.lab.case import RATE, load_effect, music
from blackbox_fx.report.gradients import write_csv
from blackbox_fx.runtime import Pool
from blackbox_fx.tasks.matching.asking import ALIGNED, SOUND
from blackbox_fx.tasks.matching.matching import HYBRID, Match, match
from blackbox_fx.tasks.matching.problem import Problem
from blackbox_fx.tasks.matching.target import Aligned

Array = NDArray[np.float64]

CHAINS = {
    "pedalboard": (
        "pedalboard:LowShelfFilter",
        "pedalboard:PeakFilter",
        "pedalboard:HighShelfFilter",
        "pedalboard:Compressor",
        "pedalboard:Reverb",
    ),
    "ZamCompX2": ("vst3:ZamCompX2",),
    "ZaMultiCompX2": ("vst3:ZaMultiCompX2",),
    "three hosts": ("vst3:ZamEQ2", "pedalboard:Compressor", "ladspa:freeverb3"),
}
METHODS = (HYBRID, "OnePlusOne", "CMA")
MARKS = (100, 300, 700, 1000, 2000, 3000)
FLOOR = 1e-8  # losses below, -80 dB, count as equal
AUDIBLE = 1e-3  # loss at the true settings with another choice, -30 dB, from which on the choice counts


@final
@dataclasses.dataclass(frozen=True)
class Trial:
    """One search.

    Args:
        chain: name of the case.
        target: number of the hidden settings.
        method: of the search; for "sound" and "sound of another song", hybrid with that loss.
        losses: least loss, aligned with what the hidden settings give, after each of `MARKS` renders; infinity before
            the first.
        seconds: of the clock until 700 renders, and in all.
        rendering, comparing: seconds in all.
        audible, found: choices that are audible at the hidden settings, and how many of them were found.
        error: mean distance of the other columns from the hidden settings.
        failures: renders that failed.
    """

    chain: str
    target: int
    method: str
    losses: tuple[float, ...]
    seconds: tuple[float, float]
    rendering: float
    comparing: float
    audible: int
    found: int
    error: float
    failures: int


@dataclasses.dataclass(frozen=True)
class _Hidden:
    """A clip, hidden settings, and what they give."""

    effects: dict[str, Effect]
    dry: Audio
    point: Array
    wet: Audio
    elsewhere: Audio


def compare(
    chains: Sequence[str],
    targets: int,
    methods: Sequence[str],
    renders: int,
    seconds: float,
    unaligned: bool,
    path: Path,
    pool: Pool,
    progress: Progress = quiet,
) -> list[Trial]:
    """Searches hidden settings; what stands in the file is not searched again.

    Args:
        chains: names of `CHAINS`, or addresses joined by "+".
        targets: hidden settings for each, drawn over the whole ranges, switches included; another song for each.
        methods: of `match`.
        renders: for each search.
        seconds: length of clips, which are stereo.
        unaligned: whether the sound of the target, and that of another song, are looked for, too.
        path: of a CSV file.
        pool: where effects render.
        progress: called after each search.
    """
    trials = read_trials(path)
    done = {(t.chain, t.target, t.method) for t in trials}
    plan = list(_plan(chains, targets, methods, unaligned))
    for k, (chain, number, method, loss) in enumerate(plan):
        name = method if loss == ALIGNED else loss
        if (chain, number, name) not in done:
            hidden = _hide(chain, number, seconds, pool)
            reference = hidden.elsewhere if loss == _ELSEWHERE else hidden.wet
            found = match(
                hidden.dry, reference, hidden.effects, sample_rate=RATE, renders=renders, method=method, pool=pool,
                loss=SOUND if loss != ALIGNED else ALIGNED, seed=number,
            )  # fmt: skip
            trials.append(_judge(chain, number, name, hidden, found, pool))
            write_trials(path, trials)
        progress(k + 1, len(plan), f"{chain} {number} {name}")
    return trials


_ELSEWHERE = "sound of another song"


def _plan(
    chains: Sequence[str], targets: int, methods: Sequence[str], unaligned: bool
) -> Iterator[tuple[str, int, str, str]]:
    for number in range(targets):
        for chain in chains:
            for method in methods:
                yield chain, number, method, ALIGNED
            if unaligned:
                yield chain, number, HYBRID, SOUND
                yield chain, number, HYBRID, _ELSEWHERE


def _hide(chain: str, number: int, seconds: float, pool: Pool) -> _Hidden:
    """Hidden settings that can be heard: others are drawn again."""
    addresses = CHAINS.get(chain, tuple(chain.split("+")))
    effects = [load_effect(address) for address in addresses]
    labelled = dict(zip(label([e.name for e in effects]), effects, strict=True))
    dry, other = (music(seed, seconds, 2).numpy() for seed in (1000 + number, 2000 + number))
    problem = _problem(labelled, dry, dry, pool)
    space = problem.chain.space
    for draw in range(20):
        point = space.sample(1, np.random.default_rng([number, draw]))[0]
        wet = problem.wet(point)
        if np.abs(wet).max() > 1e-3:
            elsewhere = _problem(labelled, other, other, pool).wet(point)
            return _Hidden(labelled, dry, point, wet, elsewhere)
    raise DataError(f"{chain} is silent at 20 random settings; hold one of its parameters with another chain.")


def _problem(effects: dict[str, Effect], dry: Audio, reference: Audio, pool: Pool) -> Problem:
    from blackbox_fx.effects import Rack

    return Problem(Rack(effects), dry, Aligned(reference, RATE), RATE, pool)


def _judge(chain: str, number: int, name: str, hidden: _Hidden, found: Match, pool: Pool) -> Trial:
    """What a search found, beside what was hidden."""
    problem = _problem(hidden.effects, hidden.dry, hidden.wet, pool)
    point = found.params.numpy()
    away = (
        [np.abs(point[problem.continuous] - hidden.point[problem.continuous]).mean()]
        if len(problem.continuous)
        else [0.0]
    )
    audible = recovered = 0
    for option in problem.options:
        true = hidden.point[option.columns]
        others = [value for value in option.values if np.abs(value - true).max() > 1e-6]
        rows = np.repeat(hidden.point[None], len(others), 0)
        rows[:, option.columns] = others
        if problem.evaluate(rows).losses.min() > AUDIBLE:
            audible += 1
            recovered += bool(np.abs(point[option.columns] - true).max() < 1e-6)
    if name in METHODS or not name.startswith(SOUND):
        losses = tuple(min((p.loss for p in found.trace if p.renders <= mark), default=math.inf) for mark in MARKS)
    else:
        losses = (float(problem.evaluate(point[None]).losses[0]),) * len(MARKS)
    early = max((p.seconds for p in found.trace if p.renders <= MARKS[2]), default=0.0)
    return Trial(
        chain, number, name, losses, (early, found.seconds), found.rendering, found.comparing, audible, recovered,
        float(away[0]), found.failures,
    )  # fmt: skip


_COLUMNS = ("rendering", "comparing", "audible", "found", "error", "failures")


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """Writes a CSV file with a row for each search."""
    rows = [
        {"chain": t.chain, "target": t.target, "method": t.method}
        | {f"loss {mark}": loss for mark, loss in zip(MARKS, t.losses, strict=True)}
        | {"seconds 700": t.seconds[0], "seconds": t.seconds[1]}
        | {name: getattr(t, name) for name in _COLUMNS}
        for t in trials
    ]
    write_csv(path, rows)


def read_trials(path: Path) -> list[Trial]:
    """What `write_trials` wrote; nothing if there is no file. Raises DataError for another file."""
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            return [
                Trial(
                    row["chain"],
                    int(row["target"]),
                    row["method"],
                    tuple(float(row[f"loss {mark}"]) for mark in MARKS),
                    (float(row["seconds 700"]), float(row["seconds"])),
                    float(row["rendering"]),
                    float(row["comparing"]),
                    int(row["audible"]),
                    int(row["found"]),
                    float(row["error"]),
                    int(row["failures"]),
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no table of bench match ({error}); name another folder.") from error


def summary(trials: Sequence[Trial]) -> list[tuple[str, ...]]:
    """Headings, then for each chain and method the median losses, and what else was asked.

    "or alike" counts choices that differ from the hidden ones, too, where what was found sounds the same: where other
    settings make up for a choice, no search can tell.
    """
    rows: list[tuple[str, ...]] = [
        (
            "chain",
            "method",
            *(f"loss {mark}" for mark in MARKS),
            "to best at 2000",
            "seconds",
            "search",
            "choices",
            "or alike",
            "error",
        )
    ]
    for chain in dict.fromkeys(t.chain for t in trials):
        own = [t for t in trials if t.chain == chain]
        rows += [_row(own, method) for method in dict.fromkeys(t.method for t in own)]
    return rows


def _row(own: Sequence[Trial], method: str) -> tuple[str, ...]:
    """One method on one chain."""
    mine = [t for t in own if t.method == method]
    medians = np.median(np.maximum([t.losses for t in mine], FLOOR), axis=0)
    rendering = sum(t.rendering for t in mine)
    beside = sum(t.seconds[1] - t.rendering - t.comparing for t in mine)
    return (
        own[0].chain,
        method,
        *(f"{m:.2g}" for m in medians),
        _reached(own, mine),
        f"{np.median([t.seconds[1] for t in mine]):.1f}",
        f"{beside / max(rendering, 1e-9):.1%}",
        f"{sum(t.found for t in mine)} of {sum(t.audible for t in mine)}",
        f"{sum(t.audible if t.losses[-1] <= FLOOR else t.found for t in mine)} of {sum(t.audible for t in mine)}",
        f"{np.mean([t.error for t in mine]):.3f}",
    )


def _reached(own: Sequence[Trial], mine: Sequence[Trial]) -> str:
    """On how many targets a method has, after 700 renders, what the best of nevergrad's has after 2000."""
    early, late = MARKS.index(700), MARKS.index(2000)
    count = total = 0
    for trial in mine:
        others = [t.losses[late] for t in own if t.target == trial.target and t.method in METHODS[1:]]
        if others and trial.method == HYBRID:
            total += 1
            count += trial.losses[early] <= max(min(others), FLOOR)
    return f"{count} of {total}" if total else ""
