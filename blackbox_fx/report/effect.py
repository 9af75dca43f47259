"""A page about one effect: what it is like, in numbers and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from blackbox_fx.profiling.profiles import rows
from blackbox_fx.profiling.record import Profile
from blackbox_fx.report import plot
from blackbox_fx.report.html import Section, write_page
from blackbox_fx.report.plot import BLUE, GREY, INK, ORANGE
from blackbox_fx.space import Space

_MAP = matplotlib.colormaps["viridis"]
_MOST = 40  # bars


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}"


def parameter_table(found: Profile, space: Space) -> list[tuple[str, ...]]:
    """Headings, then a row for each free parameter."""
    table: list[tuple[str, ...]] = [("parameter", "range", "sensitivity", "most", "least step", "even", "one way")]
    for name, p in found.parameters.items():
        way = "-" if p.monotone is None else "yes" if p.monotone else "no"
        described = space.parameters[name].describe() if name in space.parameters else ""
        most = "dead" if p.alive is False else _short(p.most)
        table.append((name, described, _short(p.sensitivity), most, _short(p.step), _short(p.smoothness), way))
    return table


def sensitivity(found: Profile) -> Figure:
    """One bar for each parameter: median and largest change of the output, relative, on a logarithmic axis."""
    shown = sorted(found.parameters.items(), key=lambda item: -item[1].most)[:_MOST]
    figure, ((axis,),) = plot.new_figure(8.5, 0.3 * len(shown) + 1.1)
    places = np.arange(len(shown))[::-1]
    floor = 1e-6
    most = np.array([max(p.most, floor) for _, p in shown])
    median = np.array([max(p.sensitivity, floor) for _, p in shown])
    axis.hlines(places, floor, most, color="#cdd9f7", linewidth=9)
    axis.hlines(places, floor, median, color=BLUE, linewidth=9)
    for place, (_, p) in zip(places, shown, strict=True):
        if not p.alive:
            axis.text(floor * 1.3, place, "changes nothing", va="center", fontsize=8, color=ORANGE)
    axis.set(xscale="log", xlim=(floor, max(2.0, float(most.max()) * 1.3)), ylim=(-0.7, len(shown) - 0.3))
    axis.set_xlabel("change of the output when moved by half its range: median (dark) and largest (light)")
    axis.set_yticks(places, [name for name, _ in shown])
    return figure


def _lines(axis: Any, x: Sequence[float], curves: Sequence[Mapping[str, Any]], key: str) -> None:
    for k, curve in enumerate(curves):
        colour = _MAP(0.9 * k / max(1, len(curves) - 1))
        axis.plot(x, curve[key], color=colour, linewidth=1.7, label=curve["label"])


def _span(axis: Any, curves: Sequence[Mapping[str, Any]], key: str, least: float) -> None:
    """Limits that show what differs: at least `least` dB, at most what is above -90 dB."""
    values = np.concatenate([curve[key] for curve in curves])
    values = values[values > -90] if (values > -90).any() else values
    low, high = float(values.min()), float(values.max())
    middle, half = (low + high) / 2, max(least, high - low) / 2 * 1.08
    axis.set_ylim(middle - half, middle + half)


def responses(drawn: Mapping[str, Any], name: str) -> Figure:
    """Frequency response, static curve, and gain over time at several values of one parameter."""
    curves = drawn["parameters"][name]
    figure, ((response, static, step),) = plot.new_figure(12, 3.1, 1, 3)
    _lines(response, drawn["frequencies"], curves, "response")
    response.set(xscale="log", xlabel="Hz", ylabel="output / input, dB", title="noise, by frequency")
    response.set_xticks([50, 200, 1000, 5000, 15_000], ["50", "200", "1k", "5k", "15k"], minor=False)
    response.minorticks_off()
    response.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    _span(response, curves, "response", 12)
    _lines(static, drawn["levels"], curves, "static")
    static.plot([-60, 0], [-60, 0], color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    static.set(xlabel="input, dB rms", ylabel="output, dB rms", title="1 kHz tone, by level")
    low = min(-60.0, min(min(curve["static"]) for curve in curves))
    static.set(ylim=(max(-100.0, low) - 3, max(3.0, max(max(curve["static"]) for curve in curves) + 3)))
    _lines(step, drawn["times"], curves, "step")
    stop = 30 * 220 / 44100, 90 * 220 / 44100
    step.axvspan(*stop, color="#eef1f6", zorder=0)
    step.set(xlabel="seconds; the input is 30 dB louder in the grey part", ylabel="gain, dB", title="a step in level")
    _span(step, curves, "step", 6)
    for axis in (response, static, step):
        axis.title.set(fontsize=9, color=INK)
    figure.legend(*response.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def impulse(drawn: Mapping[str, Any]) -> Figure:
    """The response to an impulse by frequency and time."""
    figure, ((axis,),) = plot.new_figure(8.5, 3.2)
    picture = np.array(drawn["impulse"])
    top = float(picture.max())
    edges = np.geomspace(60, 18_000, len(picture) + 1)
    times = (np.arange(picture.shape[1] + 1) * 360 - 600) / 44100
    mesh = axis.pcolormesh(times, edges, picture, cmap="magma", vmin=top - 90, vmax=top, rasterized=True)
    loud = np.flatnonzero((picture > top - 80).any(axis=0))
    last = max(0.1, float(times[min(loud[-1] + 4, len(times) - 1)])) if len(loud) else 0.1
    axis.set(yscale="log", xlabel="seconds after the impulse", ylabel="Hz", xlim=(times[0], last))
    axis.set_yticks([100, 1000, 10_000], ["100", "1k", "10k"])
    axis.minorticks_off()
    figure.colorbar(mesh, ax=axis, label="dB", fraction=0.03, pad=0.02)
    return figure


def write_effect_page(path: Path, found: Profile, drawn: Mapping[str, Any], space: Space) -> Path:
    """Writes a page, with its pictures beside it in files that begin alike.

    Args:
        path: the .html file; its folder must exist.
        found: the profile.
        drawn: what `plots` measured.
        space: the effect's parameters.
    """
    stem = path.stem

    def picture(figure: Figure, name: str) -> str:
        return plot.save(figure, path.with_name(f"{stem}-{name}.svg"))

    sections = []
    if found.notes:
        sections.append(Section("To know", " ".join(note.rstrip(".") + "." for note in found.notes)))
    for k, (name, curves) in enumerate(drawn["parameters"].items()):
        if curves:
            text = "At settings where it does much; the colours are its values, from low (dark) to high (bright)."
            image = picture(responses(drawn, name), f"parameter-{k + 1}")
            sections.append(Section(name, text if k == 0 else "", images=[image]))
    if drawn["impulse"]:
        text = "The answer to a click, with every parameter in the middle of its range."
        sections.append(Section("An impulse", text, images=[picture(impulse(drawn), "impulse")]))
    if found.parameters:
        text = f"All {len(found.parameters)} parameters" if len(found.parameters) <= _MOST else f"The first {_MOST}"
        sections.append(Section("Sensitivity", text + ".", images=[picture(sensitivity(found), "sensitivity")]))
        text = "Even is the mean over the largest change between neighbouring settings: 1 if all are alike."
        sections.append(Section("Parameters", text, table=parameter_table(found, space)))
    sections.append(Section("In numbers", table=[("what", "measured", "meaning"), *rows(found)]))
    speed = f"{found.realtime:.3g} times real time" if not math.isnan(found.realtime) else "speed not measured"
    pure = found.purity_error
    kind = "not measured for purity" if math.isnan(pure) else "pure" if pure <= 1e-6 else f"not pure (error {pure:.1e})"
    lead = f"{len(found.parameters)} free parameters, {kind}, {speed}."
    write_page(path, found.effect, lead, sections, f"Measured in {found.seconds:.1f} s on this machine.")
    return path
