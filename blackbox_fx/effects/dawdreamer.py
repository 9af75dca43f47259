"""VST2 and LV2 plugins, hosted by dawdreamer."""

from __future__ import annotations

import abc
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from blackbox_fx.effects.base import Settings
from blackbox_fx.effects.engine import DawDreamer, names
from blackbox_fx.effects.texts import count_steps, parameter_from_texts, raw_value
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Parameter, Space

_ENDINGS = (".so", ".dll", ".dylib", ".vst")


def _folders(variable: str, *folders: str) -> list[Path]:
    given = [Path(name) for name in os.environ.get(variable, "").split(os.pathsep) if name]
    return given + [Path(name).expanduser() for name in folders]


def vst2_path() -> list[Path]:
    """The folders where VST2 plugins are installed on this system, in order."""
    return _folders("VST_PATH", "~/.vst", "/usr/local/lib/vst", "/usr/lib/vst")


def _lv2_path() -> list[Path]:
    return _folders("LV2_PATH", "~/.lv2", "/usr/local/lib/lv2", "/usr/lib/lv2", "/usr/lib/x86_64-linux-gnu/lv2")


class _Plugin(DawDreamer, abc.ABC):
    """A plugin in dawdreamer; a subclass finds it.

    Ranges come from the texts that the plugin shows, and are 0 to 1 in unit "raw" where these are no numbers on a
    linear or logarithmic scale. Latency is compensated, as the plugin reports it once the settings are made; settings
    cannot change in mid-clip. A mono plugin renders each channel by itself; a stereo plugin gets mono audio twice and
    returns its left; of one with more channels, the first two are used and the others get silence.
    """

    def __init__(self, name: str, target: str, reset: str | None, sample_rate: float) -> None:
        self.target = target
        self.index: dict[str, int] = {}
        self.ranges: dict[str, Parameter] = {}
        super().__init__(name, reset, sample_rate)

    def _make(self, engine: Any) -> Any:
        return engine.make_plugin_processor("effect", self.target)

    def _read(self, processor: Any) -> Space:
        listed = [p for p in processor.get_parameters_description() if p["isAutomatable"]]
        found = names([p["name"] for p in listed], [p["label"] for p in listed])
        for name, p in zip(found, listed, strict=True):
            self.index[name] = p["index"]
            self.ranges[name] = self._parameter(processor, p)
        return Space(self.ranges)

    def _parameter(self, processor: Any, described: Any) -> Parameter:
        index, unit = described["index"], described["label"].strip()
        raw = processor.get_parameter(index)

        def text_at(position: float) -> str:
            processor.set_parameter(index, position)
            return processor.get_parameter_text(index)

        steps = described["numSteps"] if described["isDiscrete"] else count_steps(text_at)
        parameter = parameter_from_texts(text_at, steps, raw, unit)
        processor.set_parameter(index, raw)
        return parameter

    def _set(self, processor: Any, blocks: Sequence[Settings], hop: int) -> int:
        for name, value in blocks[0].items():
            processor.set_parameter(self.index[name], raw_value(self.ranges[name], value))
        return processor.get_latency_samples()


@final
class VST2(_Plugin):
    """A VST2 plugin, with ranges and channels as in `_Plugin`.

    Args:
        path: its library, or the name of an installed one, with or without "-vst.so".
        reset: what is done before each render, see `DawDreamer`; measured on loading if not given.
        sample_rate: in Hz, at which it is opened; others are opened when they are needed, on the main thread.

    Raises:
        EffectError: no such file, not a plugin, or no audio through it.
        MissingHost: dawdreamer is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], reset: str | None = None, sample_rate: float = 44100) -> None:
        found = self._find(path)
        super().__init__(f"vst2:{found.stem.removesuffix('-vst')}", str(found), reset, sample_rate)

    @staticmethod
    def _find(path: str | os.PathLike[str]) -> Path:
        given = Path(path).expanduser()
        candidates = [given]
        if given.parent == Path():
            candidates += [folder / f"{given}{end}" for folder in vst2_path() for end in ("", ".so", "-vst.so", ".vst")]
        for candidate in candidates:
            if candidate.exists() and candidate.suffix in _ENDINGS:
                return candidate.resolve()
        where = ", ".join(map(str, vst2_path()))
        raise EffectError(f"No such VST2 plugin: {path}; give its path, or its name if it is installed in {where}.")

    def _version(self) -> bytes:
        """The plugin's own files and its host."""
        path = Path(self.target)
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return super()._version() + b"".join(p.read_bytes() for p in files)


@final
class LV2(_Plugin):
    """An LV2 plugin by its URI, with ranges and channels as in `_Plugin`.

    Args:
        uri: such as "urn:dragonfly:plate"; `lv2ls` lists them.
        reset, sample_rate: as for `VST2`.

    Raises:
        EffectError: not a URI, no such plugin, or no audio through it.
        MissingHost: dawdreamer is not installed.
    """

    def __init__(self, uri: str, reset: str | None = None, sample_rate: float = 44100) -> None:
        if not re.match(r"[A-Za-z][\w+.-]*:\S+$", uri):
            raise EffectError(f"{uri!r} is no URI of an LV2 plugin; write one such as lv2:urn:dragonfly:plate.")
        super().__init__(f"lv2:{uri}", uri, reset, sample_rate)

    def _version(self) -> bytes:
        """The libraries of the bundle, where its manifest names the plugin, and the host."""
        manifests = [path for folder in _lv2_path() for path in sorted(folder.glob("*/manifest.ttl"))]
        bundle = next((path.parent for path in manifests if self._is_in(path.read_text(errors="replace"))), None)
        libraries = sorted(bundle.glob("*.so")) if bundle else []
        return super()._version() + b"".join(path.read_bytes() for path in libraries)

    def _is_in(self, manifest: str) -> bool:
        prefixes = re.findall(r"@prefix\s+(\S*:)\s+<([^>]*)>", manifest)
        short = [prefix + self.target.removeprefix(iri) for prefix, iri in prefixes if self.target.startswith(iri)]
        return f"<{self.target}>" in manifest or bool(set(short) & set(manifest.split()))
