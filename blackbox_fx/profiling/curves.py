"""Curves for plots: how the output of an effect depends on its strongest parameters."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.profiling.measures import Subject, Unusable
from blackbox_fx.profiling.sensitivity import strongest
from blackbox_fx.profiling.signals import RATE
from blackbox_fx.space import Choice

_SHOWN = 4  # parameters
_VALUES = 5  # of each
_TONE = 1000.0  # Hz
_LEVELS = np.linspace(-60, 0, 16)  # dB
_BURST = 4096
_QUIET, _LOUD = -36.0, -6.0  # dB, of the step
_WINDOW = 220  # samples, of a level


def _decibels(x: NDArray[Any]) -> NDArray[np.float64]:
    return 20 * np.log10(np.maximum(np.abs(x), 1e-6))


def _response(s: Subject, point: NDArray[np.float64]) -> list[float]:
    """Output over input in dB at `frequencies`, of noise."""
    noise = np.zeros((2, 3 * _BURST), np.float32)
    noise[:, :_BURST] = 0.2 * np.random.default_rng(0).standard_normal(_BURST) * np.hanning(_BURST)
    wet = s.render(s.effect.space.decode(point), noise)[0].astype(np.float64)
    power = [np.abs(np.fft.rfft(x)) ** 2 for x in (wet, noise[0].astype(np.float64))]
    bins = np.fft.rfftfreq(noise.shape[1], 1 / RATE)
    found = []
    for f in frequencies():
        near = (bins > f / 1.15) & (bins < f * 1.15)
        found.append(10 * np.log10((power[0][near].sum() + 1e-9) / (power[1][near].sum() + 1e-9)))
    return [float(v) for v in found]


def frequencies() -> list[float]:
    """Frequencies of the responses, in Hz."""
    return [float(f) for f in np.geomspace(40, 18_000, 72)]


def _tone(levels: NDArray[np.float64]) -> Audio:
    """A sine whose level in dB (of its rms) changes from sample to sample."""
    t = np.arange(len(levels)) / RATE
    sine = np.sqrt(2) * np.sin(2 * np.pi * _TONE * t) * 10 ** (levels / 20)
    return np.stack([sine, sine]).astype(np.float32)


def _level(x: NDArray[Any]) -> NDArray[np.float64]:
    """Rms in dB in windows of `_WINDOW` samples."""
    whole = x[0, : x.shape[1] // _WINDOW * _WINDOW].reshape(-1, _WINDOW).astype(np.float64)
    return _decibels(np.sqrt(np.mean(whole**2, axis=1)))


def _static(s: Subject, point: NDArray[np.float64]) -> list[float]:
    """Level out for each of `_LEVELS` in, each held for a while."""
    hold = 20 * _WINDOW
    wet = _level(s.render(s.effect.space.decode(point), _tone(np.repeat(_LEVELS, hold))))
    return [float(v) for v in wet.reshape(len(_LEVELS), -1)[:, -5:].mean(axis=1)]


def _step(s: Subject, point: NDArray[np.float64]) -> list[float]:
    """Gain in dB over time as the level steps up and down again."""
    levels = np.repeat([_QUIET, _LOUD, _QUIET], (30 * _WINDOW, 60 * _WINDOW, 90 * _WINDOW))
    tone = _tone(levels)
    return [float(v) for v in _level(s.render(s.effect.space.decode(point), tone)) - _level(tone)]


def _impulse(s: Subject, point: NDArray[np.float64]) -> list[list[float]]:
    """The response to an impulse in dB, (band, time): 64 logarithmic bands, about 90 times over 0.7 s."""
    click = np.zeros((2, int(0.8 * RATE)), np.float32)
    click[:, 2000] = 0.5
    values = s.effect.space.decode(point)
    wet = (s.render(values, click).astype(np.float64) - s.render(values, 0 * click))[0]
    size, hop = 1024, 360
    starts = range(1400, len(wet) - size, hop)
    frames = np.stack([wet[k : k + size] * np.hanning(size) for k in starts], axis=1)
    spectrum = np.abs(np.fft.rfft(frames, axis=0))
    edges = np.geomspace(60, 18_000, 65)
    bins = np.fft.rfftfreq(size, 1 / RATE)
    rows = []
    for low, high in itertools.pairwise(edges):
        near = (bins >= low) & (bins < high)
        near[np.argmin(np.abs(bins - low))] |= not near.any()
        rows.append(_decibels(spectrum[near].mean(axis=0)))
    return np.array(rows).round(2).tolist()


def _values(s: Subject, name: str) -> list[NDArray[np.float64]]:
    """Columns of a parameter from its lowest to its highest setting."""
    p = s.effect.space.parameters[name]
    if isinstance(p, Choice):
        chosen = np.linspace(0, p.columns - 1, min(p.columns, _VALUES)).round().astype(int)
        return list(np.eye(p.columns)[chosen])
    return [np.array([u]) for u in (np.linspace(0, 1, _VALUES) if p.unit_step < 1 else (0.0, 1.0))]


def _label(s: Subject, name: str, columns: NDArray[np.float64]) -> str:
    p = s.effect.space.parameters[name]
    value = p.decode(columns)
    unit = getattr(p, "unit", "")
    return (f"{value:.3g}" if isinstance(value, float) else str(value)) + (f" {unit}" if unit else "")


def curves(s: Subject) -> dict[str, Any]:
    """Everything that a page draws.

    Returns:
        "frequencies" in Hz, "levels" in dB, "times" in s; "parameters": for each of the strongest, by name, a list of
        "label", "response", "static" and "step" for several of its values, at the settings where it changes the output
        most; "impulse" at settings in the middle of the space.
    """
    space = s.effect.space
    shown: dict[str, list[dict[str, Any]]] = {}
    for name, point in strongest(s, _SHOWN).items():
        shown[name] = []
        for columns in _values(s, name):
            other = point.copy()
            other[space.slices[name]] = columns
            try:
                drawn = {"response": _response(s, other), "static": _static(s, other), "step": _step(s, other)}
            except Unusable as error:
                s.notes.append(f"plots: {error}")
                continue
            shown[name].append({"label": _label(s, name, columns), **drawn})
    rows = space.sample(2, np.random.default_rng(4))
    middle = space.snap(np.full((1, space.width), 0.5))[0] if space.width else rows[0]
    try:
        impulse = _impulse(s, middle)
    except Unusable as error:
        impulse = []
        s.notes.append(f"plots: {error}")
    return {
        "frequencies": frequencies(),
        "levels": _LEVELS.tolist(),
        "times": [float(k * _WINDOW / RATE) for k in range(180)],
        "parameters": shown,
        "impulse": impulse,
    }
