"""Profiles: measured in a process of its own, kept in the user's cache by the effect's fingerprint."""

from __future__ import annotations

import base64
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from blackbox_fx import isolation
from blackbox_fx.core import cache
from blackbox_fx.core.progress import Progress
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError
from blackbox_fx.profiling.check import CHECKS, Check
from blackbox_fx.profiling.measures import SECTIONS, reset_of
from blackbox_fx.profiling.record import ParameterProfile, Profile

_FORMAT = 1
_WORKER = "blackbox_fx.profiling.worker"
_PROCESSES = 3  # that checks may end
_DEADLINE = 90.0  # seconds that one section may take
_OPENING = 900.0  # seconds that opening may take: a plugin with hundreds of parameters is read first


def profile(effect: Effect, budget: float = 10.0, progress: Progress | None = None) -> Profile:
    """Measures an effect: purity, latency, tail, gain, speed, linearity, and the influence of every parameter.

    It is measured in a process of its own, so that a crash or a hang is a line in `Profile.notes`, and kept in the
    user's cache by the effect's fingerprint; a second call reads it.

    Args:
        effect: any that pickles.
        budget: seconds that the renders should take, about. A slow plugin is measured with fewer; `notes` say so.
        progress: called with the sections done, all sections, and the name of the present one.

    Raises:
        EffectError: the effect does not pickle, cannot be opened, or does not render at its defaults.
    """
    key = _key(effect, budget)
    found = _recalled(key)
    if found is not None:
        return found
    began = time.monotonic()
    values, notes = _measure(effect, [*SECTIONS, "parameters"], budget, progress)
    measured: dict[str, Any] = {k: math.nan if v is None else v for k, v in values.items()}
    parameters = {name: _parameter(p) for name, p in measured.pop("parameters", {}).items()}
    found = Profile(
        effect.name,
        reset_of(effect),
        **measured,
        parameters=parameters,
        notes=tuple(dict.fromkeys(notes)),
        seconds=time.monotonic() - began,
    )
    cache.save("profiles", key, found.to_json())
    return found


def cached(effect: Effect, budget: float = 10.0) -> Profile | None:
    """The profile, if it was measured before."""
    return _recalled(_key(effect, budget))


def plots(effect: Effect, progress: Progress | None = None) -> dict[str, Any]:
    """Curves for the page of an effect, see `curves.curves`. Raises EffectError as `profile` does."""
    key = {**_key(effect, 0.0), "plots": 1}
    found = cache.load("profiles", key)
    if not isinstance(found, dict):
        values, notes = _measure(effect, ["plots"], 10.0, progress)
        if "plots" not in values:
            raise EffectError(
                f"{effect.name} cannot be drawn ({'; '.join(notes)}); narrow the range of its parameters."
            )
        found = values["plots"]
        cache.save("profiles", key, found)
    return found


def check_isolated(
    effect: Effect | str, seconds: float, receive: Callable[[Check], None], stop: threading.Event | None = None
) -> None:
    """Runs the checks in a process of their own, and passes each result to `receive`.

    A check that ends the process fails, and the remaining ones run in a new process, at most twice.

    Args:
        effect: or its address, which is loaded in that process, too.
        seconds: length of the clip.
        receive: called with each result.
        stop: ends the process when it is set.
    """
    remaining = list(CHECKS)

    def note(values: list[Any]) -> None:
        receive(Check(*values))
        if values[0] in remaining:
            remaining.remove(values[0])

    given = {"address": effect} if isinstance(effect, str) else {"recipe": _recipe(effect)}
    if isinstance(effect, str) and (why := _fault_of_opening(effect, stop)):
        receive(Check("opens", False, why, "no error"))
        return
    for _ in range(_PROCESSES):
        question = {"what": "check", **given, "seconds": seconds, "names": remaining}
        try:
            isolation.call(_WORKER, question, _DEADLINE, note, stop)
            return
        except isolation.Failed as error:
            receive(Check(remaining.pop(0), False, f"it {error}", "no crash, no hang"))
        except isolation.Refused as error:
            receive(Check("opens", False, error.args[1], "no error"))
            return
    for name in remaining:
        receive(Check(name, None, f"not tried after {_PROCESSES} crashes", ""))


def _fault_of_opening(address: str, stop: threading.Event | None) -> str:
    """Why an effect cannot be opened, or ""; what had to be read of it is then known to the next process."""
    try:
        isolation.call(_WORKER, {"what": "open", "address": address}, _OPENING, None, stop)
    except isolation.Failed as error:
        return f"it {error}"
    except isolation.Refused as error:
        return error.args[1]
    return ""


def _parameter(measured: dict[str, Any]) -> ParameterProfile:
    fields: dict[str, Any] = {k: math.nan if v is None and k != "monotone" else v for k, v in measured.items()}
    return ParameterProfile(**fields)


def _key(effect: Effect, budget: float) -> dict[str, Any]:
    _recipe(effect)  # says clearly what does not pickle
    return {"format": _FORMAT, "fingerprint": effect.fingerprint, "budget": budget}


def _recalled(key: dict[str, Any]) -> Profile | None:
    data = cache.load("profiles", key)
    try:
        return None if data is None else Profile.from_json(data)
    except (TypeError, ValueError, AttributeError, KeyError):
        return None  # of another release


def _recipe(effect: Effect) -> str:
    try:
        return base64.b64encode(cloudpickle.dumps(effect)).decode()
    except Exception as error:
        raise EffectError(f"{effect.name} does not pickle ({error}), and so cannot reach another process.") from error


def _measure(
    effect: Effect, sections: Sequence[str], budget: float, progress: Progress | None
) -> tuple[dict[str, Any], list[str]]:
    """Measures the sections, each process as many as it lives to; what ends it is a note."""
    recipe = _recipe(effect)
    values: dict[str, Any] = {}
    notes: list[str] = []
    remaining, now = list(sections), ""

    def receive(said: dict[str, Any]) -> None:
        nonlocal now
        if "begin" in said:
            now = said["begin"]
            if progress:
                progress(len(sections) - len(remaining), len(sections), now)
        else:
            remaining.remove(said["done"])
            values.update(said["values"])
            values["settings"] = said["settings"]
            notes.extend(said["notes"])

    while remaining:
        now = ""
        question = {"what": "measure", "recipe": recipe, "sections": remaining, "budget": budget}
        try:
            isolation.call(_WORKER, question, _DEADLINE, receive)
        except isolation.Refused as error:
            raise EffectError(f"{effect.name} cannot be measured: {error.args[1]}") from error
        except isolation.Failed as error:
            if now not in remaining:
                raise EffectError(f"{effect.name} cannot be measured: it {error} on opening.") from error
            notes.append(f"{now}: it {error}")
            remaining.remove(now)
    if progress:
        progress(len(sections), len(sections), "")
    return values, notes


def rows(found: Profile) -> list[tuple[str, str, str]]:
    """What a profile says, as rows of name, value and meaning."""

    def error(value: float) -> str:
        return "-" if math.isnan(value) else f"{value:.1e}" if value else "0"

    def number(value: float, unit: str = "") -> str:
        return "-" if math.isnan(value) else f"{value:.3g}{unit}"

    pure = found.purity_error
    return [
        ("pure", "-" if math.isnan(pure) else "yes" if pure <= 1e-6 else "NO", f"worst error {error(pure)}"),
        ("repeat", error(found.repeat_error), "two equal renders"),
        ("fresh", error(found.fresh_error), "used against fresh"),
        ("random", error(found.random_error), "fresh against fresh"),
        ("A-B-A", error(found.aba_error), "other settings between"),
        ("leak", error(found.leak), "silence after loud"),
        ("cut", error(found.cut_error), "half a clip against the half of a whole one"),
        ("chunks", error(found.chunk_error), "in pieces against in one"),
        ("automatable", "yes" if found.automatable else "no", "settings may change during a clip"),
        ("latency", f"{found.latency_reported}", "samples reported, which are compensated"),
        ("residual latency", number(found.latency_measured), "samples to the first arrival"),
        ("tail", number(found.tail_seconds, " s"), "to -80 dB, as far as was listened"),
        ("silence", error(found.silence_peak), "peak that comes out of silence"),
        ("largest gain", number(found.largest_gain), f"rms out over in, {found.settings} random settings"),
        ("not finite", number(100 * found.non_finite, " %"), "of random settings give NaN, infinity or an error"),
        ("speed", number(found.realtime, " x"), "real time, stereo"),
        ("overhead", number(found.overhead_ms, " ms"), "of a render of 64 samples"),
        ("opening", number(found.open_ms, " ms"), "once in each process"),
        ("reset", found.reset or "-", "before each render, the cheapest that was measured to be enough"),
        ("linear", error(found.linear), "relative error of superposition"),
        ("time-invariant", error(found.time_invariant), "relative error of a shift"),
        ("memoryless", error(found.memoryless), "relative error of a permutation"),
    ]
