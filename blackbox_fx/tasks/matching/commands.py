"""The commands that match one recording to another, and compare searches."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blackbox_fx.core import system
from blackbox_fx.report import terminal as show
from blackbox_fx.sessions.kinds import SessionKind

if TYPE_CHECKING:
    from blackbox_fx.audio import Audio
    from blackbox_fx.effects import Effect
    from blackbox_fx.tasks.matching.matching import Match

_CLOSE_S = 0.05  # difference of lengths up to which two files may be an aligned pair
_SHOWN = (0, 1, 3, 4, 6, 8, 11, 12)  # columns of the table that fit on a terminal; the page has all
_LAG_S = 0.1  # by which a reference may be late
_LIKE, _UNLIKE = 0.4, 0.1  # correlations from which on, and up to which, an engineer is asked what a reference is
_TOLD_APART = 1.5  # how much better a lag must fit than none


class Pair(enum.StrEnum):
    """How a reference goes with a dry recording."""

    AUTO = "auto"
    ALIGNED = "aligned"
    SOUND = "sound"


Chain = Annotated[list[str], typer.Option("--chain", help="An effect, such as vst3:ZamEQ2; repeated, in order.")]


def match(
    dry: Annotated[Path, typer.Argument(metavar="DRY", help="Audio file that goes through the chain.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Audio file that it shall sound like.")],
    chain: Chain,
    out: Annotated[Path, typer.Option(help="Folder for audio, settings, presets, a session and a page.")],
    settings: Annotated[
        list[str], typer.Option("--set", help="LABEL.NAME=VALUE: holds a setting; may be repeated.")
    ] = [],
    only: Annotated[list[str], typer.Option(help="LABEL.NAME: searches this; all others are held.")] = [],
    pair: Annotated[
        Pair, typer.Option(help="aligned: the same performance, wet; sound: any other; auto goes by the lengths.")
    ] = Pair.AUTO,
    renders: Annotated[float, typer.Option(min=1, help="Passes through the chain.")] = 700,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="That the search may take; its last steps come on top.")
    ] = None,
    method: Annotated[str, typer.Option(help="hybrid, adam, or an optimiser of nevergrad, such as CMA.")] = "hybrid",
    start: Annotated[list[Path], typer.Option(help="Folder of an earlier match to begin with; may be repeated.")] = [],
    may_bypass: Annotated[bool, typer.Option("--may-bypass", help="Leave out effects that are not needed.")] = False,
    search_order: Annotated[bool, typer.Option("--search-order", help="Try other orders of the effects.")] = False,
    price: Annotated[float, typer.Option(min=0, help="Of each effect in use, in units of the loss.")] = 0.0,
    excerpt: Annotated[float, typer.Option(min=0.05, help="Seconds to listen to, where it is loudest.")] = 10.0,
    session: Annotated[SessionKind, typer.Option(help="For which DAW.")] = SessionKind.DAWPROJECT,
    seed: Annotated[int, typer.Option(help="Of all draws.", min=0, max=2**32 - 1)] = 0,
) -> None:
    """Find the settings of plugins that make one recording sound like another.

    Ctrl-C ends the search and writes the best so far; the same command goes on from there.
    """
    from blackbox_fx.tasks.matching.matching import match as search
    from blackbox_fx.tasks.matching.writing import read_settings

    effects = _chain(chain, settings, only)
    starts = [read_settings(folder) for folder in start]
    audio, wanted, rate, aligned = _pair(dry, reference, pair)
    require_own(out, dry, reference)
    with show.bar("searching") as progress:
        found = search(
            audio, wanted, effects, sample_rate=rate, loss="aligned" if aligned else "sound", renders=renders,
            seconds=math.inf if seconds is None else seconds, method=method, starts=starts or None,
            may_bypass=may_bypass, search_order=search_order, price=price, excerpt=excerpt, seed=seed, folder=out,
            progress=progress,
        )  # fmt: skip
    write_result(found, audio, wanted, out, session, _lead(found, aligned), aligned=aligned)
    if found.interrupted:
        raise typer.Exit(130)


def _chain(addresses: list[str], settings: list[str], only: list[str]) -> dict[str, Effect]:
    """The effects by label, with what is held."""
    from blackbox_fx.effects import load
    from blackbox_fx.effects.rack import Rack, label
    from blackbox_fx.space.texts import parse_settings

    loaded = []
    for address in addresses:
        with show.waiting(f"loading {address}"):
            loaded.append(load(address))
    effects = dict(zip(label([e.name for e in loaded]), loaded, strict=True))
    whole = Rack(effects).space
    held = parse_settings(whole, settings)
    whole.require(only)
    for name, effect in effects.items():
        own = {n.removeprefix(f"{name}."): v for n, v in held.items() if n.startswith(f"{name}.")}
        if only:
            kept = [n.removeprefix(f"{name}.") for n in only if n.startswith(f"{name}.")]
            effect = effect.only(*kept)
        effects[name] = effect.fix(own)
    return effects


def _pair(dry: Path, reference: Path, pair: Pair) -> tuple[Audio, Audio, float, bool]:
    """Both recordings at the sample rate of the dry one, and whether they are aligned; says so."""
    from blackbox_fx.audio import read, to_channels
    from blackbox_fx.errors import AudioError

    audio, rate = read(dry)
    wanted = read(reference, rate)[0]
    for path, x in ((dry, audio), (reference, wanted)):
        if not x.any():
            raise AudioError(f"{path} is silent, so no setting is nearer than another; give another one.")
    apart = abs(audio.shape[1] - wanted.shape[1]) / rate
    aligned = pair == Pair.ALIGNED or (pair == Pair.AUTO and apart <= _CLOSE_S)
    length = min(audio.shape[1], wanted.shape[1])
    for sentence in _said(audio[:, :length], wanted[:, :length], rate, pair, aligned, apart > 0):
        show.err.print(sentence, soft_wrap=True)
    if not aligned:
        return audio, wanted, rate, False
    audio, wanted = audio[:, :length], wanted[:, :length]
    return to_channels(audio, max(len(audio), len(wanted))), wanted, rate, True


def _said(audio: Audio, wanted: Audio, rate: float, pair: Pair, aligned: bool, cut: bool) -> Iterator[str]:
    """What two recordings are taken for, and what speaks against it."""
    late, likeness = lag(audio, wanted, rate)
    if not aligned:
        yield "The reference is taken for another recording: its sound is looked for, not its waveform."
        if pair == Pair.AUTO and likeness > _LIKE:
            yield "It looks like the same performance, though: if it is, give --pair aligned."
        return
    yield "The reference is taken for the same performance, sample by sample."
    if cut:
        yield f"Both are cut to the shorter, {audio.shape[1] / rate:.2f} s."
    if len(audio) < len(wanted):
        yield "The dry recording is mono and the reference stereo, so it is rendered on both sides."
    if pair == Pair.AUTO and likeness < _UNLIKE:
        yield "It hardly resembles the dry one: if it is another recording, give --pair sound."
    elif late:
        words = "later" if late > 0 else "earlier"
        yield f"It fits best {abs(late)} samples {words}; if no effect of the chain delays it, move it and match again."


def lag(dry: Audio, wet: Audio, sample_rate: float) -> tuple[int, float]:
    """By how many samples wet audio is later than dry, and how like it it is then.

    Args:
        dry: (channel, time).
        wet: (channel, time), equally long.
        sample_rate: in Hz.

    Returns:
        at most a tenth of a second, 0 where that is not clear, and the correlation there, from 0 to 1.
    """
    import numpy as np
    from scipy.signal import correlate

    x, y = dry.mean(0), wet.mean(0)
    reach = min(round(_LAG_S * sample_rate), len(x) - 1)
    found = np.abs(np.asarray(correlate(y, x, mode="full", method="fft")))[len(x) - 1 - reach : len(x) + reach]
    best = int(np.argmax(found))
    likeness = float(found[best]) / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-30)
    return best - reach if found[best] > _TOLD_APART * found[reach] else 0, likeness


def require_own(out: Path, *read: Path) -> None:
    """Raises DataError if what is written could replace what is read."""
    from blackbox_fx.core.files import make_folder
    from blackbox_fx.errors import DataError
    from blackbox_fx.tasks.matching.writing import SETTINGS, WRITTEN

    make_folder(out)
    there = [name for name in WRITTEN if (out / name).exists()]
    if any((out / name).samefile(path) for path in read for name in there):
        raise DataError(f"--out {out} holds a recording that is read, which would be replaced; name another folder.")
    if there and not (out / SETTINGS).exists():
        raise DataError(f"{out} has a {there[0]} that this command did not write; name another folder with --out.")


def write_result(
    found: Match,
    dry: Audio,
    reference: Audio,
    out: Path,
    session: SessionKind,
    lead: str,
    *,
    aligned: bool = False,
    title: str = "A match",
) -> None:
    """Writes audio, settings, presets, session and page of a match, and shows its settings.

    Args:
        found: what was found.
        dry: the whole recording, (channel, time).
        reference: the whole reference, (channel, time), at the same sample rate.
        out: the folder.
        session: for which DAW.
        lead: a sentence about the distance.
        aligned: whether the reference is the same performance.
        title: of the page.
    """
    from blackbox_fx.audio import write
    from blackbox_fx.tasks.matching.writing import (
        MATCHED,
        bypassed,
        others,
        save_chain,
        table_of,
        write_match_page,
        write_settings,
    )

    write_settings(found, out)  # first, since a plugin may fail in what the search did not render
    with show.waiting("rendering the whole"):
        wet = found.render(dry)
    write(out / MATCHED, wet, found.sample_rate)
    if session != SessionKind.NONE:
        show.err.print(str(save_chain(found, dry, out / f"matched.{session}")), markup=False, highlight=False)
    begun = found.start if aligned else 0
    sounds = {"dry": dry[:, found.start :], "matched": wet[:, found.start :], "reference": reference[:, begun:]}
    page = write_match_page(found, out, sounds, lead, title)
    rows = table_of(found)
    show.out.print(lead, highlight=False, soft_wrap=True)
    if len(rows) > 1:
        show.table("Settings", rows[0], rows[1:])
    show.out.print(others(found), highlight=False, soft_wrap=True)
    if found.interrupted:
        show.out.print("The search was interrupted; the same command goes on from there.", soft_wrap=True)
    for name in bypassed(found):
        show.out.print(f"{name} is not needed.", markup=False)
    if found.failures:
        show.err.print(f"{found.failures} renders failed and were left out; see plugins.log.", soft_wrap=True)
    show.out.print(f"Open {page}; the whole is {out / MATCHED}", markup=False, soft_wrap=True)


def _lead(found: Match, aligned: bool) -> str:
    what = "to the waveform and the spectra of the reference" if aligned else "to the sound of the reference"
    return f"{moved(found, what)} in {found.renders:.0f} renders, {found.seconds:.0f} s."


def moved(found: Match, what: str = "to the sound of the reference") -> str:
    """Whether the distance fell or rose, and by how much, as the beginning of a sentence.

    Args:
        found: what was found.
        what: the distance is measured to.
    """
    if not math.isfinite(found.before):
        return f"The distance {what} is {found.loss:.3g}"
    way = "fell" if found.loss < found.before else "rose" if found.loss > found.before else "stayed"
    return f"The distance {what} {way} from {found.before:.3g} to {found.loss:.3g}"


def bench_match(
    out: Annotated[Path, typer.Option(help="Folder for CSV and a page; what is there is not searched again.")],
    chain: Annotated[
        list[str], typer.Option(help="pedalboard, ZamCompX2, ZaMultiCompX2, 'three hosts', or addresses joined by +.")
    ] = [],
    method: Annotated[list[str], typer.Option(help="hybrid, adam, or an optimiser of nevergrad; repeated.")] = [],
    targets: Annotated[int, typer.Option(min=1, help="Hidden settings for each chain.")] = 20,
    renders: Annotated[int, typer.Option(min=10, help="For each search.")] = 3000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of the clips.")] = 1.0,
    unaligned: Annotated[bool, typer.Option("--unaligned", help="Look for the sound of another song, too.")] = False,
) -> None:
    """Find hidden settings again, switches included, by the hybrid search and by nevergrad's."""
    from blackbox_fx.core.files import make_folder
    from blackbox_fx.runtime import Processes
    from blackbox_fx.tasks.matching.comparison import CHAINS, METHODS, compare, read_trials, summary
    from blackbox_fx.tasks.matching.comparison_page import write_comparison_page

    make_folder(out)
    path = out / "trials.csv"
    try:
        with Processes(system.cores(), on_failure="skip") as pool, show.bar("searches") as progress:
            compare(
                chain or list(CHAINS),
                targets,
                method or list(METHODS),
                renders,
                seconds,
                unaligned,
                path,
                pool,
                progress,
            )
    except KeyboardInterrupt:
        show.err.print("stopped; this is what was searched so far")
    trials: list[Any] = read_trials(path)
    rows = [tuple(row[k] for k in _SHOWN) for row in summary(trials)]
    show.table("Hidden settings: medians over targets", rows[0], rows[1:], numbers=len(rows[0]) - 2)
    show.out.print(f"Open {write_comparison_page(out, trials)}", markup=False, soft_wrap=True)
