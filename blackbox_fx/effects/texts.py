"""What the hosts of plugins share: names, and ranges read from texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Toggle


def python_name(name: str, unit: str = "") -> str:
    """A plugin's name for a parameter, and its unit, as one Python name: "Threshold" in dB is "threshold_db"."""
    unit = "" if unit.startswith(":") else unit
    return re.sub(r"[^a-z0-9]+", "_", f"{name} {unit}".lower()).strip("_")


def _numbers(texts: Sequence[str]) -> list[float] | None:
    found = [re.match(r"\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)", text) for text in texts]
    return [float(m.group(1)) for m in found if m] if all(found) else None


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
    if 2 < steps <= 1000:
        texts = [text_at(k / (steps - 1)).strip() for k in range(steps)]
        values = _numbers(texts)
        index = round(raw * (steps - 1))
        if values is None or len(set(values)) < steps:
            options = tuple(text if texts.count(text) == 1 else f"{text} ({k})" for k, text in enumerate(texts))
            return Choice(options, options[index])
        if values == list(range(int(values[0]), int(values[0]) + steps)):
            return Integer(int(values[0]), int(values[-1]), int(values[0]) + index, unit)
    grid = np.linspace(0, 1, 5)
    values = _numbers([text_at(float(r)) for r in grid])
    if values is None or not values[0] < values[-1]:
        return Continuous(0, 1, raw, "raw")
    low, high = values[0], values[-1]
    step = (high - low) / (steps - 1) if 2 < steps <= 1000 else 0.0
    digits = 6 - int(np.floor(np.log10(high - low)))  # the host reads raw values back with float32 noise
    if np.abs(np.array(values) - (low + grid * (high - low))).max() < 0.005 * (high - low):
        default = Continuous(low, high, low, step=step).decode(np.array([raw]))
        return Continuous(low, high, min(max(round(default, digits), low), high), unit, step=step)
    if low > 0 and np.abs(np.log(values) - (np.log(low) + grid * np.log(high / low))).max() < 0.02:
        default = Continuous(low, high, low, log=True).decode(np.array([raw]))
        return Continuous(low, high, min(max(round(default, digits), low), high), unit, log=True)
    return Continuous(0, 1, raw, "raw")


def raw_value(parameter: Parameter, value: Any) -> float:
    """The position in [0, 1] at which a parameter that was read from its texts has this value."""
    u = parameter.encode(value)
    return float(np.argmax(u)) / (len(u) - 1) if isinstance(parameter, Choice) else float(u[0])
