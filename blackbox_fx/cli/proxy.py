"""Commands about neural proxies of effects: train, score, list."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.report import terminal as show

if TYPE_CHECKING:
    from blackbox_fx.data.clips import Source
    from blackbox_fx.effects import Effect
    from blackbox_fx.learning.scoring.held_out import HeldOutSet
    from blackbox_fx.proxy.card import Card
    from blackbox_fx.proxy.model import Proxy
    from blackbox_fx.proxy.recipe import ProxyRecipe
    from blackbox_fx.runtime import Pool


_ITEMS = 24  # held-out clips


class Net(enum.StrEnum):
    """Kinds of nets."""

    AUTO = "auto"
    STRUCTURED = "structured"
    DYNAMICS = "dynamics"
    MODULATED = "modulated"
    BALLISTICS = "ballistics"
    TCN = "tcn"
    RECURRENT = "recurrent"


Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder of a proxy, or the name of one.")]
Items = Annotated[int, typer.Option(min=2, max=1000, help="Held-out clips.")]


def train(
    out: Annotated[Path, typer.Option(help="Folder of the proxy; an unfinished training is resumed.")],
    effect: Annotated[
        list[str] | None, typer.Argument(help="Such as pedalboard:Compressor; several are one effect, in series.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file with settings; see recipe.toml of any proxy.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Of training; 10 if no recipe is given.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Most steps of training; 0 for no limit.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Of weights, clips and settings.")] = None,
    songs: Annotated[
        Path | None, typer.Option(help="Folder with a folder of stems per song, instead of composed songs.")
    ] = None,
    net: Annotated[Net | None, typer.Option(help="Kind of net; auto chooses by the effect's profile.")] = None,
    only: Annotated[list[str], typer.Option("--only", help="A parameter that is free; may be repeated.")] = [],
    held: Annotated[list[str], typer.Option("--set", help="name=value of a parameter that is held.")] = [],
    within: Annotated[list[str], typer.Option("--within", help="name=low,high: a narrower range.")] = [],
) -> None:
    """Train a neural proxy of an effect, score it on held-out songs, and write a page to open."""
    chosen = _recipe(effect or [], recipe, only, held, within)
    given = {"minutes": minutes, "steps": steps, "seed": seed}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    chosen = dataclasses.replace(chosen, **changes)
    if net is not None:
        chosen = dataclasses.replace(chosen, net={} if net == Net.AUTO else {"kind": net.value})
    loaded = chosen.load_effect()
    own = None if songs is None else _songs(songs, chosen)
    from blackbox_fx.learning.train import train_proxy

    try:
        with show.bar("training") as progress:
            trained = train_proxy(chosen, out, songs=own, progress=progress)
    except KeyboardInterrupt:
        kept = (out / "checkpoint.json").exists()
        show.err.print("stopped; run it again to go on" if kept else "stopped; nothing was trained yet")
        raise typer.Exit(130) from None
    _scores(trained.card)
    try:
        with _held_out(loaded, chosen, _ITEMS) as held_out:
            page = _page(out, trained.proxy, trained.card, held_out)
    except KeyboardInterrupt:
        show.err.print(f"stopped; the proxy is in {out}, without a page", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    show.out.print(f"Open {page}", markup=False, soft_wrap=True)
    if trained.card.failure:
        show.err.print(f"failed: {trained.card.failure}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def _recipe(
    effect: Sequence[str], path: Path | None, only: Sequence[str], held: Sequence[str], within: Sequence[str]
) -> ProxyRecipe:
    from blackbox_fx.proxy.recipe import ProxyRecipe
    from blackbox_fx.space.texts import parse_settings

    named = effect[0] if len(effect) == 1 else tuple(effect)
    if not named and path is None:
        raise ParameterError("Name an effect, such as pedalboard:Compressor, or give --recipe.")
    base = ProxyRecipe(named) if path is None else ProxyRecipe.read(path)
    changes: dict[str, Any] = {"effect": named} if named else {}
    if only:
        changes["only"] = tuple(only)
    if within:
        changes["within"] = {**base.within, **dict(map(_range, within))}
    if held:
        bare = ProxyRecipe(named or base.effect).load_effect()
        changes["fix"] = {**base.fix, **parse_settings(bare.space, held)}
    return dataclasses.replace(base, **changes)


def _range(text: str) -> tuple[str, tuple[float, float]]:
    name, _, ends = text.partition("=")
    try:
        low, high = map(float, ends.split(","))
    except ValueError:
        raise ParameterError(f"--within takes name=low,high, got {text!r}.") from None
    return name, (low, high)


def _songs(folder: Path, recipe: ProxyRecipe) -> Sequence[Source]:
    from blackbox_fx.data.folder import read_songs

    found = read_songs(folder, round(recipe.sample_rate))
    show.err.print(str(found), markup=False, soft_wrap=True)
    for path, reason in found.skipped:
        show.err.print(f"skipped {path}: {reason}", markup=False, soft_wrap=True)
    return found.songs


def score(
    folder: Folder,
    write: Annotated[bool, typer.Option("--write", help="Put the new scores on the card.")] = False,
    page: Annotated[Path | None, typer.Option(help="Folder for a page with plots and sounds.")] = None,
    items: Items = _ITEMS,
) -> None:
    """Measure a proxy again, and show the new scores beside those of its card."""
    from blackbox_fx.cli.bench.gradients import make_folder
    from blackbox_fx.learning.scoring.scores import baselines, measure
    from blackbox_fx.proxy.store import find_proxy, open_proxy, read_card, read_recipe
    from blackbox_fx.proxy.table import comparison

    place = find_proxy(folder)
    card, recipe, proxy = read_card(place), read_recipe(place), open_proxy(place)
    effect = recipe.load_effect()
    changed = effect.fingerprint != card.original.fingerprint
    if changed:
        doubt = f"{effect.name} here is not what the proxy was trained on, or another version of it"
        if write:
            raise DataError(f"{doubt}, so its card is not written; score it without --write, or train it again.")
        show.err.print(f"note: {doubt}.", markup=False, soft_wrap=True)
    with _held_out(effect, recipe, items) as held_out:
        with show.bar("measuring") as progress:
            found = measure(proxy, held_out, progress)
        others = baselines(held_out)
        now = dataclasses.replace(card, scores=found, baselines=others)
        table = comparison(card.scores, found)
        show.table(f"{card.original.name}", table[0], table[1:], numbers=2)
        _scores(now)
        if write:
            _write(place, now)
        if folder_of_page := make_folder(page):
            show.out.print(f"Open {_page(folder_of_page, proxy, now, held_out)}", markup=False, soft_wrap=True)


def listing() -> None:
    """List the proxies that load by name: your own, and those that come with the package."""
    from blackbox_fx.proxy.store import list_proxies, own_folder

    found = list_proxies()
    tables: dict[str, list[tuple[str, ...]]] = {"Yours": [], "Shipped": []}
    for entry in found:
        rows = tables["Shipped" if entry.shipped else "Yours"]
        if entry.card is None:
            rows.append((show.plain(entry.name), show.plain(entry.problem), *("-",) * 3))
            continue
        card, s = entry.card, entry.card.scores
        cosine = "-" if s.parameters.mean is None else f"{s.parameters.mean:.3f}"
        cosine += "*" * (2 * s.parameters.active < s.parameters.items)
        cells = (f"{s.sound.esr:.2g}", cosine, f"{s.audio.mean:.3f}")
        rows.append((show.plain(entry.name), show.plain(_described(card)), *cells))
    for title, rows in tables.items():
        if rows:
            show.table(title, ("name", "effect", "ESR", "params", "audio"), rows, numbers=3)
    if found:
        show.out.print(
            "ESR: error-to-signal ratio of the audio. params, audio: cosines of the gradients.\n"
            "*: at fewer than half of the settings; see its card.",
            highlight=False,
            soft_wrap=True,
        )
    else:
        show.out.print("There are no proxies yet.")
    show.out.print(
        f"Load one with bfx.load_proxy(name). Your own go to {own_folder()}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _described(card: Card) -> str:
    """The effect, and the members of one that has several."""
    members = dict.fromkeys(name.partition(".")[0] for name in card.space.parameters if "." in name)
    return card.original.name + (f" of {', '.join(members)}" if members else "")


def _scores(card: Card) -> None:
    from blackbox_fx.proxy.table import gradient_table, score_table

    table = score_table(card.scores, card.baselines)
    show.table(f"Audio, {card.scores.items} held-out clips", table[0], table[1:], numbers=4)
    table = gradient_table(card.scores)
    show.table("Gradient", table[0], table[1:])
    show.out.print(f"{card.scores.realtime:.3g} times real time on one core.", markup=False)


def _page(folder: Path, proxy: Proxy, card: Card, held_out: HeldOutSet) -> Path:
    from blackbox_fx.report.proxy import write_proxy_page

    try:
        return write_proxy_page(folder, proxy, card, held_out)
    except OSError as error:
        raise DataError(f"Cannot write the page to {folder} ({error.strerror}); score it with --page DIR.") from error


@contextlib.contextmanager
def _held_out(effect: Effect, recipe: ProxyRecipe, items: int) -> Iterator[HeldOutSet]:
    from blackbox_fx.learning.scoring.scores import render_held_out

    with _pool(effect) as pool:
        show.err.print(f"rendering {items} held-out clips")
        yield render_held_out(effect, pool, recipe.sample_rate, items=items)


@contextlib.contextmanager
def _pool(effect: Effect) -> Iterator[Pool]:
    from blackbox_fx.runtime import Processes, Threads

    workers = os.cpu_count() or 1
    with Processes(workers) if effect.native else Threads(workers) as pool:
        yield pool


def nets(
    name: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Proxies; all shipped ones if none.")] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes of training for each net.")] = 3.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, clips and settings.")] = 0,
    tricks: Annotated[bool, typer.Option("--tricks", help="Compare ways to train the proxy's own net.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the results of the tricks on the cards.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV.")] = None,
) -> None:
    """Train the net of each proxy, a TCN and an LSTM for the same time on the same clips and settings."""
    from blackbox_fx.cli.bench.gradients import make_folder
    from blackbox_fx.lab.nets import Nets, NetScore, brought, net_table
    from blackbox_fx.proxy.store import find_proxy, list_proxies, read_recipe

    if write and not tricks:
        raise ParameterError("--write puts the results of tricks on cards; give --tricks as well.")
    folder = make_folder(out)
    places = {n: find_proxy(n) for n in name or [listed.name for listed in list_proxies() if listed.shipped]}
    found: list[NetScore] = []
    try:
        with show.bar("training") as progress:
            recipes = {n: read_recipe(place) for n, place in places.items()}
            for score in Nets(recipes, minutes, seed, tricks).run(progress):
                found.append(score)
                if folder is not None:
                    _write_table(folder / "nets.csv", net_table(found))
                if write:
                    _note(places[score.effect], brought([s for s in found if s.effect == score.effect]))
    except KeyboardInterrupt:
        show.err.print("stopped; this is what was trained so far")
    if found:
        headings, *rows = net_table(found)
        show.table(f"{minutes:g} minutes of training each", headings, rows, numbers=6)


def _write_table(path: Path, table: Sequence[Sequence[str]]) -> None:
    """Writes a table, whose first row is the headings, as CSV."""
    from blackbox_fx.report.gradients import write_csv

    headings, *rows = table
    write_csv(path, [dict(zip(headings, row, strict=True)) for row in rows])


def _note(place: Path, tricks: dict[str, str]) -> None:
    """Puts tricks on a card."""
    from blackbox_fx.proxy.store import read_card

    _write(place, dataclasses.replace(read_card(place), tricks=tricks))


def _write(place: Path, card: Card) -> None:
    from blackbox_fx.core.files import write_text
    from blackbox_fx.proxy.store import CARD

    try:
        write_text(place / CARD, card.to_json())
    except OSError as error:
        raise DataError(f"Cannot write to {place} ({error.strerror}); copy the proxy elsewhere.") from error
