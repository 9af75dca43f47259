"""Plots for people: every function returns a matplotlib figure and touches no global state."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, BLUE, ORANGE, GREY = "#1c2330", "#2563eb", "#ea7317", "#9aa3b2"


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure with a size in inches, and its panels as an array (row, column)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
    return figure, axes


def loss_curve(losses: Sequence[float], references: Mapping[str, float] = {}, smooth: int = 20) -> Figure:
    """Training loss by step with its running mean, and horizontal lines for losses to compare with."""
    figure, ((axis,),) = new_figure(8, 3.2)
    steps = np.arange(1, len(losses) + 1)
    axis.plot(steps, losses, color=BLUE, alpha=0.25, linewidth=0.8)
    width = min(smooth, len(losses))
    if width:
        mean = np.convolve(losses, np.ones(width) / width, mode="valid")
        style = {"marker": "o"} if len(mean) == 1 else {}
        axis.plot(steps[width - 1 :], mean, color=BLUE, linewidth=2, label=f"training, mean of {width} steps", **style)
    for (name, level), style in zip(references.items(), ("--", ":", "-.", (0, (1, 3))) * 9, strict=False):
        axis.axhline(level, color=GREY, linestyle=style, linewidth=1.2, label=f"{name} {level:.2f}")
    axis.set(xlabel="step", ylabel="multi-resolution STFT loss", ylim=(0, None))
    axis.legend(fontsize=8, frameon=False)
    return figure


def settings(
    rows: Sequence[str], columns: Sequence[str], chosen: NDArray[Any], hidden: NDArray[Any] | None = None
) -> Figure:
    """Chosen beside hidden settings, if known, both (row, column) in [0, 1]: one panel a column, one line a row."""
    figure, axes = new_figure(1.35 * len(columns) + 1.2, 0.34 * len(rows) + 1.1, 1, len(columns), sharey=True)
    places = np.arange(len(rows))[::-1]
    for k, (axis, name) in enumerate(zip(axes[0], columns, strict=True)):
        axis.hlines(places, 0, 1, color="#e6e9ef", linewidth=1)
        if hidden is not None:
            axis.hlines(places, chosen[:, k], hidden[:, k], color=GREY, linewidth=2)
            how = {"facecolors": "none", "edgecolors": ORANGE, "linewidths": 1.8}
            axis.scatter(hidden[:, k], places, s=46, label="hidden", **how)
        axis.scatter(chosen[:, k], places, s=24, color=BLUE, label="network", zorder=3)
        axis.set(xlim=(-0.05, 1.05), xticks=(0, 1), ylim=(-0.6, len(rows) - 0.4))
        axis.set_title(name.replace(".", "\n"), fontsize=8, color=INK)
    axes[0, 0].set_yticks(places, rows)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8, frameon=False
    )
    return figure


_WINDOW = 2048  # of spectrograms
_DPI = 130


def sounds(named: Mapping[str, NDArray[np.float32]], sample_rate: float) -> Figure:
    """Waveform and spectrogram of each sound, (channel, time), on common scales."""
    figure, axes = new_figure(3.6 * len(named), 4.2, 2, len(named), sharex="col", sharey="row", height_ratios=(1, 2))
    peak = max(float(np.abs(x).max()) for x in named.values()) or 1.0
    for k, (name, audio) in enumerate(named.items()):
        mono = audio.mean(axis=0)
        seconds = len(mono) / sample_rate
        stride = max(1, len(mono) // 4000)
        trimmed = mono[: len(mono) // stride * stride].reshape(-1, stride)
        time = np.linspace(0, seconds, len(trimmed))
        axes[0, k].fill_between(time, trimmed.min(1), trimmed.max(1), color=BLUE, linewidth=0)
        axes[0, k].set(ylim=(-peak, peak), title=name)
        # a little noise, since the power of what is constant is 0 and has no logarithm
        longer = np.pad(mono, (0, max(0, 2 * _WINDOW - len(mono))))
        heard = longer + 1e-9 * np.random.default_rng(0).standard_normal(len(longer))
        axes[1, k].specgram(
            heard, NFFT=_WINDOW, Fs=sample_rate, noverlap=_WINDOW * 3 // 4, cmap="magma", vmin=-140, vmax=-40
        )
        axes[1, k].set(ylim=(40, sample_rate / 2), yscale="log", xlabel="seconds")
    axes[1, 0].set_ylabel("Hz")
    return figure


def save(figure: Figure, path: Path) -> str:
    """Writes a figure as SVG or PNG, by the ending, and returns the file's name for a page."""
    temporary = path.with_name(f".{path.name}")
    box = None if _lay_out(figure) else "tight"
    figure.savefig(temporary, format=path.suffix.lstrip("."), dpi=_DPI, bbox_inches=box)
    temporary.replace(path)
    return path.name


def _lay_out(figure: Figure) -> bool:
    """Gives everything its place for good, so that it is drawn once; whether that was possible.

    It is not without a layout engine, nor where matplotlib complains, as of too little room.
    """
    figure.set_dpi(_DPI)
    engine = figure.get_layout_engine()
    if engine is None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            engine.execute(figure)
        except UserWarning:
            return False
    figure.set_layout_engine(None)
    return True
