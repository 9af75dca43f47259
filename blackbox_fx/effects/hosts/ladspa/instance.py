"""Instances of LADSPA plugins, and what their libraries share."""

from __future__ import annotations

import itertools
import threading
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.effects.native import cleared_memory, is_filtered, turn
from blackbox_fx.errors import EffectError

# many plugins move their settings once a call, and some crash on long ones or are wrong on short ones
BLOCK = 512
# libraries may fill tables, or plan transforms, that their instances share
_CREATION = threading.Lock()


@final
class Instance:
    """An instance of a plugin.

    Args:
        plugin: its descriptor.
        ports: its audio inputs and outputs.
        controls: what all ports stand at, by index, now and later.
        sample_rate: in Hz.
    """

    def __init__(
        self, plugin: Any, ports: tuple[list[int], list[int]], controls: NDArray[np.float32], sample_rate: float
    ) -> None:
        self._plugin, rate = plugin, round(sample_rate)
        self.controls = controls
        self._source, self._sink = (np.zeros((len(side), BLOCK), np.float32) for side in ports)
        of = plugin.contents
        with _CREATION, cleared_memory():
            self._handle = of.instantiate(plugin, rate)
            if not self._handle:
                raise EffectError(f"ladspa:{of.label.decode()} cannot run at {rate} Hz; choose another rate.")
            connect, first = of.connect_port, self.controls.ctypes.data
            for port in range(len(self.controls)):
                connect(self._handle, port, first + port * self.controls.itemsize)
            for side, buffers in zip(ports, (self._source, self._sink), strict=True):
                for port, buffer in zip(side, buffers, strict=True):
                    connect(self._handle, port, buffer.ctypes.data)

    def activate(self) -> None:
        """Brings it to its beginning."""
        with _CREATION, cleared_memory():
            if self._plugin.contents.activate:
                self._plugin.contents.activate(self._handle)

    def deactivate(self) -> None:
        """Ends what `activate` began."""
        with _CREATION:
            if self._plugin.contents.deactivate:
                self._plugin.contents.deactivate(self._handle)

    def free(self) -> None:
        """Ends it, when it is not active."""
        with _CREATION:
            self._plugin.contents.cleanup(self._handle)

    def run(self, audio: Audio) -> Audio:
        """The next outputs, (output, time), for the next inputs, (input, time)."""
        run, handle, length = self._plugin.contents.run, self._handle, audio.shape[1]
        wet = np.empty((len(self._sink), length), np.float32)
        for start in range(0, length, BLOCK):
            count = min(BLOCK, length - start)
            self._source[:, :count] = audio[:, start : start + count]
            run(handle, count)
            wet[:, start : start + count] = self._sink[:, :count]
        return wet

    def pass_silence(self, samples: int) -> None:
        """Runs it on silence, so that it takes over its controls."""
        self.run(np.zeros((len(self._source), samples), np.float32))


@final
class Library:
    """A plugin in its library.

    Attributes:
        plugin: its descriptor.
        passes_on: whether a wrapper passes on only those settings that changed, in the order of the ports.
        forgets: whether it is back at its defaults when it begins; None until it was tried.
        first: indices of the parameters that overwrite others; None until it was tried.
        kept: instances that are ready, by sample rate.
        turn: the lock under which it runs.
        hop_multiple: at multiples of how many samples settings may change; None until it was tried.
    """

    hop_multiple: int | None = None
    forgets: bool | None = None
    first: list[int] | None = None

    def __init__(self, plugin: Any, path: str, content: bytes) -> None:
        self.plugin, self.passes_on, self.turn = plugin, is_filtered(content), turn(path, content)
        self.kept: dict[float, list[Instance]] = {}

    def __del__(self) -> None:
        for instance in itertools.chain(*self.kept.values()):
            instance.free()
