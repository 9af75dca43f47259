"""Control inputs of LADSPA plugins as parameters: names, units, kinds, ranges and defaults."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, final

import numpy as np

from blackbox_fx.effects.hosts.ladspa import abi
from blackbox_fx.effects.texts import python_names
from blackbox_fx.space import Continuous, Integer, Parameter, Toggle, Value

RATE = 44_100.0  # in Hz; where ranges that a plugin gives as parts of the sample rate are shown
_UNITS = {"db": "dB", "hz": "Hz", "khz": "kHz", "ms": "ms", "s": "s", "sec": "s", "secs": "s", "seconds": "s", "%": "%"}
_UNITS |= {name: name for name in ("bpm", "cents", "deg", "m", "octaves", "samples", "semitones")}
# how far a range reaches if the plugin does not say
_REACH = {"dB": 24.0, "Hz": 20_000.0, "kHz": 20.0, "ms": 4000.0, "%": 100.0}
_OTHER_REACH = 4.0
_DEFAULT_AT = {0x40: 0.0, 0x80: 0.25, 0xC0: 0.5, 0x100: 0.75, 0x140: 1.0}  # parts of the range
_DEFAULT_IS = {0x200: 0.0, 0x240: 1.0, 0x280: 100.0, 0x2C0: 440.0}


@final
@dataclasses.dataclass(frozen=True)
class Control:
    """A control input of a plugin.

    Args:
        port: its index.
        kind: the parameter that it is; a number if it can stand nowhere else.
        parts: its range as parts of the sample rate, if the plugin gives it so.
    """

    port: int
    kind: Parameter | float
    parts: tuple[float, float] | None

    def native(self, value: Value, sample_rate: float) -> float:
        """What the port is set to for a physical value, within the plugin's range at this sample rate in Hz."""
        number = float(value)
        if self.parts is None:
            return number
        return min(max(number, self.parts[0] * sample_rate), self.parts[1] * sample_rate)


def controls(plugin: Any) -> dict[str, Control]:
    """The control inputs of a plugin by Python name, in order; those that can stand nowhere else are named last."""
    found: list[Control] = []
    labels: list[tuple[str, str]] = []
    for port, text in abi.ports(plugin, abi.INPUT | abi.CONTROL).items():
        hint = plugin.contents.port_hints[port]
        label, unit = _label(text)
        parts = None
        if hint.hint & abi.SAMPLE_RATE:
            unit = unit or "Hz"
            low = hint.low if hint.hint & abi.BOUNDED_BELOW else -math.inf
            parts = low, hint.high if hint.hint & abi.BOUNDED_ABOVE else math.inf
        labels.append((label, unit))
        found.append(Control(port, _parameter(hint, unit), parts))
    held = [k for k, control in enumerate(found) if isinstance(control.kind, float)]
    names = python_names([label for label, _ in labels], [unit for _, unit in labels], held)
    return dict(zip(names, found, strict=True))


def _label(port: str) -> tuple[str, str]:
    """Label and unit: "Decay [ms]" is Decay in ms. Brackets that explain numbers, as in (0=off), are left out."""
    unit = ""

    def bracket(match: re.Match[str]) -> str:
        nonlocal unit
        text = match[1].lower().removeprefix("in ").strip()
        if text in _UNITS and not unit:
            unit = _UNITS[text]
            return ""
        return "" if re.search("[=:]", text) else match[0]

    return re.sub(r"[(\[]([^)\]]*)[)\]]", bracket, port), unit


def _decimal(number: float) -> float:
    """The shortest decimal of a float32: 0.1 for 0.10000000149."""
    return float(str(np.float32(number)))


def _ends(hint: abi.RangeHint, unit: str) -> tuple[float, float]:
    """The range of a port at `RATE`, in physical units; `LADSPA` says what becomes of one without an end."""
    scale = RATE if hint.hint & abi.SAMPLE_RATE else 1.0
    reach = _REACH.get(unit, _OTHER_REACH)
    low = _decimal(hint.low * scale) if hint.hint & abi.BOUNDED_BELOW else math.nan
    high = _decimal(hint.high * scale) if hint.hint & abi.BOUNDED_ABOVE else math.nan
    if math.isfinite(low):
        return low, high if math.isfinite(high) and high >= low else low + reach
    if math.isfinite(high):
        return 0.0 if high > 0 else high - reach, high
    return -reach, reach


def _parameter(hint: abi.RangeHint, unit: str) -> Parameter | float:
    """Kind, range and default of a port; a number if it can stand nowhere else."""
    flags, default = hint.hint, hint.hint & abi.DEFAULT
    if flags & abi.TOGGLED:
        return Toggle(default in (0x140, 0x240))
    low, high = _ends(hint, unit)
    if flags & abi.INTEGER:
        low, high = float(math.ceil(low)), float(math.floor(high))
    if not low < high:
        return low
    log = bool(flags & abi.LOGARITHMIC)
    if log and low <= 0:
        log = bool(flags & abi.SAMPLE_RATE) and high > 0
        low = high / 1000 if log else low
    both = abi.BOUNDED_BELOW | abi.BOUNDED_ABOVE
    needed = {0: both, 0x40: abi.BOUNDED_BELOW, 0x140: abi.BOUNDED_ABOVE}.get(default, 0)
    if default in _DEFAULT_IS or flags & needed != needed:
        value = _DEFAULT_IS.get(default, 0.0)
    else:
        at = _DEFAULT_AT.get(default, 0.5)
        value = low ** (1 - at) * high**at if log else (1 - at) * low + at * high
    value = min(max(float(f"{value:.6g}"), low), high)
    if flags & abi.INTEGER:
        return Integer(int(low), int(high), round(value), unit)
    return Continuous(low, high, value, unit, log=log)
