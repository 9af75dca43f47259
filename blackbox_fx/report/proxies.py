"""Table, CSV and page about the ways to use a proxy's gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blackbox_fx.lab.proxies import WAYS, Proxies
from blackbox_fx.lab.sample import geometric, number
from blackbox_fx.report import curves, plot
from blackbox_fx.report.gradients import Table, write_csv
from blackbox_fx.report.html import Section, write_page

_WHAT = (
    "Loss of the real effect at the settings found, over that at the start: geometric mean over tasks. Beside it, the "
    "same over that of half, with a 95 % bootstrap interval over tasks, and at how many tasks it is less. Delivered: "
    "the loss of what the way gives in the end, the output of the proxy for the plain proxy and of the effect for all "
    "others. Plain and half train alike and render nothing meanwhile; they have as many steps as full."
)


def proxies_table(study: Proxies) -> Table:
    """Headings, then one row for each way."""
    heading = ("way", "renders", "steps", "loss", "over half", "95 %", "better", "delivered", "seconds")
    rows = []
    for way in WAYS:
        own = study.of(way)
        if not own:
            continue
        ratio, ends, half = study.against(way, "half"), study.ends(way), study.ends("half")
        better = sum(a < b for a, b in zip(ends, half, strict=False))
        rows.append(
            (
                way,
                f"{np.mean([a.renders for a in own]):.0f}",
                f"{np.mean([a.steps for a in own]):.0f}",
                number(geometric(ends)),
                number(ratio.value),
                f"{ratio.low:.2g} - {ratio.high:.2g}",
                f"{better}/{len(own)}",
                number(geometric([a.delivered for a in own])),
                f"{np.mean([a.seconds for a in own]):.1f}",
            )
        )
    return [heading, *rows]


def refresh_line(study: Proxies) -> str:
    """What refreshing did to the proxy where it was used, in one sentence; nothing if it did not run."""
    found = [a.visited for a in study.attempts if a.visited]
    if not found:
        return ""
    before, after, cosine, then = np.mean(found, axis=0)
    return (
        f"Where the settings ended, on unseen clips, refreshing took the proxy's error-to-signal ratio from "
        f"{number(before)} to {number(after)} and its gradient cosine from {cosine:.3f} to {then:.3f}, with no further "
        "render."
    )


def write_proxies_page(folder: Path, title: str, study: Proxies, footer: str) -> Path:
    """Writes attempts.csv, evaluations.csv, the plot and index.html. Returns the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("esr_before", "esr_after", "cosine_before", "cosine_after")
    ends = [
        {"way": a.way, "task": a.task.name, "renders": a.renders, "steps": a.steps, "seconds": a.seconds}
        | {"loss_ratio": float(a.losses[-1]), "delivered_ratio": a.delivered}
        | dict(zip(names, a.visited or [""] * len(names), strict=True))
        for a in study.attempts
    ]
    write_csv(folder / "attempts.csv", ends)
    evaluations = [
        {"way": a.way, "task": a.task.name, "renders": float(at), "loss_ratio": float(loss)}
        for a in study.attempts
        for at, loss in zip(a.places, a.losses, strict=True)
    ]
    write_csv(folder / "evaluations.csv", evaluations)
    at = np.unique(np.linspace(0, study.renders, 40)[1:])
    quartiles = {
        way: np.quantile([np.interp(at, a.places, a.losses) for a in study.of(way)], (0.25, 0.5, 0.75), 0)
        for way in WAYS
        if way != "plain proxy" and study.of(way)
    }
    figure = curves.descent(at, quartiles, dashed=("half",))
    table = proxies_table(study)
    best = min(range(1, len(table)), key=lambda k: float(table[k][3]), default=0) - 1
    sections = [
        Section(
            "Loss of the real effect against renders",
            "Median over tasks, with quartiles. Dashed: plain proxy and half, which render nothing; drawn at the "
            "renders that full has made after as many steps.",
            images=[plot.save(figure, folder / "loss.svg")],
        ),
        Section("In numbers", _WHAT, table=table, best=best),
        Section("Refreshing", refresh_line(study) or "It did not run."),
    ]
    lead = (
        "Hidden settings of an effect are searched through its proxy, through the effect with the proxy's gradient, "
        "and by estimates from renders. All are judged by the real effect."
    )
    write_page(folder / "index.html", title, lead, sections, footer)
    return folder / "index.html"
