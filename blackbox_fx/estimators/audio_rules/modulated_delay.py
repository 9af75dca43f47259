"""A delay whose length is moved by an oscillator."""

from __future__ import annotations

import functools
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.operators import Gain, Series, Wire
from blackbox_fx.estimators.audio_rules.probes import SMALL, Echoes, Noise, Train
from blackbox_fx.estimators.audio_rules.two_stage import curve_gain

Floats = NDArray[np.float64]
_NEAR = 24  # samples after an impulse that belong to the dry path
_ASTRAY = 6.0  # samples by which sightings may miss the oscillator on average, those of later echoes counted in
_LAGS = range(-8, 25)  # of the filters beside dry and wet path
_TRAIN = Train()


@final
class _Line(Model):
    """The wet path: w(t) = p(t - d(t)), where p(t) = u(t) + feedback * w(t - 1) is what goes into the delay line.

    Args:
        delay: d(t) in samples, (time,).
        feedback: of the loop.
    """

    def __init__(self, delay: Floats, feedback: float) -> None:
        length = len(delay)
        position = np.arange(length) - np.maximum(delay, 1.0)
        first = np.floor(position).astype(int)
        rows = np.tile(np.arange(length), 2)
        columns = np.concatenate([first, first + 1])
        weights = np.concatenate([first + 1 - position, position - first])
        inside, later = columns >= 0, columns >= 1
        shape = (length, length)
        self._read = scipy.sparse.csc_array((weights[inside], (rows[inside], columns[inside])), shape=shape)
        loop = scipy.sparse.csc_array((weights[later], (rows[later], columns[later] - 1)), shape=shape)
        matrix: Any = scipy.sparse.eye_array(length) - feedback * loop
        # lower triangular, so that neither order nor pivots need a choice
        self._solver: Any = (
            scipy.sparse.linalg.splu(matrix.tocsc(), permc_spec="NATURAL", diag_pivot_thresh=0.0) if feedback else None
        )

    def push(self, u: Signal) -> Signal:
        """Forwards through the delay line."""
        read = (self._read @ u.T).T
        return read if self._solver is None else self._solver.solve(np.ascontiguousarray(read.T)).T

    def pull(self, v: Signal) -> Signal:
        """Backwards through the delay line."""
        back = v if self._solver is None else self._solver.solve(np.ascontiguousarray(v.T), "T").T
        return (self._read.T @ back.T).T


def _shift(signal: Signal, taps: int) -> Signal:
    """Delays by a number of samples, or advances if negative; the gap is silent."""
    length = signal.shape[1]
    return np.pad(signal, ((0, 0), (max(taps, 0), max(-taps, 0))))[:, max(-taps, 0) : max(-taps, 0) + length]


@final
class _DryWet(Model):
    """Short filters of the dry and of the wet path, (lag,)."""

    def __init__(self, line: _Line, dry: Floats, wet: Floats) -> None:
        self.line, self.dry, self.wet = line, dry, wet

    def _filter(self, signal: Signal, taps: Floats, sign: int) -> Signal:
        shifted = [tap * _shift(signal, sign * lag) for lag, tap in zip(_LAGS, taps, strict=True) if tap]
        return np.sum([np.zeros_like(signal), *shifted], axis=0)

    def push(self, u: Signal) -> Signal:
        """Both paths."""
        return self._filter(u, self.dry, 1) + self._filter(self.line.push(u), self.wet, 1)

    def pull(self, v: Signal) -> Signal:
        """Back through both paths."""
        return self._filter(v, self.dry, -1) + self.line.pull(self._filter(v, self.wet, -1))


def _sightings(echoes: Echoes) -> tuple[Floats, Floats]:
    """When the strongest echo of each impulse came back, and after how long, (n,) each, in samples."""
    when, delays, strengths = [], [], []
    for start, length, answer in zip(echoes.starts, echoes.lengths, echoes.answers, strict=True):
        size = np.abs(answer).max(axis=0)
        whole, size[:_NEAR] = size.max() + 1e-30, 0
        top = int(size.argmax())
        low, high = max(_NEAR, top - 8), min(int(length), top + 9)
        if size[top] < 1e-3 * whole or high == length:
            continue
        weights = np.where(size[low:high] > 0.05 * size[top], size[low:high], 0)
        delays.append(float(weights @ np.arange(low, high) / weights.sum()))
        when.append(start + delays[-1])
        strengths.append(weights.sum())
    strong = np.array(strengths) > 0.5 * np.median(strengths) if strengths else np.zeros(0, bool)
    return np.array(when)[strong], np.array(delays)[strong]


def _waves(at: Floats, frequency: float, harmonics: int) -> Any:
    angles = 2 * np.pi * frequency * np.outer(at, np.arange(1, harmonics + 1))
    return np.concatenate([np.ones((len(at), 1)), np.cos(angles), np.sin(angles)], axis=1)


def _oscillator(when: Floats, delays: Floats, length: int) -> Floats | None:
    """The delay at every sample: a sine and two weak overtones through the sightings; None if they are not on one.

    Where many sightings share the least delay, the oscillator is cut off there.
    """
    floor = delays.min() if np.sum(delays < delays.min() + 0.5) >= 5 else 0.0
    free = delays > floor + 0.5 if floor and np.sum(delays > floor + 0.5) >= 8 else np.ones(len(delays), bool)

    def fit(frequency: float, harmonics: int) -> tuple[float, float, Floats]:
        basis = _waves(when, frequency, harmonics)
        order = np.tile(np.arange(1, harmonics + 1), 2)
        ridge = np.diag(np.append(1e-9, np.where(order > 1, 1e-3, 1e-9))) * len(when)
        kept, off, weights = free, delays, np.zeros(basis.shape[1])
        for _ in range(4):
            chosen = basis[kept]
            weights = np.linalg.solve(chosen.T @ chosen + ridge, chosen.T @ delays[kept])
            off = np.abs(np.maximum(basis @ weights, floor) - delays)
            kept = free & (off <= 3 * np.median(off[free]) + 0.05)  # echoes of echoes are no sightings
        return float(np.mean(np.minimum(off, 20.0))), frequency, weights

    step = 0.1 / length
    best = min((fit(f, 1) for f in np.arange(step, 0.0006, step)), key=lambda found: found[0])
    for harmonics, halvings in ((1, 8), (3, 16)):
        step, best = 0.1 / length, fit(best[1], harmonics)
        for _ in range(halvings):
            step /= 2
            nearby = (f for f in (best[1] - step, best[1] + step) if f > 0)
            best = min(best, *(fit(f, harmonics) for f in nearby), key=lambda found: found[0])
        if best[0] > _ASTRAY:  # at first the frequency is too coarse to say so of a deep oscillator
            return None
    return np.maximum(_waves(np.arange(length, dtype=np.float64), best[1], 3) @ best[2], floor)


def _filters(line: _Line, u: Signal, ju: Signal, lags: range) -> tuple[float, Floats, Floats]:
    """Taps of the dry and of the wet path by least squares, and their residual as a share of J u, from 0 to 1."""
    paths = [_shift(path, lag).ravel() for path in (u, line.push(u)) for lag in lags]
    columns = np.stack(paths)
    gram, wanted = columns @ columns.T, columns @ ju.ravel()
    weights = np.linalg.solve(gram + 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram)), wanted)
    left = ju.ravel() - weights @ columns
    dry, wet = np.split(weights, 2)
    return float(left @ left / (ju.ravel() @ ju.ravel() + 1e-30)), dry, wet


@final
class ModulatedDelay(Modelled):
    """For choruses, flangers and vibratos: one delay line whose length an oscillator moves, with feedback.

    Impulses are added to the clip, and the times of their echoes show the delay. A sine fitted to these gives the delay
    at every sample. Feedback and short filters in both paths are fitted to a random probe. This works at any rate that
    the impulses resolve, even if their echoes overlap and cross.

    Args:
        curve: whether a memoryless curve comes before the line, as in a distortion with a chorus. Its slope is a
            function of the clip's value, fitted in turn with the line.
        size: of the random signs, against the clip's root mean square.

    Following each echo by its neighbours, with interpolation, was tried. Its cosine was 0.95 to 0.998 for slow delays
    without feedback, and 0.1 to 0.9 above 5 Hz or with strong feedback.
    """

    def __init__(self, curve: bool = False, size: float = SMALL) -> None:
        super().__init__()
        self.curve, self.size = curve, size

    def probes(self) -> tuple[Probe, ...]:
        """Three trains of impulses, and random signs."""
        return _TRAIN, Noise(0, self.size)

    def fit(self, site: Site) -> Model:
        """The delay, then the feedback and the filters, then the curve, and feedback and filters again."""
        when, delays = _sightings(site[_TRAIN])
        delay = _oscillator(when, delays, site.x.shape[1]) if len(when) >= 8 else None
        if delay is None:
            return Wire()
        u, ju = site[Noise(0, self.size)]
        part = min(u.shape[1], int(0.5 * site.sample_rate))
        model = _line(delay, u, ju, part)
        if not self.curve:
            return model
        gain = curve_gain(site.x, u, model, ju)
        return Series((Gain(gain), _line(delay, gain * u, ju, part)))

    def extra_repr(self) -> str:
        """Whether there is a curve, and the probe's size."""
        return f"curve={self.curve}, size={self.size:g}"


def _line(delay: Floats, u: Signal, ju: Signal, part: int) -> _DryWet:
    """Feedback, from the first part of the clip, and filters."""

    @functools.cache
    def left(feedback: float) -> float:
        line = _Line(delay[:part], feedback)
        return _filters(line, u[:1, :part], ju[:1, :part], range(0, 3))[0]

    feedback = min(np.linspace(-0.9, 0.9, 7).tolist(), key=left)
    step = 0.3
    for _ in range(7):
        step /= 2
        feedback = min((feedback, feedback - step, feedback + step), key=left)
    line = _Line(delay, feedback)
    _, dry, wet = _filters(line, u, ju, _LAGS)
    return _DryWet(line, dry, wet)
