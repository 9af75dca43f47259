"""A delay whose length is moved by an oscillator."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.envelopes import Floats
from blackbox_fx.estimators.audio_rules.lines import delayed, delayed_back, sine
from blackbox_fx.estimators.audio_rules.memory import Memory, Outcome
from blackbox_fx.estimators.audio_rules.operators import Gain, Series, Wire
from blackbox_fx.estimators.audio_rules.probes import SMALL, Echoes, Noise, Train
from blackbox_fx.estimators.audio_rules.two_stage import curve_gain

_NEAR = 24  # samples after an impulse that belong to the dry path
_ASTRAY = 6.0  # samples by which sightings may miss the oscillator on average, those of later echoes counted in
_LAGS = range(-8, 25)  # of the filters beside dry and wet path
_FASTEST = 0.0006  # cycles per sample
_INAUDIBLE = 2e-3  # of the largest tap
_REACH, _FINE = 0.2, 1e-4  # cycles in the clip: around an expected frequency, and of its precision
_SURE, _DEEP = 0.03, 30.0  # share of an oscillator's depth in samples, at most, by which sightings may miss it
_STEPS = (0.02, 0.004)  # between three feedbacks through which a parabola is laid
_SMALL = 2e-3  # share of J u that may be left by an expected feedback
_PART = 0.4  # seconds that filters and feedback are fitted to
_TRAIN = Train()


@final
class _Line(Model):
    """The wet path: w(t) = p(t - d(t)), where p(t) = u(t) + feedback * w(t - 1) is what goes into the delay line.

    Args:
        delay: d(t) in samples, (time,).
        feedback: of the loop.
    """

    def __init__(self, delay: Floats, feedback: float) -> None:
        self._delay, self._feedback = np.maximum(delay, 1.0), feedback

    def push(self, u: Signal) -> Signal:
        """Forwards through the delay line."""
        return delayed(np.ascontiguousarray(u), self._delay, self._feedback)

    def pull(self, v: Signal) -> Signal:
        """Backwards through the delay line."""
        return delayed_back(np.ascontiguousarray(v), self._delay, self._feedback)


def _shift(signal: Signal, taps: int) -> Signal:
    """Delays by a number of samples, or advances if negative; the gap is silent."""
    length = signal.shape[1]
    return np.pad(signal, ((0, 0), (max(taps, 0), max(-taps, 0))))[:, max(-taps, 0) : max(-taps, 0) + length]


@final
class _DryWet(Model):
    """Short filters of the dry and of the wet path, (lag,)."""

    lasting = True

    def __init__(self, line: _Line, dry: Floats, wet: Floats) -> None:
        self.line, self.dry, self.wet = line, dry, wet

    def _filter(self, signal: Signal, taps: Floats, sign: int) -> Signal:
        audible = [(tap, sign * lag) for lag, tap in zip(_LAGS, taps.tolist(), strict=True) if tap]
        return sum((tap * _shift(signal, lag) for tap, lag in audible), np.zeros_like(signal))

    def push(self, u: Signal) -> Signal:
        """Both paths."""
        return self._filter(u, self.dry, 1) + self._filter(self.line.push(u), self.wet, 1)

    def pull(self, v: Signal) -> Signal:
        """Back through both paths."""
        return self._filter(v, self.dry, -1) + self.line.pull(self._filter(v, self.wet, -1))


def sightings(echoes: Echoes) -> tuple[Floats, Floats]:
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


class Sine(NamedTuple):
    """A sine and two weak overtones through sightings.

    Args:
        miss: by how many samples the sightings miss it on average, those of later echoes counted in.
        frequency: cycles per sample.
        weights: constant, cosines and sines.
        floor: where it is cut off.
    """

    miss: float
    frequency: float
    weights: Floats
    floor: float

    def delay(self, length: int) -> Floats:
        """At every sample."""
        return np.maximum(sine(self.frequency, self.weights, length), self.floor)

    def sure(self, length: int) -> bool:
        """Whether the sightings are so near that another frequency need not be looked for."""
        return self.miss < _SURE * min(float(np.ptp(self.delay(length))), _DEEP)


def _sines(
    when: Floats, delays: Floats, free: NDArray[np.bool_], floor: float, frequencies: Floats, harmonics: int
) -> tuple[Floats, Floats]:
    """Sines with weak overtones through sightings, for each of several frequencies.

    Returns:
        By how much they miss, (frequency,), and their weights, (frequency, 7): constant, cosines and sines.
    """
    order = np.arange(1, harmonics + 1)
    angles = 2 * np.pi * frequencies[:, None, None] * when[:, None] * order
    basis = np.concatenate([np.ones((*angles.shape[:2], 1)), np.cos(angles), np.sin(angles)], axis=2)
    ridge = np.diag(np.append(1e-9, np.where(np.tile(order, 2) > 1, 1e-3, 1e-9))) * len(when)
    kept = np.broadcast_to(free, basis.shape[:2])
    found, off = np.zeros((*basis.shape[::2], 1)), np.zeros(basis.shape[:2])
    for _ in range(4):
        chosen = (basis * kept[..., None]).swapaxes(1, 2)
        found = np.linalg.solve(chosen @ basis + ridge, chosen @ delays[:, None])
        off = np.abs(np.maximum((basis @ found)[..., 0], floor) - delays)
        kept = free & (off <= 3 * np.median(off[:, free], axis=1)[:, None] + 0.05)  # echoes of echoes are no sightings
    weights = np.zeros((len(frequencies), 7))
    weights[:, 0], weights[:, order], weights[:, 3 + order] = found[:, 0, 0], *np.split(found[:, 1:, 0], 2, axis=1)
    return np.minimum(off, 20.0).mean(axis=1), weights


def oscillator(when: Floats, delays: Floats, length: int, expected: float | None) -> Sine | None:
    """The sine through the sightings, near an expected frequency or anywhere; None if they are not on one.

    Where many sightings share the least delay, the oscillator is cut off there.
    """
    floor = float(delays.min()) if np.sum(delays < delays.min() + 0.5) >= 5 else 0.0
    free = delays > floor + 0.5 if floor and np.sum(delays > floor + 0.5) >= 8 else np.ones(len(delays), bool)

    def best(frequencies: Any, harmonics: int) -> Sine:
        misses, weights = _sines(when, delays, free, floor, np.asarray(frequencies, np.float64), harmonics)
        least = int(misses.argmin())
        return Sine(float(misses[least]), float(frequencies[least]), weights[least], floor)

    def nearby(middle: float, reach: float, harmonics: int) -> Sine:
        found = best([middle], harmonics)
        while reach > _FINE / length:
            around = found.frequency + reach * np.linspace(-1, 1, 17)
            found = min(found, best(around[around > 0], harmonics), key=lambda one: one.miss)
            reach /= 8
        return found

    if expected is not None and expected < _FASTEST:
        found = nearby(expected, _REACH / length, 3)
        if found.sure(length):
            return found
    step = 0.1 / length
    found = best(np.arange(step, _FASTEST, step), 1)
    for harmonics in (1, 3):
        found = nearby(found.frequency, step, harmonics)
        if found.miss > _ASTRAY:
            return None
    return found


def _products(a: Floats, b: Floats, lags: range) -> Floats:
    """Inner products of all shifts of one signal with all shifts of another, (lag, lag).

    Args:
        a: one signal, (channel, time), with silence on both sides, as long as the largest lag.
        b: the other signal, likewise.
        lags: of the shifts.
    """
    room = _room(lags)
    length = a.shape[1] - 2 * room
    out = np.empty((len(lags), len(lags)))
    out[0], out[:, 0] = _shifts(b, a, lags, lags[0]), _shifts(a, b, lags, lags[0])
    # one sample later, a sum gains what comes in at one end and loses what leaves at the other
    starts = room - 1 - np.array(lags)
    change = a[:, starts].T @ b[:, starts] - a[:, starts + length].T @ b[:, starts + length]
    for n in range(1, len(lags)):
        out[n, 1:] = out[n - 1, :-1] + change[n - 1, :-1]
    return out


def _room(lags: range) -> int:
    return max(0, -lags[0], lags[-1]) + 1


def _shifts(a: Floats, b: Floats, lags: range, lag: int) -> Floats:
    """Inner products of all shifts of one signal with one shift of another; see `_products`."""
    room = _room(lags)
    length = a.shape[1] - 2 * room
    rows = zip(a[:, room - lags[-1] : length + room - lags[0]], b[:, room - lag : length + room - lag], strict=True)
    return np.sum([np.correlate(x, y, "valid") for x, y in rows], axis=0)[::-1]


def _filters(line: _Line, u: Signal, ju: Signal, lags: range) -> tuple[float, Floats, Floats]:
    """Taps of the dry and of the wet path by least squares, and their residual as a share of J u, from 0 to 1."""
    room = _room(lags)
    dry, wet, goal = padded = np.zeros((3, len(u), u.shape[1] + 2 * room))
    padded[..., room:-room] = u, line.push(u), ju
    cross = _products(dry, wet, lags)
    gram = np.block([[_products(dry, dry, lags), cross], [cross.T, _products(wet, wet, lags)]])
    wanted = np.concatenate([_shifts(x, goal, lags, 0) for x in (dry, wet)])
    weights = np.linalg.solve(gram + 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram)), wanted)
    power = float(np.vdot(ju, ju)) + 1e-30
    left = (power - 2 * weights @ wanted + weights @ gram @ weights) / power
    audible = np.where(np.abs(weights) > _INAUDIBLE * np.abs(weights).max(), weights, 0.0)
    return float(left), audible[: len(lags)], audible[len(lags) :]


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
        self._memory = Memory()

    def probes(self) -> tuple[Probe, ...]:
        """Three trains of impulses, and random signs."""
        return _TRAIN, Noise(0, self.size)

    def fit(self, site: Site) -> Model:
        """The delay, then the feedback and the filters, then the curve, and feedback and filters again."""
        when, delays = sightings(site[_TRAIN])
        expected = self._expected(site)
        found = None
        if len(when) >= 8:
            found = oscillator(when, delays, site.x.shape[1], np.exp(expected[0]) if expected else None)
        if found is None:
            return Wire()
        u, ju = site[Noise(0, self.size)]
        part = min(u.shape[1], int(_PART * site.sample_rate))
        delay = found.delay(u.shape[1])
        feedback = _feedback(delay[:part], u[:1, :part], ju[:1, :part], expected[1] if expected else None)
        self._keep(site, found, feedback)
        model = _line(delay, feedback, u, ju, part)
        if not self.curve:
            return model
        gain = curve_gain(site.x, u, model, ju)
        feedback = _feedback(delay[:part], (gain * u)[:1, :part], ju[:1, :part], feedback)
        return Series((Gain(gain), _line(delay, feedback, gain * u, ju, part)))

    def _expected(self, site: Site) -> tuple[float, float] | None:
        """The logarithm of the frequency, and the feedback, as other settings make them likely."""
        self._memory.claim(site.effect, site.sample_rate)
        found = None if site.point is None else self._memory.expected(site.point)
        return None if found is None else (float(found.vector[0]), float(found.vector[1]))

    def _keep(self, site: Site, found: Sine, feedback: float) -> None:
        if site.point is not None and found.sure(len(site.x[0])):
            vector = np.array([np.log(found.frequency), feedback])
            self._memory.add(Outcome(site.point, "sine", vector, np.ones(2)))

    def extra_repr(self) -> str:
        """Whether there is a curve, and the probe's size."""
        return f"curve={self.curve}, size={self.size:g}"


def _feedback(delay: Floats, u: Signal, ju: Signal, expected: float | None) -> float:
    """The feedback with which a dry and a wet path leave least; near the expected one, if that is good."""

    @functools.cache
    def left(feedback: float) -> float:
        return _filters(_Line(delay, feedback), u, ju, range(0, 3))[0]

    def nearby(feedback: float, step: float, least: float) -> float:
        while step > least:
            step /= 2
            feedback = min((feedback, feedback - step, feedback + step), key=left)
        return feedback

    if expected is not None:
        found = expected
        for step in _STEPS:
            lower, here, upper = (left(found + way * step) for way in (-1, 0, 1))
            bend = max(lower + upper - 2 * here, 1e-30)  # of the parabola through three points
            found = min(max(found + 0.5 * step * (lower - upper) / bend, expected - 0.1), expected + 0.1)
        if left(found) < _SMALL:
            return found
    return nearby(min(np.linspace(-0.9, 0.9, 7).tolist(), key=left), 0.3, 0.001)


def _line(delay: Floats, feedback: float, u: Signal, ju: Signal, part: int) -> _DryWet:
    """With filters that are fitted to the first part of a clip."""
    _, dry, wet = _filters(_Line(delay[:part], feedback), u[:, :part], ju[:, :part], _LAGS)
    return _DryWet(_Line(delay, feedback), dry, wet)
