"""A VST3 plugin at work in pedalboard: how it is loaded, set and run."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.effects.ordering import passes

Array = NDArray[np.float32]
# some plugins return dry audio or crash on other block sizes, so the input is padded to whole blocks of this many
BLOCK = 512
RATE = 44100


class LatencyMoved(Exception):
    """The plugin reports another latency than before, in samples: before and now."""


class Manners(NamedTuple):
    """What a plugin needs before it renders.

    Args:
        first: indices of parameters that move others, in the order in which they are set before these.
        steps: index of each parameter, and how many positions it has.
        settle: seconds that it needs after it was loaded.
        slow: indices of the parameters after whose change it needs them, too.
        forgets: whether a reset puts it back to its defaults, so that it is set once more.
        moment: samples of silence in which settings take effect.
    """

    first: Sequence[int] = ()
    steps: Sequence[tuple[int, int]] = ()
    settle: float = 0.0
    slow: Sequence[int] = ()
    forgets: bool = False
    moment: int = BLOCK


@contextlib.contextmanager
def fast_loading() -> Any:
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


def load(path: str, name: str | None = None) -> Any:
    """A new instance, of the plugin of this name where the file holds several; raises what pedalboard does."""
    import pedalboard

    kind = "AudioUnitPlugin" if path.endswith(".component") else "VST3Plugin"
    with fast_loading():
        return getattr(pedalboard, kind)(path, plugin_name=name)


def names_in(path: str) -> list[str]:
    """The names of the plugins that a file holds."""
    import pedalboard

    kind = "AudioUnitPlugin" if path.endswith(".component") else "VST3Plugin"
    return list(getattr(pedalboard, kind).get_plugin_names_for_file(path))


def stream(
    plugin: Any,
    audio: Array,
    hop: int,
    sample_rate: float,
    change: Callable[[int], None],
    latency: int | None = None,
    true: int | None = None,
) -> Array:
    """A plugin's output, (channel, time), from its present state, without its latency.

    Args:
        plugin: just loaded, or just reset.
        audio: (channel, time).
        hop: samples of output between changes of the settings.
        sample_rate: in Hz.
        change: called with k before the input that gives output block k. Blocks of input are shifted by the latency, so
            that each setting governs its own block of output.
        latency: in samples, where it is known better than the plugin knows before its first block.
        true: what is compensated, in samples, if the plugin reports another latency than it has.

    Raises:
        LatencyMoved: the latency is another after some block.
    """
    length = audio.shape[1]
    latency = int(plugin.reported_latency_samples) if latency is None else latency
    true = latency if true is None else true
    lead, late = max(0, latency - true), max(latency, true)
    fed = -(-(length + late) // BLOCK) * BLOCK
    padded = np.empty((len(audio), fed), np.float32)
    padded[:, :lead], padded[:, lead : lead + length], padded[:, lead + length :] = 0, audio, 0
    stops = [*range(hop + late, length + late, hop), fed]
    # the host prepares the plugin again, which resets it, when a block is longer than the first
    size = min(BLOCK, stops[0])
    out, start = [], 0
    for k, stop in enumerate(stops):
        change(k)
        out.append(plugin.process(padded[:, start:stop], sample_rate, buffer_size=size, reset=False))
        if plugin.reported_latency_samples != latency:
            raise LatencyMoved(latency, plugin.reported_latency_samples)
        start = stop
    wet = np.concatenate(out, axis=1) if len(out) > 1 else out[0]
    # after a reset, the host itself drops as many samples as there is latency
    skip = max(0, wet.shape[1] - (fed - latency)) + late - latency
    return wet[:, skip : skip + length]


def flush(plugin: Any, channels: int, sample_rate: float, samples: int = BLOCK) -> None:
    """Applies settings: a plugin takes them only while it processes."""
    plugin.process(np.zeros((channels, samples), np.float32), sample_rate, buffer_size=samples, reset=False)


def set_raws(plugin: Any, raws: Mapping[int, float]) -> None:
    """Sets parameters by index; they take effect while the plugin processes."""
    # asked for again each time: some plugins are reloaded by a reset, and their old parameter objects then crash
    native = plugin._parameters
    for index, raw in raws.items():
        native[index].raw_value = raw


def _pass_on(
    plugin: Any, parts: Iterable[Mapping[int, float]], channels: int, sample_rate: float, samples: int
) -> None:
    for part in parts:
        set_raws(plugin, part)
        flush(plugin, channels, sample_rate, samples)


def apply(
    plugin: Any, raws: Mapping[int, float], channels: int, sample_rate: float, manners: Manners, waits: bool = True
) -> None:
    """Sets parameters and lets them take effect, by blocks of silence; the plugin is to be reset after that.

    Those that move others come first, see `passes`. Without `waits`, slow ones stand where they stood before.
    """
    parts = passes(raws, manners.first, dict(manners.steps)) if manners.first else [raws]
    _pass_on(plugin, parts, channels, sample_rate, manners.moment)
    if manners.slow and (waits or manners.first):
        wait(manners.settle)
        flush(plugin, channels, sample_rate)


def set_again(plugin: Any, raws: Mapping[int, float], channels: int, sample_rate: float, manners: Manners) -> None:
    """Sets what a plugin may have put back although its wrapper passes on only what changes."""
    parts = passes(raws, manners.first, dict(manners.steps))
    _pass_on(plugin, parts, channels, sample_rate, manners.moment)


def begin(
    plugin: Any,
    raws: Mapping[int, float],
    channels: int,
    sample_rate: float,
    manners: Manners,
    reset: bool,
    waits: bool = True,
) -> None:
    """Brings a plugin to the beginning of a render at these settings; without `reset`, one that was just loaded."""
    if reset or manners.first or manners.slow:
        apply(plugin, raws, channels, sample_rate, manners, waits)
    else:
        set_raws(plugin, raws)
    if reset:
        plugin.reset()
        if manners.forgets:
            flush(plugin, channels, sample_rate)  # a latency that moves in the first block is not told
            set_again(plugin, raws, channels, sample_rate, manners)


def wait(seconds: float) -> None:
    """Sleeps, if there is anything to wait for."""
    if seconds:
        time.sleep(seconds)


def clip(channels: int, blocks: int) -> Array:
    """Loud, tonal and transient: the first half alike in both channels, the second not."""
    n = blocks * BLOCK
    t = np.arange(n) / RATE
    noise = np.frombuffer(random.Random(0).randbytes(4 * channels * n), np.int32).reshape(channels, n) / 2**31
    tones = np.stack([sum(np.sin(2 * np.pi * f * t + c) for f in (83, 331, 1250, 5100)) for c in range(channels)])
    beat = np.exp(-((t * 13) % 1) * 6)
    x = 0.2 * tones * (0.25 + beat) + 0.05 * 3**0.5 * noise
    x[:, : n // 2] = x[0, : n // 2]
    return x.astype(np.float32)
