"""Commands that measure times, and the accuracy of audio gradients."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from blackbox_fx.report import terminal as show

if TYPE_CHECKING:
    from blackbox_fx.lab.audio import AudioScore


def overhead(
    batch: Annotated[int, typer.Option(min=1, help="Clips per pass.")] = 8,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a stereo clip.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 9,
    workers: Annotated[int, typer.Option(min=1, help="Threads, and processes.")] = 2,
    effect: Annotated[
        list[str], typer.Option(help="An address: its render here and in a worker instead; may be repeated.")
    ] = [],
) -> None:
    """Time the layer in every pool beside bare pedalboard calls, and training steps beside bare processes."""
    if effect:
        _supervision(effect, batch, seconds, rounds, workers)
        return
    from blackbox_fx.lab.overhead import overhead as measure

    with show.bar("rounds") as progress:
        timings = measure(batch, seconds, rounds, workers, progress)

    rows = [
        (t.name, f"{t.seconds * 1e3:.0f}", _spread(t.to_bare), _spread(t.inline_to_this), "yes" if t.equal else "NO")
        for t in timings
    ]
    show.table(
        f"EQ + compressor + reverb, batch {batch} x {seconds:g} s stereo, {rounds} rounds, median (quartiles)",
        ("forward", "ms", "time / bare", "speed-up over Inline", "equal to bare"),
        rows,
        numbers=4,
    )
    _speedup(rounds, workers)


def _spread(ratios: np.ndarray) -> str:
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _speedup(rounds: int, workers: int) -> None:
    """Prints how pools speed up a training step, for clips of several lengths."""
    from blackbox_fx.lab.overhead import CLIPS, LENGTHS, speedup

    with show.bar("rounds") as progress:
        found = [speedup(seconds, rounds, workers, progress) for seconds in LENGTHS]
    rows = [
        (
            f"{f.seconds:g} s",
            f"{f.render * 1e3:.2f}",
            *(_spread(ratios) for ratios in (f.threads, f.processes, f.bare)),
            "yes" if f.equal else "NO",
        )
        for f in found
    ]
    show.table(
        f"A training step, EQ + compressor, SPSA(2), batch {CLIPS}: speed-up of {workers} workers over Inline",
        ("clip", "ms", "Threads", "Processes", "bare", "equal"),
        rows,
        numbers=5,
    )


def _supervision(addresses: list[str], batch: int, seconds: float, rounds: int, workers: int) -> None:
    from blackbox_fx.effects import load
    from blackbox_fx.lab.overhead import supervision

    with show.bar("rounds") as progress:
        found = [supervision(load(address), batch, seconds, rounds, workers, progress) for address in addresses]
    rows = [
        (
            f.name,
            f"{np.median(f.inside) * 1e3:.2f}",
            *(f"{np.median(x - f.inside) * 1e3:+.2f} ({np.median(x / f.inside):.2f})" for x in (f.worker, f.bare)),
            *(f"{np.median(x):.2f}" for x in (f.one / f.several, f.bare_one / f.bare_several)),
            "yes" if f.equal else "NO",
        )
        for f in found
    ]
    show.table(
        f"{seconds:g} s stereo, {rounds} rounds, medians: ms here, and how many more elsewhere; batches of {batch}",
        ("effect", "here", "in a worker", "bare process", f"{workers} workers' speed-up", "bare", "equal"),
        rows,
        numbers=6,
    )


def audio(
    kinds: Annotated[
        str, typer.Option("--of", help="Any of single, chain, rack and plugin, with commas.")
    ] = "single,chain,rack,plugin",
    settings: Annotated[int, typer.Option(min=1, help="Random settings of each, with a song each.")] = 2,
    directions: Annotated[int, typer.Option(min=2, help="Random directions for each cosine.")] = 200,
    count: Annotated[int, typer.Option(min=1, help="Random chains and racks of 2, and as many of 3.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of a clip.")] = 3.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of songs, settings and directions.")] = 0,
) -> None:
    """Measure the accuracy of the audio gradient, by the rule that Verified chooses."""
    from blackbox_fx.lab.audio import Comparison

    chosen = _read_kinds(kinds)
    found: dict[int, list[AudioScore]] = {}
    try:
        with show.bar("effects") as progress:
            for n, own in Comparison(chosen, settings, directions, seconds, count, seed).run(workers, progress):
                found[n] = own
    except KeyboardInterrupt:
        show.err.print("stopped; this is what was measured so far")
    scores = [score for n in sorted(found) for score in found[n]]
    _show_audio_scores(scores, directions)
    for kind in chosen:
        _show_audio_share(kind, [score for score in scores if score.kind == kind])


def _read_kinds(text: str) -> tuple[str, ...]:
    """The kinds of effects that a list with commas names. Raises ParameterError for an unknown one."""
    from blackbox_fx.errors import ParameterError

    chosen = tuple(kind.strip() for kind in text.split(","))
    known = ("single", "chain", "rack", "plugin")
    if unknown := [kind for kind in chosen if kind not in known]:
        raise ParameterError(f"There is no kind {unknown[0]!r}; write any of {', '.join(known)}, with commas.")
    return chosen


def _show_audio_scores(scores: list[AudioScore], directions: int) -> None:
    rows = [
        (
            s.kind,
            s.name,
            s.rule,
            str(s.renders),
            f"{s.cosine:.3f} +- {1.96 * s.error:.3f}",
            f"{s.truth:.3f}",
            f"{s.identity:.2f}",
        )
        for s in scores
    ]
    spsa = np.mean([s.spsa for s in scores]) if scores else 0.0
    show.table(
        f"Cosine of the audio gradient to the truth, {directions} directions, 95 % interval (SPSA: {spsa:.4f})",
        ("kind", "effect", "rule", "renders", "cosine", "the truth's own", "a wire"),
        rows,
        numbers=4,
    )


def _show_audio_share(kind: str, scores: list[AudioScore]) -> None:
    """Prints how many effects of one kind reach a cosine of 0.98 and 0.95."""
    if not scores:
        return
    cosines, wires = np.array([s.cosine for s in scores]), np.array([s.identity for s in scores])
    show.out.print(
        f"{kind}: {np.mean(cosines >= 0.98):.0%} at 0.98 or more, {np.mean(cosines >= 0.95):.0%} at 0.95, least "
        f"{cosines.min():.3f}, {np.sum(cosines < wires - 0.005)} of {len(cosines)} below a wire",
        soft_wrap=True,
        highlight=False,
    )


def step(
    effects: Annotated[
        list[str] | None, typer.Argument(metavar="[EFFECT]...", help="Addresses; what ships proxies, if none is given.")
    ] = None,
    items: Annotated[int, typer.Option(min=2, help="Clips, with a setting each.")] = 6,
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of a clip.")] = 1.5,
    unprepared: Annotated[
        bool, typer.Option("--unprepared", help="As for effects that nothing is known of yet: no proxy, nothing kept.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV and a page.")] = None,
) -> None:
    """Time a training step through default layers, in one process, and measure how right its gradients are."""
    from blackbox_fx.cli.bench.gradients import make_folder
    from blackbox_fx.lab.step import Step, measure, ways
    from blackbox_fx.report.step import choice_table, step_table, write_step_page

    folder = make_folder(out)
    found: list[Step] = []
    try:
        with show.bar("effects") as progress:
            found.extend(measure(ways(effects or (), unprepared), items, seconds, progress))
    except KeyboardInterrupt:
        show.err.print("stopped; this is what was measured so far")
    rows = step_table(found)
    show.table(f"{items} mono clips of {seconds:g} s; ms a clip (times the forward)", rows[0], rows[1:], numbers=7)
    chosen = choice_table(found)
    show.table("What the layers chose", chosen[0], [tuple(map(show.plain, row)) for row in chosen[1:]])
    if folder is not None:
        show.out.print(f"Open {write_step_page(folder, found)}", markup=False, soft_wrap=True)


def twins(
    clips: Annotated[int, typer.Option(min=1, help="Stereo clips, with settings of their own.")] = 8,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a clip.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="Timed passes.")] = 6,
) -> None:
    """Time the differentiable twins, beside dasp-pytorch and grafx where these are installed."""
    from blackbox_fx.lab.twins import twin_costs

    with show.bar("twins") as progress:
        found = list(twin_costs(clips, seconds, rounds, progress))
    rows = [
        (c.effect, c.library, *(f"{x:.2f}" for x in (c.forward, c.backward, c.forward + c.backward, c.kept)))
        for c in found
    ]
    show.table(
        f"{clips} stereo clips of {seconds:g} s; ms a clip, and MB a clip that are kept for the backward pass",
        ("effect", "library", "forward", "backward", "both", "MB"),
        rows,
        numbers=4,
    )


def mixdown(
    tracks: Annotated[int, typer.Option(min=1, help="Tracks of the song, of four roles in turn.")] = 24,
    minutes: Annotated[float, typer.Option(min=0.01, help="Length of the song.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of tracks and settings.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV.")] = None,
) -> None:
    """Mix a whole song through a console: time beside the bare renders of its effects, and peak memory."""
    from blackbox_fx.cli.bench.gradients import make_folder
    from blackbox_fx.lab.mixdown import EQUALISER, measure
    from blackbox_fx.report.gradients import write_csv

    folder = make_folder(out)
    with show.bar("song") as progress:
        cost = measure(tracks, minutes, seed, progress)
    if cost.equaliser != EQUALISER:
        line = f"{EQUALISER} is not installed; {cost.equaliser} is in its place."
        show.out.print(line, markup=False, highlight=False, soft_wrap=True)
    show.table(
        f"A song of {tracks} tracks and {minutes:g} minutes through a console, in one thread",
        ("mixdown, s", "bare renders, s", "ratio", "peak memory, MB"),
        [(f"{cost.mixdown:.2f}", f"{cost.renders:.2f}", f"{cost.ratio:.2f}", f"{cost.peak_mb:.0f}")],
        numbers=4,
    )
    if folder is not None:
        path = folder / "mixdown.csv"
        write_csv(path, [dataclasses.asdict(cost) | {"ratio": cost.ratio}])
        show.out.print(f"wrote {path}", markup=False, soft_wrap=True)


def lookahead(
    share: Annotated[float, typer.Option(min=0.01, max=10, help="The plugin's time over the network's.")] = 0.9,
    batch: Annotated[int, typer.Option(min=1, help="Clips per step.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 9,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Time a training step with and without renders that start in the forward pass."""
    from blackbox_fx.lab.lookahead import lookahead as measure

    with show.bar("rounds") as progress:
        saving = measure(share, batch, rounds, workers, progress)
    ways = {
        "network alone": saving.network,
        "plugin alone": saving.plugin,
        "both, renders in the backward pass": saving.waiting,
        "both, renders ahead": saving.ahead,
    }
    show.table(
        "One training step (the plugin is simulated by sleeping)",
        ("step", "ms", "of the network"),
        [(name, f"{np.median(t) * 1e3:.0f}", f"{np.median(t / saving.network):.2f}") for name, t in ways.items()],
        numbers=2,
    )


def hosts(
    host: Annotated[str, typer.Option("--host", help="Hosts, such as vst3,lv2; all if not given.")] = "",
    match: Annotated[str, typer.Option(help="Only effects whose address holds this text.")] = "",
    deadline: Annotated[float, typer.Option(min=1, help="Seconds without a report until one is given up.")] = 120.0,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV and a page; a survey in it is resumed.")] = None,
) -> None:
    """Measure every installed plugin: purity, latency, parameters, and what hosting it costs."""
    from blackbox_fx.cli.bench.gradients import make_folder
    from blackbox_fx.errors import DataError
    from blackbox_fx.lab.hosts import Hosted, installed, measure, surveyed_hosts
    from blackbox_fx.lab.survey import survey
    from blackbox_fx.report.hosts import reason_table, summary_table, write_hosts_page

    folder = make_folder(out)
    addresses = [a for a in installed([k.strip() for k in host.split(",")] if host else surveyed_hosts()) if match in a]
    if not addresses:
        raise DataError("No such plugin is installed; `blackbox-fx effects` lists what is.")
    found: list[Hosted] = []
    try:
        with show.bar("plugins") as progress:
            log = folder / "hosts.jsonl" if folder else None
            found.extend(survey(addresses, partial(measure, deadline=deadline), Hosted, log, progress))
    except KeyboardInterrupt:
        show.err.print("stopped; start it again with the same --out to go on")
        raise
    summary, reasons = summary_table(found), reason_table(found)
    if len(reasons) > 1:
        show.table("Not pure, or not usable", reasons[0], [[show.plain(c) for c in row] for row in reasons[1:]])
    show.table("Installed plugins; pure is 1e-6 of the largest sample", summary[0], summary[1:], numbers=6)
    if folder is not None:
        show.out.print(f"Open {write_hosts_page(folder, found)}", markup=False, soft_wrap=True)
