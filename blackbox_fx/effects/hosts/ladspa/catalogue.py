"""Which LADSPA effects are installed, found without running their code in this process."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import re
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

from blackbox_fx import isolation
from blackbox_fx.core import cache, paths, system
from blackbox_fx.effects.hosts.ladspa import abi
from blackbox_fx.errors import EffectError, did_you_mean

_log = logging.getLogger("blackbox_fx")
_DEADLINE = 10.0  # seconds that a library may take to load and to list its plugins
_FORMAT = 1
_NAMED = 10  # labels in an error
# names of audio inputs that listen to what another signal does
_SIDE_CHAIN = re.compile(
    r"side.?chain|modulat(or|ing|ion)|\bmod\b|\bkey(ing)?\b|\bsc\b|\btrigger\b|\bcontrol\b|\bc\.?v\.?\b|\bduck(er|ing)?\b"
    r"|\bdetector\b|\benvelope\b|\bexternal\b|\baux\b",
    re.IGNORECASE,
)


@final
@dataclasses.dataclass(frozen=True)
class Layout:
    """The audio ports of a plugin, by name."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def side(self) -> tuple[bool, ...]:
        """Which inputs are side chains; none if all are called so."""
        found = tuple(bool(_SIDE_CHAIN.search(name.replace("_", " "))) for name in self.inputs)
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
        if sum(self.side) > 2:
            return f"has {sum(self.side)} side-chain inputs, where an effect has 1 or 2; choose another plugin"
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
    new = [path for path in paths if cache.load("ladspa", _key(path)) is None]
    share = -(-len(new) // system.cores())
    with ThreadPoolExecutor(system.cores()) as executor:
        list(executor.map(_ask, (new[k : k + share] for k in range(0, len(new), share or 1))))
    found = []
    for path in paths:
        try:
            found.append((path, _read(path)))
        except EffectError as error:
            _warn(str(error))
    return [(path, contents) for path, contents in found if contents]


@functools.cache
def _warn(text: str) -> None:
    """Once for each text."""
    _log.warning("%s", text)


def _key(path: Path) -> dict[str, Any]:
    try:
        stat = path.stat()
    except OSError as error:
        raise EffectError(f"Cannot read {path} ({error.strerror}); check the file.") from error
    return {"format": _FORMAT, "path": str(path), "size": stat.st_size, "mtime": stat.st_mtime_ns}


def _read(path: Path, retry: bool = False) -> Contents:
    """What a library holds. Raises EffectError if it cannot be loaded; with `retry`, not because of an old failure."""
    answer = cache.load("ladspa", _key(path))
    if answer is None or (retry and "error" in answer):
        (answer,) = _ask([path])
    if "error" in answer:
        raise EffectError(f"Cannot load {path} as a LADSPA library ({answer['error']}); check the file.")
    return {label: Layout(tuple(ins), tuple(outs)) for label, (ins, outs) in answer["plugins"].items()}


def _ask(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Loads libraries in a process of their own, and keeps what they hold; what ends the process costs its own answer.

    A library that ends the process after others were loaded is tried again, first in another process.
    """
    answers: list[dict[str, Any]] = []

    def keep(answer: dict[str, Any]) -> None:
        answers.append(answer)

    while len(answers) < len(paths):
        before = len(answers)
        try:
            isolation.call(abi.__name__, list(map(str, paths[before:])), _DEADLINE, keep)
        except (isolation.Failed, isolation.Refused) as error:
            if len(answers) == before:
                crashed = isinstance(error, isolation.Failed)
                answers.append({"error": f"it {error}" if crashed else error.args[-1], "lasts": crashed})
    for path, answer in zip(paths, answers, strict=True):
        if "plugins" in answer or answer.pop("lasts", False):  # what a library depends on may be installed later
            cache.save("ladspa", _key(path), answer)
    return answers
