"""The card of a proxy: its effect, its training and its scores."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from blackbox_fx.audio import check_sample_rate
from blackbox_fx.core.checks import LEAST_COSINE
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import BlackBoxError, DataError
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy.records import AudioGradient, ParameterGradient, Scores, Sound
from blackbox_fx.proxy.strict import Wrong, build, parse, shown
from blackbox_fx.space import Space
from blackbox_fx.space.parameters import KINDS

if TYPE_CHECKING:
    from blackbox_fx.proxy.model import Proxy

VERSION = 1
DRY = "dry"  # the baseline that a proxy must beat
LIMIT = 2**22  # bytes of card.json
_MADE_WITH = ("blackbox_fx", "pedalboard", "dawdreamer", "torch")
_WIDEST = 100_000  # columns
_COSINES = ParameterGradient, AudioGradient
_SIGNED = "mean", "median", "low", "truth", "wire"
_SLACK = 1e-3  # for rounding, of numbers that have a bound


@final
@dataclasses.dataclass(frozen=True)
class Original:
    """The effect that a proxy was trained on.

    Args:
        name: of the effect.
        fingerprint: see `Effect.fingerprint`.
        version: a name for the program or the plugin's file, which does not depend on ranges.
        made_with: versions of what hosted it, by package.
        latency_reported: latency that the effect reports, in samples; it is compensated.
        latency_measured: measured residual latency in samples; None if it was not measured.
        tail_seconds: length of the tail; None if it was not measured.
    """

    name: str
    fingerprint: str
    version: str
    made_with: Mapping[str, str]
    latency_reported: int
    latency_measured: float | None
    tail_seconds: float | None

    @classmethod
    def of(cls, effect: Effect, found: Profile | None = None) -> Original:
        """The record of an effect, with the latency and the tail of its profile."""
        versions: dict[str, str] = {}
        for package in _MADE_WITH:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        reported = 0 if found is None else found.latency_reported
        measured, tail = (math.nan, math.nan) if found is None else (found.latency_measured, found.tail_seconds)
        return cls(
            effect.name,
            effect.fingerprint,
            effect.version_name,
            versions,
            reported,
            measured if math.isfinite(measured) else None,
            tail if math.isfinite(tail) else None,
        )


@final
@dataclasses.dataclass(frozen=True)
class Training:
    """The training of a proxy in numbers.

    Args:
        seconds: that it took.
        steps: that were made.
        batch: clips per step.
        threads: of torch.
        seed: of the recipe.
        waited_seconds: part of the seconds that was spent waiting for renders.
    """

    seconds: float
    steps: int
    batch: int
    threads: int
    seed: int
    waited_seconds: float


@final
@dataclasses.dataclass(frozen=True)
class Card:
    """Properties and scores of a proxy, kept beside it as card.json.

    Args:
        original: the effect.
        space: its parameters.
        sample_rate: in Hz.
        channels: "separate": every channel is processed by itself, in the same way.
        net: kind and arguments, see `make_net`.
        parameters: number of the net's weights.
        training: in numbers.
        scores: on held-out clips and settings.
        baselines: scores of the audio of simple baselines without a net, by name.
        tricks: changes that were tried in training, each with its result.
        sha256: of weights.safetensors, hexadecimal; "" until it is stored.

    Raises:
        DataError: a value that no proxy has.
    """

    original: Original
    space: Space
    sample_rate: float
    channels: str
    net: Mapping[str, str | int | float | bool]
    parameters: int
    training: Training
    scores: Scores
    baselines: Mapping[str, Sound]
    tricks: Mapping[str, str | float]
    sha256: str = ""

    def __post_init__(self) -> None:
        check_sample_rate(self.sample_rate)
        if self.channels != "separate":
            raise DataError(f"channels must be 'separate', got {self.channels!r}.")
        if not 1 <= self.space.width <= _WIDEST:
            raise DataError(f"A proxy has 1 to {_WIDEST} columns of params, got {self.space.width}.")
        s = self.scores
        for table in (self, self.training, s, s.sound, s.parameters, s.audio, *self.baselines.values()):
            for field in dataclasses.fields(table):
                value, cosine = getattr(table, field.name), isinstance(table, _COSINES) and field.name in _SIGNED
                low, high = (-1 - _SLACK, 1 + _SLACK) if cosine else (-_SLACK, math.inf)
                if isinstance(value, (int, float)) and not low <= value <= high:
                    allowed = "[-1, 1]" if cosine else "0 or more"
                    raise DataError(f"{field.name} must be {allowed}, got {value!r}.")
        if self.sha256 and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise DataError(f"sha256 must be 64 hexadecimal digits, got {self.sha256[:80]!r}.")

    @property
    def failure(self) -> str:
        """Why the training has failed, a sentence, or "": worse than the dry audio or silence, or wrong gradients."""
        dry, cosine = self.baselines.get(DRY), self.scores.parameters.mean
        if dry is not None and not self.scores.sound.esr < min(dry.esr, 1.0):
            return (
                f"The proxy of {self.original.name} (ESR {self.scores.sound.esr:.2g}) is worse than the dry audio "
                f"({dry.esr:.2g}) or silence (1); train it for longer, or narrow the effect's parameters."
            )
        if cosine is not None and cosine < LEAST_COSINE:
            return (
                f"The parameter gradient of the proxy of {self.original.name} has cosine {cosine:.2f}, and at least "
                f"{LEAST_COSINE:g} is wanted; train it for longer, or narrow the effect's parameters."
            )
        return ""

    def to_json(self) -> str:
        """The text of card.json. Raises DataError if it holds NaN, infinity, or anything that `from_json` refuses."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain |= {name: dataclasses.asdict(getattr(self, name)) for name in ("original", "training", "scores")}
        plain["baselines"] = {name: dataclasses.asdict(sound) for name, sound in self.baselines.items()}
        plain["space"] = json.loads(self.space.to_json())
        try:
            text = json.dumps({"version": VERSION, **plain}, indent=1, allow_nan=False) + "\n"
        except (ValueError, TypeError) as error:
            raise DataError(f"The card of {self.original.name} cannot be kept ({error}).") from error
        self.from_json(text.encode())
        return text

    @classmethod
    def from_json(cls, content: bytes, what: str = "The card") -> Card:
        """The card that `to_json` wrote.

        Args:
            content: of card.json.
            what: names the card in errors.

        Raises:
            DataError: a card of a later release; a name that is missing, unknown or given twice; a value of another
                type; anything that is no card.
        """
        if len(content) > LIMIT:
            raise DataError(f"{what} has {len(content)} bytes, and at most {LIMIT} are read; get it again.")
        data = parse(content, what)
        try:
            if not isinstance(data, dict):
                raise Wrong("it must be a table of names and values")
            version = build(int, data.pop("version", None), "version")
            if version <= VERSION:
                if version < 1:
                    raise Wrong(f"version must be 1 or more, got {version}")
                return build(cls, {**data, "space": _space(data.get("space"))})
        except (Wrong, BlackBoxError) as error:
            raise DataError(
                f"{what} is damaged ({str(error).rstrip('.')}); get it again, or train it again."
            ) from error
        raise DataError(
            f"{what} was written by a later release of blackbox_fx (it has version {version}, this release reads "
            f"{VERSION}); update blackbox_fx, or train the proxy again."
        )


@dataclasses.dataclass(frozen=True)
class _Listed:
    parameters: Mapping[str, Any]
    free: tuple[str, ...]


def _space(data: Any) -> Space:
    """What `Space.to_json` wrote."""
    listed = build(_Listed, data, "space")
    parameters: dict[str, Any] = {}
    for name, given in listed.parameters.items():
        where = f"space.parameters.{name[:40]}"
        fields = dict(given) if isinstance(given, dict) else {}
        kind = fields.pop("kind", None)
        if not isinstance(kind, str) or kind not in KINDS:
            raise Wrong(f"{where}.kind must be one of {', '.join(KINDS)}, got {shown(kind)}")
        parameters[name] = build(KINDS[kind], fields, where)
    return Space(parameters, listed.free)


def make_card(
    effect: Effect,
    proxy: Proxy,
    net: Mapping[str, Any],
    training: Training,
    scores: Scores,
    baselines: Mapping[str, Sound],
    tricks: Mapping[str, str | float] = {},
    found: Profile | None = None,
) -> Card:
    """The card of a proxy that is not stored yet.

    Args:
        effect: that it was trained on.
        proxy: its weights as they will be stored, see `round_weights`.
        net: kind and arguments, as `make_net` takes them.
        training: in numbers.
        scores: see `measure`.
        baselines: see `baselines`.
        tricks: changes that were tried in training, each with its result.
        found: the profile of the effect, for its latency.
    """
    learnt = sum(parameter.numel() for parameter in proxy.net.parameters())
    original = Original.of(effect, found)
    return Card(original, proxy.space, proxy.sample_rate, "separate", net, learnt, training, scores, baselines, tricks)
