"""The measured properties of an effect."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, final

_ENOUGH = 4  # settings at which a parameter changes nothing, until it is called dead


@final
@dataclasses.dataclass(frozen=True)
class ParameterProfile:
    """The measured influence of one parameter.

    Args:
        sensitivity: rms change of the output when the parameter is moved by half its range, over the rms of the output;
            the median over settings.
        most: the same, the maximum over settings.
        step: the smallest tried distance in [0, 1] that changes the output; 0 if none did, nan if not tried.
        smoothness: the mean change between neighbours on a grid of values over the largest such change; 1 if all are
            equal, nan if not tried.
        monotone: whether the output moves in one direction as the parameter increases; None if not tried.
        settings: number of settings at which it was moved.
    """

    sensitivity: float
    most: float
    step: float
    smoothness: float
    monotone: bool | None
    settings: int

    @property
    def alive(self) -> bool | None:
        """Whether the parameter changes the output; None if it did not, but was moved at few settings."""
        return True if self.most > 1e-6 else False if self.settings >= _ENOUGH else None


@final
@dataclasses.dataclass(frozen=True)
class Profile:
    """The measured properties of an effect. A value that could not be measured is nan, and `notes` say why.

    Args:
        effect: its name.
        reset: done before each render: "none", "graph", "host", "reload" or "new", from the least to the most strict;
            "" where there is nothing to reset.
        repeat_error: between two equal renders, one after the other.
        fresh_error: between a used effect and a fresh one.
        random_error: between two fresh ones.
        aba_error: between two equal renders with other settings between them.
        leak: between silence rendered after loud audio and silence rendered by a fresh effect.
        cut_error: between the first half of a clip, rendered whole, and that half rendered by itself.
        chunk_error: between a clip rendered in one and in pieces with constant settings; nan if not automatable.
        automatable: whether settings may change during a clip.
        latency_reported: in samples; it is compensated.
        latency_measured: residual latency in samples, by correlation; below 0 if the plugin reports more than it has.
        tail_seconds: until 80 dB below the loudest, after the audio ends.
        silence_peak: the largest sample that comes out of silence.
        largest_gain: the largest ratio of the output's rms to the input's, over random settings.
        non_finite: share of random settings that gave NaN, infinity or an error.
        realtime: seconds of stereo audio for each second of computing.
        overhead_ms: of a render of 64 samples.
        open_ms: of opening the effect.
        linear, time_invariant, memoryless: relative rms error of each, 0 for an effect that is so, the largest over
            settings.
        settings: number of random settings at which these three were measured.
        parameters: by name.
        notes: measurements that failed, or that were made with fewer settings.
        seconds: that the measurements took.
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
        """The largest dependence on anything but audio, settings and sample rate; nan if nothing was measured."""
        errors = [self.repeat_error, self.fresh_error, self.random_error, self.aba_error, self.leak]
        return max((e for e in errors if not math.isnan(e)), default=math.nan)

    @property
    def dead(self) -> tuple[str, ...]:
        """Parameters that changed nothing at any of four settings or more."""
        return tuple(name for name, p in self.parameters.items() if p.alive is False)

    @property
    def alive(self) -> tuple[str, ...]:
        """All parameters that are not dead: `effect.only(*profile(effect).alive)` frees only these."""
        return tuple(name for name, p in self.parameters.items() if p.alive is not False)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values; nan is null."""
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
