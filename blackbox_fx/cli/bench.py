"""Measurements."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from blackbox_fx.cli import show


def overhead(
    batch: Annotated[int, typer.Option(min=1, help="Clips per pass.")] = 8,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a stereo clip.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 9,
    workers: Annotated[int, typer.Option(min=1, help="Threads, and processes.")] = 2,
) -> None:
    """Time the layer in every pool beside a bare loop over pedalboard calls."""
    from blackbox_fx.lab.overhead import overhead as measure

    with show.bar("rounds") as progress:
        timings = measure(batch, seconds, rounds, workers, progress)

    def spread(ratios: np.ndarray) -> str:
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    rows = [
        (t.name, f"{t.seconds * 1e3:.0f}", spread(t.to_bare), spread(t.inline_to_this), "yes" if t.equal else "NO")
        for t in timings
    ]
    show.table(
        f"EQ + compressor + reverb, batch {batch} x {seconds:g} s stereo, {rounds} rounds, median (quartiles)",
        ("forward", "ms", "time / bare", "speed-up over Inline", "equal to bare"),
        rows,
        numbers=4,
    )
