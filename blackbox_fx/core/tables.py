"""Tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as lines of text, in columns.

    >>> print(align([("name", "ms"), ("SPSA", "3.1")]))
    name  ms
    SPSA  3.1
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
