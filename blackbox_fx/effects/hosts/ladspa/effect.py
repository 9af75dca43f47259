"""LADSPA plugins, hosted here through ctypes."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.hosts.host import Entry, Host
from blackbox_fx.effects.hosts.ladspa import abi
from blackbox_fx.effects.hosts.ladspa.catalogue import find, listed
from blackbox_fx.effects.hosts.ladspa.ports import RATE, controls
from blackbox_fx.effects.native import reseed, same_arithmetic
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Parameter, Space

# many plugins move their settings once a call, and some crash on long ones or are wrong on short ones
_BLOCK = 512
# libraries may fill tables, or plan transforms, that their instances share
_CREATION = threading.Lock()


@final
class _Instance:
    """A plugin at work, from silence; a context, in which it is active.

    Args:
        plugin: its descriptor.
        ports: its audio inputs and outputs.
        controls: what all ports stand at first, by index; `self.controls` is what they stand at.
        sample_rate: in Hz.
    """

    def __init__(
        self, plugin: Any, ports: tuple[list[int], list[int]], controls: NDArray[np.float32], sample_rate: float
    ) -> None:
        self._plugin, self._ports, self._rate = plugin, ports, round(sample_rate)
        self.controls = controls.copy()
        self._source, self._sink = (np.zeros((len(side), _BLOCK), np.float32) for side in ports)

    def __enter__(self) -> Self:
        of = self._plugin.contents
        with _CREATION:
            self._handle = of.instantiate(self._plugin, self._rate)
            if not self._handle:
                raise EffectError(f"ladspa:{of.label.decode()} cannot run at {self._rate} Hz; choose another rate.")
            connect, first = of.connect_port, self.controls.ctypes.data
            for port in range(len(self.controls)):
                connect(self._handle, port, first + port * self.controls.itemsize)
            for side, buffers in zip(self._ports, (self._source, self._sink), strict=True):
                for port, buffer in zip(side, buffers, strict=True):
                    connect(self._handle, port, buffer.ctypes.data)
            if of.activate:
                of.activate(self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        of = self._plugin.contents
        with _CREATION:
            if of.deactivate:
                of.deactivate(self._handle)
            of.cleanup(self._handle)

    def run(self, audio: Audio) -> Audio:
        """The next outputs, (output, time), for the next inputs, (input, time)."""
        run, handle, length = self._plugin.contents.run, self._handle, audio.shape[1]
        wet = np.empty((len(self._sink), length), np.float32)
        for start in range(0, length, _BLOCK):
            count = min(_BLOCK, length - start)
            self._source[:, :count] = audio[:, start : start + count]
            run(handle, count)
            wet[:, start : start + count] = self._sink[:, :count]
        return wet


@final
class LADSPA(Effect):
    """A LADSPA plugin.

    Ports become parameters of the kind, range and default that the plugin reports, in physical units; "Decay [ms]" is
    decay_ms. Ranges in parts of the sample rate are shown in Hz at 44.1 kHz; at another rate, a value is moved into
    what the plugin takes there. A missing upper end lies 24 dB, 20 kHz, 4 s, 100 % or, in other units, 4 above the
    lower one; a missing lower end is 0, or as far below an upper one that is not positive; if both are missing, the
    range reaches as far to both sides. A logarithmic range from 0 is linear, but for a part of the sample rate, which
    starts at a thousandth of its end. Meters are no parameters.

    Every render makes a new instance and runs it in blocks of 512 samples, which restart where settings change, so
    that changes land on their sample. Instances share nothing but their library, so threads render in parallel; only
    making and freeing an instance waits for others. Random numbers restart with each render, unless threads render in
    parallel. Plugins that plan Fourier transforms by timing them agree between processes up to rounding only.
    Subnormal numbers are kept, unless a plugin turns them off for itself; one that computes with them may be many times
    slower while its output decays.

    Latency that a port reports is compensated, and a plugin that has some at its defaults is not automatable.

    A plugin with one input and one output renders each channel separately. One with two inputs gets mono audio on both,
    and its left output is returned; if it has one output, stereo audio gets it on both channels. One with two outputs
    and one input gets the mean of the channels. Plugins with more inputs or outputs are refused.

    Inputs that are called side chain, key, modulator or the like are one further input, "sidechain". A single one gets
    the mean of its channels, and two get left and right.

    Args:
        name: the label of an installed plugin, or "/path/file.so:label"; of a file that holds one, its path will do.

    Attributes:
        latency: samples that the plugin reports at 44.1 kHz and its defaults.
        excluded: reasons why control inputs are no parameters, by name.

    Raises:
        EffectError: no such file or label, no LADSPA library, or not an effect.
    """

    native = True
    excluded: Mapping[str, str] = {}
    sums: bool = False  # two inputs to one output

    def __init__(self, name: str) -> None:
        path, self.label, self.layout = find(name)
        self.path = str(path)
        super().__init__(f"ladspa:{self.label}", Space())
        with self.handle() as plugin:
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
        self.latency_port = next((port for port, text in meters.items() if text.strip("_ ").lower() == "latency"), None)
        self.latency = 0 if self.latency_port is None else self._latency()
        self.automatable = not self.latency

    @property
    def channels(self) -> int:
        """Of the audio that goes through at once, 1 or 2."""
        return max(self.layout.main, len(self.ports[1]))

    def open_handle(self) -> Any:
        """The descriptor of the plugin."""
        try:
            with same_arithmetic():
                return abi.descriptors(self.path)[self.label]
        except (OSError, KeyError) as error:
            raise EffectError(f"Cannot load {self.name} from {self.path} ({error}); check the file.") from error

    def version(self) -> bytes:
        """The library's own file."""
        try:
            return hashlib.blake2b(Path(self.path).read_bytes()).digest()
        except OSError as error:
            raise EffectError(f"Cannot read {self.path} of {self.name} ({error.strerror}); check the file.") from error

    def _latency(self) -> int:
        """Samples of latency that the plugin reports at its defaults, at `RATE`."""
        with self.instance(self.defaults, RATE) as instance:
            instance.run(np.zeros((len(self.ports[0]), _BLOCK), np.float32))
            return self._reported(instance)

    def _reported(self, instance: _Instance) -> int:
        return 0 if self.latency_port is None else round(float(instance.controls[self.latency_port]))

    @contextlib.contextmanager
    def instance(self, settings: Settings, sample_rate: float) -> Iterator[_Instance]:
        """A new instance of the plugin, active and at its beginning."""
        with self.handle() as plugin:
            instance = _Instance(plugin, self.ports, self.standing, sample_rate)
        self._set(instance, settings, sample_rate)
        reseed()
        with same_arithmetic(), instance:
            yield instance

    def _set(self, instance: _Instance, settings: Settings, sample_rate: float) -> None:
        for name, value in settings.items():
            control = self.controls[name]
            instance.controls[control.port] = control.native(value, sample_rate)

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
        silence = np.zeros((1, request.audio.shape[1]), np.float32)
        given = request.inputs.get("sidechain", silence)
        if count == 2:
            return [given[0], given[-1]]
        return [given.mean(axis=0)] * count

    def _feed(self, audio: Audio, side: Sequence[Audio]) -> Audio:
        """What all inputs hear, (input, time)."""
        main = iter([audio[0], audio[-1]] if self.layout.main == 2 else [audio.mean(axis=0)])
        beside = iter(side)
        return np.stack([next(beside if is_side else main) for is_side in self.layout.side])

    def _run(self, feed: Audio, blocks: Sequence[Settings], hop: int, sample_rate: float) -> Audio:
        """Outputs for inputs of the same length, lined up."""
        length = feed.shape[1]
        spare = -(length - (len(blocks) - 1) * hop) % _BLOCK  # the last call takes a whole block, too
        whole = np.zeros((len(feed), length + spare), np.float32)
        whole[:, :length] = feed
        stops = [*range(hop, len(blocks) * hop, hop), length + spare]
        with self.instance(blocks[0], sample_rate) as instance:
            out = []
            for k, (settings, stop) in enumerate(zip(blocks, stops, strict=True)):
                self._set(instance, settings, sample_rate)
                out.append(instance.run(whole[:, k * hop : stop]))
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
