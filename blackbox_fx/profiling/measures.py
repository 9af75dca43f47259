"""The measurements of a profile, each on a subject: an effect and the time that it may take."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable
from typing import Any, final

import numpy as np

from blackbox_fx.audio import Audio, is_finite
from blackbox_fx.effects import Effect, RenderRequest, Settings
from blackbox_fx.errors import BlackBoxError
from blackbox_fx.profiling.signals import RATE, difference, music, rms

Values = dict[str, Any]
_FLOOR = 1e-4  # of the peak: 80 dB below it
_SHORT, _LONG = 0.25, 1.0  # seconds of a clip


class Unusable(Exception):
    """The effect failed at some settings, or gave NaN or infinity."""


@final
class Subject:
    """An effect that is measured.

    Args:
        effect: the effect.
        budget: seconds that all measurements should take.

    Attributes:
        cost: seconds of computing for a clip of `_SHORT` seconds.
        settings: random settings, as many as there is time for.
    """

    def __init__(self, effect: Effect, budget: float) -> None:
        self.effect, self.budget = effect, budget
        inputs = " and ".join(effect.inputs)
        self.notes = [f"measured with the audio itself as {inputs}, and not with silence"] if inputs else []
        self.began = began = time.perf_counter()
        effect.open()
        self.open_ms = 1e3 * (time.perf_counter() - began)
        self.audio = music(_SHORT)
        self.render({}, self.audio)
        self.cost = min(self.timed(self.audio) for _ in range(2))
        self.count = int(np.clip(budget / 8 / self.cost, 3, 24))
        if self.count < 8:
            self.notes.append(f"a render of {_SHORT} s takes {self.cost:.2g} s: {self.count} settings instead of 24")
        points = effect.space.sample(self.count, np.random.default_rng(0))
        self.settings = [effect.space.decode(point) for point in points]

    def timed(self, audio: Audio) -> float:
        """Seconds that a render at the defaults takes."""
        began = time.perf_counter()
        self.render({}, audio)
        return max(1e-6, time.perf_counter() - began)

    def render(
        self, settings: Settings, audio: Audio | None = None, effect: Effect | None = None, hop: int | None = None
    ) -> Audio:
        """The output, in pieces of `hop` samples if given; raises Unusable where `Effect.render` refuses it."""
        used = effect or self.effect
        x = self.audio if audio is None else audio
        piece = hop or x.shape[1]
        blocks = [used.space.complete(settings)] * -(-x.shape[1] // piece)
        try:
            with np.errstate(all="ignore"):
                request = RenderRequest(x, blocks, piece, RATE, dict.fromkeys(used.inputs, x))
                y = np.asarray(used.process(request), np.float32)
        except Exception as error:
            raise Unusable(f"it failed at {settings} ({' '.join(str(error).split())[:200]})") from error
        if y.shape != (used.output_channels(len(x)), x.shape[1]):
            raise Unusable(f"it gave shape {y.shape} for {x.shape} at {settings}")
        if not is_finite(y):
            raise Unusable(f"it gave NaN or infinity at {settings}")
        return y

    def fresh(self) -> Effect:
        """The effect as it comes from its recipe."""
        return pickle.loads(pickle.dumps(self.effect))

    def finite(self, count: int) -> list[Settings]:
        """Up to `count` random settings at which it renders, of four times as many that are tried."""
        found: list[Settings] = []
        for values in self.settings[: 4 * count]:
            with contextlib.suppress(Unusable):
                self.render(values)
                found.append(values)
            if len(found) == count:
                break
        return found

    def tried(self, most: int = 2) -> list[Settings]:
        """The defaults, and some of the random settings."""
        return [self.effect.defaults, *(self.finite(most) if self.effect.space.width else ())]


def speed(s: Subject) -> Values:
    """Speed and overhead."""
    long = music(_LONG)
    seconds = min(s.timed(long) for _ in range(2 if s.cost > 0.3 else 4))
    short = sorted(s.timed(s.audio[:, :64]) for _ in range(3 if s.cost > 0.3 else 15))
    return {"realtime": _LONG / seconds, "overhead_ms": 1e3 * short[len(short) // 2], "open_ms": s.open_ms}


def purity(s: Subject) -> Values:
    """Measures how much a render depends on anything but its inputs."""
    several = s.finite(6)
    if len(several) < 2:
        raise Unusable("it fails, or gives NaN or infinity, at nearly all settings")
    a, b = several[:2]
    first, again = s.render(a), s.render(a)
    s.render(b, 0.01 * s.audio[:, : s.audio.shape[1] // 2])
    back = s.render(a)
    fresh, other = s.fresh(), s.fresh()
    silence = np.zeros_like(s.audio)
    quiet = s.render(a, silence, fresh)
    wet, second = s.render(a, None, fresh), s.render(a, None, other)
    s.render(a)
    leak = difference(quiet, s.render(a, silence))
    errors = {
        "repeat_error": difference(first, again),
        "aba_error": difference(again, back),
        "random_error": difference(wet, second),
    }
    # two orders over many settings show what one render leaves to the next
    once = [s.render(v) for v in several]
    twice = [s.render(v) for v in several[::-1]][::-1]
    errors["aba_error"] = max([errors["aba_error"], *map(difference, once, twice)])
    return errors | {"fresh_error": max(difference(wet, first), difference(wet, back)), "leak": leak}


def cutting(s: Subject) -> Values:
    """Measures whether the output depends on how a clip was cut."""
    half = s.audio.shape[1] // 2
    found: Values = {"automatable": s.effect.automatable}
    values = (s.finite(1) or [s.effect.defaults])[0]
    whole = s.render(values)
    found["cut_error"] = difference(whole[:, : half - 2048], s.render(values, s.audio[:, :half])[:, : half - 2048])
    if s.effect.automatable:
        found["chunk_error"] = difference(whole, s.render(values, hop=2048))
    return found


def latency(s: Subject) -> Values:
    """The residual latency after the reported latency was compensated: the first strong arrival of a burst.

    It is below 0 if the effect reports more than it has.
    """
    start, size = 2000, 4096
    rng = np.random.default_rng(2)
    burst = np.zeros((2, RATE // 2), np.float32)
    burst[:, start : start + size] = 0.3 * rng.standard_normal(size) * np.hanning(size)
    found = []
    for values in s.tried():
        response = (s.render(values, burst).astype(np.float64) - s.render(values, 0 * burst)).mean(axis=0)
        spectra = np.fft.rfft(response), np.fft.rfft(burst[0].astype(np.float64))
        around = np.roll(np.abs(np.fft.irfft(spectra[0] * np.conj(spectra[1]))), start)
        strength = around[: start + len(response) // 2]
        if strength.max() > 0:
            found.append(int(np.flatnonzero(strength >= 0.7 * strength.max())[0]) - start)
    reported = int(getattr(s.effect, "latency", 0) or 0)
    return {"latency_reported": reported, "latency_measured": float(min(found)) if found else float("nan")}


def tail(s: Subject) -> Values:
    """The length of the tail, and the output for silence."""
    seconds = float(np.clip(0.5 * s.budget / 8 / s.cost * _SHORT, 1.0, 10.0))
    lengths, peaks = [], []
    for values in s.tried():
        audio = np.zeros((2, int((seconds + _SHORT) * RATE)), np.float32)
        quiet = s.render(values, audio)
        audio[:, : s.audio.shape[1]] = s.audio
        wet = s.render(values, audio)
        peaks.append(float(np.abs(quiet).max()))
        loud = np.abs(wet - quiet).max(axis=0)
        last = np.flatnonzero(loud > _FLOOR * max(loud.max(), 1e-9))
        lengths.append(max(0.0, (last[-1] + 1 if len(last) else 0) / RATE - _SHORT))
    if max(lengths) > seconds - 0.05:
        s.notes.append(f"the tail is longer than the {seconds:.1f} s that were rendered")
    return {"tail_seconds": max(lengths), "silence_peak": max(peaks)}


def gain(s: Subject) -> Values:
    """Largest gain and non-finite output over random settings."""
    gains, bad = [0.0], 0
    level = rms(s.audio)
    for values in s.settings:
        try:
            gains.append(rms(s.render(values)) / level)
        except Unusable:
            bad += 1
    return {"largest_gain": max(gains), "non_finite": bad / len(s.settings)}


def traits(s: Subject) -> Values:
    """How far the effect is from linear, time-invariant and memoryless."""
    worst = {"linear": 0.0, "time_invariant": 0.0, "memoryless": 0.0}
    rng = np.random.default_rng(3)
    other = music(_SHORT, seed=5)
    shift = 1237
    order = rng.permutation(s.audio.shape[1])
    for values in s.tried(7):
        try:
            y, z = s.render(values).astype(np.float64), s.render(values, other).astype(np.float64)
            base = s.render(values, 0 * s.audio)
            both = s.render(values, (0.8 * s.audio - 0.6 * other).astype(np.float32))
            late = s.render(values, np.pad(s.audio, ((0, 0), (shift, 0)))[:, : s.audio.shape[1]])
            mixed = s.render(values, s.audio[:, order])
        except Unusable:
            continue
        size = max(rms(y - base), 1e-9)
        sum_of = 0.8 * (y - base) - 0.6 * (z - base)
        errors = {
            "linear": rms(both - base - sum_of) / max(rms(sum_of), 1e-9),
            "time_invariant": rms(late[:, shift:] - y[:, :-shift]) / size,
            "memoryless": rms(mixed - y[:, order]) / size,
        }
        worst = {name: max(worst[name], error) for name, error in errors.items()}
    return worst


SECTIONS: dict[str, Callable[[Subject], Values]] = {
    "speed": speed,
    "purity": purity,
    "cutting": cutting,
    "latency": latency,
    "tail and silence": tail,
    "gain": gain,
    "traits": traits,
}


def reset_of(effect: Effect) -> str:
    """The reset before each render, if the effect names one."""
    return str(getattr(effect, "reset", ""))


def safely(s: Subject, section: Callable[[Subject], Values], name: str) -> Values:
    """The values of a section; a failure of the effect becomes a note."""
    try:
        return section(s)
    except (BlackBoxError, Unusable) as error:
        s.notes.append(f"{name}: {' '.join(str(error).split())}")
        return {}
