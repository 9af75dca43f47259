"""Measures every installed plugin: whether it loads, whether it is pure, and what hosting it costs."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Sequence
from typing import Any, final

from blackbox_fx import isolation
from blackbox_fx.effects import hosts, scanning

PURE = 1e-6  # relative to the largest sample
_WORKER = "blackbox_fx.lab.hosts_worker"


@final
@dataclasses.dataclass(frozen=True)
class Hosted:
    """Measurements of one effect; nan where there is none.

    Args:
        address: to `load` it.
        name: its own.
        failure: why it cannot be used; empty if it can.
        load_s: seconds to load it the first time.
        used, excluded: numbers of parameters.
        reset: what is done before each render.
        fresh, aba, leak, repeat, random: errors relative to the largest sample, see `Profile`.
        latency: residual latency in samples, after the reported latency was compensated.
        ratio: time of a render over that of the bare call of the host.
        render_ms: milliseconds to render a quarter second of stereo.
        notes: problems during the measurements.
    """

    address: str
    name: str = ""
    failure: str = ""
    load_s: float = math.nan
    used: int = 0
    excluded: int = 0
    reset: str = ""
    fresh: float = math.nan
    aba: float = math.nan
    leak: float = math.nan
    repeat: float = math.nan
    random: float = math.nan
    latency: float = math.nan
    ratio: float = math.nan
    render_ms: float = math.nan
    notes: str = ""

    @property
    def host(self) -> str:
        """The host's name, such as "vst3"."""
        return self.address.partition(":")[0]

    @property
    def error(self) -> float:
        """The largest error of purity; nan if it was not measured."""
        errors = [self.fresh, self.aba, self.leak, self.repeat, self.random]
        return math.nan if any(map(math.isnan, errors)) else max(errors)

    @property
    def pure(self) -> bool:
        """Whether a render depends on nothing but its inputs."""
        return self.error <= PURE

    @property
    def reason(self) -> str:
        """Why it is not pure, in words; empty if it is."""
        if self.failure or self.pure:
            return self.failure
        if math.isnan(self.error):
            return self.notes or "not measured"
        if self.random > PURE:
            return f"differs from fresh to fresh ({self.random:.1e})"
        if self.repeat > PURE:
            return f"differs from render to render ({self.repeat:.1e})"
        which = max(("leak", "aba", "fresh"), key=lambda name: getattr(self, name))
        words = {
            "leak": "loud audio remains in silence",
            "aba": "remembers settings",
            "fresh": "used differs from fresh",
        }
        return f"{words[which]} ({self.error:.1e})"


def surveyed_hosts() -> tuple[str, ...]:
    """The hosts whose installed effects are measured: those whose bare call a render can be compared with."""
    return tuple(name for name in scanning.listing_hosts() if hosts.find_host(name).bare)


def installed(names: Sequence[str]) -> list[str]:
    """Addresses of the effects that are installed for these hosts. Raises ParameterError on an unknown one."""
    return [address for found in scanning.installed(names).values() for address in found]


def measure(address: str, stop: threading.Event, deadline: float) -> Hosted:
    """Measures one effect in a process of its own, which must report something every `deadline` seconds."""
    reported: dict[str, Any] = {}
    failure = ""
    try:
        reported = isolation.call(_WORKER, {"address": address}, deadline, reported.update, stop)
    except isolation.Failed as error:
        failure = f"it {error}"
    except isolation.Refused as error:
        failure = error.args[1]
    fields = {
        name: reported[name]
        for name in ("name", "load_s", "used", "excluded", "reset", "ratio", "render_ms")
        if name in reported
    }
    for ours, theirs in (("fresh", "fresh_error"), ("aba", "aba_error"), ("leak", "leak"), ("repeat", "repeat_error")):
        fields[ours] = reported.get(theirs, math.nan)
    fields |= {"random": reported.get("random_error", math.nan), "latency": reported.get("latency_measured", math.nan)}
    return Hosted(address, failure=failure, notes="; ".join(reported.get("notes", ())), **fields)


@final
@dataclasses.dataclass(frozen=True)
class Summary:
    """The effects of one host in numbers.

    Args:
        host: such as "vst3".
        found: number of effects.
        loaded: number of effects that render.
        pure: number of effects that render and are pure.
        ratio: median time of a render over that of the bare host.
        excluded: number of excluded parameters, and of all parameters.
    """

    host: str
    found: int
    loaded: int
    pure: int
    ratio: float
    excluded: tuple[int, int]


def summarise(hosted: Sequence[Hosted]) -> list[Summary]:
    """One summary for each host, and one for all."""
    summaries = []
    for name in [*dict.fromkeys(h.host for h in hosted), "all"]:
        own = [h for h in hosted if name in (h.host, "all")]
        fit = [h for h in own if not h.failure]
        ratios = sorted(h.ratio for h in fit if not math.isnan(h.ratio))
        excluded = sum(h.excluded for h in fit), sum(h.excluded + h.used for h in fit)
        middle = ratios[len(ratios) // 2] if ratios else math.nan
        summaries.append(Summary(name, len(own), len(fit), sum(h.pure for h in fit), middle, excluded))
    return summaries
