"""LADSPA plugins, hosted here through ctypes."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blackbox_fx import isolation
from blackbox_fx.audio import Audio
from blackbox_fx.core import cache, checks
from blackbox_fx.effects import forgetting, ordering, trials
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.hosts.host import Entry, Host
from blackbox_fx.effects.hosts.ladspa import abi
from blackbox_fx.effects.hosts.ladspa.catalogue import find, listed
from blackbox_fx.effects.hosts.ladspa.instance import BLOCK, Instance, Library
from blackbox_fx.effects.hosts.ladspa.ports import RATE, controls
from blackbox_fx.effects.native import may_be_slow, reseed, same_arithmetic
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.effects.settling import difference
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Parameter, Space, Value

_FORMAT = 4
_DEADLINE = 30.0  # seconds that a plugin may be silent while it is found out whether it is ready at once
_ODD, _CUT = 441, 1e-5  # samples of a piece that is no whole block, and what it may change
_ROWS = 8  # random settings at which pieces are tried
_NEAR_ENDS = 0.02, 0.98  # of a range
_LATENCY = re.compile(r"[\W_]*latency[\W_]*([\[(].*)?", re.IGNORECASE)
_REPORTED = 8192  # samples after which a plugin that has a port for its latency has set it


class LADSPA(Effect):
    """A LADSPA plugin.

    Ports become parameters of the kind, range and default that the plugin reports, in physical units; "Decay [ms]" is
    decay_ms. Ranges in parts of the sample rate are shown in Hz at 44.1 kHz; at another rate, a value is moved into
    what the plugin takes there. A missing upper end lies 24 dB, 20 kHz, 4 s, 100 % or, in other units, 4 above the
    lower one; a missing lower end is 0, or as far below an upper one that is not positive; if both are missing, the
    range reaches as far to both sides. A logarithmic range from 0 is linear, but for a part of the sample rate, which
    starts at a thousandth of its end. Meters are no parameters.

    Every render makes a new instance and runs it in blocks of 512 samples, which restart where settings change, so
    that changes land on their sample. A plugin that depends on the lengths of its calls takes changes at multiples of
    512 samples only. Plugins of one library take turns, since their instances may share what it keeps, and so do all
    that draw random numbers; others render in parallel threads. Random numbers restart with each render. Plugins that
    plan Fourier transforms by timing them agree between processes up to rounding only. Subnormal numbers are kept,
    unless a plugin turns them off for itself; one that computes with them may be many times slower while its output
    decays.

    Latency that a port reports is compensated, and a plugin that has some at its defaults is not automatable.

    A plugin that is ready only a while after it was made is waited for; this is found in a process of its own, for
    libraries that start threads or read a clock. Its instances are kept and activated again, if that makes renders
    equal. Plugins made with DPF get parameters that overwrite others before these, and once more those that they put
    back to their defaults, as is tried at the first render.

    A plugin with one input and one output renders each channel separately. One with two inputs gets mono audio on both,
    and its left output is returned; if it has one output, stereo audio gets it on both channels. One with two outputs
    and one input gets the mean of the channels. Plugins with more inputs or outputs are refused.

    Inputs that are called side chain, key, modulator or the like are one further input, "sidechain". A single one gets
    the mean of its channels, and two get left and right.

    Args:
        name: the label of an installed plugin, or "/path/file.so:label"; of a file that holds one, its path will do.
        latency_samples: see `load`.

    Attributes:
        latency: samples that the plugin reports at 44.1 kHz and its defaults.
        keeps: whether instances are kept for further renders.
        excluded: reasons why control inputs are no parameters, by name.

    Raises:
        EffectError: no such file or label, no LADSPA library, or not an effect.
    """

    native = True
    excluded: Mapping[str, str] = {}
    sums: bool = False  # two inputs to one output
    keeps: bool = False
    latency_samples: int | None = None

    def __init__(self, name: str, latency_samples: int | None = None) -> None:
        if latency_samples is not None:
            self.latency_samples = checks.latency(latency_samples)
        path, self.label, self.layout = find(name)
        self.path = str(path)
        super().__init__(f"ladspa:{self.label}", Space())
        with self.handle() as library:
            plugin = library.plugin
            self.ports = (
                list(abi.ports(plugin, abi.INPUT | abi.AUDIO)),
                list(abi.ports(plugin, abi.OUTPUT | abi.AUDIO)),
            )
            self.controls = controls(plugin)
            self.standing = np.zeros(plugin.contents.port_count, np.float32)
            meters = abi.ports(plugin, abi.OUTPUT | abi.CONTROL)
        held = {name: (c.port, c.kind) for name, c in self.controls.items() if isinstance(c.kind, float)}
        for port, number in held.values():
            self.standing[port] = number
        # what few plugins have is kept only there, since it is part of the fingerprint
        if held:
            self.excluded = {name: f"can stand nowhere but at {number:g}" for name, (_, number) in held.items()}
        if any(self.layout.side):
            self.inputs = ("sidechain",)
        if self.layout.main == 2 and len(self.ports[1]) == 1:
            self.sums = True
        self.space = Space({name: c.kind for name, c in self.controls.items() if isinstance(c.kind, Parameter)})
        self.latency_port = next((port for port, text in meters.items() if _LATENCY.fullmatch(text)), None)
        self._learn()
        self.latency = 0 if self.latency_port is self.latency_samples is None else self._latency()
        self.automatable = not (self.latency or self._overwrites())

    @property
    def channels(self) -> int:
        """Of the audio that goes through at once, 1 or 2."""
        return max(self.layout.main, len(self.ports[1]))

    def _overwrites(self) -> bool:
        """Whether some parameters overwrite others, which are then lost if both change during a clip."""
        with self.handle() as library:
            return library.passes_on and len(self._earlier(library, self.defaults)) > bool(library.forgets)

    def _learn(self) -> None:
        """Learns whether the plugin is ready at once, in a process of its own, and keeps it in the user's cache."""
        content = self._content()
        if not may_be_slow(content):
            return
        name = f"{self.path}:{self.label}"
        key = {"format": _FORMAT, "name": name, "file": hashlib.blake2b(content).hexdigest()}
        read = cache.load("ladspa-settling", key)
        if read is None:
            try:
                read = isolation.call("blackbox_fx.effects.hosts.ladspa.reader", name, _DEADLINE)
            except (isolation.Failed, isolation.Refused) as error:
                raise EffectError(
                    f"Cannot use {self.name} (it {error.args[-1].removeprefix('it ')}); check it."
                ) from error
            cache.save("ladspa-settling", key, read)
        if read["settle"]:  # what few plugins have is kept only there, since it is part of the fingerprint
            self.settle, self.keeps = read["settle"], read["keeps"]

    @property
    def unique_id(self) -> int:
        """The number by which other hosts know the plugin."""
        with self.handle() as library:
            return library.plugin.contents.unique_id

    def port_values(self, settings: Settings, sample_rate: float) -> dict[str, float]:
        """What the control inputs stand at, by number of the port, for other hosts.

        Args:
            settings: of all parameters.
            sample_rate: in Hz.
        """
        standing = self.standing.copy()
        self._set(standing, settings, sample_rate)
        return {str(control.port): float(standing[control.port]) for control in self.controls.values()}

    @property
    def port_names(self) -> dict[int, str]:
        """What the plugin calls its control inputs, by number of the port."""
        with self.handle() as library:
            return abi.ports(library.plugin, abi.INPUT | abi.CONTROL)

    def open_handle(self) -> Library:
        """The plugin in its library."""
        try:
            with same_arithmetic():
                return Library(abi.descriptors(self.path)[self.label], self.path, self._content())
        except (OSError, KeyError) as error:
            raise EffectError(f"Cannot load {self.name} from {self.path} ({error}); check the file.") from error

    def version(self) -> bytes:
        """The library's own file."""
        return hashlib.blake2b(self._content()).digest()

    def _content(self) -> bytes:
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise EffectError(f"Cannot read {self.path} of {self.name} ({error.strerror}); check the file.") from error

    def _latency(self) -> int:
        """Samples of latency that the plugin reports at its defaults, at `RATE`."""
        with self.instance(self.defaults, RATE) as instance:
            instance.run(np.zeros((len(self.ports[0]), _REPORTED), np.float32))
            return self._reported(instance)

    def _reported(self, instance: Instance) -> int:
        if self.latency_samples is not None:
            return self.latency_samples
        latency = 0.0 if self.latency_port is None else float(instance.controls[self.latency_port])
        if not 0 <= latency <= checks.LONGEST_LATENCY:
            raise EffectError(
                f"{self.name} reports a latency of {latency:g} samples; allowed are 0 to "
                f"{checks.LONGEST_LATENCY}; choose other settings, or another plugin."
            )
        return round(latency)

    @contextlib.contextmanager
    def instance(
        self, settings: Settings, sample_rate: float, earlier: Sequence[Settings] | None = None
    ) -> Iterator[Instance]:
        """An instance of the plugin, active and at its beginning.

        Args:
            settings: of all parameters.
            sample_rate: in Hz.
            earlier: what is passed on before, one after another; what the plugin needs if not given.
        """
        with self.handle() as library:
            if earlier is None:
                earlier = self._earlier(library, settings) if library.passes_on else ()
            goes_on = bool(earlier and library.forgets)
            kept = library.kept.get(sample_rate)
            instance = kept.pop() if kept else None
        with library.turn, same_arithmetic():
            reseed()
            if instance is None:
                instance = self.new_instance(library.plugin, settings, sample_rate)
            if earlier:
                instance.activate()
                for part in earlier:
                    self._set(instance.controls, part, sample_rate)
                    instance.pass_silence(1)
                if not goes_on:
                    instance.deactivate()
            if earlier or self.keeps:
                self._set(instance.controls, settings, sample_rate)
            if not goes_on:
                instance.activate()
            try:
                yield instance
            finally:
                instance.deactivate()
                if self.keeps:  # without the handle's lock, which others may hold while they wait for the turn
                    library.kept.setdefault(sample_rate, []).append(instance)
                else:
                    instance.free()

    def new_instance(self, plugin: Any, settings: Settings, sample_rate: float) -> Instance:
        """An instance that was waited for, not active."""
        standing = self.standing.copy()  # some read their controls when these are connected
        self._set(standing, settings, sample_rate)
        instance = Instance(plugin, self.ports, standing, sample_rate)
        if self.settle:
            instance.activate()
            instance.pass_silence(BLOCK)
            time.sleep(self.settle * max(1.0, sample_rate / RATE))  # what it does may grow with the rate
            instance.deactivate()
        return instance

    def _earlier(self, library: Library, settings: Settings) -> list[Settings]:
        """What is passed on before these settings, if some are forgotten at the beginning or overwrite others."""
        if library.forgets is None:
            library.forgets = self.find_forgets(library)
            library.first = self.find_first(library)
        begin = [self._moved(settings)] if library.forgets else []
        if not library.first:
            return begin
        names, steps, raws = self._controlled(settings)
        parts = ordering.passes(raws, library.first, steps)
        return begin + [
            {names[k]: settings[names[k]] if raw == raws[k] else self._value(k, raw) for k, raw in part.items()}
            for part in parts
        ]

    @property
    def _kinds(self) -> dict[str, Parameter]:
        """The plugin's own parameters, whatever `within` makes of the space."""
        return {name: c.kind for name, c in self.controls.items() if isinstance(c.kind, Parameter)}

    def _value(self, index: int, raw: float) -> Value:
        return [*self._kinds.values()][index].decode(np.array([raw]))

    @property
    def _defaults(self) -> Settings:
        return {name: p.default for name, p in self._kinds.items()}

    def _moved(self, settings: Settings) -> Settings:
        """All parameters next to where they are to stand."""
        names, steps, raws = self._controlled(settings)
        return {names[k]: self._value(k, ordering.away(raw, steps[k])) for k, raw in raws.items()}

    def _controlled(self, settings: Settings) -> tuple[list[str], dict[int, int], dict[int, float]]:
        """Names of the plugin's own parameters, how many positions each has, and where it stands in [0, 1]."""
        names = [*self._kinds]
        steps = {k: self._kinds[name].positions for k, name in enumerate(names)}
        return names, steps, {k: float(self._kinds[name].encode(settings[name])[0]) for k, name in enumerate(names)}

    def find_forgets(self, library: Library) -> bool:
        """Whether some parameter is back at its default when the plugin begins; see `forgetting.forgets`.

        That may be in its first block, or before that, which matters only where it is made to begin again. Buttons are
        over then, so only ranges tell.
        """

        def heard(row: Settings, earlier: Sequence[Settings], forgets: bool) -> Audio:
            library.forgets = forgets
            with self.instance(row, RATE, earlier) as instance:
                if not forgets:  # as much silence as otherwise
                    instance.pass_silence(1)
                return np.nan_to_num(instance.run(self._noise))

        def at_first(row: Settings, forgets: bool) -> Audio:
            return heard(row, [self._moved(row)] if forgets else (), forgets)

        def at_restart(row: Settings, forgets: bool) -> Audio:
            return heard(row, [self._moved(row) if forgets else row], forgets)

        space = Space(self._kinds)
        rows, moved = trials.rows(space), trials.moved(space)
        ranges = [name for name, kind in self._kinds.items() if not kind.positions]
        return forgetting.forgets(at_first, rows, [*self._kinds], moved) or forgetting.forgets(
            at_restart, rows[:1], ranges, moved
        )

    @property
    def _noise(self) -> Audio:
        return np.random.default_rng(0).uniform(-0.5, 0.5, (len(self.ports[0]), 4 * BLOCK)).astype(np.float32)

    def find_first(self, library: Library) -> list[int]:
        """Indices of the parameters that overwrite others."""
        names, kinds = [*self._kinds], [*self._kinds.values()]
        if len(names) < 2:
            return []

        def hear(row: ordering.Raws, moves: ordering.Moves, new: bool) -> Audio:
            earlier = [{names[k]: self._value(k, raw) for k, raw in move.items()} for move in (row, *moves)]
            begin = [self._defaults] if library.forgets else []
            with self.instance(earlier[0], RATE, begin + earlier) as instance:
                return np.nan_to_num(instance.run(self._noise))

        steps = {k: p.positions for k, p in enumerate(kinds)}
        defaults = {k: float(p.encode(p.default)[0]) for k, p in enumerate(kinds)}
        return ordering.find_first(hear, steps, defaults, ordering.random_row(steps))

    def find_hop_multiple(self) -> int:
        """See `Effect`; 512 for a plugin whose output depends on the lengths of its calls, as is tried here."""
        if not self.automatable:
            return self.hop_multiple
        with self.handle() as library:
            if library.hop_multiple is None:
                library.hop_multiple = 1 if all(self._cut(settings) <= _CUT for settings in self._tried()) else BLOCK
            return library.hop_multiple

    def _tried(self) -> Iterator[Settings]:
        """The defaults, random settings, and each parameter alone near its ends, as many do nothing elsewhere."""
        yield self.space.defaults
        for k in range(_ROWS):
            yield self.space.defaults | self.space.decode(np.random.default_rng(k).random(self.space.width))
        for name in self.space.free:
            for near in _NEAR_ENDS:
                point = self.space.encode(self.space.defaults)
                point[self.space.slices[name]] = near
                yield self.space.defaults | self.space.decode(point)

    def _cut(self, settings: Settings) -> float:
        """Difference between a clip in one and in pieces, at settings that stay; 0 where these cannot be in pieces."""
        length = 16 * BLOCK
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (self.channels, length)).astype(np.float32)
        noise *= np.square(np.cos(np.linspace(0, 12, length, dtype=np.float32)))  # loud and soft by turns
        pieces = [settings] * -(-length // _ODD)
        try:
            whole, cut = (
                np.nan_to_num(self.process(RenderRequest(noise, blocks, hop, RATE)))
                for blocks, hop in (([settings], length), (pieces, _ODD))
            )
        except EffectError:  # a latency, which each render with these settings will name
            return 0.0
        return difference(whole, cut)

    def _set(self, controls: NDArray[np.float32], settings: Settings, sample_rate: float) -> None:
        for name, value in settings.items():
            controls[self.controls[name].port] = self.controls[name].native(value, sample_rate)

    def process(self, request: RenderRequest) -> Audio:
        """Renders a request; see `Effect.process`."""
        audio, blocks, hop, sample_rate = request.audio, request.blocks, request.hop, request.sample_rate
        side = self._side(request)
        if self.channels == 1:
            feeds = [self._feed(row[None], side) for row in audio]
            return np.concatenate([self._run(feed, blocks, hop, sample_rate) for feed in feeds])
        if len(audio) > 2:
            raise EffectError(f"{self.name} has 2 channels, got audio with {len(audio)}; render pairs of channels.")
        wet = self._run(self._feed(audio, side), blocks, hop, sample_rate)
        return np.broadcast_to(wet, audio.shape) if self.sums else wet[: len(audio)]

    def _side(self, request: RenderRequest) -> Sequence[Audio]:
        """What the side-chain inputs hear, one (time,) each."""
        count = sum(self.layout.side)
        if not count:
            return []
        silence = np.zeros((1, request.audio.shape[1]), np.float32)
        given = request.inputs.get("sidechain", silence)
        if count == 2:
            return [given[0], given[-1]]
        return [given.mean(axis=0)] * count

    def _feed(self, audio: Audio, side: Sequence[Audio]) -> Audio:
        """What all inputs hear, (input, time)."""
        if not side and self.layout.main == len(audio):
            return audio
        main = iter([audio[0], audio[-1]] if self.layout.main == 2 else [audio.mean(axis=0)])
        beside = iter(side)
        return np.stack([next(beside if is_side else main) for is_side in self.layout.side])

    def _run(self, feed: Audio, blocks: Sequence[Settings], hop: int, sample_rate: float) -> Audio:
        """Outputs for inputs of the same length, lined up."""
        length = feed.shape[1]
        spare = -(length - (len(blocks) - 1) * hop) % BLOCK  # the last call takes a whole block, too
        whole = np.zeros((len(feed), length + spare), np.float32)
        whole[:, :length] = feed
        stops = [*range(hop, len(blocks) * hop, hop), length + spare]
        with self.instance(blocks[0], sample_rate) as instance:
            out = []
            for k, (settings, stop) in enumerate(zip(blocks, stops, strict=True)):
                self._set(instance.controls, settings, sample_rate)
                out.append(instance.run(whole[:, k * hop : stop]))
                if len(blocks) > 1 and self._reported(instance):
                    raise EffectError(
                        f"{self.name} has a latency of {self.latency} samples at its defaults and of "
                        f"{self._reported(instance)} at settings of the clip; render these without hop."
                    )
            if self.latency_port is not None and length < _REPORTED:
                out.append(instance.run(np.zeros((len(feed), _REPORTED), np.float32)))
                spare += _REPORTED
            latency = self._reported(instance)
            if latency > spare:
                out.append(instance.run(np.zeros((len(feed), latency - spare), np.float32)))
        return np.concatenate(out, axis=1)[:, latency : latency + length]


def _entries() -> list[Entry]:
    return [Entry(address, (path,), layout.refusal) for address, path, layout in listed()]


def _bare(effect: LADSPA, audio: Audio, sample_rate: float) -> Callable[[], Any]:
    feed = np.tile(audio, (2, 1))[: len(effect.ports[0])]

    def run() -> None:
        for _ in range(2 if effect.channels == 1 else 1):
            with effect.instance(effect.defaults, sample_rate) as instance:
                instance.run(feed)

    return run


HOST = Host(
    name="ladspa",
    effect=LADSPA,
    example="ladspa:tap_reverb",
    debian=("swh-plugins", "tap-plugins", "cmt", "caps"),
    endings=(".so",),
    installed=_entries,
    bare=_bare,
)
