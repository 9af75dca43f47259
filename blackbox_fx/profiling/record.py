"""What is known of an effect once it was measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, final

_ENOUGH = 4  # settings at which a parameter changes nothing, until it is called dead


@final
@dataclasses.dataclass(frozen=True)
class ParameterProfile:
    """What one parameter does.

    Args:
        sensitivity: change of the output over the output, both rms, when it is moved by half its range: median over
            settings.
        most: the largest over settings.
        step: the smallest tried distance in [0, 1] that changes the output, 0 where none did, nan where not tried.
        smoothness: the mean change between neighbouring settings of a grid over the largest, 1 for even, nan where not
            tried.
        monotone: whether the output goes one way as the parameter does; None where not tried.
        settings: at how many settings it was moved.
    """

    sensitivity: float
    most: float
    step: float
    smoothness: float
    monotone: bool | None
    settings: int

    @property
    def alive(self) -> bool | None:
        """Whether it changes anything; None if it did not, but was moved at a few settings only."""
        return True if self.most > 1e-6 else False if self.settings >= _ENOUGH else None


@final
@dataclasses.dataclass(frozen=True)
class Profile:
    """What an effect is like; nan where something could not be measured, of which `notes` say why.

    Args:
        effect: its name.
        reset: what is done before each render: "none", "graph", "host", "reload" or "new", each stricter than those
            before; "" where there is nothing to reset.
        repeat_error: between two equal renders, one after the other.
        fresh_error: between a used effect and a fresh one.
        random_error: between two fresh ones.
        aba_error: between two equal renders with other settings between them.
        leak: what silence differs from silence, after loud audio.
        cut_error: between the first half of a clip, rendered whole, and that half rendered by itself.
        chunk_error: between a clip rendered in one and in pieces with constant settings; nan if not automatable.
        automatable: whether settings may change in mid-clip.
        latency_reported: samples, which are compensated.
        latency_measured: samples that remain: the first arrival, by correlation; below 0 if the plugin reports more
            than it has.
        tail_seconds: until 80 dB below the loudest, after the audio ends.
        silence_peak: the largest sample that comes out of silence.
        largest_gain: the largest ratio of rms out to in, over random settings.
        non_finite: share of random settings that gave NaN, infinity or an error.
        realtime: seconds of stereo audio for each second of computing.
        overhead_ms: of a render of 64 samples.
        open_ms: of opening the effect.
        linear, time_invariant, memoryless: relative rms error of each, 0 for an effect that is so, the largest over
            settings.
        settings: at how many random settings the last ones were measured.
        parameters: by name.
        notes: what could not be measured, or was measured with less.
        seconds: that measuring took.
    """

    effect: str
    reset: str = ""
    repeat_error: float = math.nan
    fresh_error: float = math.nan
    random_error: float = math.nan
    aba_error: float = math.nan
    leak: float = math.nan
    cut_error: float = math.nan
    chunk_error: float = math.nan
    automatable: bool = False
    latency_reported: int = 0
    latency_measured: float = math.nan
    tail_seconds: float = math.nan
    silence_peak: float = math.nan
    largest_gain: float = math.nan
    non_finite: float = math.nan
    realtime: float = math.nan
    overhead_ms: float = math.nan
    open_ms: float = math.nan
    linear: float = math.nan
    time_invariant: float = math.nan
    memoryless: float = math.nan
    settings: int = 0
    parameters: Mapping[str, ParameterProfile] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = math.nan

    @property
    def purity_error(self) -> float:
        """The worst of what depends on anything but audio, settings and sample rate; nan if nothing was measured."""
        errors = [self.repeat_error, self.fresh_error, self.random_error, self.aba_error, self.leak]
        return max((e for e in errors if not math.isnan(e)), default=math.nan)

    @property
    def dead(self) -> tuple[str, ...]:
        """Parameters that changed nothing at any of four settings or more."""
        return tuple(name for name, p in self.parameters.items() if p.alive is False)

    @property
    def alive(self) -> tuple[str, ...]:
        """All but the dead: `effect.only(*profile(effect).alive)` leaves those out."""
        return tuple(name for name, p in self.parameters.items() if p.alive is not False)

    def to_json(self) -> dict[str, Any]:
        """Everything as what JSON can hold, nan as null."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Profile:
        """What `to_json` gave. Raises TypeError, ValueError or AttributeError on anything else."""
        fields = dict(data)
        parameters = {n: ParameterProfile(**_back(ParameterProfile, p)) for n, p in fields.pop("parameters").items()}
        notes = tuple(map(str, fields.pop("notes")))
        return cls(**_back(cls, fields), parameters=parameters, notes=notes)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else math.copysign(1e308, value)
    return value


def _back(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    floats = {f.name for f in dataclasses.fields(kind) if f.type == "float"}
    return {k: (math.nan if v is None else float(v)) if k in floats else v for k, v in data.items()}
