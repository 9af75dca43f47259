"""VST3 plugins, hosted by pedalboard."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.audio import Audio
from blackbox_fx.core import cache, files, paths
from blackbox_fx.effects import overrides
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.hosts.host import Entry, Host, entries_of_files
from blackbox_fx.effects.hosts.vst3 import reader, state
from blackbox_fx.effects.native import reseed, same_arithmetic, say_reload
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.effects.texts import parameter_from_texts, python_name, raw_value
from blackbox_fx.errors import DataError, EffectError, did_you_mean
from blackbox_fx.space import Space

ENDINGS = (".vst3", ".component")  # the latter are AudioUnits, which only macOS has
_DEADLINE = 30.0  # seconds that a plugin may be silent while it is loaded and measured, or given a state
_TOLD = {"channels", "latency", "reset", "automatable", "parameters"}
_FORMAT = 1
_LOADS = 8  # of a plugin whose host reports another reset than was measured


def search_path() -> list[Path]:
    """The folders where VST3 plugins are installed on this system, in order."""
    home = paths.home()
    if sys.platform == "darwin":
        kinds = ("VST3", "Components")
        return [root / "Library/Audio/Plug-Ins" / kind for kind in kinds for root in (home, Path("/"))]
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", home / "AppData/Local"))
        common = Path(os.environ.get("COMMONPROGRAMFILES", "C:/Program Files/Common Files"))
        return [local / "Programs/Common/VST3", common / "VST3"]
    return [home / ".vst3", Path("/usr/local/lib/vst3"), Path("/usr/lib/vst3")]


def installed() -> list[Path]:
    """The VST3 plugins found in the search path, sorted; none is loaded."""
    folders = [folder for folder in search_path() if folder.is_dir()]
    return sorted(p for folder in folders for ending in ENDINGS for p in folder.glob(f"**/*{ending}"))


def _find(path: str | os.PathLike[str]) -> Path:
    given = Path(path).expanduser()
    if given.exists():
        return given.resolve()
    if given.parent == Path():
        for folder in search_path():
            for candidate in (folder / given, *(folder / f"{given}{ending}" for ending in ENDINGS)):
                if candidate.exists():
                    return candidate
    where = ", ".join(map(str, search_path()))
    question = did_you_mean(given.stem, [found.stem for found in installed()])
    raise EffectError(
        f"No such VST3 plugin: {path}{question}; give its path, or its name if it is installed in {where}."
    )


@final
class VST3(Effect):
    """A VST3 plugin.

    The plugin is examined once, in a process of its own; it is loaded in this process only to render. Parameters are
    named as in pedalboard ("threshold_db"). Their ranges come from the texts that the plugin shows; if these are no
    numbers on a linear or logarithmic scale, the range is 0 to 1 in unit "raw". Some parameters are excluded: those
    that the host adds, those that move others, and those that look like meters or cannot be automated and change
    nothing.

    Settings reach the plugin only while it processes, so each render first processes one block of silence, and then
    resets the plugin. If audio survives the reset, the plugin is loaded again for each render, on the main thread.
    Reported latency is compensated. Settings may change during a clip, and act on their own block of output.

    A mono plugin renders each channel separately. A stereo plugin gets mono audio on both channels, and its left output
    is returned.

    Args:
        path: the .vst3 file or folder, or the name of an installed one.
        parameters: a TOML file that overrides parameters, see `load`.

    Attributes:
        latency: samples that the plugin reports at 44.1 kHz and its defaults.
        reset: done before each render: "host" or "reload".
        excluded: reasons why parameters are excluded, by name.

    Raises:
        EffectError: no such file, not a plugin, one that crashes or hangs, no audio input, or more channels than the
            plugin has.
    """

    native = True
    states = tuple(state.KINDS)

    def __init__(self, path: str | os.PathLike[str], parameters: str | os.PathLike[str] | None = None) -> None:
        self.path = str(_find(path))
        kind = "au" if self.path.endswith(".component") else "vst3"
        super().__init__(f"{kind}:{Path(self.path).name}", Space())
        tables = {} if parameters is None else overrides.read(parameters)
        read = self._read()
        self.channels: int = read["channels"]
        self.latency: int = read["latency"]
        self.reset: str = read["reset"]
        self.automatable = read["automatable"]
        if self.reset == "reload":
            say_reload(self.name)
        if not self.channels:
            raise EffectError(f"{self.name} takes neither mono nor stereo audio; it cannot be used as an effect.")
        index: dict[str, int] = {}
        known: dict[str, overrides.Reported] = {}
        for p in sorted(read["parameters"], key=lambda p: bool(p["why"])):  # names go to those that are used first
            name = python_name(p["name"], p["label"])
            if name not in known:
                control = parameter_from_texts(_recalled(p["texts"]), p["steps"], p["raw"], p["label"])
                index[name], known[name] = p["index"], overrides.Reported(control, control, p["why"])
        if parameters is not None:
            known = overrides.apply(parameters, tables, known)
        self.excluded = {name: t.why for name, t in known.items() if t.why}
        used = sorted((n for n in known if n not in self.excluded), key=lambda n: index[n])
        self.index = {n: index[n] for n in used}
        # the plugin's own ranges, whatever `within` makes of the space
        self.ranges = {n: known[n].control for n in used}
        self.space = Space({n: known[n].offered for n in used})

    def _read(self) -> dict[str, Any]:
        try:
            self.digest = files.digest(Path(self.path))
            # a bridge has one and the same binary for all its plugins
            key = {"format": _FORMAT, "path": self.path, "files": self.digest, "host": version("pedalboard")}
        except OSError as error:
            raise EffectError(f"Cannot read {self.path} ({error.strerror}); check the file.") from error
        read = cache.load("vst3", key)
        if not isinstance(read, dict) or not read.keys() >= _TOLD:
            try:
                read = isolation.call(reader.__name__, {"path": self.path}, _DEADLINE)
            except isolation.Failed as error:
                raise self._unusable(f"it {error}") from error
            except isolation.Refused as error:
                raise self._unusable(error.args[1]) from error
            cache.save("vst3", key, read)
        return read

    def _unusable(self, reason: str) -> EffectError:
        return EffectError(f"Cannot load {self.path} as a VST3 plugin ({reason}); check the file.")

    def open_handle(self) -> list[Any]:
        """At most one plugin, which stands at its beginning."""
        return [self.load_plugin()]

    def load_plugin(self) -> Any:
        """A new plugin of the host, from the file that was read before."""
        if files.digest(Path(self.path)) != self.digest:
            raise EffectError(f"{self.path} has changed on disk since it was loaded; load it again.")
        try:
            with same_arithmetic():
                plugin = reader.load(self.path)
                for _ in range(_LOADS):
                    if self.reset == "reload" or not _reloads(plugin):
                        break
                    plugin = reader.load(self.path)
        except Exception as error:
            reason = " ".join(str(error).split())
            if "main thread" in reason:
                once = "" if self.reset == "reload" else "call effect.open() there first, or "
                when = "for each render " if self.reset == "reload" else ""
                raise EffectError(
                    f"{self.name} is loaded {when}on the main thread only; {once}give the layer Processes()."
                ) from error
            raise self._unusable(reason) from error
        return plugin

    def version(self) -> bytes:
        """The plugin's own files and its host."""
        return f"{version('pedalboard')} {self.digest}".encode()

    def write_state(self, ending: str, settings: Settings) -> bytes:
        """The plugin's own state; see `Effect.write_state`."""
        raws = [(self.index[name], raw_value(self.ranges[name], value)) for name, value in settings.items()]
        try:
            answer = self._ask_state({"ending": ending, "raws": raws})
        except (isolation.Failed, isolation.Refused) as error:
            raise EffectError(f"{self.name} gives no {ending} (it {error.args[-1]}); write .json.") from error
        return base64.b64decode(answer["content"])

    def read_state(self, path: Path, content: bytes) -> tuple[Settings, float]:
        """The settings in a state; see `Effect.read_state`."""
        question = {"ending": path.suffix, "content": base64.b64encode(content).decode(), "index": self.index}
        try:
            answer = self._ask_state(question | {"ranges": Space(self.ranges).to_json()})
        except isolation.Failed as error:
            raise EffectError(f"{self.name} cannot read {path} (it {error}); save it again.") from error
        except isolation.Refused as error:
            raise DataError(f"{path} does not fit {self.name} ({error.args[1]}); check the file.") from error
        return answer["values"], max(0.0, answer["difference"] - 4 * answer["noise"])

    def _ask_state(self, question: dict[str, Any]) -> dict[str, Any]:
        return isolation.call(state.__name__, question | {"path": self.path, "channels": self.channels}, _DEADLINE)

    def process(self, request: RenderRequest) -> Audio:
        """Renders a request; see `Effect.process`."""
        audio, blocks, hop, sample_rate = request.audio, request.blocks, request.hop, request.sample_rate
        if self.channels == 1:
            rows = [self._run(audio[c : c + 1], blocks, hop, sample_rate) for c in range(len(audio))]
            return np.concatenate(rows)
        if len(audio) > 2:
            raise EffectError(f"{self.name} has 2 channels, got audio with {len(audio)}; render pairs of channels.")
        return self._run(np.broadcast_to(audio, (2, audio.shape[1])), blocks, hop, sample_rate)[: len(audio)]

    def _run(self, audio: Audio, blocks: Sequence[Settings], hop: int, sample_rate: float) -> Audio:
        with self.handle() as loaded:
            reseed()
            plugin = loaded.pop() if loaded else self.load_plugin()
            self._set(plugin, blocks[0])
            if self.reset == "host" and not _reloads(plugin):
                reader.flush(plugin, len(audio), sample_rate)
                plugin.reset()
                loaded.append(plugin)
            return reader.stream(plugin, audio, hop, sample_rate, lambda k: self._set(plugin, blocks[k]) if k else None)

    def _set(self, plugin: Any, settings: Settings) -> None:
        # asked for again each time: some plugins are reloaded by a reset, and their old parameter objects then crash
        native = plugin._parameters
        for name, value in settings.items():
            native[self.index[name]].raw_value = raw_value(self.ranges[name], value)


def _recalled(texts: Sequence[str]) -> Any:
    """The texts of evenly spaced positions in [0, 1], by position."""
    return lambda position: texts[round(position * (len(texts) - 1))]


def _reloads(plugin: Any) -> bool:
    """Whether the host resets the plugin by loading it again, which loses settings at their defaults."""
    return plugin._reload_type.name == "PersistsAudioOnReset"


def _entries() -> list[Entry]:
    found = installed()
    return entries_of_files("vst3", found, [path.stem for path in found], search_path())


def _bare(effect: VST3, audio: Audio, sample_rate: float) -> Callable[[], Any]:
    plugin = effect.load_plugin()
    parts = [audio] if effect.channels == 2 else [audio[:1], audio[1:]]
    return lambda: [plugin.process(x, sample_rate, buffer_size=reader.BLOCK, reset=True) for x in parts]


def make(
    path: str | os.PathLike[str], parameters: str | os.PathLike[str] | None = None, tempo: float | None = None
) -> Effect:
    """A VST3 plugin in pedalboard, or in dawdreamer if it is told a tempo in beats per minute; see `load`."""
    if tempo is None:
        return VST3(path, parameters)
    from blackbox_fx.effects.hosts.dawdreamer.vst3 import TempoVST3

    return TempoVST3(_find(path), parameters, tempo)


HOST = Host(
    name="vst3",
    effect=make,
    example="vst3:ZamCompX2",
    package="pedalboard",
    debian=("zam-plugins",),
    endings=ENDINGS,
    installed=_entries,
    bare=_bare,
)
