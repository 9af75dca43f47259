"""VST2 and LV2 plugins, hosted by dawdreamer."""

from __future__ import annotations

import abc
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

from blackbox_fx import aside, cache
from blackbox_fx.effects import overrides
from blackbox_fx.effects.base import Settings
from blackbox_fx.effects.engine import DawDreamer, dawdreamer, names
from blackbox_fx.effects.lv2_bundles import bundles
from blackbox_fx.effects.native import say_reload
from blackbox_fx.effects.texts import count_steps, parameter_from_texts, raw_value
from blackbox_fx.errors import EffectError, MissingHost, did_you_mean
from blackbox_fx.space import Parameter, Space

_DEADLINE = 120.0  # seconds that a plugin may take to be loaded and measured
_FORMAT = 1
_ENDINGS = (".so", ".dll", ".dylib", ".vst")


def _folders(variable: str, *folders: str) -> list[Path]:
    given = [Path(name) for name in os.environ.get(variable, "").split(os.pathsep) if name]
    return given + [Path(name).expanduser() for name in folders]


def vst2_path() -> list[Path]:
    """The folders where VST2 plugins are installed on this system, in order."""
    if sys.platform == "darwin":
        return _folders("VST_PATH", "~/Library/Audio/Plug-Ins/VST", "/Library/Audio/Plug-Ins/VST")
    return _folders("VST_PATH", "~/.vst", "/usr/local/lib/vst", "/usr/lib/vst")


def vst2_name(path: Path) -> str:
    """What a VST2 plugin is called: "MVerb" for "MVerb-vst.so"."""
    return path.stem.removesuffix("-vst")


def installed_vst2() -> list[Path]:
    """The libraries in the folders of VST2 plugins, sorted; none is loaded, and some may be no plugins."""
    found = {p for folder in vst2_path() if folder.is_dir() for p in folder.rglob("*") if p.suffix in _ENDINGS}
    return sorted(p for p in found if not any(parent.suffix in _ENDINGS for parent in p.parents))


def lv2_path() -> list[Path]:
    """The folders where LV2 bundles are installed on this system, in order."""
    if sys.platform == "darwin":
        usual = ("~/Library/Audio/Plug-Ins/LV2", "/Library/Audio/Plug-Ins/LV2", "~/.lv2", "/usr/local/lib/lv2")
        return _folders("LV2_PATH", *usual)
    return _folders("LV2_PATH", "~/.lv2", "/usr/local/lib/lv2", "/usr/lib/lv2", "/usr/lib/x86_64-linux-gnu/lv2")


class Plugin(DawDreamer, abc.ABC):
    """A plugin in dawdreamer; a subclass finds it.

    What it is, is read and measured in a process of its own, once; it is loaded here only to render. Ranges come from
    the texts that the plugin shows, and are 0 to 1 in unit "raw" where these are no numbers on a linear or logarithmic
    scale. Latency is compensated, as the plugin reports it once the settings are made; settings cannot change in
    mid-clip. A mono plugin renders each channel by itself; a stereo plugin gets mono audio twice and returns its left;
    of one with more channels, the first two are used and the others get silence. Presets are JSON only: to load
    a state, dawdreamer opens a window, and with some LV2 plugins it crashes.

    Attributes:
        excluded: why parameters are left out, by name.
    """

    def __init__(
        self,
        name: str,
        target: str,
        reset: str | None,
        sample_rate: float,
        parameters: str | os.PathLike[str] | None = None,
    ) -> None:
        self.target = target
        self.index: dict[str, int] = {}
        self.ranges: dict[str, Parameter] = {}
        self.excluded: dict[str, str] = {}
        tables = None if parameters is None else overrides.read(parameters)
        super().__init__(name, reset, sample_rate)
        told = {n: overrides.Told(r, r, self.excluded.get(n, "")) for n, r in self.ranges.items()}
        if parameters is not None and tables is not None:
            told = overrides.apply(parameters, tables, told)
        self.excluded = {n: t.why for n, t in told.items() if t.why}
        used = [n for n in told if not told[n].why]
        self.index = {n: self.index[n] for n in used}
        self.ranges = {n: told[n].control for n in used}
        self.space = Space({n: told[n].offered for n in used})

    @final
    def _learn_aside(self, choose: bool) -> None:
        """Finds out what `_learn_here` does, in a process of its own, and keeps it in the user's cache."""
        try:
            host = version("dawdreamer")
        except PackageNotFoundError:
            dawdreamer()  # says how to install it
            raise
        question = {"name": self.name, "target": self.target, "rate": self.sample_rate}
        question["reset"] = None if choose else self.reset
        files = hashlib.blake2b(self._version(), digest_size=16).hexdigest()
        key = {"format": _FORMAT, "files": files, "host": host, **question}
        read = cache.load("dawdreamer", key)
        if read is None:
            try:
                read = aside.ask(str(Path(__file__).with_name("dawdreamer_reader.py")), question, _DEADLINE)
            except aside.Failed as error:
                raise EffectError(f"Cannot load {self.name} (it {error}); check {self.target}.") from error
            except aside.Refused as error:
                raise {"MissingHost": MissingHost}.get(error.args[0], EffectError)(error.args[1]) from error
            cache.save("dawdreamer", key, read)
        self.inputs, self.channels, self.latency = read["inputs"], read["channels"], read["latency"]
        self.reset, self.index, self.excluded = read["reset"], read["index"], read["excluded"]
        self.ranges = Space.from_json(read["space"]).parameters
        if self.reset == "reload":
            say_reload(self.name)

    @final
    def told(self) -> dict[str, Any]:
        """What `_learn_aside` takes over."""
        ranges = Space(self.ranges)
        names = ("inputs", "channels", "latency", "reset", "index", "excluded")
        return {name: getattr(self, name) for name in names} | {"space": ranges.to_json()}

    def _make(self, engine: Any) -> Any:
        try:
            return engine.make_plugin_processor("effect", self.target)
        except RuntimeError as error:
            raise RuntimeError(f"{str(error).strip().rstrip('.')}: {self.target}") from error

    def _latency(self, processor: Any) -> int:
        return processor.get_latency_samples()

    def _read(self, processor: Any) -> Space:
        # names go to those that are used first
        listed = sorted(processor.get_parameters_description(), key=lambda p: not p["isAutomatable"])
        found = names([p["name"] for p in listed], [p["label"] for p in listed])
        for name, p in zip(found, listed, strict=True):
            self.index[name] = p["index"]
            self.ranges[name] = self._parameter(processor, p)
            if not p["isAutomatable"]:
                self.excluded[name] = "cannot be automated"
        return Space({name: p for name, p in self.ranges.items() if name not in self.excluded})

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

    def _set(self, processor: Any, blocks: Sequence[Settings], hop: int) -> None:
        for name, value in blocks[0].items():
            processor.set_parameter(self.index[name], raw_value(self.ranges[name], value))


@final
class VST2(Plugin):
    """A VST2 plugin, with ranges and channels as in `Plugin`.

    Args:
        path: its library, or the name of an installed one, with or without "-vst.so".
        reset: what is done before each render, see `DawDreamer`; measured on loading if not given.
        sample_rate: in Hz, at which it is opened; others are opened when they are needed, on the main thread.
        parameters: a TOML file that says otherwise of parameters, see `load`.

    Raises:
        EffectError: no such file, not a plugin, one that crashes or hangs, or no audio through it.
        MissingHost: dawdreamer is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        reset: str | None = None,
        sample_rate: float = 44100,
        parameters: str | os.PathLike[str] | None = None,
    ) -> None:
        found = self._find(path)
        super().__init__(f"vst2:{vst2_name(found)}", str(found), reset, sample_rate, parameters)

    def _learn(self, choose: bool) -> None:
        self._learn_aside(choose)

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
        question = did_you_mean(given.stem, [vst2_name(found) for found in installed_vst2()])
        raise EffectError(
            f"No such VST2 plugin: {path}{question}; give its path, or its name if it is installed in {where}."
        )

    def _version(self) -> bytes:
        """The plugin's own files and its host."""
        path = Path(self.target)
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return super()._version() + b"".join(p.read_bytes() for p in files)


@final
class LV2(Plugin):
    """An LV2 plugin by its URI, with ranges and channels as in `Plugin`.

    Args:
        uri: such as "urn:dragonfly:plate"; `lv2ls` lists them.
        reset, sample_rate, parameters: as for `VST2`.

    Raises:
        EffectError: not a URI, no such plugin, one that crashes or hangs, or no audio through it.
        MissingHost: dawdreamer is not installed.
    """

    def __init__(
        self,
        uri: str,
        reset: str | None = None,
        sample_rate: float = 44100,
        parameters: str | os.PathLike[str] | None = None,
    ) -> None:
        if not re.match(r"[A-Za-z][\w+.-]*:\S+$", uri):
            raise EffectError(f"{uri!r} is no URI of an LV2 plugin; write one such as lv2:urn:dragonfly:plate.")
        super().__init__(f"lv2:{uri}", uri, reset, sample_rate, parameters)

    def _learn(self, choose: bool) -> None:
        try:
            self._learn_aside(choose)
        except MissingHost:
            raise
        except EffectError as error:
            known = bundles(lv2_path())
            if self.target in known:
                raise
            question, where = did_you_mean(self.target, known), ", ".join(map(str, lv2_path()))
            raise EffectError(
                f"No LV2 plugin {self.target}{question} is installed in {where}; `blackbox-fx effects` lists them."
            ) from error

    def _version(self) -> bytes:
        """The libraries of the bundle, where its manifest names the plugin, and the host."""
        bundle = bundles(lv2_path()).get(self.target)
        libraries = sorted(bundle.glob("*.so")) if bundle else []
        return super()._version() + b"".join(path.read_bytes() for path in libraries)
