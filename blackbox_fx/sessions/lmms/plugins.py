"""The LADSPA plugins of LMMS projects, as effects of this library with the settings of their authors."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.effects.hosts.ladspa.catalogue import listed, search_path
from blackbox_fx.effects.hosts.ladspa.effect import LADSPA
from blackbox_fx.effects.request import Settings
from blackbox_fx.errors import EffectError
from blackbox_fx.sessions.lmms.project import LmmsEffect
from blackbox_fx.space import Continuous, Integer, Parameter, Toggle, Value

_SECONDS = re.compile(r"\((s|seconds)\)", re.IGNORECASE)  # in the name of a port, which LMMS shows in milliseconds
_MS = 1000.0
_ROUNDED = 1e-5  # LMMS writes six digits


@final
@dataclasses.dataclass(frozen=True)
class AuthorEffect:
    """An installed LADSPA plugin with the settings of an author.

    Args:
        source: what the project says.
        effect: the plugin, with all of its parameters.
        settings: of all parameters, in physical units; those of the left side, if the sides differ.
        right: those of the right side, if they differ; else None.
    """

    source: LmmsEffect
    effect: LADSPA
    settings: Settings
    right: Settings | None = None

    @property
    def params(self) -> NDArray[np.float64]:
        """The settings in [0, 1], (width,), with columns as `effect.space` has them."""
        return self.effect.space.encode(self.settings)


def load_author_effect(source: LmmsEffect) -> AuthorEffect:
    """The installed plugin of an effect in a project, with the settings that its author gave it.

    Library, label and control inputs must be those of the project: plugins of other versions have other ports. Ports
    in seconds, which LMMS keeps in milliseconds, are in seconds here. Whether the effect is switched on, and how wet it
    is, is left to the caller.

    Args:
        source: an effect of `read_lmms`.

    Raises:
        EffectError: an effect of LMMS itself, a plugin that is not installed or no effect, or one of another version,
            with other ports or other ranges.
    """
    if source.kind != "ladspa":
        raise EffectError(
            f"{source.kind or 'an effect without a name'} is an effect of LMMS itself; only LADSPA is read."
        )
    if not (source.file and source.label):
        raise EffectError("A LADSPA effect is without the name of its library or its plugin; choose it again in LMMS.")
    address = _addresses(_marks()).get((source.file, source.label))
    if address is None:
        raise EffectError(
            f"{source.name} is not installed as a LADSPA plugin; install it, or name its folder in LADSPA_PATH."
        )
    effect = LADSPA(address.removeprefix("ladspa:"))
    names = effect.port_names
    for side in source.values or ({},):
        _require_same_ports(source.name, side, names)
    sides = [_settings(effect, source.name, side, names) for side in source.values or ({},)]
    right = sides[1] if len(sides) > 1 and sides[1] != sides[0] and effect.channels == 1 else None
    return AuthorEffect(source, effect, sides[0], right)


def _marks() -> tuple[tuple[str, int], ...]:
    """The folders of plugins, each with the time when something was installed there."""
    return tuple((str(folder), folder.stat().st_mtime_ns) for folder in search_path() if folder.is_dir())


@functools.lru_cache(4)
def _addresses(marks: tuple[tuple[str, int], ...]) -> dict[tuple[str, str], str]:
    """The addresses of the installed LADSPA plugins by library and label."""
    found: dict[tuple[str, str], str] = {}
    for address, path, _ in listed():
        found.setdefault((path.stem, address.rpartition(":")[2]), f"ladspa:{path}:{address.rpartition(':')[2]}")
    return found


def _require_same_ports(name: str, given: Mapping[int, float], names: Mapping[int, str]) -> None:
    if set(given) != set(names):
        raise EffectError(
            f"{name} has the control inputs {_listed(given)} in the project and {_listed(names)} as it is installed: "
            "it is another version; set it by hand."
        )


def _listed(ports: Mapping[int, object]) -> str:
    return ", ".join(map(str, sorted(ports)[:40])) or "none"


def _settings(effect: LADSPA, name: str, side: Mapping[int, float], names: Mapping[int, str]) -> Settings:
    """What the control inputs of one side make of the parameters."""
    return {
        key: _value(control.kind, side[control.port], f"{key} of {name}", names[control.port])
        for key, control in effect.controls.items()
        if isinstance(control.kind, Parameter)
    }


def _value(kind: Parameter, given: float, what: str, port: str) -> Value:
    """The value of a parameter for what LMMS stores of its port."""
    if isinstance(kind, Toggle):
        return given > 0
    assert isinstance(kind, Continuous | Integer)
    value = given / _MS if isinstance(kind, Continuous) and _SECONDS.search(port) else given
    near = _ROUNDED * max(abs(kind.low), abs(kind.high))
    if not kind.low - near <= value <= kind.high + near:
        raise EffectError(
            f"{what} is {value:g}, and the installed plugin takes {kind.low:g} to {kind.high:g}: it is another "
            "version, or says no end of the range; set it by hand."
        )
    value = min(max(value, kind.low), kind.high)
    return round(value) if isinstance(kind, Integer) else value


@final
@dataclasses.dataclass(frozen=True, eq=False)
class AuthorSettings:
    """The settings that authors of projects gave a plugin.

    Args:
        columns: names of the columns.
        params: a row for each time that it is used, in [0, 1], (uses, width); start points, or a prior.
        origins: where each row is from: the file, and the track or FX channel.
        skipped: why other uses of the plugin, or files, gave no row: how many for each reason.
    """

    columns: tuple[str, ...]
    params: NDArray[np.float64]
    origins: tuple[str, ...]
    skipped: Mapping[str, int]


def rows_of(source: LmmsEffect, effect: LADSPA) -> Sequence[NDArray[np.float64]]:
    """The rows in [0, 1] of one use, one for each side that differs, within the ranges of an effect.

    Raises:
        EffectError, ParameterError: it gives no row.
    """
    if not source.on:
        raise EffectError("it is switched off.")
    found = load_author_effect(source)
    return [effect.space.encode(side) for side in (found.settings, found.right) if side is not None]


def is_use_of(source: LmmsEffect, effect: LADSPA) -> bool:
    """Whether an effect of a project is this plugin."""
    return source.kind == "ladspa" and (source.file, source.label) == (Path(effect.path).stem, effect.label)
