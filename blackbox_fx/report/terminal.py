"""What the commands share on the terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table

from blackbox_fx.core.progress import Progress

out = Console()
err = Console(stderr=True)


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> None:
    """Prints a table; the last `numbers` columns are set flush right."""
    grid = Table(title=title, title_justify="left", title_style="bold")
    for k, heading in enumerate(headings):
        flush = "right" if k >= len(headings) - numbers else "left"
        grid.add_column(heading, justify=flush, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    out.print(grid)


def plain(text: str) -> str:
    """Text whose brackets are no markup, for a table."""
    return escape(text)


_EVERY_S = 10.0  # between lines of progress in a log


@contextlib.contextmanager
def bar(title: str) -> Iterator[Progress]:
    """A progress bar on a terminal; in a log, a line now and then.

    Yields:
        a function of the steps done, all steps, and a few words.
    """
    if not err.is_terminal:
        yield _lines(title)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    )
    with Bars(*columns, console=err, transient=True, expand=True) as bars:
        task = bars.add_task(title, total=None, words="")
        yield lambda done, total, words: bars.update(task, completed=done, total=total, words=words)


def _lines(title: str) -> Progress:
    """Prints a line when ten seconds have passed since the last one, or since the start."""
    last = time.monotonic()

    def progress(done: int, total: int, words: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S:
            last = time.monotonic()
            err.print(f"{title}: {done} of {total} {words}".rstrip(), markup=False, highlight=False, soft_wrap=True)

    return progress


@contextlib.contextmanager
def waiting(words: str) -> Iterator[None]:
    """Says what takes its time; nothing in a log."""
    with err.status(words) if err.is_terminal else contextlib.nullcontext():
        yield
