"""The recipe of a proxy: its effect, its net, and the settings of its training."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from blackbox_fx.audio import SAMPLE_RATES
from blackbox_fx.core.recipes import read_toml, require_known
from blackbox_fx.data.clips import SECONDS
from blackbox_fx.effects import Effect, Rack, load
from blackbox_fx.errors import ParameterError

_LARGEST = 4096  # batch


@final
@dataclasses.dataclass(frozen=True)
class ProxyRecipe:
    """Settings of the training of a proxy, kept beside it as recipe.toml.

    Args:
        effect: address, as `load` takes it, or several in series; any name if `train_proxy` gets the effect itself.
        fix: parameters held at a value, by name.
        only: names of the parameters that stay free; all if empty.
        within: narrower ranges, (low, high) by name.
        net: kind and arguments, see `make_net`; if empty, the effect's profile decides.
        sample_rate: in Hz.
        seconds: length of a clip, in [0.01, 3600].
        batch: clips per step, at most 4096; two or more with slopes.
        minutes: most minutes of training.
        steps: most steps of training; 0 for no limit but time.
        slopes: weight in the loss of changes of the spectrum with the settings; above 0, a batch has half as many
            different clips.
        impulses: whether a linear effect whose net is a filter is learnt from impulse responses, four for each clip of
            a batch, instead of from clips.
        learning_rate: initial; it decreases to a fiftieth along a cosine.
        seed: of everything random.

    Raises:
        ParameterError: an unknown name or a value that is not allowed.
    """

    effect: str | tuple[str, ...]
    fix: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    only: tuple[str, ...] = ()
    within: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    net: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sample_rate: float = 44100
    seconds: float = 0.75
    batch: int = 8
    minutes: float = 10
    steps: int = 0
    slopes: float = 0.0
    impulses: bool = True
    learning_rate: float = 4e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "seconds", "minutes", "slopes", "learning_rate", "batch", "steps", "seed"):
            self._check_number(name, getattr(self, name))
        if not isinstance(self.impulses, bool):
            raise ParameterError(f"impulses must be true or false, got {self.impulses!r}.")
        for name in ("fix", "within", "net"):
            _check_table(name, getattr(self, name))
        if not isinstance(self.effect, str):
            addresses = _texts("effect", self.effect, "an address such as 'pedalboard:Compressor', or a list of them")
            object.__setattr__(self, "effect", addresses)
        object.__setattr__(self, "only", _texts("only", self.only, "a list of names"))
        for name, (low, high) in {"sample_rate": SAMPLE_RATES, "seconds": SECONDS, "batch": (1, _LARGEST)}.items():
            if not low <= getattr(self, name) <= high:
                raise ParameterError(f"{name} must be in [{low:g}, {high:g}], got {getattr(self, name)!r}.")
        if self.slopes and self.batch < 2:
            raise ParameterError("batch must be 2 or more with slopes, which compare two clips, got 1.")

    def _check_number(self, name: str, value: Any) -> None:
        whole, zero = name in ("batch", "steps", "seed"), name in ("steps", "seed", "slopes")
        low, high = (0 if zero else 1 if whole else 0.0), 2**53 if whole else math.inf
        fits = _is_number(value) and (not whole or value == int(value)) and low <= value < high and (value or zero)
        if not fits:
            allowed = (
                f"a whole number, {low} or more" if whole else "a number, 0 or more" if zero else "a number above 0"
            )
            raise ParameterError(f"{name} must be {allowed}, got {value!r}.")
        if whole:
            object.__setattr__(self, name, int(value))

    def load_effect(self, bare: Effect | None = None) -> Effect:
        """The effect with the recipe's free parameters; `bare` is the whole effect, if no address names it.

        Raises:
            EffectError, ParameterError: as `load`, `fix`, `within` and `only` do.
        """
        if bare is None:
            bare = load(self.effect) if isinstance(self.effect, str) else Rack([load(e) for e in self.effect])
        if not isinstance(bare, Effect):
            raise ParameterError(f"effect must be an Effect, got {bare!r}; an address goes into the recipe.")
        effect = bare.fix(self.fix).within({k: tuple(v) for k, v in self.within.items()})
        return effect.only(*self.only) if self.only else effect

    @classmethod
    def read(cls, path: Path) -> ProxyRecipe:
        """The recipe of a TOML file. Raises ParameterError if there is none."""
        return cls.make(read_toml(path))

    @classmethod
    def make(cls, values: Mapping[str, Any]) -> ProxyRecipe:
        """A recipe of named values."""
        require_known(cls, values)
        if "effect" not in values:
            raise ParameterError("A recipe needs an effect, such as effect = 'pedalboard:Compressor'.")
        return cls(**values)

    def to_toml(self) -> str:
        """The text that `read` reads back."""
        values = dataclasses.asdict(self)
        tables = {name: table for name, table in values.items() if isinstance(table, Mapping)}
        lines = [f"{name} = {_toml(value)}\n" for name, value in values.items() if name not in tables]
        for name, table in tables.items():
            if table:
                lines += [f"\n[{name}]\n", *(f"{_toml(k)} = {_toml(v)}\n" for k, v in table.items())]
        return "".join(lines)


def _check_table(name: str, table: Any) -> None:
    """Raises ParameterError unless it is a table of plain values, or of pairs of numbers for `within`."""
    if not isinstance(table, Mapping):
        raise ParameterError(f"{name} must be a table of names and values, got {table!r}.")
    fits, allowed = _is_plain, "a number, a text or on/off"
    if name == "within":
        fits, allowed = _is_pair, "two finite numbers, low and high"
    for key, value in table.items():
        if not isinstance(key, str) or not fits(value):
            raise ParameterError(f"{key!r} of {name} must be {allowed}, got {value!r}.")


def _texts(name: str, values: Any, allowed: str) -> tuple[str, ...]:
    """A list of texts as a tuple. Raises ParameterError for anything else."""
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise ParameterError(f"{name} must be {allowed}, got {values!r}.")
    return tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, str)) or _is_number(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_number, value))


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # where JSON and TOML differ
