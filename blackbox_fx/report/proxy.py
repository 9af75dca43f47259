"""The page about a trained proxy."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from blackbox_fx.audio import write
from blackbox_fx.estimators.tensors import to_numpy
from blackbox_fx.learning.scoring.held_out import HeldOutSet, best_gain
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.card import Card
from blackbox_fx.proxy.clips import Batch, ClipStream
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.table import gradient_table, score_table
from blackbox_fx.report import plot
from blackbox_fx.report.html import Section, write_page
from blackbox_fx.report.plot import BLUE, GREY, INK, ORANGE

_SHOWN, _OF, _SHOWN_S = 3, 12, 4.0  # clips to listen to, of how many, and seconds of each
_BANDS, _FRAME_S = 60, 0.02
_FLOOR = 1e-10  # of power

Wave = NDArray[np.floating]


class Shown(NamedTuple):
    """One held-out clip in three versions, (time,) each.

    Args:
        dry: the input.
        wet: the effect's output.
        proxy: the proxy's output.
        settings: in words.
        ratio: error-to-signal ratio of the proxy.
    """

    dry: Wave
    wet: Wave
    proxy: Wave
    settings: str
    ratio: float


def write_proxy_page(folder: Path, proxy: Proxy, card: Card, held_out: HeldOutSet) -> Path:
    """Writes index.html: scores beside baselines, clips to listen to, and plots of the proxy beside the effect.

    Args:
        folder: of the proxy; losses.csv and evaluations.csv are drawn if they are there.
        proxy: to listen to.
        card: its scores.
        held_out: of the effect, see `render_held_out`.

    Returns:
        The path of the page.
    """
    rate = card.sample_rate
    shown = _choose_clips(proxy, held_out)
    sections = [
        Section(
            "Audio",
            f"On {card.scores.items} held-out clips of {card.scores.seconds:g} s, each at a setting of its own. The "
            "best gain is found from the effect's own output, clip by clip, so it is an oracle. The stored settings "
            "are renders of the effect itself at the nearest of 100 random settings.",
            table=score_table(card.scores, card.baselines),
            best=0,
        ),
        Section(
            "Gradient",
            "Pulled back through the proxy from the real effect's output, beside central differences of the effect. "
            "Each dot is one parameter at one setting, over the length of the true gradient there. Larger values "
            "than 1.5 are drawn at the edge.",
            table=gradient_table(card.scores),
            images=[plot.save(gradients(proxy, held_out), folder / "gradients.svg")] if held_out.active.any() else [],
        ),
        Section(
            "What it does to a clip",
            f"The {_SHOWN} of {_OF} held-out clips and settings that the effect changes most besides a gain: gain by "
            f"frequency, level out by level in, and level over time, in frames of {1000 * _FRAME_S:g} ms.",
            images=[plot.save(behaviour(shown, rate), folder / "behaviour.svg")],
        ),
    ]
    for k, clip in enumerate(shown):
        text = f"{clip.settings}. Error-to-signal ratio {clip.ratio:.3g}."
        sections.append(Section(f"Listen, clip {k + 1}", text, players=_players(folder, clip, k + 1, rate)))
    if curve := _curve(folder):
        sections.append(Section("Training", images=[plot.save(curve, folder / "curve.svg")]))
    if card.tricks:
        rows = [(name, v if isinstance(v, str) else f"{v:.3g}") for name, v in card.tricks.items()]
        sections.append(Section("What was tried", table=[("trick", "result"), *rows]))
    sections.append(Section("Card", table=_facts(card)))
    lead = (
        f"A net of {card.parameters:,} weights trained to give the output of {card.original.name}, controlled by its "
        f"{len(card.space.free)} free parameters, {card.scores.realtime:.3g} times as fast as real time on one core."
    )
    t = card.training
    footer = (
        f"{t.steps} steps in {t.seconds:.0f} s, seed {t.seed}. Train it again with: blackbox-fx proxy train --recipe"
    )
    page = folder / "index.html"
    write_page(page, f"A proxy of {card.original.name}", lead, sections, footer + " recipe.toml --out DIR")
    return page


def _choose_clips(proxy: Proxy, held_out: HeldOutSet) -> list[Shown]:
    old = held_out.stream
    batch = ClipStream(old.effect, old.clips.songs, old.pool, _SHOWN_S, _OF, old.seed).batch(0)
    changed = esr(best_gain(batch.audio, batch.wet), batch.wet)
    batch = Batch(*(part[changed.argsort(descending=True)[:_SHOWN]] for part in batch))
    with torch.no_grad():
        output = proxy(batch.audio, batch.params, old.clips.sample_rate)
    ratios = esr(output, batch.wet).tolist()
    dry, wet, found = (to_numpy(x)[:, 0].astype(np.float64) for x in (batch.audio, batch.wet, output))
    return [Shown(*clip) for clip in zip(dry, wet, found, _settings(batch, proxy), ratios, strict=True)]


def _settings(batch: Batch, proxy: Proxy) -> list[str]:
    found: list[str] = []
    for point in batch.params.double().numpy():
        values = proxy.space.decode(point)
        words = [f"{name} {v:.3g}" if isinstance(v, float) else f"{name} {v}" for name, v in values.items()]
        found.append(", ".join(words[:12]) + (", ..." if len(words) > 12 else ""))
    return found


def _players(folder: Path, clip: Shown, number: int, rate: float) -> list[tuple[str, str]]:
    sounds = {"dry": clip.dry, "effect": clip.wet, "proxy": clip.proxy}
    # one gain for all of them, so that they stay comparable
    peak = max(float(np.abs(x).max()) for x in sounds.values())
    for name, x in sounds.items():
        write(folder / f"{name}-{number}.flac", (x * (0.9 / max(peak, 0.9)))[None].astype(np.float32), rate)
    return [(name, f"{name}-{number}.flac") for name in sounds]


def behaviour(shown: Sequence[Shown], rate: float) -> Figure:
    """One row for each clip: gain by frequency, level out by level in, and level over time."""
    figure, axes = plot.new_figure(12, 2.7 * len(shown), len(shown), 3)
    for (spectrum, static, level), clip in zip(axes, shown, strict=True):
        for x, colour, width, name in ((clip.wet, ORANGE, 3.2, "effect"), (clip.proxy, BLUE, 1.2, "proxy")):
            style: dict[str, Any] = {"color": colour, "linewidth": width, "label": name}
            spectrum.plot(*_response(clip.dry, x, rate), **style)
            static.plot(*_static(clip.dry, x, rate), marker="o", markersize=width + 1, **style)
            level.plot(*_levels(x, rate), **style)
        level.plot(*_levels(clip.dry, rate), color=GREY, linewidth=0.9, label="dry", zorder=0)
        ends = static.get_xlim()
        static.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        spectrum.set(xscale="log", ylabel="out / in, dB")
        low, high = spectrum.get_ylim()
        spectrum.set_ylim(min(low, (low + high) / 2 - 6), max(high, (low + high) / 2 + 6))
        spectrum.set_xticks([50, 200, 1000, 5000, 15_000], ["50", "200", "1k", "5k", "15k"], minor=False)
        spectrum.minorticks_off()
        static.set(ylabel="out, dB")
        top = max(float(np.nanmax(line.get_ydata())) for line in level.lines)
        level.set(ylabel="level, dB", ylim=(max(level.get_ylim()[0], top - 60), top + 3))
    for axis, label in zip(axes[-1], ("Hz", "in, dB", "seconds"), strict=True):
        axis.set_xlabel(label)
    figure.legend(
        *axes[0, 2].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    return figure


def _response(dry: Wave, wet: Wave, rate: float) -> tuple[Wave, Wave]:
    """Frequencies, and output over input power in bands, dB; where the input has next to nothing, nothing."""
    hz = np.fft.rfftfreq(len(dry), 1 / rate)
    edges = np.geomspace(30, 0.48 * rate, _BANDS + 1)
    index = np.digitize(hz, edges)
    before, after = (np.bincount(index, np.square(np.abs(np.fft.rfft(x))), _BANDS + 2)[1:-1] for x in (dry, wet))
    there = before > 1e-5 * before.max()
    ratio = 10 * np.log10(np.maximum(after, 1e-12 * after.max() + _FLOOR) / np.maximum(before, _FLOOR))
    return np.sqrt(edges[:-1] * edges[1:]), np.where(there, ratio, np.nan)


def _levels(x: Wave, rate: float) -> tuple[Wave, Wave]:
    """Times of frames, and their levels, dB."""
    hop = round(_FRAME_S * rate)
    frames = x[: len(x) // hop * hop].reshape(-1, hop)
    return (np.arange(len(frames)) + 0.5) * hop / rate, 10 * np.log10(np.mean(np.square(frames), axis=1) + _FLOOR)


def _static(dry: Wave, wet: Wave, rate: float) -> tuple[Wave, Wave]:
    """Levels in, in steps of 4 dB, and the median level out of the frames there."""
    (_, before), (_, after) = _levels(dry, rate), _levels(wet, rate)
    steps = np.arange(4 * np.ceil(max(before.min(), before.max() - 60) / 4), before.max() + 2, 4)
    near = [np.abs(before - step) <= 2 for step in steps]
    found = [(s, float(np.median(after[n]))) for s, n in zip(steps.tolist(), near, strict=True) if n.sum() >= 3]
    return np.array([level for level, _ in found]), np.array([level for _, level in found])


def gradients(proxy: Proxy, held_out: HeldOutSet) -> Figure:
    """The proxy's derivatives against the effect's, at every active setting, each over the true gradient's length."""
    true = held_out.gradients[held_out.active]
    found = held_out.proxy_gradients(proxy)
    lengths = np.linalg.norm(true, axis=1, keepdims=True)
    figure, ((axis,),) = plot.new_figure(5.4, 4.4)
    axis.plot([-1, 1], [-1, 1], color=GREY, linewidth=0.8, linestyle=":")
    axis.scatter(true / lengths, np.clip(found / lengths, -1.5, 1.5), s=14, color=BLUE, alpha=0.6, linewidths=0)
    axis.set(xlabel="effect, by central differences", ylabel="proxy", xlim=(-1.1, 1.1), ylim=(-1.6, 1.6))
    return figure


def _curve(folder: Path) -> Figure | None:
    """Training loss, and scores on held-out renders during training, if the files exist."""
    losses, evaluations = (_columns(folder / name) for name in ("losses.csv", "evaluations.csv"))
    seen = [name for name in ("esr", "stft", "cosine") if len(evaluations.get(name, ())) > 0 and "step" in evaluations]
    trained = len(losses.get("loss", ())) > 0 and "step" in losses
    if not (seen or trained):
        return None
    figure, (axes,) = plot.new_figure(4.2 * (len(seen) + trained), 3.0, 1, len(seen) + trained)
    panels = iter(axes)
    if trained:
        axis, loss = next(panels), losses["loss"]
        axis.plot(losses["step"], loss, color=BLUE, alpha=0.25, linewidth=0.8)
        width = min(20, len(loss))
        mean = np.convolve(loss, np.ones(width) / width, mode="valid")
        axis.plot(losses["step"][width - 1 :], mean, color=BLUE, linewidth=2)
        axis.set(xlabel="step", yscale="log", title="training loss")
    names = {"esr": "ESR, held out", "stft": "STFT distance, held out", "cosine": "gradient's cosine, held out"}
    for name, axis in zip(seen, panels, strict=True):
        axis.plot(evaluations["step"], evaluations[name], color=ORANGE, marker="o", markersize=4)
        axis.set(xlabel="step", yscale="linear" if name == "cosine" else "log", title=names[name])
    for axis in axes:
        axis.title.set(fontsize=9, color=INK)
    return figure


def _columns(path: Path) -> dict[str, Wave]:
    """Columns of a CSV file by name; none where there is no such file, or what it holds are no numbers."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else ())}
    except (OSError, ValueError, TypeError, csv.Error):
        return {}


def _facts(card: Card) -> list[tuple[str, str]]:
    o, t = card.original, card.training
    hosts = ", ".join(f"{name} {version}" for name, version in o.made_with.items())
    left = "not measured" if o.latency_measured is None else f"{o.latency_measured:g} samples"
    net = ", ".join(f"{name} {value}" for name, value in card.net.items())
    return [
        ("", ""),
        ("fingerprint of the effect", o.fingerprint),
        ("made with", hosts),
        ("latency", f"{o.latency_reported} samples reported and compensated; left {left}"),
        ("parameters", ", ".join(card.space.free)),
        ("sample rate", f"{card.sample_rate:g} Hz, channels {card.channels}"),
        ("net", net),
        ("training", f"{t.steps} steps of {t.batch} clips in {t.seconds:.0f} s on {t.threads} threads"),
        ("waited for renders", f"{t.waited_seconds:.1f} s"),
        ("SHA-256 of the weights", card.sha256),
    ]
