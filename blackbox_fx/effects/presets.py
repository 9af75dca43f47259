"""Presets: settings of an effect as JSON, or as the plugin's own state, and a record of what a run used.

`Effect` imports this module, so what is called effect here has no type.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blackbox_fx.core import files
from blackbox_fx.effects import hosts
from blackbox_fx.effects.request import Settings
from blackbox_fx.errors import DataError, ParameterError

_FORMAT = 2
_READABLE = (1, 2)
_LARGEST = 64 * 2**20  # bytes of a file
_DIFFERENT = 1e-4  # of the largest sample, from which a state is more than its parameters

_log = logging.getLogger("blackbox_fx")


def save(effect: Any, path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """See `Effect.save_preset`."""
    target = Path(path).expanduser()
    settings = effect.space.complete(values)
    if _ending(effect, target) == ".json":
        content = json.dumps(_header(effect) | {"values": settings}, indent=1).encode()
    else:
        content = effect.write_state(target.suffix, settings)
        if target.suffix == ".state":
            said = _header(effect) | {"digest": hashlib.blake2b(content, digest_size=16).hexdigest()}
            content = json.dumps(said).encode() + b"\n" + content
    _write(target, content)


def load(effect: Any, path: str | os.PathLike[str]) -> Settings:
    """See `Effect.load_preset`."""
    source = Path(path).expanduser()
    ending = _ending(effect, source)
    content = _read(source)
    if ending == ".json":
        values = _require_header(effect, source, content).get("values")
        if not isinstance(values, dict):
            raise _damaged(source, "it has no values")
        return _checked(effect, source, values)
    if ending == ".state":
        line, _, content = content.partition(b"\n")
        said = _require_header(effect, source, line)
        if said.get("digest") != hashlib.blake2b(content, digest_size=16).hexdigest():
            raise _damaged(source, "its state is not the one that was written")
    elif reason := vstpreset_fault(content):
        raise _damaged(source, reason)
    values, difference = effect.read_state(source, content)
    if difference > _DIFFERENT:
        _log.warning(
            "%s holds more than the parameters of %s: at its values, the output differs by %.2g of the largest "
            "sample; only the values are used.",
            source,
            effect.name,
            difference,
        )
    return _checked(effect, source, values)


def record(effect: Any) -> dict[str, Any]:
    """What an effect is and where it stands, for JSON: its version, what is held, and the ranges of what is free.

    Members of a `Rack` are recorded one by one; "version" names the contents of a plugin's files and its host.
    """
    kinds = json.loads(effect.space.to_json())["parameters"]
    held = {name: value for name, value in effect.defaults.items() if name not in effect.space.free}
    found = _header(effect) | {"fingerprint": effect.fingerprint, "held": held}
    found["free"] = {name: kinds[name] for name in effect.space.free}
    if effect.members:
        found["members"] = {label: record(member) for label, member in effect.members.items()}
    return found


def change(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed between two records of an effect, as the end of a sentence; empty if nothing did."""
    members = then.get("members", {}), now.get("members", {})
    for label in members[0].keys() & members[1].keys():
        if said := change(members[0][label], members[1][label]):
            return said
    if then.get("effect") != now["effect"]:
        return f"{then.get('effect')} instead of {now['effect']}"
    # fingerprints of format 1 changed whenever a module moved; the rest of the record says the same
    other = then.get("format") != 1 and then.get("fingerprint") != now["fingerprint"]
    if other and then.get("host") != now["host"]:
        return f"another host of {now['effect']} ({then.get('host')}, now {now['host']})"
    changes = {"version": "another version", "held": "other held values", "free": "other free parameters or ranges"}
    for name, words in changes.items():
        if then.get(name) != now[name]:
            return f"{words} of {now['effect']}"
    return f"another {now['effect']}" if other else ""


def _header(effect: Any) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "effect": effect.name,
        "address": effect.address,
        "host": _host(effect),
        "version": effect.version_name,
    }


def _host(effect: Any) -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow, and workers need none

    name = effect.name.partition(":")[0]
    package = hosts.find_host(name).package if name in hosts.NAMES else "blackbox_fx"
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def _ending(effect: Any, path: Path) -> str:
    known = (".json", *effect.states)
    if path.suffix not in known:
        raise DataError(f"{path} is no preset of {effect.name}; end its name with {' or '.join(known)}.")
    return path.suffix


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is no preset, or a damaged one ({reason}); save it again.")


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise DataError(f"The preset {path} is no file; check the path.")
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise DataError(f"Cannot read the preset {path} ({error.strerror}); check the path.") from error
    if len(content) > _LARGEST:
        raise DataError(
            f"{path} has more than {_LARGEST >> 20} MiB, more than any preset of an effect; check the path."
        )
    return content


def _write(path: Path, content: bytes) -> None:
    try:
        files.write_bytes(path, content)
    except OSError as error:
        raise DataError(f"Cannot write {path} ({error.strerror}); name a file in a folder you may write to.") from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _require_header(effect: Any, path: Path, text: bytes) -> dict[str, Any]:
    """The JSON of a preset of this effect; another version of it is a warning."""
    try:
        said = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(said, dict) or "format" not in said:
        raise _damaged(path, "it has no format")
    if said["format"] not in _READABLE:
        raise DataError(f"{path} has format {said['format']!r}; this release reads {_FORMAT}: save it again.")
    if said.get("effect") != effect.name:
        raise DataError(f"{path} is a preset of {said.get('effect')}, not of {effect.name}; load that effect for it.")
    now = _header(effect)
    if said.get("version") != now["version"]:
        _log.warning(
            "%s was saved with another version of %s (%s, now %s); its output may differ.",
            path,
            effect.name,
            said.get("host"),
            now["host"],
        )
    return said


def _checked(effect: Any, path: Path, values: Mapping[str, Any]) -> Settings:
    try:
        effect.space.require(values)
        return {name: effect.space.parameters[name].check(name, value) for name, value in values.items()}
    except (ParameterError, OverflowError) as error:
        raise ParameterError(f"{path} does not fit {effect.name}: {error}") from error


def vstpreset_fault(content: bytes) -> str:
    """Why these are not the bytes of a .vstpreset; empty if they are."""
    if content[:4] != b"VST3":
        return "it does not begin with VST3"
    try:
        format_, offset = struct.unpack_from("<i32xq", content, 4)
        if format_ != 1:
            return f"its format is {format_}, known is 1"
        if offset < 48:
            return "its list of contents is nowhere"
        mark, count = struct.unpack_from("<4si", content, offset)
        chunks = [struct.unpack_from("<4sqq", content, offset + 8 + 20 * k) for k in range(count)]
    except (struct.error, OverflowError):
        return "it is cut short"
    inside = all(0 <= start <= start + size <= len(content) for _, start, size in chunks)
    if mark != b"List" or not inside or not any(name == b"Comp" for name, *_ in chunks):
        return "its list of contents is wrong"
    return ""
