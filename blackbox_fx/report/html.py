"""Pages that a person opens: sections of text, tables, images and audio players, without a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import final

from blackbox_fx.core.files import write_text


@final
@dataclasses.dataclass(frozen=True)
class Section:
    """One box of a page.

    Args:
        title: heading.
        text: a sentence or two below it.
        table: rows of cells, the first of them headings.
        best: which row below the headings stands out, counted from 0.
        players: (caption, file) of sounds beside the page.
        images: files beside the page.
    """

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    best: int = -1
    players: Sequence[tuple[str, str]] = ()
    images: Sequence[str] = ()


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section], footer: str) -> None:
    """Writes an HTML page; the files it shows must lie beside it."""
    import jinja2

    source = files("blackbox_fx.report").joinpath("page.html.j2").read_text()
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(source)
    write_text(path, template.render(title=title, lead=lead, sections=sections, footer=footer))
