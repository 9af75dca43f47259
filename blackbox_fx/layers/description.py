"""Consoles as TOML files."""

from __future__ import annotations

import dataclasses
import inspect
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blackbox_fx.core import checks
from blackbox_fx.dsp import TWINS, Twin
from blackbox_fx.effects import Effect, load
from blackbox_fx.errors import BlackBoxError, ParameterError, did_you_mean
from blackbox_fx.layers.bypass import Bypass
from blackbox_fx.layers.console import Console
from blackbox_fx.layers.routing import Bus, Send
from blackbox_fx.space import Space

_TOP = ("sample_rate", "gain_db", "strip", "strips", "groups", "sends", "bus", "keys")
_MEMBER = ("effect", "free", "fix", "within", "bypass")
_PARTS = {"groups": (Bus, ("roles", "level_db", "chain")), "sends": (Send, ("level_db", "pre", "chain"))}
_TWIN = "twin:"


def load_console(path: str | os.PathLike[str], **how: Any) -> Console:
    """The console that a TOML file describes.

    ```toml
    gain_db = [-24, 12]                # all of these may be left out
    sample_rate = 44100

    [strip]                            # of all tracks without a strip of their own: effects in series, by label
    eq = {effect = "pedalboard:PeakFilter", free = ["gain_db"], fix = {q = 0.7}, within = {gain_db = [-9, 9]}}

    [strips.vocals]                    # by role
    comp = {effect = "twin:compressor", bypass = true}

    [groups.drums]
    roles = ["kick", "snare"]
    chain.comp = {effect = "pedalboard:Compressor"}

    [sends.room]
    level_db = [-60, 0]
    chain.reverb = {effect = "pedalboard:Reverb", fix = {dry_level = 0}}

    [bus]
    limiter = {effect = "pedalboard:Limiter"}

    [keys]
    bass = "kick"
    ```

    An effect is an address, as `load` takes it, or "twin:" and the name of a twin. Its parameters are all free, or
    those that `free` names; `fix` holds some at values, and `within` narrows ranges, both in physical units. With
    `bypass`, it can be switched off.

    Args:
        path: of the file.
        **how: `estimator`, `audio_rule`, `pool` and `direct`, as for `Console`.

    Raises:
        ParameterError: a file that cannot be read, or something in it that makes no sense.
        EffectError, MissingHost: an effect that cannot be loaded.
    """
    source = Path(path).expanduser()
    known = set(inspect.signature(Console).parameters) - {*_TOP}
    if wrong := [name for name in how if name not in known]:
        raise ParameterError(f"load_console takes {', '.join(sorted(known))} beside a path, and no {wrong[0]!r}.")
    try:
        said = tomllib.loads(source.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ParameterError(f"Cannot read the console {source} ({error}); it must be TOML.") from error
    try:
        return _console(said, how)
    except BlackBoxError as error:
        raise type(error)(f"{source}: {error}") from error


def read_chain(said: Mapping[str, Any]) -> dict[str, Any]:
    """Effects in series by label, of tables like those of `load_console`, such as {"eq": {"effect": "vst3:ZamEQ2"}}.

    Args:
        said: a table for each effect, by label.

    Raises:
        ParameterError: something that makes no sense.
        EffectError, MissingHost: an effect that cannot be loaded.
    """
    return _chain("chain", said)


def _console(said: Mapping[str, Any], how: Mapping[str, Any]) -> Console:
    _require("A console", said, _TOP)
    parts: dict[str, Any] = {name: _chain(name, said[name]) for name in ("strip", "bus") if name in said}
    strips = _table("strips", said.get("strips", {}))
    parts["strips"] = {role: _chain(f"strips.{role}", own) for role, own in strips.items()}
    for name, (kind, known) in _PARTS.items():
        tables = _table(name, said.get(name, {}))
        parts[name] = {label: _part(f"{name}.{label}", own, kind, known) for label, own in tables.items()}
    parts["keys"] = _table("keys", said.get("keys", {}))
    plain = {name: said[name] for name in ("sample_rate", "gain_db") if name in said}
    return Console(**parts, **plain, **how)


def _part(where: str, said: Any, kind: type[Bus] | type[Send], known: tuple[str, ...]) -> Any:
    _require(where, _table(where, said), known)
    own = {name: value for name, value in said.items() if name != "chain"}
    effect = _chain(f"{where}.chain", said["chain"]) if "chain" in said else None
    if kind is Bus and "roles" not in own:
        raise ParameterError(f'{where} needs the roles of its tracks; write roles = ["kick", "snare"] there.')
    return kind(**own, effect=effect)


def _chain(where: str, said: Any) -> dict[str, Any]:
    """Effects in series by label."""
    return {label: _member(f"{where}.{label}", own) for label, own in _table(where, said).items()}


def _member(where: str, said: Any) -> Any:
    _require(where, _table(where, said), _MEMBER)
    address = said.get("effect")
    if not isinstance(address, str):
        raise ParameterError(f'{where} needs an effect; write effect = "pedalboard:Compressor" there, for example.')
    made = _twin(where, address) if address.startswith(_TWIN) else load(address)
    try:
        space = _space(made.space, said)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{where}: {error}") from error
    own: Any = made.with_space(space) if isinstance(made, Effect) else dataclasses.replace(made, space=space)
    return Bypass(own) if checks.one_of(f"bypass of {where}", said.get("bypass", False), (True, False)) else own


def _twin(where: str, address: str) -> Twin:
    name = address.removeprefix(_TWIN)
    if name not in TWINS:
        raise ParameterError(f"{where} names no twin with {address!r}{did_you_mean(name, TWINS)}.")
    return TWINS[name]


def _space(space: Space, said: Mapping[str, Any]) -> Space:
    space = space.fix(_table("fix", said.get("fix", {}))).within(_table("within", said.get("within", {})))
    free = said.get("free")
    if free is None:
        return space
    if not isinstance(free, list):
        raise ParameterError(f'free must be a list of parameters, such as ["gain_db"], got {free!r}.')
    return space.only(*free)


def _table(where: str, said: Any) -> Mapping[str, Any]:
    if not isinstance(said, Mapping):
        raise ParameterError(f"{where} must be a table, got {said!r:.60}.")
    return said


def _require(where: str, said: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in said:
        if name not in known:
            raise ParameterError(f"{where} has no {name!r}{did_you_mean(name, known)}; known are {', '.join(known)}.")
