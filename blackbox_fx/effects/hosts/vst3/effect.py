"""VST3 plugins, hosted by pedalboard."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.audio import Audio
from blackbox_fx.core import cache, checks, files, paths
from blackbox_fx.effects import overrides
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.hosts.host import Entry, Host, Several, entries_of_files
from blackbox_fx.effects.hosts.vst3 import hosting, reader, state
from blackbox_fx.effects.native import cleared_memory, may_be_slow, reseed, same_arithmetic, say_reload
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.effects.texts import parameter_from_texts, python_names, raw_value
from blackbox_fx.errors import DataError, EffectError, did_you_mean
from blackbox_fx.space import Space

_log = logging.getLogger("blackbox_fx")
ENDINGS = (".vst3", ".component")  # the latter are AudioUnits, which only macOS has
_DEADLINE = 30.0  # seconds that a plugin may be silent while it is loaded and measured, or given a state
_RARE = ("hop_multiple", "settle", "slow", "first", "forgets")
_TOLD = {"channels", "latency", "reset", "automatable", "parameters", *_RARE}
_FORMAT = 9
_LIBRARIES = ("", ".so", ".dll", ".dylib", ".vst3", ".bin")
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


def _find(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The file, and the name of one of the plugins in it where one is given behind a colon."""
    file, colon, name = str(path).rpartition(":")
    if found := _file(str(path)):
        return found, None
    if colon and name and (found := _file(file)):
        return found, name
    given = Path(path)
    where = ", ".join(map(str, search_path()))
    question = did_you_mean(given.stem, [found.stem for found in installed()])
    raise EffectError(
        f"No such VST3 plugin: {path}{question}; give its path, or its name if it is installed in {where}."
    )


def _file(name: str) -> Path | None:
    given = Path(name).expanduser()
    if given.exists():
        return given.resolve()
    if given.parent == Path() and name:
        for folder in search_path():
            for candidate in (folder / given, *(folder / f"{given}{ending}" for ending in ENDINGS)):
                if candidate.exists():
                    return candidate
        deeper = [found for found in installed() if found.stem == name]
        return deeper[0] if len(deeper) == 1 else None
    return None


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
    Parameters that move others (a mode, a style) are set before them, each time. Settings that the plugin puts back
    when it is reset are set again. A plugin that is ready only a while after it was loaded is waited for.

    Reported latency is compensated. Settings may change during a clip, and act on their own block of output, unless the
    plugin has parameters that move others, or its latency changes with them. Where it takes changes at whole blocks
    only, they come at multiples of 512 samples.

    A mono plugin renders each channel separately. A stereo plugin gets mono audio on both channels, and its left output
    is returned. The main bus is all there is: neither pedalboard nor dawdreamer opens side-chain buses of a VST3.

    Args:
        path: the .vst3 file or folder, or the name of an installed one; with ":name" behind it, the plugin of this name
            in a file that holds several.
        parameters: a TOML file that overrides parameters, see `load`.
        latency_samples: see `load`.

    Attributes:
        latency: samples that the plugin reports at 44.1 kHz and its defaults; the latency at the settings of a render
            is what is compensated.
        first: indices of the parameters that are set before all others.
        slow: indices of the parameters after whose change the plugin is waited for.
        reset: done before each render: "host" or "reload".
        excluded: reasons why parameters are excluded, by name.

    Raises:
        EffectError: no such file, not a plugin, one that crashes or hangs, no audio input, or more channels than the
            plugin has; `Several`, if the file holds several and none is named.
    """

    native = True
    plugin: str | None = None  # its name, in a file that holds several
    first: Sequence[int] = ()
    slow: Sequence[int] = ()  # parameters after whose change it settles, too
    forgets: bool = False  # a reset puts settings back to their defaults
    states = tuple(state.KINDS)
    latency_samples: int | None = None  # compensated in place of what the plugin reports

    def __init__(
        self,
        path: str | os.PathLike[str],
        parameters: str | os.PathLike[str] | None = None,
        latency_samples: int | None = None,
    ) -> None:
        found, plugin = _find(path)
        self.path = str(found)
        kind = "au" if self.path.endswith(".component") else "vst3"
        super().__init__(":".join([kind, found.name, *([plugin] if plugin else [])]), Space())
        self._keep(plugin=plugin)
        tables = {} if parameters is None else overrides.read(parameters)
        read = self._read()
        self.channels: int = read["channels"]
        self.latency = self._compensated(latency_samples, read["latency"])
        self.reset: str = read["reset"]
        self.automatable = read["automatable"]
        self._keep(**{name: read[name] for name in _RARE})
        if self.reset == "reload":
            say_reload(self.name)
        if not self.channels:
            raise EffectError(f"{self.name} takes neither mono nor stereo audio; it cannot be used as an effect.")
        index, known = _named(read["parameters"])
        if parameters is not None:
            known = overrides.apply(parameters, tables, known)
        self.excluded = {name: t.why for name, t in known.items() if t.why}
        used = sorted((n for n in known if n not in self.excluded), key=lambda n: index[n])
        self.index = {n: index[n] for n in used}
        # the plugin's own ranges, whatever `within` makes of the space
        self.ranges = {n: known[n].control for n in used}
        self.space = Space({n: known[n].offered for n in used})

    def _compensated(self, given: int | None, reported: int) -> int:
        """The latency in samples that is compensated at the defaults."""
        if given is None:
            return reported
        self.latency_samples = checks.latency(given)
        return self.latency_samples

    def _keep(self, **traits: Any) -> None:
        """Keeps what few plugins have only where they do, since it is part of the fingerprint."""
        vars(self).update({name: value for name, value in traits.items() if value and value != getattr(VST3, name)})

    def _read(self) -> dict[str, Any]:
        try:
            self.digest = files.digest(Path(self.path))
            key = _key(Path(self.path), self.plugin)
        except OSError as error:
            raise EffectError(f"Cannot read {self.path} ({error.strerror}); check the file.") from error
        read = cache.load("vst3", key)
        if not isinstance(read, dict) or not (read.keys() >= _TOLD or "names" in read):
            read = self._examined()
            cache.save("vst3", key, read)
        if "names" in read:
            raise self._several(read["names"])
        return read

    def _examined(self) -> dict[str, Any]:
        question = {"path": self.path, "name": self.plugin, "slow": self._may_be_slow(), "gentle": False}
        try:
            try:
                return isolation.call(reader.__name__, question, _DEADLINE)
            except isolation.Failed as error:
                # some plugins end at one position of an option, and can be used at the others
                read = isolation.call(reader.__name__, question | {"gentle": True}, _DEADLINE)
                _log.warning("%s %s at some setting; narrow its parameters, or exclude one.", self.name, error)
                return read
        except isolation.Failed as error:
            raise self._unusable(f"it {error}") from error
        except isolation.Refused as error:
            raise self._unusable(error.args[1]) from error

    def _may_be_slow(self) -> bool:
        path = Path(self.path)
        found = [path] if path.is_file() else [p for p in path.rglob("*") if p.suffix in _LIBRARIES and p.is_file()]
        return any(may_be_slow(p.read_bytes()) for p in found)

    def _several(self, names: Sequence[str]) -> Several:
        addresses = _addresses(Path(self.path), names)
        if self.plugin:
            question = did_you_mean(self.plugin, names)
            return Several(
                f"{self.path} has no plugin {self.plugin!r}{question}; it has {', '.join(names)}.", addresses
            )
        return Several(f"{self.path} holds the plugins {', '.join(names)}; name one, as {addresses[0]}.", addresses)

    def _unusable(self, reason: str) -> EffectError:
        if found := re.search(r"expects (\d+) input channels? and (\d+) output", reason):
            return EffectError(
                f"{self.name} has inputs and outputs, {found[1]} and {found[2]}, that pedalboard cannot host; load its "
                "VST2, LV2 or LADSPA build instead, as vst2:, lv2: or ladspa:."
            )
        return EffectError(f"Cannot load {self.path} as a VST3 plugin ({reason}); check the file.")

    def open_handle(self) -> list[_Loaded]:
        """At most one plugin, which stands at its beginning."""
        return [_Loaded(self.load_plugin())]

    def load_plugin(self) -> Any:
        """A new plugin of the host, from the file that was read before."""
        if files.digest(Path(self.path)) != self.digest:
            raise EffectError(f"{self.path} has changed on disk since it was loaded; load it again.")
        reseed()
        try:
            with same_arithmetic(), cleared_memory():
                plugin = hosting.load(self.path, self.plugin)
                for _ in range(_LOADS):
                    if self.reset == "reload" or not _reloads(plugin):
                        break
                    plugin = hosting.load(self.path, self.plugin)
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
        try:
            answer = self._ask_state({"ending": ending, "raws": list(self._raws(settings).items())})
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
        told = {
            "path": self.path,
            "name": self.plugin,
            "channels": self.channels,
            "manners": self._manners(hosting.RATE),
        }
        return isolation.call(state.__name__, question | told, _DEADLINE)

    def _manners(self, sample_rate: float, sets_again: bool = False) -> hosting.Manners:
        wanted = self.first or self.forgets or sets_again
        steps = [(self.index[n], p.positions) for n, p in self.ranges.items()] if wanted else []
        settle = self.settle * max(1.0, sample_rate / hosting.RATE)  # what it does may grow with the rate
        return hosting.Manners(self.first, steps, settle, self.slow, self.forgets)

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
            try:
                return self._stream(loaded, audio, blocks, hop, sample_rate)
            except hosting.LatencyMoved as moved:
                then, now = moved.args
                if len(blocks) == 1:  # one that was just loaded may tell it only now
                    with contextlib.suppress(hosting.LatencyMoved):
                        return self._stream(loaded, audio, blocks, hop, sample_rate, now)
                raise EffectError(
                    f"{self.name} has a latency of {then} samples in one block of the clip and of {now} in another; "
                    "hold the parameter that changes it, or render without hop."
                ) from moved

    def _stream(
        self,
        loaded: list[_Loaded],
        audio: Audio,
        blocks: Sequence[Settings],
        hop: int,
        sample_rate: float,
        latency: int | None = None,
    ) -> Audio:
        ready = loaded.pop() if loaded else _Loaded(self.load_plugin())
        reseed()
        manners = self._manners(sample_rate, ready.rate not in (None, sample_rate))
        plugin, resets = ready.plugin, self.reset == "host" and not _reloads(ready.plugin)
        raws = self._raws(blocks[0])
        if ready.rate != sample_rate:  # what it prepares may depend on the rate, and put settings back
            if ready.rate or self.settle:
                hosting.flush(plugin, len(audio), sample_rate)
                hosting.wait(manners.settle)
            if ready.rate:
                hosting.set_again(plugin, raws, len(audio), sample_rate, manners)
                ready.slow = None
            ready.rate = sample_rate
        slow = {k: raws[k] for k in self.slow if k in raws}
        hosting.begin(plugin, raws, len(audio), sample_rate, manners, resets, ready.slow != slow)
        ready.slow = slow
        if resets:
            loaded.append(ready)

        def change(k: int) -> None:
            if k:
                hosting.set_raws(plugin, self._raws(blocks[k]))

        return hosting.stream(plugin, audio, hop, sample_rate, change, latency, self.latency_samples)

    def _raws(self, settings: Settings) -> dict[int, float]:
        return {self.index[name]: raw_value(self.ranges[name], value) for name, value in settings.items()}


@dataclasses.dataclass
class _Loaded:
    """A plugin, the sample rate in Hz at which it was used, and where its slow parameters stand."""

    plugin: Any
    rate: float | None = None
    slow: dict[int, float] | None = None


def _named(listed: Sequence[dict[str, Any]]) -> tuple[dict[str, int], dict[str, overrides.Reported]]:
    """Indices and kinds of parameters that were read, by name; those that are used come first."""
    excluded = [k for k, p in enumerate(listed) if p["why"]]
    names = python_names([p["name"] for p in listed], [p["label"] for p in listed], excluded)
    index: dict[str, int] = {}
    known: dict[str, overrides.Reported] = {}
    for name, p in sorted(zip(names, listed, strict=True), key=lambda named: bool(named[1]["why"])):
        control = parameter_from_texts(_recalled(p["texts"]), p["steps"], p["raw"], p["label"])
        index[name], known[name] = p["index"], overrides.Reported(control, control, p["why"])
    return index, known


def _recalled(texts: Sequence[str]) -> Any:
    """The texts of evenly spaced positions in [0, 1], by position."""
    return lambda position: texts[round(position * (len(texts) - 1))]


def _reloads(plugin: Any) -> bool:
    """Whether the host resets the plugin by loading it again, which loses settings at their defaults."""
    return plugin._reload_type.name == "PersistsAudioOnReset"


def _key(path: Path, plugin: str | None) -> dict[str, Any]:
    """For the cache; raises OSError if the files cannot be read."""
    # a bridge has one and the same binary for all its plugins
    key = {"format": _FORMAT, "path": str(path), "files": files.digest(path), "host": version("pedalboard")}
    return key | ({"name": plugin} if plugin else {})


def _addresses(path: Path, names: Sequence[str]) -> list[str]:
    """Of the plugins in a file that holds several."""
    return [f"vst3:{path.stem if path.parent in search_path() else path}:{name}" for name in names]


def _entries() -> list[Entry]:
    found = installed()
    entries: list[Entry] = []
    for path, entry in zip(found, entries_of_files("vst3", found, [p.stem for p in found], search_path()), strict=True):
        read = None
        with contextlib.suppress(OSError):
            read = cache.load("vst3", _key(path, None))
        names = read.get("names", []) if isinstance(read, dict) else []
        entries += [Entry(each, entry.files) for each in _addresses(path, names)] or [entry]
    return entries


def _bare(effect: VST3, audio: Audio, sample_rate: float) -> Callable[[], Any]:
    plugin = effect.load_plugin()
    parts = [audio] if effect.channels == 2 else [audio[:1], audio[1:]]
    return lambda: [plugin.process(x, sample_rate, buffer_size=hosting.BLOCK, reset=True) for x in parts]


def make(
    path: str | os.PathLike[str],
    parameters: str | os.PathLike[str] | None = None,
    tempo: float | None = None,
    latency_samples: int | None = None,
) -> Effect:
    """A VST3 plugin in pedalboard, or in dawdreamer if it is told a tempo in beats per minute; see `load`."""
    if tempo is None:
        return VST3(path, parameters, latency_samples)
    from blackbox_fx.effects.hosts.dawdreamer.vst3 import TempoVST3

    file, plugin = _find(path)
    if plugin is not None:
        raise EffectError(
            f"{file} holds several plugins, and a tempo can be told to the only one of a file; leave it out."
        )
    return TempoVST3(file, parameters, tempo, latency_samples)


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
