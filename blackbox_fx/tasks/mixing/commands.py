"""Commands that train a mixing network: on songs composed on the spot, or on a folder of stems."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from blackbox_fx.core import system
from blackbox_fx.report import terminal as show
from blackbox_fx.sessions.kinds import SessionKind

if TYPE_CHECKING:
    from blackbox_fx.audio import Audio
    from blackbox_fx.data.clips import Source
    from blackbox_fx.data.folder import SongFiles, SongFolder
    from blackbox_fx.runtime import Pool
    from blackbox_fx.tasks.mixing.evaluation import Score
    from blackbox_fx.tasks.mixing.mixer import Mixer, Settings
    from blackbox_fx.tasks.mixing.study import MixStudy
    from blackbox_fx.tasks.mixing.teacher import Teacher
    from blackbox_fx.tasks.mixing.training import MixRecipe
    from blackbox_fx.training.run import Run

DISTANCES_CSV = "distances.csv"


Out = Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")]
Seed = Annotated[int, typer.Option(help="Of songs, excerpts, weights and gradient estimates.", min=0, max=2**32 - 1)]
Device = Annotated[str, typer.Option(help="Of the network: cpu, cuda, cuda:1, mps. Effects render on CPUs.")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps; 340 unless a recipe says otherwise.", min=1)]


def demo(
    out: Out = Path("runs/demo"),
    seed: Seed = 0,
    steps: Steps = None,
    songs: Annotated[int, typer.Option(help="Songs to compose; every seventh is held out.", min=2)] = 98,
    device: Device = "cpu",
) -> None:
    """Train a small mixing network through real effects, and write a page to open."""
    from blackbox_fx.data.composer import compose
    from blackbox_fx.tasks.mixing.training import is_finished, open_run

    recipe = _recipe(None, seed, steps)
    require_device(device)
    with open_run(out, recipe) as run:
        if is_finished(run):
            show.out.print(
                f"{out} is finished: open {out / 'index.html'}, or name another folder with --out.", soft_wrap=True
            )
            return
        held_out = max(1, songs // 7)
        with show.bar("composing") as progress:
            composed = []
            for k in range(songs):
                # many short songs teach more than few long ones; the held-out ones are long enough to listen to
                composed.append(compose(seed * 10_000 + k, seconds=6.0 if k < songs - held_out else 12.0))
                progress(k + 1, songs, composed[-1].name)
        _train(composed[:-held_out], composed[-held_out:], run, recipe, device, _Task())


def train_mix(
    songs: Annotated[
        Path,
        typer.Option(help="Folder of songs: a data set of multitracks, a folder for each song, or tracker modules."),
    ],
    out: Out = Path("runs/mix"),
    console: Annotated[Path | None, typer.Option(help="TOML file of a console; the demo's if not given.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file with settings; see recipe.toml of any run.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=0, max=2**32 - 1)] = None,
    steps: Steps = None,
    device: Device = "cpu",
    raw: Annotated[
        bool, typer.Option("--raw", help="Tracks before processing, where there are: MedleyDB, modules.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write the losses for TensorBoard, too, into the folder of the run.")
    ] = False,
) -> None:
    """Train a mixing network on your own songs, towards their mixes.

    Where no song comes with its mix, an invented engineer mixes them. A seventh of the songs, and at least one, is held
    out to report the loss on; or those for testing of a data set.
    """
    from blackbox_fx.data.folder import read_songs
    from blackbox_fx.tasks.mixing.training import open_run

    chosen = _recipe(recipe, seed, steps)
    require_device(device)
    folder = read_songs(songs, raw=raw)
    show.err.print(str(folder), markup=False, soft_wrap=True)
    known = _show_skipped(folder.skipped)
    folder, real = _with_mixes(folder)
    train, unseen = folder.split()
    _require_long(train, chosen.seconds)
    with open_run(out, chosen) as run:
        _train(train, unseen, run, chosen, device, _Task(console, real, tensorboard))
    _show_skipped(folder.skipped[known:])


def mix(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With the audio files of one song's tracks.")],
    model: Annotated[Path, typer.Option(help="Folder of a run of train mix.")],
    out: Annotated[Path, typer.Option(help="Folder for the mix, its settings and a page; made if missing.")],
    samples: Annotated[
        int, typer.Option(help="Mixes to draw, each into a folder of its own; for networks of several styles.", min=1)
    ] = 1,
    refine: Annotated[
        int, typer.Option(help="Steps of gradients for this song: towards its own mix, or the reference.", min=0)
    ] = 0,
    reference: Annotated[
        Path | None, typer.Option(help="A finished mix whose sound is wanted, for --refine; any song, any length.")
    ] = None,
    session: Annotated[SessionKind, typer.Option(help="For which DAW: several read DAWproject files.")] = (
        SessionKind.DAWPROJECT
    ),
    seed: Seed = 0,
) -> None:
    """Mix a song with a trained network: the mix, settings as files and presets, a session for a DAW, and a page."""
    from blackbox_fx.core.files import make_folder
    from blackbox_fx.data.folder import read_song
    from blackbox_fx.runtime import Processes
    from blackbox_fx.tasks.mixing.mixer import load_mixer
    from blackbox_fx.tasks.mixing.mixing_page import write_samples_page

    with Processes(system.cores()) as pool:
        read_song(folder)  # before anything is loaded
        _require_own(out, folder, model)
        mixer = load_mixer(model, pool)
        song = read_song(folder, round(mixer.sample_rate))
        _show_skipped(song.skipped)
        wanted = _reference(reference, refine, mixer.sample_rate)
        drawn = _draw(mixer, song, samples, seed)
        make_folder(out)
        pages = []
        for k, settings in enumerate(drawn):
            if refine:
                settings = _refine(mixer, song, settings, refine, wanted, seed)
            pages.append(_write_mix(mixer, song, settings, out if samples == 1 else out / str(k + 1), session))
    names = [(name, role) for name, role in zip(song.track_names, song.roles, strict=True)]
    show.table(f"{song.name}: {len(names)} tracks", ("track", "taken for"), names)
    page = pages[0] if samples == 1 else write_samples_page(out, song.name, pages)
    what = f"the whole mix is {out / 'mix.wav'}" if samples == 1 else f"the mixes are in {out / '1'} and beside it"
    show.out.print(f"Open {page}; {what}", markup=False, soft_wrap=True)


def _draw(mixer: Mixer, song: SongFiles, samples: int, seed: int) -> list[Settings]:
    """The settings of the mixes: of one that is expected to be the least wrong, or of several at random."""
    from blackbox_fx.errors import ParameterError

    if samples > 1 and mixer.network.styles == 1:
        raise ParameterError(
            f"--samples {samples} needs a network of several styles, and this one has one; train it with styles = 4 in "
            "its recipe."
        )
    with show.bar("listening") as progress:
        if samples == 1:
            return [mixer.settings(song, progress)]
        return [settings for _, settings in mixer.listen(song, progress).draw(samples, seed)]


def _reference(path: Path | None, steps: int, sample_rate: float) -> Audio | None:
    """The audio of --reference. Raises ParameterError where it would have no influence."""
    from blackbox_fx.audio import read
    from blackbox_fx.errors import ParameterError

    if path is None:
        return None
    if not steps:
        raise ParameterError(f"--reference {path} has no influence without steps; give --refine 100.")
    return read(path, sample_rate)[0]


def _refine(mixer: Mixer, song: SongFiles, settings: Settings, steps: int, wanted: Audio | None, seed: int) -> Settings:
    from blackbox_fx.tasks.mixing.refining import refine

    with show.bar("refining") as progress:
        found = refine(mixer, song, settings, steps, wanted, progress, seed)
    better = "" if found.after < found.before else "; the network's settings stay, since they were not worse"
    show.out.print(f"Refined: loss {found.before:.3f} before, {found.after:.3f} after{better}", soft_wrap=True)
    return found.settings


def _write_mix(mixer: Mixer, song: SongFiles, settings: Settings, out: Path, kind: SessionKind) -> Path:
    """Writes a mix with its settings, session and page. What is rendered are the settings as they stand in the file."""
    from blackbox_fx.audio import write
    from blackbox_fx.layers.saved import load_settings, save_settings
    from blackbox_fx.tasks.mixing.mixing_page import write_song_page

    save_settings(mixer.console, out, *settings, song.roles, names=song.track_names)
    rows, buses, *_ = load_settings(mixer.console, out)
    with show.bar("mixing") as progress:
        mixed = mixer.mix(song, rows, buses, progress)
    write(out / "mix.wav", mixed, mixer.sample_rate)
    if kind != SessionKind.NONE:
        with show.bar("writing the session") as progress:
            session = mixer.save_session(out / f"song.{kind}", song, rows, buses, progress)
        show.out.print(str(session), markup=False, highlight=False)
    return write_song_page(out, mixer, song, mixed, rows, buses)


def _require_own(out: Path, *others: Path) -> None:
    """Raises DataError if what is written could overwrite a song or a training."""
    from blackbox_fx.errors import DataError

    if any(out.resolve() == other.resolve() for other in others):
        raise DataError(
            f"--out {out} is the folder of the song or of the run, whose files it would replace; name another."
        )
    if (out / "mix.wav").exists() and not (out / "settings.json").exists():
        raise DataError(f"{out} has a mix.wav that this command did not write; name another folder with --out.")


def _require_long(songs: Sequence[Source], seconds: float) -> None:
    """Raises ParameterError if excerpts are longer than all songs, and would end in silence."""
    from blackbox_fx.errors import ParameterError

    longest = max(song.length / song.sample_rate for song in songs)
    if seconds > longest:
        raise ParameterError(
            f"seconds of the recipe is {seconds:g}, and the longest song has {longest:.1f}; take shorter excerpts."
        )


class _Task(NamedTuple):
    """What is learnt.

    Args:
        console: a TOML file, or None for that of the demo.
        real: whether songs come with their mixes.
        board: whether losses are written for TensorBoard.
    """

    console: Path | None = None
    real: bool = False
    board: bool = False


def _with_mixes(folder: SongFolder) -> tuple[SongFolder, bool]:
    """The songs that come with a mix, if any do; says which mixes are learnt."""
    mixed = tuple(song for song in folder.songs if song.has_mix)
    if not mixed:
        show.err.print("No song comes with its mix: an invented engineer mixes them.", soft_wrap=True)
        return folder, False
    left = len(folder.songs) - len(mixed)
    words = f" {left} songs have none, and are left out." if left else ""
    show.err.print(f"Targets are the real mixes of {len(mixed)} songs.{words}", soft_wrap=True)
    return dataclasses.replace(folder, songs=mixed), True


def _show_skipped(skipped: Sequence[tuple[Path, str]]) -> int:
    for path, reason in skipped:
        show.err.print(f"skipped {path}: {reason}", markup=False, soft_wrap=True)
    return len(skipped)


def _recipe(path: Path | None, seed: int | None, steps: int | None) -> MixRecipe:
    from blackbox_fx.tasks.mixing.training import MixRecipe

    recipe = MixRecipe() if path is None else MixRecipe.read(path)
    given = {name: value for name, value in (("seed", seed), ("steps", steps)) if value is not None}
    return dataclasses.replace(recipe, **given)


def require_device(name: str) -> None:
    """Raises ParameterError if torch has no device of this name here."""
    import torch

    from blackbox_fx.errors import ParameterError

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split(". ")[0].split())
        raise ParameterError(f"There is no device {name!r} here ({reason}); give --device cpu.") from error


def _train(
    songs: Sequence[Source], unseen: Sequence[Source], run: Run, recipe: MixRecipe, device: str, task: _Task
) -> None:
    from blackbox_fx.tasks.mixing.page import relative, write_mix_page

    with _pool(task) as pool:
        study, scores = _learn(songs, unseen, run, recipe, device, task, pool)
        footer = f"{len(study.losses)} steps, {study.seconds:.0f} s of training, seed {recipe.seed}."
        page = write_mix_page(run.folder, study, scores, footer)
    after = study.scores["trained network"]
    rows = [(name, f"{score:.3f}", relative(after, score)) for name, score in study.scores.items()]
    show.table("Loss on unseen songs", ("mix", "loss", "trained network relative to it"), rows, numbers=2)
    show.out.print(f"{footer} Open {page}", markup=False, soft_wrap=True)


def _learn(
    songs: Sequence[Source],
    unseen: Sequence[Source],
    run: Run,
    recipe: MixRecipe,
    device: str,
    task: _Task,
    pool: Pool,
) -> tuple[MixStudy, list[Score]]:
    """Trains in an open run; then the distances to the real mixes of the held-out songs, where songs have them."""
    from blackbox_fx.tasks.mixing.evaluation import write_scores
    from blackbox_fx.tasks.mixing.mixer import describe
    from blackbox_fx.tasks.mixing.study import MixStudy
    from blackbox_fx.tasks.mixing.training import effects_of
    from blackbox_fx.training.board import Board

    study = MixStudy(songs, unseen, recipe, _teacher(task, pool, [*songs, *unseen], recipe.seed), device)
    run.require_effects(effects_of(study.teacher.console))
    describe(run.folder, study.teacher, recipe, task.console)
    with show.bar("rendering targets") as progress:
        study.prepare(progress)
    with show.bar("training") as progress, contextlib.ExitStack() as stack:
        study.train(run, progress, stack.enter_context(contextlib.closing(Board(run.folder))) if task.board else None)
    if not task.real:
        return study, []
    with show.bar("comparing") as progress:
        scores = study.compare(progress)
    write_scores(run.folder / DISTANCES_CSV, scores)
    return study, scores


def _pool(task: _Task) -> Pool:
    """Where effects render: those of a file may crash, and a render that does it twice is skipped and counted."""
    from blackbox_fx.runtime import Processes, Threads

    return Threads(system.cores()) if task.console is None else Processes(system.cores(), on_failure="skip")


def _teacher(task: _Task, pool: Pool, songs: Sequence[Source], seed: int) -> Teacher:
    from blackbox_fx.layers.description import load_console
    from blackbox_fx.tasks.mixing.engineer import HiddenEngineer, demo_console
    from blackbox_fx.tasks.mixing.teacher import InventedEngineer, RealMixes

    console = load_console(task.console, pool=pool) if task.console else demo_console(pool, songs[0].sample_rate, seed)
    if task.real:
        return RealMixes(console, min(max(song.channels for song in songs), 2))
    return InventedEngineer(console, seed) if task.console else HiddenEngineer(console)


def bench_mixing(
    out: Annotated[Path, typer.Option(help="Folder for CSV and the figure; what is there is not trained again.")],
    steps: Annotated[int, typer.Option(min=1, help="Of each training.")] = 340,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings by each method.")] = 3,
    method: Annotated[list[str], typer.Option(help="A method; may be repeated. Else all are compared.")] = [],
) -> None:
    """Train the demo's network by different gradients, and draw its loss on unseen songs beside published SPSA's."""
    from blackbox_fx.errors import ParameterError
    from blackbox_fx.report import plot
    from blackbox_fx.report.learning import learning_curves, learning_table, read_curves, write_curves
    from blackbox_fx.runtime import Threads
    from blackbox_fx.tasks.mixing.comparison import METHODS, learn
    from blackbox_fx.tasks.mixing.training import MixRecipe
    from blackbox_fx.training.run import Run

    if unknown := [name for name in method if name not in METHODS]:
        raise ParameterError(f"Unknown method {unknown[0]!r}; known are {', '.join(METHODS)}.")
    with Run(out), Threads(system.cores()) as pool, show.bar("training") as progress:
        curves = read_curves(out / "curves.csv")
        done = {(curve.method, curve.seed, curve.steps[-1]) for curve in curves}
        for seed in range(seeds):
            for name in method or METHODS:
                if (name, seed, steps) not in done:
                    curves.append(learn(name, MixRecipe(steps=steps, seed=seed), pool, progress))
                    write_curves(out / "curves.csv", curves)
    table = learning_table(curves)
    show.table("Loss on unseen songs", table[0], table[1:], numbers=4)
    name = plot.save(learning_curves(curves), out / "learning.svg")
    show.out.print(f"Open {out / name}", markup=False, soft_wrap=True)


def bench_mixes(
    songs: Annotated[Path, typer.Option(help="Folder of songs with their mixes, as for train mix.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs, CSV and a page; what is there is not trained again.")],
    console: Annotated[Path | None, typer.Option(help="TOML file of a console; the demo's if not given.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file with settings; see recipe.toml of any run.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings.")] = 3,
    steps: Steps = None,
    train: Annotated[int, typer.Option(min=1, help="Songs to train on, at most.")] = 50,
    unseen: Annotated[int, typer.Option(min=1, help="Songs to compare on.")] = 15,
    raw: Annotated[bool, typer.Option("--raw", help="Tracks before processing; see train mix.")] = False,
) -> None:
    """Train on real mixes with several seeds, and compare the networks with simple mixes in every distance.

    The songs are the same for all seeds; intervals are over the songs that no training heard.
    """
    from blackbox_fx.data.folder import read_songs
    from blackbox_fx.errors import DataError
    from blackbox_fx.tasks.mixing.evaluation import read_scores, verdicts, write_scores
    from blackbox_fx.tasks.mixing.mixes_page import write_mixes_page
    from blackbox_fx.tasks.mixing.training import open_run

    chosen = _recipe(recipe, None, steps)
    folder, real = _with_mixes(read_songs(songs, raw=raw))
    known = _show_skipped(folder.skipped)
    if not real:
        raise DataError(f"No song of {songs} comes with its mix, so there is nothing to compare with; use others.")
    kept, held_out = folder.split(min(unseen / len({song.name for song in folder.songs}), 0.5))
    kept, held_out, task = kept[:train], held_out[:unseen], _Task(console, real)
    show.err.print(f"{len(kept)} songs to train on, {len(held_out)} unseen.", soft_wrap=True)
    scores = read_scores(out / DISTANCES_CSV)
    for seed in range(seeds):
        if seed in {s.seed for s in scores}:
            continue
        each = dataclasses.replace(chosen, seed=seed)
        with open_run(out / f"seed-{seed}", each) as run, _pool(task) as pool:
            _, found = _learn(kept, held_out, run, each, "cpu", task, pool)
        scores += found
        write_scores(out / DISTANCES_CSV, scores)
    _show_skipped(folder.skipped[known:])
    table = verdicts(scores)
    show.table("Distance to the real mix of unseen songs", table[0], table[1:])
    show.out.print(f"Open {write_mixes_page(out, scores)}", markup=False, soft_wrap=True)
