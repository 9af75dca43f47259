"""A plugin in dawdreamer, of whatever format."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.audio import Audio
from blackbox_fx.core import cache, checks
from blackbox_fx.effects import ordering, overrides
from blackbox_fx.effects.hosts.dawdreamer import bundles, examine
from blackbox_fx.effects.hosts.dawdreamer.bundles import Port
from blackbox_fx.effects.hosts.dawdreamer.engine import BLOCK, DawDreamer, Loaded, dawdreamer
from blackbox_fx.effects.hosts.dawdreamer.homes import home_for
from blackbox_fx.effects.hosts.dawdreamer.layout import Layout
from blackbox_fx.effects.native import is_filtered, reseed, say_reload
from blackbox_fx.effects.request import Settings
from blackbox_fx.effects.texts import count_steps, parameter_from_texts, python_names, raw_value
from blackbox_fx.errors import EffectError, MissingHost, ParameterError
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Space

_DEADLINE = 120.0  # seconds that a plugin may be silent while it is loaded and measured
_FORMAT = 12
_TOLD = ("latency", "reset", "late", "settle", "pause", "index", "excluded", "first", "parts")
_ENOUGH = 3  # settings that take time, of which it is measured how much
_SLOW = 0.01  # seconds that a text may take without a word
_MOST_STEPS = 1000  # of a parameter that does not move freely
_SLOWEST, _FASTEST = 20, 999  # beats per minute
_HEARD = 8 * BLOCK  # samples by which the order of settings is heard
_METER = "moves by itself, as a meter"
_READER = "blackbox_fx.effects.hosts.dawdreamer.reader"


def folders(variable: str, *usual: str) -> list[Path]:
    """The folders that an environment variable names, and the usual ones behind them."""
    given = [Path(name) for name in os.environ.get(variable, "").split(os.pathsep) if name]
    return given + [Path(name).expanduser() for name in usual]


class Plugin(DawDreamer, abc.ABC):
    """A plugin in dawdreamer; a subclass finds it.

    The plugin is examined once, in a process of its own; it is loaded in this process only to render. Ranges come from
    the texts that the plugin shows, and where these are no numbers on a linear or logarithmic scale, from the files of
    an LV2 plugin; else the range is 0 to 1 in unit "raw". The latency that the plugin reports at its settings is
    compensated. Settings cannot change during a clip.

    A parameter that moves others is set before them, so that the same settings are the same sound. Settings that a
    plugin puts back when a render begins are set again in silence before the audio. Meters and triggers are excluded.
    A plugin that is ready only some while after it was loaded, or after its settings, is waited for as long as that was
    measured to take, and refused if it is never ready.

    A mono plugin renders each channel separately. A stereo plugin gets mono audio on both channels, and its left output
    is returned. One with one input and two outputs gets the mean of the channels; one with two inputs and one output
    gives it on all channels. Of a plugin with more channels, the first two are used, and the others get silence. Inputs
    of a side chain are the input "sidechain", see `Effect.inputs`: one gets the mean of its channels, two get left and
    right.

    LV2 ranges in parts of the sample rate are shown in Hz at `sample_rate`; at another rate, a value is moved into what
    the plugin takes there. Presets are JSON only: to load a state, dawdreamer opens a window, and it crashes with some
    LV2 plugins.

    Attributes:
        excluded: reasons why parameters are excluded, by name.
        first: names of the parameters that move others.
    """

    foreign: tuple[str, ...] = ()  # what the host adds to the parameters
    latency_samples: int | None = None  # compensated in place of what the plugin reports

    def __init__(
        self,
        name: str,
        target: str,
        reset: str | None,
        sample_rate: float,
        parameters: str | os.PathLike[str] | None = None,
        tempo: float | None = None,
        latency_samples: int | None = None,
        bundle: str = "",
    ) -> None:
        self.target, self.bundle, self.reborn = target, bundle, bool(bundle)
        self.tempo = None if tempo is None else _checked(tempo)
        self.index: dict[str, int] = {}
        self.ranges: dict[str, Parameter] = {}
        self.excluded: dict[str, str] = {}
        self.first: list[str] = []
        self.parts: dict[str, list[float]] = {}  # ends as parts of the sample rate
        if latency_samples is not None:
            self.latency_samples = checks.latency(latency_samples)
        tables = None if parameters is None else overrides.read(parameters)
        super().__init__(name, reset, sample_rate)
        known = {n: overrides.Reported(r, r, self.excluded.get(n, "")) for n, r in self.ranges.items()}
        if parameters is not None and tables is not None:
            known = overrides.apply(parameters, tables, known)
        self.excluded = {n: t.why for n, t in known.items() if t.why}
        used = [n for n in known if not known[n].why]
        self.first = [n for n in self.first if n in used]
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
        question = {"name": self.name, "target": self.target, "bundle": self.bundle, "rate": self.sample_rate}
        question |= {"tempo": self.tempo, "reset": None if choose else self.reset}
        question |= {"flushed": self.flushed, "foreign": self.foreign}
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
        for name in _TOLD:
            setattr(self, name, read[name])
        if self.latency_samples is not None:
            self.latency, self.late = self.latency_samples, 0
        if read["forgets"]:  # kept only where it is so, since it is part of the fingerprint
            self.forgets = True
        self.layout = Layout(*read["layout"][:2], *map(tuple, read["layout"][2:]))
        self.ranges = Space.from_json(read["space"]).parameters
        if self.reset == "reload":
            say_reload(self.name)

    @final
    def learn_here(self, choose: bool) -> None:
        """Learns all that by loading the plugin in this process."""
        loaded = self.load_one(self.sample_rate, BLOCK)
        processor = loaded.processor
        self.layout = Layout.of(processor.get_num_input_channels(), processor.get_num_output_channels())
        self.latency = self.latency_of(processor)
        ports = bundles.ports(self.target, Path(self.bundle)) if self.bundle else []
        self._read(loaded, controls(ports, processor))
        if not ports or any(port.tells_latency for port in ports):
            self.late = examine.late_latency(self, loaded)
        self._find_side_chain(ports)
        if not self.first and self.filters():
            self.first = self._heard_first()
        fresh = self.choose_reset() if choose else None
        if examine.works_aside(self):
            self._time(choose, fresh)
        if not self.reborn or self.filters():
            self._find_forgets(choose)
        self.forget()

    def _find_side_chain(self, ports: Sequence[Port]) -> None:
        audio = [port for port in ports if port.is_a("Input", "Audio")]
        told = [k for k, port in enumerate(audio) if port.side]
        if told or self.layout.inputs > self.layout.outputs:
            self.layout = examine.find_layout(self.load_one(self.sample_rate, BLOCK), told)

    def _find_forgets(self, choose: bool) -> None:
        """Finds whether the plugin puts settings back when a render begins, and what that may have hidden."""
        self.forgets = examine.forgets(self, choose, self.say)
        if self.forgets and not self.first and self.filters():
            self.first = self._heard_first()
        if self.forgets and choose:
            self.choose_reset()

    def _time(self, choose: bool, fresh: Audio | None) -> None:
        """Measures how long the plugin is waited for, and chooses the reset again; `fresh` as from `choose_reset`."""
        feed, settings = self.jobs()[-1]
        self.settle, self.pause = times = self._times(feed, settings, fresh)
        if not self.pause:
            others = [self._times(feed, row) for row in examine.late_options(self, feed)[:_ENOUGH]]
            self.settle, self.pause = map(max, zip(times, *others, strict=True))
        if choose and (self.settle or self.pause):
            self.choose_reset()

    def _times(self, feed: Audio, settings: Settings, fresh: Audio | None = None) -> tuple[float, float]:
        """The `settle` and the `pause` that it needs at these settings."""
        known = self.settle, self.pause
        reseed()
        old = self.load_one(self.sample_rate, BLOCK)
        examine.prepare(self, old, settings)
        self.say("tried again after a while")
        fresh = self.run_afresh(feed, settings) if fresh is None else fresh
        aged = examine.takes_time(self, old, fresh, feed, settings)
        if aged is None:
            return known
        found = examine.measure_times(self, feed, settings, aged)
        self.settle, self.pause = known
        return found

    @final
    def reported(self) -> dict[str, Any]:
        """What `learn_isolated` takes over."""
        found = {name: getattr(self, name) for name in (*_TOLD, "forgets")}
        return found | {"layout": dataclasses.astuple(self.layout), "space": Space(self.ranges).to_json()}

    def _make(self, engine: Any, sample_rate: float) -> Any:
        try:
            with home_for(self.target, self.bundle, sample_rate):
                return engine.make_plugin_processor("effect", self.target)
        except RuntimeError as error:
            raise RuntimeError(f"{str(error).strip().rstrip('.')}: {self.target}") from error

    def say(self, what: str) -> None:
        """Called with what was just read: some plugins take seconds for each parameter."""

    def latency_of(self, processor: Any) -> int:
        """In samples, as the plugin reports it now, or as the user says."""
        if self.latency_samples is not None:
            return self.latency_samples
        return processor.get_latency_samples()

    def _read(self, loaded: Loaded, ports: Mapping[int, Port]) -> None:
        """Reads the parameters of a plugin that stands at its defaults, by the ports that they are."""
        processor = loaded.processor
        # names go to those that are used first
        listed = sorted(processor.get_parameters_description(), key=lambda p: not p["isAutomatable"])
        units = [_name_unit(p, ports.get(p["index"])) for p in listed]
        steps: dict[int, int] = {}
        for name, p in zip(python_names([p["name"] for p in listed], units), listed, strict=True):
            self.index[name] = p["index"]
            port = ports.get(p["index"])
            self.ranges[name], steps[p["index"]] = _parameter(loaded, p, port, self.say)
            self.say(name)
            if port and port.parts:
                self.parts[name] = list(port.parts)
            if why := _reason(p, port) or (p["name"] in self.foreign) * "is the host's":
                self.excluded[name] = why
        if not ports:  # the host does not see what an LV2 plugin moves
            self._exclude_meters_and_find_movers(loaded, steps)
        self.space = Space({name: p for name, p in self.ranges.items() if name not in self.excluded})

    def _exclude_meters_and_find_movers(self, loaded: Loaded, steps: dict[int, int]) -> None:
        meters = examine.meters(loaded, self.layout.inputs)
        self.excluded |= {name: _METER for name, k in self.index.items() if k in meters}
        used = [name for name in self.ranges if name not in self.excluded]
        tried = {self.index[name]: steps[self.index[name]] for name in used}
        moving = examine.movers(loaded, tried, meters)
        self.first = [name for index in moving for name in used if self.index[name] == index]

    def _heard_first(self) -> list[str]:
        """Names of the parameters that overwrite others, as is heard."""
        steps = {self.index[n]: p.positions for n, p in self.space.parameters.items()}
        if len(steps) < 2:
            return []
        noise = 0.3 * np.random.default_rng(0).standard_normal((self.layout.inputs, _HEARD)).astype(np.float32)
        loaded = self.load_one(self.sample_rate, BLOCK)

        def hear(row: ordering.Raws, moves: ordering.Moves, new: bool) -> Audio:
            nonlocal loaded
            if loaded.reborn:
                loaded.connect()
            elif new:
                loaded = self.load_one(self.sample_rate, BLOCK)
            if self.forgets:
                lead = self._automate(loaded, _rows(defaults, [row, *moves]))
                return np.nan_to_num(loaded.run(noise, lead)[:, lead:])
            self._pass_on(loaded, [row, *moves])
            if not loaded.reborn:
                loaded.connect()
            return np.nan_to_num(loaded.run(noise))

        defaults = self.raws(self.space.defaults, self.sample_rate)
        found = ordering.find_first(hear, steps, defaults, ordering.random_row(steps))
        names = {index: name for name, index in self.index.items()}
        return [names[index] for index in found]

    def filters(self) -> bool:
        """Whether a wrapper passes on only those settings that changed, and only while it processes."""
        return self.flushed or any(is_filtered(path.read_bytes()) for path in Path(self.bundle).glob("*.so"))

    def raws(self, settings: Settings, sample_rate: float) -> dict[int, float]:
        """Positions in [0, 1] by index."""
        return {self.index[n]: raw_value(self._range_at(n, sample_rate), value) for n, value in settings.items()}

    def arrange(self, loaded: Loaded, settings: Settings) -> None:
        """Sets those that overwrite others before these, where the plugin takes them only while it processes."""
        if not self.forgets and (self.flushed or self.reborn):
            self._pass_on(loaded, self._passes(self.raws(settings, loaded.sample_rate)))

    def _passes(self, raws: ordering.Raws) -> list[dict[int, float]]:
        """What is passed on one after another, each with some silence, if some parameters overwrite others."""
        steps = {self.index[n]: p.positions for n, p in self.ranges.items()}
        first = [self.index[name] for name in self.first]
        return ordering.passes(raws, first, steps) if first else []

    @property
    def lead(self) -> int:
        """See `DawDreamer.lead`."""
        return BLOCK * (1 + len(self._passes(self.raws(self.space.defaults, self.sample_rate)))) if self.forgets else 0

    def _automate(self, loaded: Loaded, rows: Sequence[ordering.Raws]) -> int:
        """Sets all parameters while it renders, a row in each block. Returns the samples before the last row."""
        for index in rows[-1]:
            curve = np.repeat([row[index] for row in rows], BLOCK).astype(np.float32)
            loaded.processor.set_automation(index, curve)
        return BLOCK * (len(rows) - 1)

    def _pass_on(self, loaded: Loaded, parts: Iterable[ordering.Raws]) -> None:
        for part in parts:
            self.set_raws(loaded, part)
            self.pass_silence(loaded, BLOCK)

    def set_raws(self, loaded: Loaded, raws: Mapping[int, float]) -> None:
        """Sets parameters by index."""
        for index, raw in raws.items():
            loaded.processor.set_parameter(index, raw)

    def set(self, loaded: Loaded, blocks: Sequence[Settings], hop: int) -> None:
        """Sets all parameters, those first that move others; again while it renders, where it forgets."""
        names = [*self.first, *(name for name in blocks[0] if name not in self.first)]
        raws = self.raws({name: blocks[0][name] for name in names}, loaded.sample_rate)
        self.set_raws(loaded, raws)
        if self.forgets:
            self._automate(loaded, _rows(self._nearly(raws), [*self._passes(raws), raws]))

    def _nearly(self, raws: ordering.Raws) -> dict[int, float]:
        """Next to where parameters are to stand, since some are passed on only what changes."""
        steps = {self.index[n]: p.positions for n, p in self.ranges.items()}
        return {k: ordering.away(raw, steps[k]) for k, raw in raws.items()}

    def _range_at(self, name: str, sample_rate: float) -> Parameter:
        """What the control of a parameter goes through at a sample rate."""
        if name not in self.parts:
            return self.ranges[name]
        control, (low, high) = self.ranges[name], self.parts[name]
        assert isinstance(control, Continuous)
        return Continuous(low * sample_rate, high * sample_rate, low * sample_rate, log=control.log)


def _rows(start: ordering.Raws, parts: Iterable[ordering.Raws]) -> list[ordering.Raws]:
    """What all parameters stand at, one part after another."""
    rows = [start]
    for part in parts:
        rows.append({**rows[-1], **part})
    return rows


def _checked(tempo: float) -> float:
    if isinstance(tempo, bool) or not isinstance(tempo, int | float) or not _SLOWEST <= tempo <= _FASTEST:
        raise ParameterError(
            f"tempo={tempo!r} is not allowed; allowed are {_SLOWEST} to {_FASTEST} beats per minute, or None."
        )
    return float(tempo)


def controls(ports: Sequence[Port], processor: Any) -> dict[int, Port]:
    """The port of each parameter of an LV2 plugin, by index: the host sorts them by groups, but keeps their names."""
    left = [port for port in ports if port.is_a("Input", "Control")]
    found: dict[int, Port] = {}
    for p in processor.get_parameters_description():
        # the host turns an input that enables the plugin into a bypass
        same = [q for q in left if q.name == p["name"]] or [q for q in left if q.designation == "lv2:enabled"][:1]
        if same:
            found[p["index"]] = same[0]
            left.remove(same[0])
    return found


def _name_unit(described: Any, port: Port | None) -> str:
    """The unit that a parameter's name ends with, if it is not there already."""
    if port is None or port.parts is None or re.search(r"\bhz\b", port.name.lower()):
        return described["label"]
    return "Hz"


def _reason(described: Any, port: Port | None) -> str:
    """Why a parameter is excluded."""
    if port is not None and "pprops:trigger" in port.properties:
        return "is a trigger, which acts once when it is pressed"
    if port is not None and "lv2:sampleRate" in port.properties and port.parts is None:
        return "has a range in parts of the sample rate, but no ends"
    return "" if described["isAutomatable"] else "cannot be automated"


def _parameter(loaded: Loaded, described: Any, port: Port | None, say: Callable[[str], None]) -> tuple[Parameter, int]:
    """A parameter, and how many positions it has; 0 if it moves freely. Each text that takes its time is said."""
    processor, index = loaded.processor, described["index"]
    unit = described["label"].strip() if port is None else port.unit
    raw = processor.get_parameter(index)

    def text_at(position: float) -> str:
        began = time.monotonic()
        processor.set_parameter(index, position)
        text = processor.get_parameter_text(index)
        if time.monotonic() - began > _SLOW:
            say(text)
        return text

    steps = described["numSteps"] if described["isDiscrete"] else count_steps(text_at)
    parameter = parameter_from_texts(text_at, steps, raw, unit)
    if port is not None:
        parameter = _by_port(parameter, port, raw, loaded.sample_rate)
    processor.set_parameter(index, raw)
    return parameter, steps if steps <= _MOST_STEPS else 0


def _by_port(parameter: Parameter, port: Port, raw: float, sample_rate: float) -> Parameter:
    """A parameter with what its texts do not tell, but its port does."""
    low, high = port.parts or port.ends[1:]
    if low is None or high is None or low >= high:
        return parameter
    if isinstance(parameter, Choice) and not port.points and _is_whole(port):
        return Integer(int(low), int(high), round(low + raw * (high - low)), port.unit)
    if not isinstance(parameter, Continuous):
        return parameter
    if port.parts:
        low, high = low * sample_rate, high * sample_rate
        axis = Continuous(low, high, low, "Hz", parameter.log)
        return _standing(axis, raw)
    if parameter.step:
        return parameter
    if _is_whole(port):
        return Integer(int(low), int(high), round(low + raw * (high - low)), port.unit)
    if parameter.unit != "raw":
        return parameter
    axis = Continuous(low, high, low, port.unit, "pprops:logarithmic" in port.properties and low > 0)
    return _standing(axis, raw)


def _is_whole(port: Port) -> bool:
    """Whether it takes whole numbers only."""
    _, low, high = port.ends
    return "lv2:integer" in port.properties and low is not None and high is not None and low % 1 == high % 1 == 0


def _standing(axis: Continuous, raw: float) -> Continuous:
    """A parameter whose default is a position in [0, 1], which the host gives with the noise of float32."""
    default = float(f"{axis.decode(np.array([raw])):.6g}")
    return dataclasses.replace(axis, default=min(max(default, axis.low), axis.high))


def bare(effect: Plugin, audio: Audio, sample_rate: float) -> Callable[[], Any]:
    """The call of the host that one render comes down to."""
    loaded = effect.loaded(sample_rate)
    feed = effect.layout.feed(audio[: effect.channels], 0 * audio)

    def render() -> None:
        for _ in range(2 if effect.channels == 1 else 1):
            loaded.run(feed)

    return render
