"""What the hosts of plugins share: names, and ranges read from texts."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Toggle


def python_names(labels: Sequence[str], units: Sequence[str], last: Collection[int] = ()) -> list[str]:
    """Python names for the parameters of a plugin, which all differ: "Threshold" in dB is threshold_db.

    Letters of all scripts are kept, in lower case. A name that comes again is numbered from 2 on (gain_db, gain_db_2),
    and one without a letter or a digit is called by its index (parameter_1_db).

    Args:
        labels: what the plugin calls its parameters, by index.
        units: of each; one that begins with a colon is none.
        last: indices of the parameters that get their names after the others, such as those that are not used.
    """
    found: dict[str, int] = {}
    for index in sorted(range(len(labels)), key=lambda index: index in last):
        label = labels[index] if _python_name(labels[index]) else f"parameter {index}"
        unit = "" if units[index].startswith(":") else units[index]
        stem = _python_name(f"{label} {unit}")
        names = itertools.chain([stem], (f"{stem}_{k}" for k in itertools.count(2)))
        found[next(name for name in names if name not in found)] = index
    return sorted(found, key=found.__getitem__)


def _python_name(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    # what an identifier may hold, which \w does not say: vowel signs of Indian scripts, for one, are not in it
    return re.sub("_+", "_", "".join(c if f"a{c}".isidentifier() else "_" for c in text)).strip("_")


_NUMBER = re.compile(r"\s*([-+]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*(.*)")
_PARTS = {"k": 1e3, "khz": 1e3, "hz": 1.0, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}  # of a unit, in small letters


def _numbers(texts: Sequence[str], unit: str = "") -> list[float] | None:
    """The numbers that texts begin with, in one unit where some are in thousands or thousandths; None without any."""
    found = [match for match in map(_NUMBER.match, texts) if match]
    if len(found) < len(texts):
        return None
    values = [float(match.group(1).replace(",", "")) for match in found]
    units = [match.group(2).strip().lower() or unit.lower() for match in found]
    if len(set(units)) > 1 and all(each in _PARTS for each in (*units, unit.lower() or units[0])):
        shown = _PARTS[unit.lower() or units[0]]
        values = [value * _PARTS[each] / shown for value, each in zip(values, units, strict=True)]
    return values


def count_steps(text_at: Callable[[float], str]) -> int:
    """How many positions a parameter has whose texts on [0, 1] change at most 100 times; 0 if it moves freely."""
    texts = list(dict.fromkeys(text_at(k / 1000) for k in range(1001)))
    steps = len(texts)
    even = 2 <= steps <= 100 and [text_at(k / (steps - 1)) for k in range(steps)] == texts
    return steps if even else 0


def parameter_from_texts(text_at: Callable[[float], str], steps: int, raw: float, unit: str) -> Parameter:
    """Kind and range of a plugin's parameter, from its number of steps and the texts it shows.

    Args:
        text_at: the text that is shown at a position in [0, 1].
        steps: how many positions it has; below 2 or above 1000 for a continuous one.
        raw: the position in [0, 1] where it stands by default.
        unit: such as "dB".
    """
    if steps == 2:
        return Toggle(raw >= 0.5)
    stepped = 2 < steps <= 1000
    listed = _listed(text_at, steps, raw, unit) if stepped else None
    return listed or _continuous(text_at, steps if stepped else 0, raw, unit)


def _listed(text_at: Callable[[float], str], steps: int, raw: float, unit: str) -> Choice | Integer | None:
    """A parameter whose steps have names or count up by one; None for other numbers."""
    texts = [text_at(k / (steps - 1)).strip() for k in range(steps)]
    values = _numbers(texts, unit)
    index = round(raw * (steps - 1))
    if values is None or len(set(values)) < steps:
        options = tuple(text if texts.count(text) == 1 else f"{text} ({k})" for k, text in enumerate(texts))
        return Choice(options, options[index])
    first = int(values[0])
    return Integer(first, int(values[-1]), first + index, unit) if values == list(range(first, first + steps)) else None


def _continuous(text_at: Callable[[float], str], steps: int, raw: float, unit: str) -> Continuous:
    """A linear or logarithmic range, if the texts show one, else the raw position; `steps` is 0 if it moves freely."""
    grid = np.linspace(0, 1, 5)
    values = _numbers([text_at(float(r)) for r in grid], unit)
    if values is None or not values[0] < values[-1]:
        return Continuous(0, 1, raw, "raw")
    low, high = values[0], values[-1]
    if np.abs(np.array(values) - (low + grid * (high - low))).max() < 0.005 * (high - low):
        scale: dict[str, Any] = {"step": (high - low) / (steps - 1) if steps else 0.0}
    elif low > 0 and np.abs(np.log(values) - (np.log(low) + grid * np.log(high / low))).max() < 0.02:
        scale = {"log": True}
    else:
        return Continuous(0, 1, raw, "raw")
    digits = 6 - int(np.floor(np.log10(high - low)))  # the host reads raw values back with float32 noise
    default = round(Continuous(low, high, low, **scale).decode(np.array([raw])), digits)
    return Continuous(low, high, min(max(default, low), high), unit, **scale)


def raw_value(parameter: Parameter, value: Any) -> float:
    """The position in [0, 1] at which a parameter that was read from its texts has this value."""
    u = parameter.encode(value)
    return float(np.argmax(u)) / (len(u) - 1) if isinstance(parameter, Choice) else float(u[0])
