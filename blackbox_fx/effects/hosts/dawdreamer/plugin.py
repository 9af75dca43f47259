"""A plugin in dawdreamer, of whatever format."""

from __future__ import annotations

import abc
import hashlib
import os
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.audio import Audio
from blackbox_fx.core import cache
from blackbox_fx.effects import overrides
from blackbox_fx.effects.hosts.dawdreamer.engine import DawDreamer, dawdreamer, names
from blackbox_fx.effects.native import say_reload
from blackbox_fx.effects.request import Settings
from blackbox_fx.effects.texts import count_steps, parameter_from_texts, raw_value
from blackbox_fx.errors import EffectError, MissingHost
from blackbox_fx.space import Parameter, Space

_DEADLINE = 120.0  # seconds that a plugin may take to be loaded and measured
_FORMAT = 1
_READER = "blackbox_fx.effects.hosts.dawdreamer.reader"


def folders(variable: str, *usual: str) -> list[Path]:
    """The folders that an environment variable names, and the usual ones behind them."""
    given = [Path(name) for name in os.environ.get(variable, "").split(os.pathsep) if name]
    return given + [Path(name).expanduser() for name in usual]


class Plugin(DawDreamer, abc.ABC):
    """A plugin in dawdreamer; a subclass finds it.

    The plugin is examined once, in a process of its own; it is loaded in this process only to render. Ranges come from
    the texts that the plugin shows; if these are no numbers on a linear or logarithmic scale, the range is 0 to 1 in
    unit "raw". The latency that the plugin reports at its settings is compensated. Settings cannot change during a
    clip.

    A mono plugin renders each channel separately. A stereo plugin gets mono audio on both channels, and its left output
    is returned. Of a plugin with more channels, the first two are used, and the others get silence. Presets are JSON
    only: to load a state, dawdreamer opens a window, and it crashes with some LV2 plugins.

    Attributes:
        excluded: reasons why parameters are excluded, by name.
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
        known = {n: overrides.Reported(r, r, self.excluded.get(n, "")) for n, r in self.ranges.items()}
        if parameters is not None and tables is not None:
            known = overrides.apply(parameters, tables, known)
        self.excluded = {n: t.why for n, t in known.items() if t.why}
        used = [n for n in known if not known[n].why]
        self.index = {n: self.index[n] for n in used}
        self.ranges = {n: known[n].control for n in used}
        self.space = Space({n: known[n].offered for n in used})

    @final
    def learn_isolated(self, choose: bool) -> None:
        """Learns what `learn_here` does, but in a process of its own, and keeps it in the user's cache."""
        try:
            host = version("dawdreamer")
        except PackageNotFoundError:
            dawdreamer()  # says how to install it
            raise
        question = {"name": self.name, "target": self.target, "rate": self.sample_rate}
        question["reset"] = None if choose else self.reset
        files = hashlib.blake2b(self.version(), digest_size=16).hexdigest()
        key = {"format": _FORMAT, "files": files, "host": host, **question}
        read = cache.load("dawdreamer", key)
        if read is None:
            try:
                read = isolation.call(_READER, question, _DEADLINE)
            except isolation.Failed as error:
                raise EffectError(f"Cannot load {self.name} (it {error}); check {self.target}.") from error
            except isolation.Refused as error:
                raise {"MissingHost": MissingHost}.get(error.args[0], EffectError)(error.args[1]) from error
            cache.save("dawdreamer", key, read)
        self.audio_inputs, self.channels, self.latency = read["inputs"], read["channels"], read["latency"]
        self.reset, self.index, self.excluded = read["reset"], read["index"], read["excluded"]
        self.ranges = Space.from_json(read["space"]).parameters
        if self.reset == "reload":
            say_reload(self.name)

    @final
    def reported(self) -> dict[str, Any]:
        """What `learn_isolated` takes over."""
        ranges = Space(self.ranges)
        names = ("channels", "latency", "reset", "index", "excluded")
        found = {name: getattr(self, name) for name in names}
        return found | {"inputs": self.audio_inputs, "space": ranges.to_json()}

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


def bare(effect: Plugin, audio: Audio, sample_rate: float) -> Callable[[], Any]:
    """The call of the host that one render comes down to."""
    loaded = effect.loaded(sample_rate)
    feed = np.zeros((effect.audio_inputs, audio.shape[1]), np.float32)
    feed[: effect.channels] = audio[: effect.channels]

    def render() -> None:
        for _ in range(2 if effect.channels == 1 else 1):
            loaded.player.set_data(feed)
            loaded.engine.render((feed.shape[1] + 0.5) / sample_rate)
            loaded.engine.get_audio()

    return render
