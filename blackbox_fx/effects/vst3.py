"""VST3 plugins, hosted by pedalboard."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects.base import Effect, Settings
from blackbox_fx.effects.native import same_arithmetic
from blackbox_fx.effects.texts import parameter_from_texts, python_name, raw_value
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Parameter, Space

# some plugins return dry audio or crash on other block sizes, so the input is padded to whole blocks of this many
_BLOCK = 512
_LOADS = 8  # of a plugin that is not reset as its host believes
# what hosts add to the plugin's own parameters; setting the program resets all others
_HOST_PARAMETERS = ("Buffer Size", "Sample Rate", "Latency", "Current Program")


def search_path() -> list[Path]:
    """The folders where VST3 plugins are installed on this system, in order."""
    home = Path.home()
    if sys.platform == "darwin":
        return [home / "Library/Audio/Plug-Ins/VST3", Path("/Library/Audio/Plug-Ins/VST3")]
    return [home / ".vst3", Path("/usr/local/lib/vst3"), Path("/usr/lib/vst3")]


def installed() -> list[Path]:
    """The VST3 plugins found in the search path, sorted; none is loaded."""
    return sorted(p for folder in search_path() if folder.is_dir() for p in folder.glob("**/*.vst3"))


def _find(path: str | os.PathLike[str]) -> Path:
    given = Path(path).expanduser()
    if given.exists():
        return given.resolve()
    if given.parent == Path():
        for folder in search_path():
            for candidate in (folder / given, folder / f"{given}.vst3"):
                if candidate.exists():
                    return candidate
    where = ", ".join(map(str, search_path()))
    raise EffectError(f"No such VST3 plugin: {path}; give its path, or its name if it is installed in {where}.")


@contextlib.contextmanager
def _fast_loading() -> Iterator[None]:
    """Keeps pedalboard from asking 1001 texts of every parameter on load: up to 80 seconds, where 5 texts will do."""
    from pedalboard import _pedalboard

    mixin = getattr(_pedalboard, "_PythonExternalPluginMixin", None)
    name = "__set_initial_parameter_values__"
    if mixin is None or not hasattr(mixin, name):
        yield
        return
    original = getattr(mixin, name)
    setattr(mixin, name, lambda plugin, parameter_values=None: None)
    try:
        yield
    finally:
        setattr(mixin, name, original)


def _resets(plugin: Any) -> bool:
    """Whether the host's way to reset a plugin leaves nothing of earlier audio.

    pedalboard guesses the way from one noise that it plays on loading: of ZamTube, it is wrong one time in ten.
    """
    if plugin._reload_type.name != "ClearsAudioOnReset":
        return True
    for channels in (2, 1):
        noise = np.random.default_rng(0).uniform(-0.9, 0.9, (channels, 16 * _BLOCK)).astype(np.float32)
        with contextlib.suppress(ValueError):
            first, again = (plugin.process(noise, 44100, buffer_size=_BLOCK, reset=True) for _ in range(2))
            return bool(np.abs(first - again).max() < 1e-6)
    return True


def _parameter(native: Any) -> Parameter:
    return parameter_from_texts(
        native.get_text_for_raw_value, native.num_steps, float(native.raw_value), native.label.strip()
    )


@final
class VST3(Effect):
    """A VST3 plugin.

    Parameters are named as in pedalboard ("threshold_db"); ranges come from the texts that the plugin shows, and are
    0 to 1 in unit "raw" where these are no numbers on a linear or logarithmic scale. Parameters that the host adds and
    those that the plugin does not let a host automate (meters, mostly) are left out. Each render flushes one block
    after setting, since edits reach the plugin only while it processes, and then resets it. Reported latency is
    compensated; a plugin with latency is not automatable.

    A mono-only plugin renders each channel by itself; a stereo-only plugin gets mono audio twice and returns its left.

    Args:
        path: the .vst3 file or folder, or the name of an installed one.

    Raises:
        EffectError: no such file, not a plugin, no audio input, or more channels than the plugin has.
    """

    native = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(_find(path))
        super().__init__(f"vst3:{Path(self.path).name}", Space())
        self.index: dict[str, int] = {}
        with self._handle() as plugin:
            for k, native in enumerate(plugin._parameters):
                if native.is_automatable and native.name not in _HOST_PARAMETERS:
                    self.index.setdefault(python_name(native.name, native.label), k)
            # the plugin's own ranges, whatever `within` makes of the space
            self.ranges = {n: _parameter(plugin._parameters[k]) for n, k in self.index.items()}
            self.automatable = plugin.reported_latency_samples == 0
            self.channels = self._count_channels(plugin)
        self.space = Space(self.ranges)

    def _open(self) -> Any:
        import pedalboard

        try:
            with _fast_loading(), same_arithmetic():
                plugin = pedalboard.VST3Plugin(self.path)
                for _ in range(_LOADS):
                    if _resets(plugin):
                        break
                    plugin = pedalboard.VST3Plugin(self.path)
        except Exception as error:
            reason = " ".join(str(error).split())
            if "main thread" in reason:
                raise EffectError(
                    f"{self.name} can only be loaded on the main thread; give the layer Processes()."
                ) from error
            raise EffectError(f"Cannot load {self.path} as a VST3 plugin ({reason}); check the file.") from error
        return plugin

    def _count_channels(self, plugin: Any) -> int:
        for channels in (2, 1):
            with contextlib.suppress(ValueError):
                plugin.process(np.zeros((channels, _BLOCK), np.float32), 44100, buffer_size=_BLOCK)
                return channels
        raise EffectError(f"{self.name} takes neither mono nor stereo audio; it cannot be used as an effect.")

    def _version(self) -> bytes:
        """The plugin's own files and its host."""
        path = Path(self.path)
        binaries = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".so", ".dll", ""))
        return version("pedalboard").encode() + b"".join(p.read_bytes() for p in binaries if p.is_file())

    def _process(self, audio: Audio, blocks: Sequence[Settings], hop: int, sample_rate: float) -> Audio:
        if self.channels == 1:
            rows = [self._run(audio[c : c + 1], blocks, hop, sample_rate) for c in range(len(audio))]
            return np.concatenate(rows)
        if len(audio) > 2:
            raise EffectError(f"{self.name} has 2 channels, got audio with {len(audio)}; render pairs of channels.")
        return self._run(np.broadcast_to(audio, (2, audio.shape[1])), blocks, hop, sample_rate)[: len(audio)]

    def _run(self, audio: Audio, blocks: Sequence[Settings], hop: int, sample_rate: float) -> Audio:
        with self._handle() as plugin:
            return self._run_plugin(plugin, audio, blocks, hop, sample_rate)

    def _run_plugin(self, plugin: Any, audio: Audio, blocks: Sequence[Settings], hop: int, sample_rate: float) -> Audio:
        silence = np.zeros((len(audio), _BLOCK), np.float32)
        out = []
        for k, settings in enumerate(blocks):
            # asked for anew each time: some plugins are reloaded by a reset, and their old parameter objects then crash
            native = plugin._parameters
            for name, value in settings.items():
                native[self.index[name]].raw_value = raw_value(self.ranges[name], value)
            cut = audio[:, k * hop : (k + 1) * hop]
            if k == 0:
                plugin.process(silence, sample_rate, buffer_size=_BLOCK, reset=False)
            last = k == len(blocks) - 1
            padded = np.pad(cut, ((0, 0), (0, -cut.shape[1] % _BLOCK))) if last else cut
            wet = plugin.process(padded, sample_rate, buffer_size=_BLOCK, reset=k == 0)
            out.append(wet[:, : cut.shape[1]])
        return np.concatenate(out, axis=1)
