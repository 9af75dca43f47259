"""The promises of every effect, and how each is tried."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects import Effect, RenderRequest, Settings
from blackbox_fx.errors import BlackBoxError, EffectError, ParameterError
from blackbox_fx.profiling.signals import RATE, difference, music
from blackbox_fx.space import Space

_PURE = 1e-6  # relative to the largest sample
_HEARD = 1e-3  # of the largest sample, between two settings
_DRAWN = 12  # settings from which those of a trial are taken

Outcome = tuple[bool | None, str, str]


@final
class Trial:
    """An effect, with the audio and the settings of its checks.

    Attributes:
        a, b, c, d: random settings; those at which the audio is changed come first.
        drawn: four random settings, whatever they do.
    """

    def __init__(self, effect: Effect, seconds: float) -> None:
        self.effect = effect
        self.audio = music(seconds)
        self.audio *= np.abs(np.cos(np.linspace(0, 12, self.audio.shape[1], dtype=np.float32)))
        self.fresh: Any = None
        self.drawn = [effect.space.decode(point) for point in effect.space.sample(4, np.random.default_rng(0))]
        self.a, self.b, self.c, self.d = self._settings()

    def _settings(self) -> list[Settings]:
        """Four of a dozen; a bypass or a closed gate would hide what a plugin does wrong."""
        effect = self.effect
        with contextlib.suppress(Exception):  # whether it pickles is a check of its own
            effect = pickle.loads(pickle.dumps(effect))  # so that the checks begin with one that is not used
        changed, others = list[Settings](), list[Settings]()
        for point in effect.space.sample(_DRAWN, np.random.default_rng(0)):
            settings = effect.space.decode(point)
            (changed if self._is_changed(effect, settings) else others).append(settings)
            if len(changed) == 4:
                break
        return [*changed, *others][:4]

    def _is_changed(self, effect: Effect, settings: Settings) -> bool:
        """Whether audio comes out, and is not what went in."""
        try:
            wet = effect.render(self.audio, settings, RATE)
        except Exception:  # the checks of the edges will name it
            return False
        return bool(wet.any()) and difference(self.audio, wet) > _HEARD

    def render(self, settings: Settings | None = None, audio: Audio | None = None, rate: float = RATE) -> Audio:
        """The output; for the audio of the trial, and at setting a, if not given."""
        return self.effect.render(
            self.audio if audio is None else audio, self.a if settings is None else settings, rate
        )

    def in_blocks(self, hop: int) -> Audio:
        """The output at setting a, which is set again every `hop` samples."""
        blocks = [self.effect.space.complete(self.a)] * -(-self.audio.shape[1] // hop)
        silence = {name: np.zeros_like(self.audio) for name in self.effect.inputs}
        return np.asarray(self.effect.process(RenderRequest(self.audio, blocks, hop, RATE, silence)))

    def copy(self) -> Effect:
        """One that was made anew of the recipe, the same each time."""
        if self.fresh is None:
            self.fresh = pickle.loads(pickle.dumps(self.effect))
        return self.fresh


def _shape(t: Trial) -> Outcome:
    wet = t.render()
    ok = wet.shape == t.audio.shape and wet.dtype == np.float32
    return ok, f"{wet.shape} {wet.dtype}", f"{t.audio.shape} float32"


def _finite(t: Trial) -> Outcome:
    peak = max(float(np.abs(t.render(s)).max()) for s in t.drawn)
    return bool(np.isfinite(peak)), f"peak {peak:.3g} at 4 random settings", "no NaN, no infinity"


def same(error: float, bound: float = _PURE) -> Outcome:
    """The outcome of an error that must not be larger than a bound."""
    return error <= bound, f"{error:.1e}", f"{bound:g}"


def _repeat(t: Trial) -> Outcome:
    return same(difference(t.render(), t.render()))


def _used(t: Trial) -> Outcome:
    t.render(t.b, 0.01 * t.audio[:, : t.audio.shape[1] // 2], 48_000)
    t.render(t.c)
    return same(difference(t.copy().render(t.audio, t.a, RATE), t.render()))


def _aba(t: Trial) -> Outcome:
    plain = t.effect.defaults
    first, default = t.render(), t.render(plain)
    t.render(t.b)
    return same(max(difference(first, t.render()), difference(default, t.render(plain))))


def _leak(t: Trial) -> Outcome:
    silence = np.zeros_like(t.audio)
    fresh = t.copy().render(silence, t.a, RATE)
    t.render(None, t.audio)
    return same(difference(fresh, t.render(None, silence)))


def _cut(t: Trial) -> Outcome:
    if not t.effect.automatable:
        return None, "settings cannot change during a clip", ""
    return same(difference(t.render(), t.in_blocks(2048)))


def _changes(t: Trial) -> Outcome:
    step = t.effect.find_hop_multiple()
    hop = max(1, min(4096, t.audio.shape[1] // 2) // step) * step
    count = -(-t.audio.shape[1] // hop)
    if not t.effect.space.width:
        return None, "no free parameters", ""
    blocks = [t.a] * (count - 1) + [t.b]
    if not t.effect.automatable:
        try:
            t.effect.render(t.audio, blocks, RATE, hop)
        except EffectError:
            return True, "refused", "a clear refusal"
        equal = t.effect.space.complete(t.a) == t.effect.space.complete(t.b)
        return equal, "not refused", "a clear refusal"
    varied, whole = t.effect.render(t.audio, blocks, RATE, hop), t.render()
    start = (count - 1) * hop
    other = t.render(t.b)[:, start:]
    if np.array_equal(varied[:, start:], whole[:, start:]) and difference(other, whole[:, start:]) > _HEARD:
        return False, "the change is not heard", "a change that is heard"
    return same(difference(whole[:, :start], varied[:, :start]))


def _layouts(t: Trial) -> Outcome:
    shapes = [t.render(None, t.audio[:channels]).shape[0] for channels in (1, 2)]
    return shapes == [1, 2], f"{shapes[0]} and {shapes[1]} channels", "1 and 2 channels"


def _lengths(t: Trial) -> Outcome:
    lengths = (1, 2, 7, 511, 513, 1000)
    wrong = [n for n in lengths if t.render(None, t.audio[:, :n]).shape[1] != n]
    return (
        not wrong,
        "all" if not wrong else f"another length for {wrong[0]}",
        f"{', '.join(map(str, lengths))} samples",
    )


def _rates(t: Trial) -> Outcome:
    rates = (8000, 22_050, 48_000, 96_000, 192_000)
    for rate in rates:
        try:
            t.render({}, t.audio[:, :2000], rate)
        except BlackBoxError as error:
            return False, f"{rate} Hz: {error}", "8 to 192 kHz"
    return True, "all", "8 to 192 kHz"


def _pickles(t: Trial) -> Outcome:
    copy = t.copy()
    same = copy.space == t.effect.space and copy.name == t.effect.name and type(copy) is type(t.effect)
    return same, "equal" if same else "another name, space or kind", "equal"


def _defaults(t: Trial) -> Outcome:
    checked = t.effect.space.complete(t.effect.defaults)
    same = checked == t.effect.defaults and set(checked) == set(t.effect.space.parameters)
    return same, "inside" if same else "not those of the space", "inside the space"


def _edges(t: Trial) -> Outcome:
    width = t.effect.space.width
    peaks = [float(np.abs(t.render(t.effect.space.decode(np.full(width, u)))).max()) for u in (0.0, 1.0)]
    return bool(np.isfinite(peaks).all()), f"peaks {peaks[0]:.3g} and {peaks[1]:.3g}", "no NaN, no infinity"


def _unknown(t: Trial) -> Outcome:
    try:
        t.render({"no such parameter": 1.0})
    except ParameterError as error:
        return True, str(error)[:60], "a ParameterError"
    return False, "not refused", "a ParameterError"


def _untouched(t: Trial) -> Outcome:
    given = t.audio.copy()
    t.render(None, given)
    return same(difference(t.audio, given), 0.0)


def _threads(t: Trial) -> Outcome:
    expected = [t.render(s) for s in (t.a, t.b)]
    worst = 0.0
    with ThreadPoolExecutor(2) as executor:
        jobs = [executor.submit(t.render, (t.a, t.b)[k % 2]) for k in range(4)]
        for k, job in enumerate(jobs):
            try:
                worst = max(worst, difference(expected[k % 2], job.result()))
            except EffectError as error:
                if "main thread" in str(error):
                    return True, "refused, on the main thread only", f"{_PURE:g}, or a clear refusal"
                raise
    return same(worst)


def _round_trip(t: Trial) -> Outcome:
    space = t.effect.space
    if Space.from_json(space.to_json()) != space:
        return False, "another space from its JSON", "equal"
    for values in (t.a, t.b, t.c, t.d):
        there = space.decode(space.encode(values))
        for name in values:
            low_high = space.encode({name: values[name]}), space.encode({name: there[name]})
            if np.abs(low_high[0] - low_high[1]).max() > 1e-6:
                return False, f"{name}={values[name]!r} comes back as {there[name]!r}", "equal"
    return True, "equal", "equal"


PROMISES: dict[str, Callable[[Trial], Outcome]] = {
    "pickles": _pickles,
    "defaults inside the space": _defaults,
    "space round trip": _round_trip,
    "unknown names refused": _unknown,
    "shape and type": _shape,
    "finite": _finite,
    "edges of the space": _edges,
    "input left alone": _untouched,
    "mono and stereo": _layouts,
    "short and odd lengths": _lengths,
    "sample rates": _rates,
    "repeats": _repeat,
    "used equals fresh": _used,
    "A after B is A": _aba,
    "silence after loud": _leak,
    "cut or whole": _cut,
    "changes during a clip": _changes,
    "threads": _threads,
}
