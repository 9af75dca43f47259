"""The commands of style transfer: train, transfer, and compare gradients."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blackbox_fx.core import system
from blackbox_fx.report import terminal as show
from blackbox_fx.sessions.kinds import SessionKind

if TYPE_CHECKING:
    from blackbox_fx.data.clips import Source
    from blackbox_fx.tasks.style.training import StyleRecipe

Out = Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")]
_HELD_OUT = 7  # composed songs for each that is held out


def train_style(
    chain: Annotated[
        list[str],
        typer.Option(help="An effect, such as vst3:ZamEQ2, repeated in order; or a TOML file, see guide."),
    ],
    out: Out,
    songs: Annotated[
        Path | None, typer.Option(help="Folder of songs, as for train mix; songs are composed if not given.")
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of audio files, each a recording by itself: speech, loops, masters.")
    ] = None,
    compose: Annotated[int, typer.Option("--compose", help="Songs to compose if none are given.", min=4)] = 70,
    recipe: Annotated[Path | None, typer.Option(help="TOML file with settings; see recipe.toml of any run.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=0, max=2**32 - 1)] = None,
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    device: Annotated[str, typer.Option(help="Of the network: cpu, cuda, mps. Effects render on CPUs.")] = "cpu",
) -> None:
    """Train a network that sets a chain so that one recording sounds like another, whatever is played.

    It teaches itself: two places of a song, or of two songs, go through the chain at the same random settings.
    """
    from blackbox_fx.runtime import Processes
    from blackbox_fx.tasks.mixing.commands import require_device
    from blackbox_fx.tasks.style.study import TRAINED, StyleStudy
    from blackbox_fx.tasks.style.styler import read_effects
    from blackbox_fx.training.run import Run

    require_device(device)
    chosen = _recipe(recipe, seed, steps)
    said = _chain(chain)
    with show.waiting("loading effects"):
        effects = read_effects(said)
    with Run(out, dataclasses.asdict(chosen)) as run, Processes(system.cores(), on_failure="skip") as pool:
        if run.state is not None and run.state["step"] >= chosen.steps:
            show.err.print(
                f"The training in {out} is finished, so nothing is trained; it is judged again.", soft_wrap=True
            )
        with show.bar("reading songs") as progress:
            study = StyleStudy(effects, said, *_songs(songs, recordings, compose, progress), chosen, pool, device)
        with show.bar("training") as progress:
            scores = study.run(run, progress)
    rows = [(name, f"{value:.3f}", f"{scores[TRAINED] / value:.2f}") for name, value in scores.items()]
    show.table("Distance to the true output on unseen songs", ("way", "distance", "network to it"), rows)
    show.out.print(f"blackbox-fx transfer IN REFERENCE --model {out} --out DIR uses it.", markup=False, soft_wrap=True)


def transfer(
    dry: Annotated[Path, typer.Argument(metavar="IN", help="Audio file that goes through the chain.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Audio file that it shall sound like.")],
    model: Annotated[str, typer.Option(help="Folder of a run of train style, or the name of a shipped network.")],
    out: Annotated[Path, typer.Option(help="Folder for audio, settings, presets, a session and a page.")],
    refine: Annotated[int, typer.Option(help="Renders by which match goes on for this pair alone.", min=0)] = 0,
    session: Annotated[SessionKind, typer.Option(help="For which DAW.")] = SessionKind.DAWPROJECT,
    seed: Annotated[int, typer.Option(help="Of what --refine draws.", min=0, max=2**32 - 1)] = 0,
) -> None:
    """Set a chain of plugins by a trained network, so that one recording sounds like another.

    The recordings may differ in all: what is played, length, channels, sample rate.
    """
    from blackbox_fx.audio import read, resample
    from blackbox_fx.errors import DataError
    from blackbox_fx.tasks.matching.commands import moved, require_own, write_result
    from blackbox_fx.tasks.style.styler import ABOUT, load_styler
    from blackbox_fx.tasks.style.transfer import transfer as find

    audio, rate = read(dry)
    wanted, other = read(reference)
    with show.waiting("loading the network and its effects"):
        styler = load_styler(model)
    if (out / ABOUT).exists():
        raise DataError(f"--out {out} is the folder of a trained network; name another folder.")
    require_own(out, dry, reference)
    with show.bar("choosing settings") as progress:
        found = find(
            audio, wanted, styler, sample_rate=rate, reference_rate=other, refine=refine, seed=seed, progress=progress
        )
    same = wanted if other == rate else resample(wanted, other, rate)
    write_result(found, audio, same, out, session, f"{moved(found)}, in {found.seconds:.1f} s.", title="A transfer")


def train_encoder(
    out: Annotated[Path, typer.Option(help="Folder for the encoder; one that is there is replaced.")],
    groups: Annotated[int, typer.Option(min=32, help="Of four clips: two songs under two treatments.")] = 10000,
    steps: Annotated[int, typer.Option(min=1, help="Of the training.")] = 3000,
    compose: Annotated[int, typer.Option(help="Songs to compose.", min=4)] = 500,
    seed: Annotated[int, typer.Option(help="Of clips and weights.", min=0, max=2**31)] = 0,
) -> None:
    """Train an encoder that says how audio was treated, and little of what is played."""
    from blackbox_fx.core.files import make_folder
    from blackbox_fx.tasks.style import encoder as encoders
    from blackbox_fx.tasks.style.treatments import RATE, compose_treated, load_kinds

    make_folder(out)
    effects = load_kinds()
    with show.bar("encoder") as progress:
        treated = compose_treated(effects, compose, groups, 2.0, seed, progress)
        made = encoders.train_encoder(treated, RATE, steps, seed, progress)
    card = {"songs": compose, "groups": groups, "steps": steps, "seed": seed, "kinds": list(effects)}
    encoders.write_encoder(out, made, card)
    show.out.print(f"bfx.load_encoder({str(out)!r}) gives it.", markup=False, soft_wrap=True)


def bench_encoder(
    out: Annotated[Path, typer.Option(help="Folder for CSV.")],
    model: Annotated[str, typer.Option(help="A shipped encoder, or a folder of train encoder.")] = "treatment",
    style: Annotated[
        list[str], typer.Option(help="A style network whose encoder is compared, too; may be repeated.")
    ] = [],
    aisfx: Annotated[bool, typer.Option("--aisfx", help="Compare with aisfx, which must be installed.")] = False,
    groups: Annotated[int, typer.Option(min=40, help="Of four clips, to fit probes to and to judge on, each.")] = 400,
    songs: Annotated[int, typer.Option(min=4, help="Songs to compose: half to fit to, half to judge on.")] = 60,
) -> None:
    """Compare what encoders tell of treatments, on songs that none of them heard."""
    from blackbox_fx.core.files import make_folder
    from blackbox_fx.report.gradients import write_csv
    from blackbox_fx.tasks.style.encoder import load_encoder
    from blackbox_fx.tasks.style.probing import HEADINGS, draw_examples, of_aisfx, of_style_network, probe, ways
    from blackbox_fx.tasks.style.styler import load_styler

    make_folder(out)
    encoder = load_encoder(model)
    further = {f"style network {name}": of_style_network(load_styler(name).network.encoder) for name in style}
    if aisfx:
        further["aisfx"] = of_aisfx(encoder.sample_rate)
    with show.bar("probing") as progress:
        examples = draw_examples(songs, groups, encoder.sample_rate, aisfx, progress)
        every = ways(encoder, encoder.sample_rate, further)
        found = []
        for name, describe in every.items():
            found.append(probe(name, describe, examples))
            progress(len(found), len(every), name)
    rows = [tuple(map(str, vars(each).values())) for each in found]
    write_csv(out / "encoders.csv", [dict(zip(HEADINGS, row, strict=True)) for row in rows])
    show.table("On songs that were never heard, with 95 % intervals", HEADINGS, rows)


def bench_transfer(
    out: Annotated[Path, typer.Option(help="Folder for CSV.")],
    model: Annotated[str, typer.Option(help="Folder of a run of train style, or the name of a shipped network.")],
    pairs: Annotated[int, typer.Option(min=1, help="Of songs: one is treated, the other is the reference.")] = 20,
    refine: Annotated[int, typer.Option(min=0, help="Renders of match for each pair, beside.")] = 0,
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of recordings of 8 s or more, to take instead of composed songs.")
    ] = None,
) -> None:
    """Transfer hidden settings from one song to another, by a network and by simple ways; compare with the truth."""
    from blackbox_fx.core.files import make_folder
    from blackbox_fx.data import read_recordings
    from blackbox_fx.errors import DataError
    from blackbox_fx.report.gradients import write_csv
    from blackbox_fx.runtime import Processes
    from blackbox_fx.tasks.style.evaluation import Transferred, evaluate, evaluation_rows, sounding
    from blackbox_fx.tasks.style.styler import load_styler

    styler, scores = load_styler(model), list[Transferred]()
    found: list[Source] = []
    if recordings:
        folder = read_recordings(recordings, int(styler.about.sample_rate))
        show.err.print(str(folder), markup=False, soft_wrap=True)
        found, others = sounding(folder.songs)
        for name, why in [*folder.skipped, *others]:
            show.err.print(f"skipped {name}: {why}", markup=False, soft_wrap=True)
        if len(found) < 2:
            raise DataError(f"{recordings} holds {len(found)} recordings of 8 s that sound; a transfer needs two.")
    make_folder(out)
    with Processes(system.cores()) as pool, show.bar("transferring") as progress:
        for each in evaluate(styler, pairs, refine, pool, progress, found):
            scores += each
            write_csv(out / "transfers.csv", [{"pair": s.pair, "way": s.way, **s.distances} for s in scores])
    rows = evaluation_rows(scores)
    show.table("Distance to the truth; * where the network is nearer in most pairs", rows[0], rows[1:])


def _recipe(path: Path | None, seed: int | None, steps: int | None) -> StyleRecipe:
    from blackbox_fx.tasks.style.training import StyleRecipe

    recipe = StyleRecipe() if path is None else StyleRecipe.read(path)
    changes = {name: value for name, value in (("seed", seed), ("steps", steps)) if value is not None}
    return dataclasses.replace(recipe, **changes)


def _chain(given: list[str]) -> dict[str, Any]:
    """Tables of effects by label, of addresses or of one TOML file."""
    from blackbox_fx.core.recipes import read_toml
    from blackbox_fx.effects.rack import label
    from blackbox_fx.errors import ParameterError

    files = [address for address in given if address.endswith(".toml")]
    if not files:
        return dict(zip(label(given), [{"effect": address} for address in given], strict=True))
    if len(given) > 1:
        raise ParameterError(f"--chain {files[0]} is a file of a whole chain, so no other --chain can stand beside it.")
    said = read_toml(Path(files[0]), "chain")
    if list(said) != ["chain"] or not isinstance(said["chain"], dict) or not said["chain"]:
        raise ParameterError(f"{files[0]} must have the table [chain] and no other, got {', '.join(said) or 'none'}.")
    return said["chain"]


def _songs(songs: Path | None, recordings: Path | None, count: int, progress: Any) -> tuple[list[Source], list[Source]]:
    """Songs to train on, and those that are held out."""
    from blackbox_fx.data import compose, read_recordings, read_songs
    from blackbox_fx.errors import ParameterError

    if songs and recordings:
        raise ParameterError("--songs and --recordings exclude each other; give one of them.")
    if songs or recordings:
        folder = read_songs(songs) if songs else read_recordings(recordings or Path())
        show.err.print(str(folder), markup=False, soft_wrap=True)
        for path, why in folder.skipped[:5]:
            show.err.print(f"skipped {path}: {why}", markup=False, soft_wrap=True)
        train, unseen = folder.split()
        return list(train), list(unseen)
    composed: list[Source] = []
    for k in range(count):
        composed.append(compose(1000 + k, 12.0))
        progress(k + 1, count, "composing")
    held_out = max(1, count // _HELD_OUT)
    return composed[:-held_out], composed[-held_out:]


def bench_learning(
    out: Annotated[Path, typer.Option(help="Folder for CSV and a page; what is there is not trained again.")],
    case: Annotated[
        list[str], typer.Option(help="twins, 'EQ, ZamCompX2', 'three plugins' or 'a choice'; may be repeated.")
    ] = [],
    method: Annotated[list[str], typer.Option(help="A method; may be repeated. Else all are compared.")] = [],
    steps: Annotated[int, typer.Option(min=1, help="Of each training.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings by each method.")] = 3,
    pairs: Annotated[int, typer.Option(min=6, help="That are trained on.")] = 2000,
    rate: Annotated[
        list[float], typer.Option(help="Learning rate; of several, each method takes the one it learns most with.")
    ] = [],
) -> None:
    """Train a style network by different gradients, and compare its loss on unseen songs by step and by second.

    An interrupted comparison goes on with the same command; so does a training, from the last point of its curve.
    Effects that have no proxy are prepared first, once, for some minutes each.
    """
    from blackbox_fx.effects import Rack
    from blackbox_fx.report.learning import read_curves, write_curves
    from blackbox_fx.runtime import Inline, Processes
    from blackbox_fx.tasks.style.learning import CASES, METHODS, check_names, compare_learning
    from blackbox_fx.tasks.style.learning_page import learning_rows, write_learning_page
    from blackbox_fx.tasks.style.training import StyleRecipe
    from blackbox_fx.training.run import Run

    check_names(case, method)
    recipe = StyleRecipe(steps=steps, pairs=pairs, unseen=32, aside=32)
    with Run(out), Processes(system.cores()) as workers, Inline() as inline, show.bar("training") as progress:
        curves = read_curves(out / "curves.csv")
        for name in case or CASES:
            pool = workers if Rack(CASES[name]().effects).native else inline
            for curve in compare_learning(
                name, method or list(METHODS), recipe, seeds, rate or [1e-3], curves, pool, progress, out / "unfinished"
            ):
                curves.append(curve)
                write_curves(out / "curves.csv", curves)
    rows = learning_rows(curves)
    show.table("Loss on unseen songs", rows[0], rows[1:], numbers=9)
    show.out.print(f"Open {write_learning_page(out, curves)}", markup=False, soft_wrap=True)
