"""What plugins do that breaks a promise without a word, each tried on its own; see `promises` for the rest."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects import Settings
from blackbox_fx.profiling.promises import Outcome, Trial, same
from blackbox_fx.profiling.signals import RATE, difference, rms
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Toggle

_WAIT = 0.6  # seconds in which a plugin may have become ready that was not when it was loaded
_LATE = 32  # samples; filters delay by as much
_HEARD = 0.5  # correlation of output and input at which a lag is known
_OPTIONS = 64  # positions of a discrete parameter that are tried
_BUDGET = 15.0  # seconds for options, and for parameters
_CLIP, _SECONDS = 4096, 2  # samples, for what is tried often, and the length of a clip for what is rarely heard
_MOVED = 1e-6  # of the range of a parameter: as good as not moved
_NEAR = 1e-3  # relative to the largest sample
_ODD_HOP = 441
_PART_OF_RATE = re.compile(r"freq|cutoff|hz|pitch|tone", re.IGNORECASE)
_METER = re.compile(r"meter|\bvu\b|_vu_|peak_level|gain_reduction|\bpanic|trigger|^reset|_reset$|^tap$", re.IGNORECASE)


def _ready(t: Trial) -> Outcome:
    """Whether a new instance renders at once what it renders later."""
    if not t.effect.native:
        return None, "no foreign code", ""
    new = t.copy()
    first = new.render(t.audio, t.b, RATE)
    now = new.render(t.audio, t.a, RATE)
    time.sleep(_WAIT)
    later = [new.render(t.audio, settings, RATE) for settings in (t.b, t.a)]
    error = max(difference(a, b) for a, b in zip((first, now), later, strict=True))
    waited = f" after {t.effect.settle:g} s of settling" if t.effect.settle else ""
    passed, value, allowed = same(error)
    return passed, f"{value} {_WAIT:g} s later{waited}", allowed


def _lag(dry: Audio, wet: Audio) -> tuple[int, float]:
    """By how many samples the output is late, and how sure that is: its correlation with the input there."""
    size = 1 << (2 * dry.shape[1] - 1).bit_length()
    products = np.fft.irfft(np.conj(np.fft.rfft(dry, size)) * np.fft.rfft(wet, size), size).sum(axis=0)
    at = int(np.abs(products).argmax())
    norm = float(np.linalg.norm(dry) * np.linalg.norm(wet))
    return (at if at < size // 2 else at - size), float(abs(products[at])) / norm if norm > 0 else 0.0


def _corners(t: Trial) -> Iterator[Settings]:
    """Settings far apart: defaults, both ends of all parameters, and random ones."""
    width = t.effect.space.width
    yield t.effect.defaults
    for u in (0.0, 1.0):
        yield t.effect.space.decode(np.full(width, u))
    yield from (t.a, t.b, t.c, t.d)


def _lines_up(t: Trial) -> Outcome:
    """Whether the output is neither early nor, where latency is compensated, late."""
    noise = (0.1 * np.random.default_rng(7).standard_normal((2, RATE // 2))).astype(np.float32)
    told = int(getattr(t.effect, "latency", 0))
    tried, worst, where = 0, 0, {}
    for settings in _corners(t):
        lag, sure = _lag(noise, t.render(settings, noise))
        if sure >= _HEARD:
            tried += 1
            if abs(lag) > abs(worst):
                worst, where = lag, settings
    allowed = f"0 to {_LATE} samples late"
    if not tried:
        return None, "too little of the input is left to tell", ""
    if 0 <= worst <= _LATE:
        return True, f"{worst} samples late at most, at {tried} settings", allowed
    value = f"{abs(worst)} samples {'late' if worst > 0 else 'early'} at {_short(where)}"
    if worst < 0 or told:
        return False, f"{value}; {told} reported at the defaults, which load(..., latency_samples=) replaces", allowed
    return None, f"{value}: it delays, or has latency that it does not report", ""


def _short(settings: Settings) -> str:
    shown = ", ".join(f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in list(settings.items())[:4])
    return f"{{{shown}{', ...' if len(settings) > 4 else ''}}}"


def _grid(t: Trial) -> Outcome:
    """Whether blocks of an odd length, and settings that move by next to nothing, change nothing."""
    if not t.effect.automatable:
        return None, "settings cannot change during a clip", ""
    step = t.effect.find_hop_multiple()
    hop = -(-_ODD_HOP // step) * step
    whole, count = t.render(), -(-t.audio.shape[1] // hop)
    constant = difference(whole, t.in_blocks(hop))
    moving = 0.0
    if (nudged := _nudged(t)) is not None:
        by_turns = [(t.a, nudged)[k % 2] for k in range(count)]
        moving = difference(whole, t.effect.render(t.audio, by_turns, RATE, hop))
    grid = f", on a grid of {step} samples" if step > 1 else ""
    ok = constant <= 1e-6 and moving <= _NEAR
    return ok, f"{constant:.1e}, {moving:.1e} with moves of {_MOVED:g}{grid}", f"1e-06, {_NEAR:g}"


def _nudged(t: Trial) -> Settings | None:
    """The settings a, with a continuous parameter moved by next to nothing."""
    moved = (_moved_by_little(t, t.a, name) for name in t.effect.space.free)
    return next((settings for settings in moved if settings is not None), None)


def _moved_by_little(t: Trial, settings: Settings, name: str) -> Settings | None:
    """Settings with one parameter moved by next to nothing; None where it is not continuous."""
    space = t.effect.space
    parameter = space.parameters[name]
    if not isinstance(parameter, Continuous) or parameter.step:
        return None
    point = space.encode(settings)
    u = point[space.slices[name]]
    u += np.where(u > 0.5, -_MOVED, _MOVED)
    return space.decode(point)


def _positions(parameter: Parameter) -> list[Any]:
    """The values of a discrete parameter; of many, some that are evenly spread."""
    if isinstance(parameter, Toggle):
        return [False, True]
    if isinstance(parameter, Choice):
        values: list[Any] = list(parameter.options)
    elif isinstance(parameter, Integer):
        values = list(range(parameter.low, parameter.high + 1))
    else:
        return []
    at = np.unique(np.linspace(0, len(values) - 1, min(_OPTIONS, len(values))).round().astype(int))
    return [values[k] for k in at]


def _options(t: Trial) -> Outcome:
    """Whether every position of every discrete parameter sounds the same whatever came before, and leaves no trace."""
    space = t.effect.space
    known = {name: found for name in space.free if (found := _positions(space.parameters[name]))}
    if not known:
        return None, "no switches and no options", ""
    clip, until = t.audio[:, :_CLIP], time.perf_counter() + _BUDGET
    base = t.render(t.a, clip)
    tried, worst, where = 0, 0.0, ""
    for name, positions in known.items():
        for position in positions:
            if tried and time.perf_counter() > until:
                break
            settings = t.a | {name: position}
            first = t.render(settings, clip)
            back = difference(base, t.render(t.a, clip))
            t.render(t.b | {name: position}, clip)
            again = difference(first, t.render(settings, clip))
            tried += 1
            if max(back, again) > worst:
                worst, where = max(back, again), f" at {name}={position!r}"
    passed, value, allowed = same(worst)
    every = sum(map(len, known.values()))
    return passed, f"{value}{where}; {tried} of {every} positions", allowed


def _order(t: Trial) -> Outcome:
    """Whether settings sound the same whichever parameter was moved last, and none is lost when another one moves."""
    names, clip, until = t.effect.space.free, t.audio[:, :_CLIP], time.perf_counter() + _BUDGET
    if len(names) < 2:
        return None, "fewer than two free parameters", ""
    t.render(t.a, clip)
    base = t.render(t.b, clip)
    tried, worst, where = 0, 0.0, ""
    for name in names:
        if tried and time.perf_counter() > until:
            break
        t.render(t.b | {name: t.a[name]}, clip)
        if (error := difference(base, t.render(t.b, clip))) > worst:
            worst, where = error, f" where {name} was moved last"
        if other := _lost(t, name, clip):
            return False, f"{other} does nothing as soon as {name} leaves its default", "each setting is heard"
        tried += 1
    passed, value, allowed = same(worst)
    return passed, f"{value}{where}; {tried} of {len(names)} parameters", allowed


def _lost(t: Trial, mover: str, clip: Audio) -> str:
    """A parameter that does nothing once another one has left its default by next to nothing, though it did before."""
    still = t.b | {mover: t.effect.defaults[mover]}
    left = _moved_by_little(t, still, mover)
    if left is None or difference(t.render(still, clip), t.render(left, clip)) <= _NEAR:
        return ""
    others = (name for name in t.effect.space.free if name != mover)
    return next((n for n in others if _acts(t, n, still, clip) and not _acts(t, n, left, clip)), "")


def _names(t: Trial) -> Outcome:
    """Whether every parameter has a name, and everything that is left out a reason."""
    excluded: dict[str, str] = getattr(t.effect, "excluded", {})
    nameless = [name for name in (*t.effect.space.parameters, *excluded) if not name.strip("_ ")]
    both = [name for name in excluded if name in t.effect.space.parameters]
    silent = [name for name, why in excluded.items() if not why]
    count = f"{len(t.effect.space.parameters)} parameters, {len(excluded)} left out"
    wrong = nameless or both or silent
    return not wrong, f"{count}: {wrong[0]!r}" if wrong else count, "a name each, and a reason where one is left out"


def _units(t: Trial) -> Outcome:
    """Whether no frequency is shown as a part of the sample rate."""
    parts = [
        name
        for name, p in t.effect.space.parameters.items()
        if isinstance(p, Continuous) and not p.unit and p.high <= 0.5 and p.low >= 0 and _PART_OF_RATE.search(name)
    ]
    return (
        not parts,
        f"{parts[0]} reaches {_high(t, parts[0])}" if parts else "none",
        "no part of the sample rate",
    )


def _high(t: Trial, name: str) -> str:
    parameter = t.effect.space.parameters[name]
    return f"{parameter.high:g}" if isinstance(parameter, Continuous) else ""


def _meters(t: Trial) -> Outcome:
    """Whether nothing among the parameters looks like a meter or a trigger, and does nothing."""
    space = t.effect.space
    suspects = [name for name in space.free if _METER.search(name)]
    clip = t.audio[:, :_CLIP]
    idle = [name for name in suspects if not any(_acts(t, name, settings, clip) for settings in (t.a, t.b, t.c, t.d))]
    return not idle, f"{idle[0]} does nothing" if idle else "none", "no meter and no trigger among the parameters"


def _acts(t: Trial, name: str, settings: Settings, clip: Audio) -> bool:
    space = t.effect.space
    point = space.encode(settings)
    point[space.slices[name]] = (point[space.slices[name]] + 0.5) % 1
    return difference(t.render(settings, clip), t.render(space.decode(point), clip)) > 1e-6


def _heard(t: Trial) -> Outcome:
    """Whether settings are heard at all: a plugin may forget them when it is reset."""
    names = t.effect.space.free
    if not names:
        return None, "no free parameters", ""
    tried, idle = _unheard(t, t.audio[:, :_CLIP])
    if len(idle) == tried:
        long = np.tile(t.audio, -(-_SECONDS * RATE // t.audio.shape[1]))
        tried, idle = _unheard(t, long)
        wet = [t.render(settings, long) for settings in (t.a, t.b)]
        if len(idle) == tried and all(rms(y) <= 1e-6 or difference(long, y) <= _NEAR for y in wet):
            return None, "it passes the audio on, or nothing, at all settings", ""
    unheard = f"; {', '.join(idle[:4])}{', ...' if len(idle) > 4 else ''} changed nothing" if idle else ""
    return len(idle) < tried, f"{tried - len(idle)} of {tried} tried at 4 settings{unheard}", "any"


def _unheard(t: Trial, clip: Audio) -> tuple[int, list[str]]:
    """How many parameters were tried, and which of them changed nothing."""
    idle, tried, until = list[str](), 0, time.perf_counter() + _BUDGET
    for name in t.effect.space.free:
        if tried and time.perf_counter() > until:
            break
        tried += 1
        if not any(_acts(t, name, settings, clip) for settings in (t.a, t.b, t.c, t.d)):
            idle.append(name)
    return tried, idle


def _right(t: Trial) -> Outcome:
    """Whether both channels of a stereo clip are heard."""
    loud = [rms(t.render(settings)) for settings in (t.a, t.b)]
    if max(loud) <= 1e-6:
        return None, "no output at these settings", ""
    shares = []
    for channel in (0, 1):
        alone = t.audio * (np.arange(2) == channel)[:, None].astype(np.float32)
        shares.append(max(rms(t.render(settings, alone)) for settings in (t.a, t.b)))
    if max(shares) <= 1e-6:
        return None, "either channel alone gives silence, as where the plugin multiplies both", ""
    ok = min(shares) > 1e-4 * max(shares)
    return ok, f"levels {shares[0]:.2g} and {shares[1]:.2g}", "both channels are heard"


def _tail(t: Trial) -> Outcome:
    """Whether the output with its tail begins with the output without."""
    clip = t.audio[:, :_CLIP]
    plain, long = t.render(t.a, clip), t.effect.render(clip, t.a, RATE, tail=True)
    length = plain.shape[1]
    passed, value, allowed = same(difference(plain, long[:, :length]))
    return passed, f"{value}, and {(long.shape[1] - length) / RATE:.2g} s more", allowed


def _inputs(t: Trial) -> Outcome:
    """Whether further inputs are heard, and are silence where they are left out."""
    names = t.effect.inputs
    if not names:
        return None, "no further inputs", ""
    heard = []
    for name in names:
        silence, key = np.zeros_like(t.audio), t.audio[:, ::-1].copy()
        changes = []
        for settings in (t.effect.defaults, t.a, t.b, t.c, t.d):
            plain = t.render(settings)
            if (off := difference(plain, t.effect.render(t.audio, settings, RATE, inputs={name: silence}))) > 1e-6:
                return False, f"{name} left out differs from silence by {off:.1e}", "silence where it is left out"
            changes.append(difference(plain, t.effect.render(t.audio, settings, RATE, inputs={name: key})))
        if max(changes) <= 1e-6:
            return None, f"{name} changes nothing at 5 settings", "is heard"
        heard.append(name)
    return True, f"{', '.join(heard)} heard", "heard, and silence where it is left out"


HABITS: dict[str, Callable[[Trial], Outcome]] = {
    "names": _names,
    "units": _units,
    "meters and triggers": _meters,
    "ready at once": _ready,
    "lines up": _lines_up,
    "every option": _options,
    "order of settings": _order,
    "settings are heard": _heard,
    "odd blocks": _grid,
    "both channels": _right,
    "tail": _tail,
    "further inputs": _inputs,
}
