"""What each parameter of an effect does."""

from __future__ import annotations

import itertools
import time
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.profiling.measures import Subject, Unusable
from blackbox_fx.profiling.signals import rms
from blackbox_fx.space import Choice, Continuous, Parameter

Point = NDArray[np.float64]  # settings in [0, 1], (width,)
_GRID = 9  # settings of a parameter over its range
_STEPS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def _moved(point: Point, where: slice, parameter: Parameter) -> Point:
    """The settings with one parameter moved by half its range, or to the next option."""
    other = point.copy()
    if isinstance(parameter, Choice):
        other[where] = np.roll(point[where], 1)
    else:
        other[where] = point[where] + (0.5 if point[where][0] < 0.5 else -0.5) if parameter.columns else point[where]
        if parameter.unit_step >= 1:
            other[where] = 1 - np.round(point[where])
    return other


def _defaults(s: Subject) -> NDArray[np.float64]:
    """The default settings in [0, 1], (1, width)."""
    return s.effect.space.encode({n: s.effect.defaults[n] for n in s.effect.space.free})[None]


def _render(s: Subject, point: Point) -> Audio | None:
    try:
        return s.render(s.effect.space.decode(point))
    except Unusable:
        return None


@final
class _Changes:
    """How much each parameter changes the output, relative to its level, and where most.

    Args:
        s: the subject.
    """

    def __init__(self, s: Subject) -> None:
        self._s = s
        self.noise = 0.0  # largest relative difference between two renders of the same settings
        self.found: dict[str, list[float]] = {name: [] for name in s.effect.space.free}
        self.best: dict[str, tuple[float, Point]] = {}

    def measure(self, point: Point, twice: bool) -> None:
        """Moves every parameter at these settings; `twice` also renders them again, to measure the noise."""
        base = _render(self._s, point)
        if base is None:
            return
        level = max(rms(base), 1e-6)
        again = _render(self._s, point) if twice else None
        if again is not None:
            self.noise = max(self.noise, rms(base - again) / level)
        space = self._s.effect.space
        for name in space.free:
            wet = _render(self._s, _moved(point, space.slices[name], space.parameters[name]))
            if wet is not None:
                change = rms(wet.astype(np.float64) - base) / level
                self._add(name, change if change > 3 * self.noise else 0.0, point)

    def _add(self, name: str, change: float, point: Point) -> None:
        self.found[name].append(change)
        if change > self.best.get(name, (0.0, point))[0]:
            self.best[name] = (change, point)


def parameters(s: Subject, until: float) -> dict[str, dict[str, Any]]:
    """Fields of `ParameterProfile` by name, for the free parameters.

    Args:
        s: the subject.
        until: when to stop measuring steps and smoothness, on the clock of `time.perf_counter`. Every parameter is
            moved at one setting at least.
    """
    random = s.effect.space.sample(max(1, min(8, s.count)) - 1, np.random.default_rng(4))
    points = np.concatenate([_defaults(s), random])
    changes = _Changes(s)
    for k, point in enumerate(points):
        if k and time.perf_counter() > until - (until - s.began) * 0.4:
            break
        changes.measure(point, twice=k < 2)
    tried = max(map(len, changes.found.values()), default=0)
    if tried < len(points):
        s.notes.append(f"sensitivity was measured at {tried} of {len(points)} settings")
    fields = {name: _sensitivity(own) for name, own in changes.found.items()}
    order = sorted(changes.best, key=lambda name: -changes.best[name][0])
    for k, name in enumerate(order):
        if time.perf_counter() > until:
            s.notes.append(f"steps and smoothness were measured of {k} of {len(order)} parameters")
            break
        if not isinstance(s.effect.space.parameters[name], Choice):
            fields[name] |= _Sweep(s, name, changes.best[name][1]).fields(changes.noise)
    return fields


def _sensitivity(changes: list[float]) -> dict[str, Any]:
    return {
        "sensitivity": float(np.median(changes)) if changes else 0.0,
        "most": max(changes, default=0.0),
        "step": float("nan"),
        "smoothness": float("nan"),
        "monotone": None,
        "settings": len(changes),
    }


@final
class _Sweep:
    """One parameter over its range, at the settings where it changes the output most.

    Args:
        s: the subject.
        name: of the parameter, which is no Choice.
        point: the settings.
    """

    def __init__(self, s: Subject, name: str, point: Point) -> None:
        self._s, self._point = s, point
        self._parameter, self._where = s.effect.space.parameters[name], s.effect.space.slices[name]

    def fields(self, noise: float) -> dict[str, Any]:
        """Step, smoothness and direction."""
        stepped = self._parameter.unit_step >= 1
        grid = np.linspace(0, 1, 2 if stepped else _GRID)
        wets = [wet for u in grid if (wet := self._at(float(u))) is not None]
        found = _smoothness(wets, noise) if len(wets) > 1 else {}
        if stepped:
            return found | {"step": 1.0}
        step = self._step(noise)
        return found if step is None else found | {"step": step}

    def _at(self, u: float) -> Audio | None:
        point = self._point.copy()
        point[self._where] = u
        return _render(self._s, point)

    def _step(self, noise: float) -> float | None:
        """The smallest step that changes the output by more than noise; 0 if none does, None if renders fail."""
        base = float(np.clip(self._point[self._where][0], 0.15, 0.85))
        centre = self._at(base)
        if centre is None:
            return None
        floor = 4 * noise * max(rms(centre), 1e-6)
        smooth = isinstance(self._parameter, Continuous) and not self._parameter.step
        for step in _STEPS if smooth else (self._parameter.unit_step,):
            wet = self._at(base + step)
            if wet is not None and rms(wet.astype(np.float64) - centre) > floor:
                return step
        return 0.0


def _smoothness(wets: list[Audio], noise: float) -> dict[str, Any]:
    """Smoothness of outputs along a parameter, and whether they go one way."""
    jumps = np.array([rms(b.astype(np.float64) - a) for a, b in itertools.pairwise(wets)])
    way = (wets[-1].astype(np.float64) - wets[0]).ravel()
    positions = np.array([float((wet.ravel() - wets[0].ravel()) @ way) for wet in wets])
    slack = 1e-3 * np.abs(positions).max() + noise
    return {
        "smoothness": float(jumps.mean() / jumps.max()) if jumps.max() > 0 else 1.0,
        "monotone": bool((np.diff(positions) >= -slack).all() or (np.diff(positions) <= slack).all()),
    }


def strongest(s: Subject, count: int) -> dict[str, Point]:
    """The parameters that change the output most, strongest first, each with the settings where it does so."""
    space = s.effect.space
    best: dict[str, tuple[float, Point]] = {}
    for point in space.sample(3, np.random.default_rng(4)):
        base = _render(s, point)
        for name in space.free if base is not None else ():
            wet = _render(s, _moved(point, space.slices[name], space.parameters[name]))
            if base is not None and wet is not None:
                change = rms(wet.astype(np.float64) - base) / max(rms(base), 1e-3)
                if change > best.get(name, (1e-6, point))[0]:
                    best[name] = (change, point)
    return {name: best[name][1] for name in sorted(best, key=lambda name: -best[name][0])[:count]}
