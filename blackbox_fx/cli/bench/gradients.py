"""Commands that compare ways to get gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.report import terminal as show

if TYPE_CHECKING:
    from blackbox_fx.effects import Effect

Address = Annotated[
    str, typer.Argument(metavar="EFFECT", help="Such as pedalboard:Compressor, vst3:ZamCompX2 or twin:compressor.")
]
Only = Annotated[list[str], typer.Option("--only", help="A free parameter; may be repeated; else all are.")]
Set = Annotated[list[str], typer.Option("--set", help="name=value of a fixed parameter; may be repeated.")]
Names = Annotated[list[str], typer.Option("--estimator", help="A family to compare; may be repeated; else all.")]
Songs = Annotated[int, typer.Option(min=1, help="Composed songs.")]
Settings = Annotated[int, typer.Option(min=1, help="Settings of the effect for each song.")]
Draws = Annotated[int, typer.Option(min=1, help="Estimates from each estimator at each setting.")]
Seconds = Annotated[float, typer.Option(min=0.1, max=60, help="Length of a clip.")]
Stereo = Annotated[bool, typer.Option("--stereo", help="Two channels instead of one.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of songs, settings and estimates.")]
Out = Annotated[Path | None, typer.Option(help="Folder for CSV, plots and a page.")]


def _effect(address: str, only: Sequence[str], held: Sequence[str]) -> Effect:
    from blackbox_fx.lab.case import load_effect
    from blackbox_fx.space.texts import parse_settings

    effect = load_effect(address)
    values = parse_settings(effect.space, held)
    effect = effect.fix(values) if values else effect
    return effect.only(*only) if only else effect


@contextlib.contextmanager
def _measuring(title: str) -> Iterator[Any]:
    """A progress bar; Ctrl-C stops the measurement, and keeps what was measured."""
    try:
        with show.bar(title) as progress:
            yield progress
    except KeyboardInterrupt:
        show.err.print("stopped; this is what was measured so far")


def make_folder(out: Path | None) -> Path | None:
    """The folder that --out names, made if it is missing."""
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"Cannot make the folder {out} ({error.strerror}); name another with --out.") from error
    return out


def _table(title: str, table: Sequence[Sequence[str]]) -> None:
    if len(table) < 2:
        raise DataError("Nothing was measured.")
    show.table(title, table[0], table[1:], numbers=len(table[0]) - 1)


def _opened(page: Path) -> None:
    show.out.print(f"Open {page}", markup=False, soft_wrap=True)


def _show_study(title: str, study: Any, out: Path | None, by_line: bool) -> None:
    from blackbox_fx.report.gradients import brief_table, truth_error, write_gradient_page

    _table(f"{title}; truth known to {truth_error(study):.1g}", brief_table(study.summaries()))
    for doubt in study.doubts():
        show.err.print(doubt, markup=False, soft_wrap=True, highlight=False)
    if out is not None:
        footer = f"{study.draws} draws, seed {study.seed}."
        _opened(write_gradient_page(out, title, study, footer, by_line))


def gradients(
    effect: Address,
    only: Only = [],
    held: Set = [],
    estimator: Names = [],
    songs: Songs = 3,
    settings: Settings = 2,
    draws: Draws = 16,
    seconds: Seconds = 3.0,
    stereo: Stereo = False,
    most: Annotated[int, typer.Option(min=2, help="Most renders for one gradient.")] = 32,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Compare every estimator of parameter gradients with the true gradient, on music."""
    from blackbox_fx.lab.case import make_cases
    from blackbox_fx.lab.gradients import Study
    from blackbox_fx.lab.methods import LINES, methods

    loaded, folder = _effect(effect, only, held), make_folder(out)
    study = Study(methods(estimator or LINES, most), draws, seed)
    with _measuring("estimates") as progress:
        cases = make_cases(loaded, songs, settings, seconds, 1 + stereo, seed, progress=progress)
        study.run(cases, progress)
    _show_study(f"Gradients of {loaded!r}", study, folder, by_line=True)


def chain(
    songs: Songs = 4,
    settings: Settings = 2,
    draws: Draws = 16,
    seconds: Seconds = 3.0,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Backpropagate effect by effect through six effects, against the same as one opaque rack."""
    from blackbox_fx.lab.case import make_cases
    from blackbox_fx.lab.chain import chain_methods, channel_strip
    from blackbox_fx.lab.gradients import Study

    folder = make_folder(out)
    study = Study([], draws, seed)
    with _measuring("estimates") as progress:
        cases = make_cases(channel_strip(), songs, settings, seconds, seed=seed, progress=progress)
        study.methods = tuple(chain_methods(cases[0], seed))
        study.run(cases, progress)
    _show_study("Six effects, 15 parameters", study, folder, by_line=False)


def multiplexed(
    cases: Annotated[int, typer.Option(min=1, help="Settings and songs for each row.")] = 10,
    draws: Draws = 8,
    seconds: Annotated[list[float], typer.Option(min=0.1, max=60, help="Length of a clip; may be repeated.")] = [3, 10],
    effect: Annotated[list[str], typer.Option(help="channel strip, ZamCompX2 or ZaMultiCompX2; may be repeated.")] = [],
    every: Annotated[bool, typer.Option("--every", help="All pedalboard effects and zam plugins instead.")] = False,
    window: Annotated[list[int], typer.Option(help="Longest window of the loss: 2048 or 8192; may be repeated.")] = [
        2048,
        8192,
    ],
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Multiplexed SPSA against SPSA with two renders each, over effects, clips and losses."""
    from blackbox_fx.lab.multiplexed import SUBJECTS, WINDOWS, Multiplexing, every_subject, subject
    from blackbox_fx.report.ratios import ratio_table, write_ratio_page

    unknown = [name for name in effect if name not in SUBJECTS]
    if unknown:
        raise ParameterError(f"Unknown effect {unknown[0]!r}; known are {', '.join(SUBJECTS)}.")
    if strange := [w for w in window if w not in WINDOWS]:
        raise ParameterError(
            f"A longest window of {strange[0]} is not measured; known are {', '.join(map(str, WINDOWS))}."
        )
    folder = make_folder(out)
    chosen = every_subject() if every else {name: subject(name) for name in effect or SUBJECTS}
    study = Multiplexing(chosen, seconds, window, cases=cases, draws=draws, seed=seed)
    with _measuring("cases") as progress:
        study.run(progress)
    _table("Squared error of multiplexed SPSA over that of SPSA, two renders each", ratio_table(study.ratios))
    for name in sorted(set(chosen) - {ratio.effect for ratio in study.ratios}):
        show.err.print(
            f"{name}: left out, since one parameter holds nearly all of the gradient everywhere, or none is known.",
            soft_wrap=True,
            highlight=False,
        )
    if folder is not None:
        _opened(write_ratio_page(folder, study.ratios, f"{cases} cases a row, {draws} draws, seed {seed}."))


def optimise(
    effect: Address,
    only: Only = [],
    held: Set = [],
    estimator: Names = [],
    starts: Annotated[int, typer.Option(min=1, help="Songs, targets and starts.")] = 5,
    renders: Annotated[int, typer.Option(min=10, help="For each run, backward passes included.")] = 300,
    budget: Annotated[int, typer.Option(min=2, help="Most renders for one gradient.")] = 4,
    seconds: Seconds = 2.0,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Find the settings of a target output by every estimator, and by nevergrad's optimisers with as many renders."""
    from blackbox_fx.lab.case import make_cases
    from blackbox_fx.lab.methods import LINES, methods
    from blackbox_fx.lab.optimise import Race
    from blackbox_fx.report.gradients import race_table, write_race_page

    loaded, folder = _effect(effect, only, held), make_folder(out)
    race = Race(methods(estimator or LINES, budget), budget=renders, seed=seed)
    with _measuring("runs") as progress:
        race.run(make_cases(loaded, starts, 1, seconds, seed=seed, progress=progress), progress)
    _table(f"Settings of {loaded.name}: least loss so far / loss at the start, medians", race_table(race))
    for label, reason in race.unsuited.items():
        show.err.print(f"{label} was left out: {reason}", markup=False, soft_wrap=True, highlight=False)
    if folder is not None:
        _opened(write_race_page(folder, f"Settings of {loaded!r}", race, f"{renders} renders a run, seed {seed}."))


def proxies(
    effect: Annotated[str, typer.Argument(metavar="EFFECT", help="Or the name or folder of its proxy.")],
    only: Only = [],
    held: Set = [],
    task: Annotated[
        str, typer.Option(help="clip: settings of one clip each; network: a network for all clips.")
    ] = "clip",
    tasks: Annotated[int, typer.Option(min=1, help="Clips with hidden settings, or hidden rules.")] = 10,
    renders: Annotated[int, typer.Option(min=3, help="For each training, backward passes included.")] = 90,
    seconds: Seconds = 1.5,
    training: Annotated[float, typer.Option(min=1, help="Seconds to train a proxy, where none is named.")] = 120.0,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Find hidden settings through a proxy, half, full, refreshed, as control variate, and by SPSA."""
    from blackbox_fx.lab.proxies import Proxies
    from blackbox_fx.lab.tasks import clip_tasks, network_tasks, train_here
    from blackbox_fx.proxy.store import find_proxy, load_proxy, read_recipe
    from blackbox_fx.report.proxies import proxies_table, refresh_line, write_proxies_page

    kinds = {"clip": clip_tasks, "network": network_tasks}
    if task not in kinds:
        raise ParameterError(f"Unknown task {task!r}; known are {', '.join(kinds)}.")
    folder = make_folder(out)
    if ":" in effect:
        loaded = _effect(effect, only, held)
        with show.bar("training a proxy") as progress:
            proxy = train_here(loaded, training, seed, progress)
    else:
        loaded, proxy = read_recipe(find_proxy(effect)).load_effect(), load_proxy(effect)
    study = Proxies(proxy, renders, seed)
    with _measuring("trainings") as progress:
        study.run(kinds[task](loaded, tasks, seconds, seed), progress)
    _table(
        f"Settings of {loaded.name}: loss of the effect / loss at the start", [row[:6] for row in proxies_table(study)]
    )
    show.err.print(refresh_line(study), soft_wrap=True, highlight=False)
    if folder is not None:
        footer = f"{tasks} tasks of kind {task}, {renders} renders, clips of {seconds:g} s, seed {seed}."
        _opened(write_proxies_page(folder, f"Proxies of {loaded!r}", study, footer))


def discrete(
    seeds: Annotated[int, typer.Option(min=1, help="Targets and wrong starts.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Of each training.")] = 300,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Find an on/off switch and a choice of four filters by gradients, from a wrong start."""
    from blackbox_fx.lab.discrete import Recovery
    from blackbox_fx.report.gradients import write_csv
    from blackbox_fx.report.ratios import recovery_table

    folder = make_folder(out)
    study = Recovery(seeds=seeds, steps=steps, seed=seed)
    with _measuring("trainings") as progress:
        study.run(progress)
    _table("All switches and choices found", recovery_table(study))
    if folder is not None:
        import dataclasses

        write_csv(folder / "attempts.csv", [dataclasses.asdict(a) for a in study.attempts])
