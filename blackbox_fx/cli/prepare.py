"""The command that prepares effects: profile, proxy and certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blackbox_fx.errors import DataError
from blackbox_fx.report import terminal as show

if TYPE_CHECKING:
    from blackbox_fx.learning.prepare import Prepared


def prepare(
    effects: Annotated[list[str], typer.Argument(metavar="EFFECT...", help="Such as pedalboard:Compressor.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="Of training for each; more later goes on from there.")] = 3,
    sample_rate: Annotated[float, typer.Option(min=8000, max=192000, help="Of the layers, in Hz.")] = 44100,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, clips and settings.")] = 0,
    html: Annotated[Path | None, typer.Option("--html", help="Page to write; beside the proxy if not given.")] = None,
) -> None:
    """Profile effects, train a proxy of each and certify it, so that gradients of their layers need few renders."""
    from blackbox_fx.learning.prepare import prepare as work

    if html is not None and html.suffix != ".html":
        raise DataError(f"--html takes the name of an .html file, got {html}; its pictures are written beside it.")
    done: list[Prepared] = []
    for address in effects:
        try:
            with show.bar(address) as progress:
                done.append(work(address, minutes, sample_rate=sample_rate, seed=seed, progress=progress))
        except KeyboardInterrupt:
            show.err.print("stopped; run it again to go on")
            raise typer.Exit(130) from None
        _show(done[-1])
    _page(done, html)
    failures = [found.failure for found in done if found.failure]
    for failure in failures:
        show.err.print(f"failed: {failure}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failures else 0)


def _show(found: Prepared) -> None:
    show.table(found.effect, ("what", "value"), [tuple(map(show.plain, row)) for row in found.rows()])


def _page(done: list[Prepared], path: Path | None) -> None:
    from blackbox_fx.report.prepared import write_prepared_page

    path = path or done[-1].folder / "index.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_prepared_page(path, done)
    except OSError as error:
        raise DataError(f"Cannot write {path} ({error.strerror}); name another with --html.") from error
    show.out.print(f"Open {path}", markup=False, soft_wrap=True)
