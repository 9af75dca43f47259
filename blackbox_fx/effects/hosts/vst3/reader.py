"""Reads and measures a VST3 plugin by running it in a process of its own: `isolation.call` runs this module."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx import isolation

Array = NDArray[np.float32]
Row = list[float]  # raw values of the parameters that are not the host's
# some plugins return dry audio or crash on other block sizes, so the input is padded to whole blocks of this many
BLOCK = 512
RATE = 44100
BASES = 8  # random settings at which a parameter in doubt is tried
_SHORT, _LONG = 8, 36  # blocks of a clip
_EQUAL, _ACTS, _NEAR = 1e-6, 1e-5, 1e-3  # relative to the largest sample
# what hosts and wrappers add to the plugin's own parameters
HOST_PARAMETERS = ("Buffer Size", "Sample Rate", "Latency", "Current Program")
# names that a meter may have; some plugins report that their meters can be automated
_METER = re.compile(r"reduction|meter|\boutput\b|\bvu\b|\brms\b", re.IGNORECASE)


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


def load(path: str) -> Any:
    """A new instance; raises what pedalboard does."""
    import pedalboard

    kind = "AudioUnitPlugin" if path.endswith(".component") else "VST3Plugin"
    with fast_loading():
        return getattr(pedalboard, kind)(path)


def stream(plugin: Any, audio: Array, hop: int, sample_rate: float, change: Callable[[int], None]) -> Array:
    """A plugin's output, (channel, time), from its present state, without its latency.

    Args:
        plugin: just loaded, or just reset.
        audio: (channel, time).
        hop: samples of output between changes of the settings.
        sample_rate: in Hz.
        change: called with k before the input that gives output block k. Blocks of input are shifted by the latency, so
            that each setting governs its own block of output.
    """
    length = audio.shape[1]
    latency = plugin.reported_latency_samples
    fed = -(-(length + latency) // BLOCK) * BLOCK
    padded = np.empty((len(audio), fed), np.float32)
    padded[:, :length], padded[:, length:] = audio, 0
    out, start = [], 0
    for k, stop in enumerate([*range(hop + latency, length + latency, hop), fed]):
        change(k)
        out.append(plugin.process(padded[:, start:stop], sample_rate, buffer_size=BLOCK, reset=False))
        start = stop
    wet = np.concatenate(out, axis=1) if len(out) > 1 else out[0]
    # after a reset, the host itself drops as many samples as there is latency
    skip = max(0, wet.shape[1] - (fed - latency))
    return wet[:, skip : skip + length]


def flush(plugin: Any, channels: int, sample_rate: float) -> None:
    """Applies settings: a plugin takes them only while it processes."""
    plugin.process(np.zeros((channels, BLOCK), np.float32), sample_rate, buffer_size=BLOCK, reset=False)


def clip(channels: int, blocks: int) -> Array:
    """Loud, tonal and transient: the first half alike in both channels, the second not."""
    n = blocks * BLOCK
    t = np.arange(n) / RATE
    rng = np.random.default_rng(0)
    tones = np.stack([sum(np.sin(2 * np.pi * f * t + c) for f in (83, 331, 1250, 5100)) for c in range(channels)])
    beat = np.exp(-((t * 13) % 1) * 6)
    x = 0.2 * tones * (0.25 + beat) + 0.05 * rng.standard_normal((channels, n))
    x[:, : n // 2] = x[0, : n // 2]
    return x.astype(np.float32)


def _channels(plugin: Any) -> int:
    for channels in (2, 1):
        with contextlib.suppress(ValueError):
            flush(plugin, channels, RATE)
            return channels
    return 0


def _texts(native: Any) -> list[str]:
    steps = native.num_steps if 2 <= native.num_steps <= 1000 else 5
    return [native.get_text_for_raw_value(k / (steps - 1)) for k in range(steps)]


def _moved(row: Row, k: int) -> Row:
    return [(v + 0.5) % 1 if j == k else v for j, v in enumerate(row)]


def _difference(a: Array, b: Array) -> float:
    """Largest difference, relative to the largest sample if that is above 1."""
    return float(np.abs(a - b).max()) / max(1.0, float(np.abs(a).max()))


@final
class _Bench:
    """A plugin under examination, rendered at raw settings of its own parameters, as `VST3` does."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.plugin = make()
        self.channels = _channels(self.plugin)
        self.parameters = [
            {
                "index": k,
                "name": native.name,
                "label": native.label.strip(),
                "steps": native.num_steps,
                "raw": float(native.raw_value),
                "texts": _texts(native),
                "why": "is the host's" if native.name in HOST_PARAMETERS else "",
            }
            for k, native in enumerate(self.plugin._parameters)
        ]
        natives = self.plugin._parameters
        self._doubted = {k for k, p in enumerate(natives) if not p.is_automatable or _METER.search(p.name)}
        # pedalboard found that audio survives a reset, so it reloads the plugin, which loses the settings
        self.reset = "reload" if self.plugin._reload_type.name == "PersistsAudioOnReset" else "host"
        self.audio = clip(self.channels, _SHORT)

    @property
    def own(self) -> list[dict[str, Any]]:
        """The parameters that are not excluded so far."""
        return [p for p in self.parameters if not p["why"]]

    @property
    def doubts(self) -> list[int]:
        """Indices into `own` of the parameters that may do nothing."""
        return [k for k, p in enumerate(self.own) if p["index"] in self._doubted]

    @property
    def defaults(self) -> Row:
        return [p["raw"] for p in self.own]

    def raws(self) -> Row:
        native = self.plugin._parameters
        return [float(native[p["index"]].raw_value) for p in self.own]

    def set(self, row: Row) -> None:
        native = self.plugin._parameters
        for p, now, value in zip(self.own, self.raws(), row, strict=True):
            if now != value:
                native[p["index"]].raw_value = value

    def render(self, row: Row, hop: int = 0) -> Array:
        if self.reset == "reload":
            self.plugin = self.make()
            self.set(row)
        else:
            self.set(row)
            flush(self.plugin, self.channels, RATE)
            self.plugin.reset()
        wet = stream(self.plugin, self.audio, hop or self.audio.shape[1], RATE, lambda k: None)
        return np.nan_to_num(wet, nan=0.0, posinf=1e9, neginf=-1e9)

    def strays(self, row: Row, k: int) -> bool:
        """Whether a parameter other than k, and no meter, differs from its value in `row`."""
        raws = enumerate(zip(self.raws(), row, strict=True))
        return any(abs(now - then) > 1e-6 for j, (now, then) in raws if j != k and j not in self.doubts)

    def try_reset(self, other: Row) -> tuple[bool, Array, Array]:
        """Chooses the reset.

        Returns:
            Whether settings may change during a clip, and the renders at the defaults and at `other`.
        """
        first, last, again = self.render(self.defaults), self.render(other), self.render(self.defaults, 2 * BLOCK)
        if self.reset == "host" and _difference(first, again) > _EQUAL < _difference(first, self.render(self.defaults)):
            self.reset = "reload"
            return self.try_reset(other)
        return _difference(first, again) <= _NEAR, first, last

    def active(self, first: Array, report: Callable[[Any], None]) -> set[int]:
        """The doubtful parameters that change the output at the defaults, which gave `first`, or at random settings."""
        found = {k for k in self.doubts if _difference(first, self.render(_moved(self.defaults, k))) > _ACTS}
        self.audio = clip(self.channels, _LONG)
        for row in np.random.default_rng(1).random((BASES, len(self.own))).tolist():
            remaining = [k for k in self.doubts if k not in found]
            if not remaining:
                break
            report(f"{len(remaining)} parameters in doubt")
            base = self.render(row)
            least = _ACTS + 4 * _difference(base, self.render(row))
            found |= {k for k in remaining if _difference(base, self.render(_moved(row, k))) > least}
        self.audio = clip(self.channels, _SHORT)
        return found

    def choose_reset_and_exclude_idle(self, report: Callable[[Any], None]) -> bool:
        """Chooses the reset, and excludes parameters that change nothing; whether settings may change during a clip."""
        # some plugins take long to set and to reset, so a single doubtful parameter is tried together with the reset
        alone = self.doubts[0] if len(self.doubts) == 1 else None
        other = np.random.default_rng(0).random(len(self.own)).tolist()
        if alone is not None:
            other = _moved(self.defaults, alone)
        automatable, first, last = self.try_reset(other)
        report("reset")
        acts = alone is not None and _difference(first, last) > _ACTS
        active = {alone} if acts else self.active(first, report)
        for p in [self.own[k] for k in self.doubts if k not in active]:
            p["why"] = f"changes nothing at {BASES} random settings"
        return automatable

    def moves_others(self, k: int) -> bool:
        row = self.raws()
        self.set(_moved(row, k))
        flush(self.plugin, self.channels, RATE)
        found = self.strays(row, k)
        self.set(row)
        return found

    def remembers(self, k: int) -> bool:
        """Whether moving a parameter and setting it back changes the output of a plugin that otherwise repeats."""
        first, again = self.render(self.defaults), self.render(self.defaults)
        self.render(_moved(self.defaults, k))
        return _difference(first, again) <= _EQUAL < _NEAR < _difference(first, self.render(self.defaults))


def examine(make: Callable[[], Any], report: Callable[[Any], None]) -> dict[str, Any]:
    """Channels, latency, reset and parameters of a plugin.

    Args:
        make: gives a new instance of it.
        report: called now and then with a word on the progress.

    Returns:
        "channels" (0 if it takes neither 1 nor 2), "latency" in samples, "reset" ("host" if the host's reset removes
        all earlier audio, else "reload": only a new instance is free of it), "automatable" (settings may change during
        a clip), and "parameters": index, name, label, steps, raw (the default), texts, and why it is excluded.
    """
    bench = _Bench(make)
    answer: dict[str, Any] = {"channels": bench.channels, "latency": 0, "reset": "host", "automatable": False}
    answer["parameters"] = bench.parameters
    if not bench.channels:
        return answer
    report("loaded")
    for p in [p for k, p in enumerate(bench.own) if k not in bench.doubts and bench.moves_others(k)]:
        p["why"] = "moves others"
        bench.plugin = make()
    answer["automatable"] = bench.choose_reset_and_exclude_idle(report)
    answer["reset"], answer["latency"] = bench.reset, bench.plugin.reported_latency_samples
    report("tried")
    if not answer["automatable"]:
        for p in [p for k, p in enumerate(bench.own) if bench.remembers(k)]:
            p["why"] = "is remembered after it was set back"
    return answer


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    return examine(lambda: load(question["path"]), report)


if __name__ == "__main__":
    isolation.answer(_reply)
