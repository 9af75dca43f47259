"""Which LADSPA effects are installed, found without running their code in this process."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import re
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

from blackbox_fx import isolation
from blackbox_fx.core import cache, paths
from blackbox_fx.effects.hosts.ladspa import abi
from blackbox_fx.errors import EffectError, did_you_mean

_log = logging.getLogger("blackbox_fx")
_DEADLINE = 10.0  # seconds that a library may take to load and to list its plugins
_FORMAT = 1
_NAMED = 10  # labels in an error
# names of audio inputs that listen to what another signal does
_SIDE_CHAIN = re.compile(r"side.?chain", re.IGNORECASE)


@final
@dataclasses.dataclass(frozen=True)
class Layout:
    """The audio ports of a plugin, by name."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def side(self) -> tuple[bool, ...]:
        """Which inputs are side chains; none if all are called so."""
        found = tuple(bool(_SIDE_CHAIN.search(name)) for name in self.inputs)
        return found if not all(found) else (False,) * len(found)

    @property
    def main(self) -> int:
        """How many inputs are no side chains."""
        return self.side.count(False)

    @property
    def refusal(self) -> str:
        """Why this is no effect; empty if it is one."""
        if not self.inputs or not self.outputs:
            return f"has no audio {'output' if self.inputs else 'input'}; it cannot be used as an effect"
        if max(self.main, len(self.outputs)) > 2:
            many = f"{self.main} audio inputs and {len(self.outputs)} outputs"
            return f"has {many}, where an effect has 1 or 2 of each; choose another plugin"
        return ""


Contents = dict[str, Layout]


def search_path() -> list[Path]:
    """The folders where LADSPA plugins are installed, in order: LADSPA_PATH, or else the usual ones."""
    given = os.environ.get("LADSPA_PATH")
    if given:
        return [Path(folder) for folder in given.split(os.pathsep) if folder]
    if sys.platform == "darwin":
        folders = [paths.home() / "Library/Audio/Plug-Ins/LADSPA", Path("/Library/Audio/Plug-Ins/LADSPA")]
        return [*folders, paths.home() / ".ladspa", Path("/usr/local/lib/ladspa")]
    system = Path("/usr/lib")
    usual = [paths.home() / ".ladspa", Path("/usr/local/lib/ladspa"), system / "ladspa", Path("/usr/lib64/ladspa")]
    return usual + sorted(system.glob("*-*/ladspa"))  # such as /usr/lib/x86_64-linux-gnu


def installed() -> list[str]:
    """Addresses of the installed LADSPA effects, sorted: "ladspa:label", or with the file where a label repeats.

    Libraries that are read for the first time are loaded in a process of their own, a second or two for a hundred;
    those that crash or hang there are left out with a warning.
    """
    return [address for address, _, layout in listed() if not layout.refusal]


def listed() -> list[tuple[str, Path, Layout]]:
    """Address, library and ports of the installed LADSPA plugins, as in `installed`; not all of them are effects."""
    found: list[tuple[str, Path, Layout]] = []
    seen: set[str] = set()
    for path, contents in _installed():
        for label, layout in contents.items():
            found.append((f"ladspa:{path}:{label}" if label in seen else f"ladspa:{label}", path, layout))
        seen.update(contents)
    return sorted(found, key=lambda plugin: plugin[0])


def find(name: str) -> tuple[Path, str, Layout]:
    """The library, label and ports of "label", "/path/file.so:label", or "/path/file.so" if it holds a single one.

    Raises:
        EffectError: no such library or label, a library that cannot be loaded, or a plugin that is no effect.
    """
    file, colon, label = name.rpartition(":")
    if "/" in label or label.endswith(".so"):
        path = _library(name)
        contents = _read(path, retry=True)
        if len(contents) != 1:
            raise EffectError(f"{name!r} says no label; write ladspa:{name}:label, and it has {_some(contents)}.")
        [(label, layout)] = contents.items()
    elif colon:
        path = _library(file)
        contents = _read(path, retry=True)
        if label not in contents:
            question = did_you_mean(label, contents)
            raise EffectError(f"{path} has no plugin {label!r}{question}; it has {_some(contents)}.")
        layout = contents[label]
    else:
        known = _installed()
        found = [(path, contents[label]) for path, contents in known if label in contents]
        if not found:
            labels = [label for _, contents in known for label in contents]
            where = ", ".join(map(str, search_path()))
            question = did_you_mean(label, labels)
            hint = "`blackbox-fx effects` lists them" if labels else "install some, or name their folder in LADSPA_PATH"
            raise EffectError(f"No LADSPA plugin {label!r}{question} is installed in {where}; {hint}.")
        path, layout = found[0]
    if layout.refusal:
        raise EffectError(f"ladspa:{label} {layout.refusal}.")
    return path, label, layout


def _some(labels: Collection[str]) -> str:
    first = ", ".join(sorted(labels)[:_NAMED]) or "none"
    return first if len(labels) <= _NAMED else f"{first} and {len(labels) - _NAMED} more"


def _library(file: str) -> Path:
    try:
        path = Path(file).expanduser()
        if path.is_file():
            return path.resolve()
    except (OSError, RuntimeError):  # a name too long, or no such home
        pass
    raise EffectError(f"No such LADSPA library: {file!r}; give the path of a .so file, or an installed label alone.")


def _installed() -> list[tuple[Path, Contents]]:
    """The libraries in the search path that can be read, in order."""
    files = [file.resolve() for folder in search_path() for file in sorted(folder.glob("*.so"))]
    paths = [path for path in dict.fromkeys(files) if path.is_file()]
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        return [(p, c) for p, c in zip(paths, executor.map(_read_or_skip, paths), strict=True) if c]


def _read_or_skip(path: Path) -> Contents:
    try:
        return _read(path)
    except EffectError as error:
        _warn(str(error))
        return {}


@functools.cache
def _warn(text: str) -> None:
    """Once for each text."""
    _log.warning("%s", text)


def _read(path: Path, retry: bool = False) -> Contents:
    """What a library holds. Raises EffectError if it cannot be loaded; with `retry`, not because of an old failure."""
    try:
        stat = path.stat()
    except OSError as error:
        raise EffectError(f"Cannot read {path} ({error.strerror}); check the file.") from error
    key = {"format": _FORMAT, "path": str(path), "size": stat.st_size, "mtime": stat.st_mtime_ns}
    answer = cache.load("ladspa", key)
    if answer is None or (retry and "error" in answer):
        answer, lasting = _ask(path)
        if lasting:
            cache.save("ladspa", key, answer)
    if "error" in answer:
        raise EffectError(f"Cannot load {path} as a LADSPA library ({answer['error']}); check the file.")
    return {label: Layout(tuple(ins), tuple(outs)) for label, (ins, outs) in answer["plugins"].items()}


def _ask(path: Path) -> tuple[dict[str, Any], bool]:
    """Loads a library in a process of its own; its answer, and whether that is how it always ends."""
    try:
        answer = isolation.call(abi.__name__, str(path), _DEADLINE)
    except isolation.Failed as error:
        return {"error": f"it {error}"}, True
    except isolation.Refused as error:
        return {"error": error.args[1]}, False  # what it depends on may be installed later
    return answer, True
