"""What the commands share on the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

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


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar; what it yields is called with the steps done, all steps, and a few words."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    )
    with Progress(*columns, console=err, transient=True, expand=True) as progress:
        task = progress.add_task(title, total=None, words="")
        yield lambda done, total, words: progress.update(task, completed=done, total=total, words=words)
