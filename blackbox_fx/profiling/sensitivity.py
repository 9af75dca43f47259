"""What each parameter of an effect does."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.profiling.measures import Subject, Unusable
from blackbox_fx.profiling.signals import rms
from blackbox_fx.space import Choice, Continuous, Parameter

_GRID = 9  # settings of a parameter over its range
_STEPS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def _moved(row: NDArray[np.float64], where: slice, parameter: Parameter) -> NDArray[np.float64]:
    """The row with one parameter moved by half its range, or to the next option."""
    other = row.copy()
    if isinstance(parameter, Choice):
        other[where] = np.roll(row[where], 1)
    else:
        other[where] = row[where] + (0.5 if row[where][0] < 0.5 else -0.5) if parameter.columns else row[where]
        if parameter.unit_step >= 1:
            other[where] = 1 - np.round(row[where])
    return other


def _defaults(s: Subject) -> NDArray[np.float64]:
    """(1, width): where the parameters stand when nothing is said."""
    return s.effect.space.encode({n: s.effect.defaults[n] for n in s.effect.space.free})[None]


def _render(s: Subject, row: NDArray[np.float64]) -> Audio | None:
    try:
        return s.render(s.effect.space.decode(row))
    except Unusable:
        return None


def parameters(s: Subject, until: float) -> dict[str, dict[str, Any]]:
    """Fields of `ParameterProfile` by name, for the free parameters.

    Args:
        s: the subject.
        until: when to stop looking closer, on the clock of `time.perf_counter`; every parameter is moved at one setting
            at least.
    """
    space = s.effect.space
    rows = np.concatenate([_defaults(s), space.sample(max(1, min(8, s.count)) - 1, np.random.default_rng(4))])
    changes: dict[str, list[float]] = {name: [] for name in space.free}
    best: dict[str, tuple[float, NDArray[np.float64]]] = {}
    noise = 0.0
    for k, row in enumerate(rows):
        if k and time.perf_counter() > until - (until - s.began) * 0.4:
            break
        base = _render(s, row)
        if base is None:
            continue
        size = max(rms(base), 1e-6)
        if k < 2:
            again = _render(s, row)
            noise = max(noise, rms(base - again) / size if again is not None else 0.0)
        for name in space.free:
            wet = _render(s, _moved(row, space.slices[name], space.parameters[name]))
            if wet is None:
                continue
            change = rms(wet.astype(np.float64) - base) / size
            change = change if change > 3 * noise else 0.0
            changes[name].append(change)
            if change > best.get(name, (0.0, row))[0]:
                best[name] = (change, row)
    tried = max((len(c) for c in changes.values()), default=0)
    if tried < len(rows):
        s.notes.append(f"sensitivity was measured at {tried} of {len(rows)} settings")
    found = {
        name: {
            "sensitivity": float(np.median(c)) if c else 0.0,
            "most": max(c, default=0.0),
            "step": float("nan"),
            "smoothness": float("nan"),
            "monotone": None,
            "settings": len(c),
        }
        for name, c in changes.items()
    }
    order = sorted(best, key=lambda name: -best[name][0])
    for k, name in enumerate(order):
        if time.perf_counter() > until:
            s.notes.append(f"steps and smoothness were measured of {k} of {len(order)} parameters")
            break
        found[name] |= _closely(s, name, best[name][1], noise)
    return found


def _closely(s: Subject, name: str, row: NDArray[np.float64], noise: float) -> dict[str, Any]:
    """Step, smoothness and direction of one parameter, at the settings where it does most."""
    parameter, where = s.effect.space.parameters[name], s.effect.space.slices[name]
    if isinstance(parameter, Choice):
        return {}

    def at(u: float) -> Audio | None:
        other = row.copy()
        other[where] = u
        return _render(s, other)

    stepped = parameter.unit_step >= 1
    wets = [wet for u in np.linspace(0, 1, 2 if stepped else _GRID) if (wet := at(float(u))) is not None]
    found: dict[str, Any] = {}
    if len(wets) > 1:
        jumps = np.array([rms(b.astype(np.float64) - a) for a, b in itertools.pairwise(wets)])
        found["smoothness"] = float(jumps.mean() / jumps.max()) if jumps.max() > 0 else 1.0
        way = (wets[-1].astype(np.float64) - wets[0]).ravel()
        places = np.array([float((wet.ravel() - wets[0].ravel()) @ way) for wet in wets])
        slack = 1e-3 * np.abs(places).max() + noise
        found["monotone"] = bool((np.diff(places) >= -slack).all() or (np.diff(places) <= slack).all())
    if stepped:
        return found | {"step": 1.0}
    base = float(np.clip(row[where][0], 0.15, 0.85))
    centre = at(base)
    if centre is None:
        return found
    floor = 4 * noise * max(rms(centre), 1e-6)
    tried = _STEPS if isinstance(parameter, Continuous) and not parameter.step else (parameter.unit_step,)
    for step in tried:
        wet = at(base + step)
        if wet is not None and rms(wet.astype(np.float64) - centre) > floor:
            return found | {"step": step}
    return found | {"step": 0.0}


def strongest(s: Subject, count: int) -> dict[str, NDArray[np.float64]]:
    """The parameters that change the output most, strongest first, and the settings, of a few, where each does so."""
    space = s.effect.space
    best: dict[str, tuple[float, NDArray[np.float64]]] = {}
    for row in space.sample(3, np.random.default_rng(4)):
        base = _render(s, row)
        for name in space.free if base is not None else ():
            wet = _render(s, _moved(row, space.slices[name], space.parameters[name]))
            if base is not None and wet is not None:
                change = rms(wet.astype(np.float64) - base) / max(rms(base), 1e-3)
                if change > best.get(name, (1e-6, row))[0]:
                    best[name] = (change, row)
    return {name: best[name][1] for name in sorted(best, key=lambda name: -best[name][0])[:count]}
