"""VST2 plugins, hosted by dawdreamer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import final

from blackbox_fx.effects.hosts.dawdreamer.plugin import Plugin, bare, folders
from blackbox_fx.effects.hosts.host import Entry, Host, entries_of_files
from blackbox_fx.errors import EffectError, did_you_mean

_ENDINGS = (".so", ".dll", ".dylib", ".vst")


def search_path() -> list[Path]:
    """The folders where VST2 plugins are installed on this system, in order."""
    if sys.platform == "darwin":
        return folders("VST_PATH", "~/Library/Audio/Plug-Ins/VST", "/Library/Audio/Plug-Ins/VST")
    return folders("VST_PATH", "~/.vst", "/usr/local/lib/vst", "/usr/lib/vst")


def plugin_name(path: Path) -> str:
    """What a VST2 plugin is called: "MVerb" for "MVerb-vst.so"."""
    return path.stem.removesuffix("-vst")


def installed() -> list[Path]:
    """The libraries in the folders of VST2 plugins, sorted; none is loaded, and some may be no plugins."""
    found = {p for folder in search_path() if folder.is_dir() for p in folder.rglob("*") if p.suffix in _ENDINGS}
    return sorted(p for p in found if not any(parent.suffix in _ENDINGS for parent in p.parents))


@final
class VST2(Plugin):
    """A VST2 plugin, with ranges and channels as in `Plugin`.

    Args:
        path: its library, or the name of an installed one, with or without "-vst.so".
        reset: what is done before each render, see `DawDreamer`; measured on loading if not given.
        sample_rate: in Hz, at which it is opened; others are opened when they are needed, on the main thread.
        parameters: a TOML file that says otherwise of parameters, see `load`.
        tempo: in beats per minute, see `load`.
        latency_samples: see `load`.

    Raises:
        ParameterError: a reset or a tempo that is not allowed.
        EffectError: no such file, not a plugin, one that crashes or hangs, or no audio through it.
        MissingHost: dawdreamer is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        reset: str | None = None,
        sample_rate: float = 44100,
        parameters: str | os.PathLike[str] | None = None,
        tempo: float | None = None,
        latency_samples: int | None = None,
    ) -> None:
        found = self._find(path)
        name, target = f"vst2:{plugin_name(found)}", str(found)
        super().__init__(name, target, reset, sample_rate, parameters, tempo, latency_samples)

    def _learn(self, choose: bool) -> None:
        self.learn_isolated(choose)

    @staticmethod
    def _find(path: str | os.PathLike[str]) -> Path:
        given = Path(path).expanduser()
        candidates = [given]
        if given.parent == Path():
            candidates += [
                folder / f"{given}{end}" for folder in search_path() for end in ("", ".so", "-vst.so", ".vst")
            ]
        for candidate in candidates:
            if candidate.exists() and candidate.suffix in _ENDINGS:
                return candidate.resolve()
        known = installed()
        deeper = [found for found in known if given.parent == Path() and plugin_name(found) == str(given)]
        if len(deeper) == 1:
            return deeper[0].resolve()
        where = ", ".join(map(str, search_path()))
        question = did_you_mean(given.stem, [plugin_name(found) for found in known])
        raise EffectError(
            f"No such VST2 plugin: {path}{question}; give its path, or its name if it is installed in {where}."
        )

    def version(self) -> bytes:
        """The plugin's own files and its host."""
        path = Path(self.target)
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return super().version() + b"".join(p.read_bytes() for p in files)


def _entries() -> list[Entry]:
    found = installed()
    return entries_of_files("vst2", found, [plugin_name(path) for path in found], search_path())


HOST = Host(
    name="vst2",
    effect=VST2,
    example="vst2:MVerb",
    package="dawdreamer",
    extra="dawdreamer",
    debian=("dpf-plugins-vst", "zam-plugins"),
    endings=_ENDINGS,
    installed=_entries,
    bare=bare,
)
