"""Commands that measure what effects' faults cost."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from blackbox_fx.report import terminal as show


def soak(
    renders: Annotated[int, typer.Option(min=8, help="Renders, with faults and without.")] = 10_000,
    share: Annotated[float, typer.Option(min=0, max=0.5, help="Fraction that crashes, hangs or gives NaN.")] = 0.01,
    seconds: Annotated[float, typer.Option(min=0.05, help="Length of a stereo clip.")] = 5.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds that a render may take.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of effects, settings and faults.")] = 0,
) -> None:
    """Render thousands of clips through effects that crash, hang and give NaN."""
    import logging

    from blackbox_fx.lab.soak import soak as measure

    logging.getLogger("blackbox_fx").setLevel(logging.ERROR)  # the table has the same numbers
    with show.bar("renders") as progress:
        found = measure(renders, share, seconds, workers, deadline, seed, progress)
    c, bare = found.counters, found.clean_counters
    ratio = found.clean_seconds / found.seconds
    without_waiting = found.clean_seconds / (found.seconds - found.waiting)
    rows = [
        ("correct renders", f"{c.renders - found.wrong} of {found.wanted}", "all"),
        ("crashes, hangs, NaN", f"{c.crashes}, {c.hangs}, {c.not_finite}", f"{share:.0%}, on purpose"),
        ("retries, workers replaced, given up", f"{c.retries}, {c.restarts}, {c.skipped + c.quarantined}", "-, -, 0"),
        ("faults in the run without them", str(bare.restarts), "0"),
        ("left behind", ", ".join(found.residual) or "nothing", "nothing"),
        ("parent's memory, last tenth / first", f"{found.parent:.3f}", "0.95 to 1.05"),
        ("workers' memory, last tenth / first", f"{found.workers:.3f}", "0.95 to 1.05"),
        ("seconds, with faults and without", f"{found.seconds:.1f}, {found.clean_seconds:.1f}", ""),
        ("throughput against the run without faults", f"{ratio:.3f}", ""),
        (f"the same, without {found.waiting:.1f} s of waiting for hangs", f"{without_waiting:.3f}", "0.9 or more"),
    ]
    show.table(f"{found.wanted} renders over {', '.join(found.effects)}", ("", "found", "wanted"), rows, numbers=2)


def crashes(
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 150,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind.")] = 3,
    every: Annotated[int, typer.Option(min=2, help="Renders for each crash, on average.")] = 200,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Train through an effect that crashes at random."""
    import logging

    from blackbox_fx.lab.soak import crashes as measure

    logging.getLogger("blackbox_fx").setLevel(logging.ERROR)
    with show.bar("trainings") as progress:
        found = measure(steps, seeds, every, workers, progress)
    rows = []
    for how in dict.fromkeys(t.how for t in found):
        own = [t for t in found if t.how == how]
        losses = [t.loss for t in own]
        total = {name: sum(getattr(t.counters, name) for t in own) for name in ("renders", "crashes", "skipped")}
        rows.append(
            (
                "no crashes" if how == "never" else f"{how}, policy {own[0].policy}",
                f"{np.mean([t.first for t in own]):.4f}",
                " ".join(f"{loss:.4f}" for loss in losses),
                f"{np.mean(losses):.4f} +- {np.std(losses, ddof=1) if len(losses) > 1 else 0:.4f}",
                *(str(value) for value in total.values()),
            )
        )
    show.table(
        f"Loss on held-out clips after {steps} steps, one crash in {every} renders",
        ("crashes", "at first", "by seed", "mean +- spread", "renders", "crashes", "skipped"),
        rows,
        numbers=6,
    )
