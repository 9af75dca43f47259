"""Commands that examine one effect: inspect, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blackbox_fx.cli.effects import Address, Impulse, Own, load_effect
from blackbox_fx.errors import DataError
from blackbox_fx.report import terminal as show

if TYPE_CHECKING:
    from blackbox_fx.effects import Effect
    from blackbox_fx.profiling import Check, Profile


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def inspect(
    effect: Address,
    quick: Annotated[bool, typer.Option("--quick", help="Only the parameters; nothing is measured.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Page with plots to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The profile as JSON, and nothing else.")] = False,
    impulse: Impulse = None,
    parameters: Own = None,
) -> None:
    """Show the parameters of an effect and its profile, which is measured once in about ten seconds and then cached."""
    from blackbox_fx.profiling import plots, profile

    if html is not None and html.suffix != ".html":
        raise DataError(f"--html takes the name of an .html file, got {html}; its pictures are written beside it.")
    loaded = load_effect(effect, impulse, parameters)
    if not as_json:
        _parameters(loaded)
    if quick and html is None and not as_json:
        return
    with show.bar("profile") as progress:
        found = profile(loaded, progress=progress)
    if as_json:
        typer.echo(json.dumps({"fingerprint": loaded.fingerprint, **found.to_json()}, indent=1))
    else:
        _profile(found)
    if html is not None:
        from blackbox_fx.report.effect import write_effect_page

        with show.bar("plots") as progress:
            drawn = plots(loaded, progress)
        try:
            html.parent.mkdir(parents=True, exist_ok=True)
            write_effect_page(html, found, drawn, loaded.space)
        except OSError as error:
            raise DataError(f"Cannot write {html} ({error.strerror}); name another with --html.") from error
        show.err.print(f"Open {html}", markup=False, soft_wrap=True)


def _parameters(loaded: Effect) -> None:
    space = loaded.space
    rows = [(n, p.kind, p.describe(), _text(p.default), str(p.columns)) for n, p in space.parameters.items()]
    show.table(loaded.name, ("parameter", "kind", "range", "default", "columns"), rows, numbers=2)
    show.out.print(f"{space.width} columns; settings can{'' if loaded.automatable else 'not'} change during a clip.")
    if loaded.hop_multiple > 1:
        show.out.print(f"Such changes come at multiples of {loaded.hop_multiple} samples.")
    if loaded.settle:
        show.out.print(f"It is ready {loaded.settle:g} s after it was loaded.")
    if loaded.inputs:
        show.out.print(
            f"Further inputs: {', '.join(loaded.inputs)}; a render without them has silence there.", soft_wrap=True
        )
    excluded: dict[str, str] = getattr(loaded, "excluded", {})
    by_reason: dict[str, list[str]] = {}
    for name, why in excluded.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        show.out.print(f"Left out: {', '.join(names)} ({why}).", markup=False, highlight=False, soft_wrap=True)


def _profile(found: Profile) -> None:
    from blackbox_fx.profiling.profiles import rows

    show.table("Measured", ("what", "value", "meaning"), rows(found))
    moved = [
        (
            name,
            f"{p.sensitivity:.2g}",
            "dead" if p.alive is False else f"{p.most:.2g}",
            f"{p.step:.2g}".replace("nan", "-"),
            f"{p.smoothness:.2f}".replace("nan", "-"),
            {True: "yes", False: "no", None: "-"}[p.monotone],
        )
        for name, p in found.parameters.items()
    ]
    if moved:
        show.table(
            "Moved by half their range",
            ("parameter", "median change", "most", "least step", "even", "one way"),
            moved,
            numbers=5,
        )
    for note in found.notes:
        show.out.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)


def check(
    effect: Address,
    seconds: Annotated[float, typer.Option(min=0.05, max=10, help="Length of the clip.")] = 0.5,
    impulse: Impulse = None,
    parameters: Own = None,
) -> None:
    """Check whether an effect keeps every promise; exit status 1 if one is broken."""
    from blackbox_fx.profiling import check_isolated
    from blackbox_fx.profiling.check import CHECKS, table

    loaded = load_effect(effect, impulse, parameters)
    found: list[Check] = []
    with show.bar("checks") as progress:

        def receive(one: Check) -> None:
            found.append(one)
            progress(len(found), len(CHECKS), one.name)

        check_isolated(loaded, seconds, receive)
    colours = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "-"}
    rows = [
        (row[0], colours[one.passed], show.plain(row[2]), show.plain(row[3]))
        for one, row in zip(found, table(found), strict=True)
    ]
    show.table(loaded.name, ("promise", "kept", "measured", "allowed"), rows)
    if failed := [one.name for one in found if one.passed is False]:
        show.out.print(f"{len(failed)} of {len(found)} broken: {', '.join(failed)}.", markup=False, soft_wrap=True)
        raise typer.Exit(1)
