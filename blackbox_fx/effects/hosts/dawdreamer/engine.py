"""What the effects have in common that dawdreamer hosts: its engine, and how each is brought back to its beginning."""

from __future__ import annotations

import abc
import dataclasses
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any, final

import numpy as np

from blackbox_fx.audio import Audio, check_sample_rate
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.hosts.dawdreamer.layout import Layout
from blackbox_fx.effects.native import cleared_memory, reseed, same_arithmetic
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.errors import EffectError, MissingHost, ParameterError
from blackbox_fx.space import Choice, Space, Toggle

BLOCK = 512  # samples; the input is padded to whole blocks, since some plugins fail on others
RESETS = ("none", "graph", "reload")
_PRELUDE = 2 * BLOCK
_KEPT = 4  # engines of one effect, each for a sample rate and a block size


def dawdreamer() -> Any:
    """The module, imported on first use. Raises MissingHost if it is not installed."""
    try:
        with same_arithmetic():
            return import_module("dawdreamer")
    except ImportError as error:
        raise MissingHost(
            f"VST2, LV2 and Faust need dawdreamer ({error}); pip install 'blackbox_fx[dawdreamer]'."
        ) from error


@final
@dataclasses.dataclass
class Loaded:
    """One processor in its engine, behind the player of its input.

    Args:
        sample_rate: of the engine, in Hz.
        reborn: whether the processor is made anew when it is connected, as LV2 plugins are.
        since: when it was made, in seconds of `time.monotonic`.
    """

    engine: Any
    player: Any
    processor: Any
    sample_rate: float
    reborn: bool
    since: float = dataclasses.field(default_factory=time.monotonic)

    def connect(self) -> None:
        """Makes the graph, which prepares the processor again."""
        with cleared_memory():
            self.engine.load_graph([(self.player, []), (self.processor, ["player"])])
        if self.reborn:
            self.since = time.monotonic()

    def wait(self, settle: float) -> None:
        """Waits until the processor is so many seconds old."""
        if settle:
            time.sleep(max(0.0, self.since + settle - time.monotonic()))

    def run(self, feed: Audio, lead: int = 0, total: int | None = None) -> Audio:
        """What the processor gives for whole blocks, (inputs, time).

        Args:
            feed: (inputs, time).
            lead: samples of silence before it.
            total: samples in all, with silence after it; none if not given.
        """
        length = lead + feed.shape[1] if total is None else total
        self._play(feed, lead, length)
        self.engine.render((length + 0.5) / self.sample_rate)
        self.player.set_data(np.zeros((len(feed), 1), np.float32))  # a whole song need not be held twice
        return self.engine.get_audio()

    def _play(self, feed: Audio, lead: int, total: int) -> None:
        padded = np.zeros((len(feed), total), np.float32)
        padded[:, lead : lead + feed.shape[1]] = feed
        self.player.set_data(padded)


Engines = dict[tuple[float, int], Loaded]  # of an effect, by sample rate and block size


@final
class _Held:
    """Every engine with its processors, until the main thread frees it.

    A plugin that is freed in another thread waits for the main thread, for ever, and the garbage collector may run in
    any. What still has a name elsewhere, such as in the frames of an exception, is kept as well.
    """

    def __init__(self) -> None:
        self._all: list[tuple[weakref.ref[Loaded], list[Any]]] = []

    def __len__(self) -> int:
        return len(self._all)

    def add(self, loaded: Loaded) -> None:
        """Holds what was loaded."""
        self._all.append((weakref.ref(loaded), [loaded.engine, loaded.player, loaded.processor]))

    def sweep(self) -> None:
        """Frees what nobody uses any more; on the main thread only."""
        kept = []
        for owner, natives in self._all:
            if owner() is not None or any(sys.getrefcount(natives[k]) > _ALONE for k in range(len(natives))):
                kept.append((owner, natives))
        self._all[:] = kept


_ALONE = 2  # references to an object that a list holds, while they are counted
HELD = _Held()


class DawDreamer(Effect, abc.ABC):
    """An effect that dawdreamer hosts; a subclass says how it is made and how it is set.

    Attributes:
        reset: what is done before each render so that nothing is left of those before: "none", "graph" (the processor
            is prepared again: a few milliseconds) or "reload" (it is loaded again: tens of milliseconds, on the main
            thread only).
        layout: its channels.
        latency: samples that it reports at its defaults and `sample_rate`; each render is compensated by its own.
        tempo: in beats per minute, which the host tells it; None leaves that to the host (120).
        late: the largest latency that was seen, in samples, of a plugin that tells it only after its settings were in
            use; 0 for those that tell it at once.
        settle: seconds that are waited after loading; 0 for nearly all.
        pause: seconds that are waited after settings; 0 for nearly all.
    """

    native = True
    tempo: float | None = None
    reborn = False  # whether connecting makes a new plugin
    anywhere = True  # whether it renders in other threads than the main one
    flushed = False  # whether settings act only after some audio
    forgets = False  # whether it goes back to its defaults when a render begins

    def __init__(self, name: str, reset: str | None, sample_rate: float) -> None:
        if reset is not None and reset not in RESETS:
            raise ParameterError(f"reset={reset!r} is not allowed; allowed is {', '.join(RESETS)}, or None.")
        super().__init__(name, Space())
        self.sample_rate = check_sample_rate(sample_rate)
        self.reset = reset or "none"
        self.layout = Layout(0, 0, ())
        self.latency = self.late = 0
        self.settle = self.pause = 0.0
        self._learn(reset is None)
        self.inputs = ("sidechain",) if self.layout.side else ()

    @abc.abstractmethod
    def _learn(self, choose: bool) -> None:
        """Finds out layout, latency, parameters, and the reset if it is to be chosen."""

    @property
    def channels(self) -> int:
        """Of the audio that goes through at once, 1 or 2."""
        return self.layout.channels

    @property
    def lead(self) -> int:
        """Samples of silence before the audio, in which settings arrive that it would forget; whole blocks."""
        return 0

    def latency_of(self, processor: Any) -> int:
        """In samples, as it is now."""
        return 0

    @abc.abstractmethod
    def _make(self, engine: Any, sample_rate: float) -> Any:
        """A new processor; raises RuntimeError with the host's reason if there is none."""

    @abc.abstractmethod
    def set(self, loaded: Loaded, blocks: Sequence[Settings], hop: int) -> None:
        """Sets all parameters, for each block of `hop` samples if there are several."""

    def arrange(self, loaded: Loaded, settings: Settings) -> None:
        """Lets settings reach a plugin one after another, if some overwrite others."""

    def choose_reset(self) -> Audio:
        """Chooses the first of "none" and "graph" under which no bit of a render depends on those before it.

        Twelve settings, or four of a plugin that is waited for, loud and quiet by turns, are rendered in two orders,
        some of them twice in a row; the last is also compared with a fresh processor. What shows only elsewhere is not
        found.

        Returns:
            What the fresh processor gave for the last of `jobs`.
        """
        jobs = self.jobs()[-4 if self.settle or self.pause else -12 :]
        order = [*np.random.default_rng(0).permutation(len(jobs) - 1), len(jobs) - 1]
        # a bypass may fade once it has moved
        order = [*range(len(jobs)), *(k for k in order for _ in range(1 + (k % 4 > 1)))]
        fresh = self.run_afresh(*jobs[-1])
        for self.reset in RESETS[:-1]:
            wet: dict[int, Audio] = {order[-1]: fresh}
            if all(np.array_equal(wet.setdefault(k, y), y) for k in order for y in [self.run_at(*jobs[k])]):
                return fresh
            self.forget()
        self.reset = RESETS[-1]
        return fresh

    @final
    def jobs(self) -> list[tuple[Audio, Settings]]:
        """Loud and quiet noise, (inputs, time), each with settings.

        They are random, but the defaults come first, and every other pair has the defaults of all switches and options:
        a bypass or a closed gate would hide what the plugin keeps.
        """
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((self.channels, int(self.sample_rate / 5))).astype(np.float32)
        settings = [self.space.defaults | self.space.decode(row) for row in self.space.sample(12, rng)]
        settings[0] = self.space.defaults
        options = {n: p.default for n, p in self.space.parameters.items() if isinstance(p, Toggle | Choice)}
        settings = [row | (options if k % 4 < 2 else {}) for k, row in enumerate(settings)]
        feed = self.layout.feed(noise, noise[:, ::-1])
        return [((1.0, 0.003)[k % 2] * feed, values) for k, values in enumerate(settings)]

    @final
    def run_at(self, feed: Audio, settings: Settings) -> Audio:
        """The outputs, (outputs, time), for all inputs, (inputs, time), at the effect's own sample rate."""
        return self._run(feed, [settings], 0, self.sample_rate)

    @final
    def run_afresh(self, feed: Audio, settings: Settings) -> Audio:
        """The same of a processor that is loaded now."""
        self.forget()
        return self.run_at(feed, settings)

    @final
    def forget(self) -> None:
        """Frees what is loaded."""
        if self.is_open:
            with self.handle() as engines:
                engines.clear()

    def version(self) -> bytes:
        """The host's version."""
        return version("dawdreamer").encode()

    @final
    def open_handle(self) -> Engines:
        """The engines, with one for the sample rate of the effect."""
        engines = Engines()
        self._load(engines, self.sample_rate, BLOCK)
        return engines

    @final
    def loaded(self, sample_rate: float) -> Loaded:
        """The engine for a sample rate, opened if it is not yet."""
        with self.handle() as engines:
            if (sample_rate, BLOCK) not in engines:
                self._load(engines, sample_rate, BLOCK)
            return engines[sample_rate, BLOCK]

    @final
    def _load(self, engines: Engines, sample_rate: float, block: int) -> None:
        """Adds a fresh engine, in place of the oldest if there are many."""
        # elsewhere dawdreamer waits for the main thread, for ever
        if threading.current_thread() is not threading.main_thread():
            when = "for each render" if self.reset == "reload" else "once for each sample rate"
            raise EffectError(f"{self.name} is loaded {when}, on the main thread only; give the layer Processes().")
        while len(engines) >= _KEPT or (engines and self.reset == "reload"):
            del engines[next(iter(engines))]
        HELD.sweep()
        engines[sample_rate, block] = self.load_one(sample_rate, block)

    @final
    def load_one(self, sample_rate: float, block: int) -> Loaded:
        """A fresh engine of this block size in samples, on the main thread only."""
        engine = dawdreamer().RenderEngine(sample_rate, block)
        if self.tempo is not None:
            engine.set_bpm(self.tempo)
        try:
            with same_arithmetic(), cleared_memory():
                processor = self._make(engine, sample_rate)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise EffectError(f"Cannot load {self.name} ({reason}); check its address and what it needs.") from error
        inputs = processor.get_num_input_channels()
        if not (inputs and processor.get_num_output_channels()):
            lacks = "gives no audio" if inputs else "takes no audio, as an instrument"
            raise EffectError(f"{self.name} does not turn audio into audio: it {lacks}; choose an effect.")
        player = engine.make_playback_processor("player", np.zeros((inputs, block), np.float32))
        loaded = Loaded(engine, player, processor, sample_rate, self.reborn)
        HELD.add(loaded)
        loaded.connect()
        return loaded

    def process(self, request: RenderRequest) -> Audio:
        """Renders a request; see `Effect.process`."""
        if not self.anywhere and threading.current_thread() is not threading.main_thread():
            raise EffectError(f"{self.name} with a tempo renders on the main thread only; give the layer Processes().")
        audio, key = request.audio, request.inputs.get("sidechain", request.audio[:0])
        if len(audio) > 2 and self.channels == 2:
            raise EffectError(f"{self.name} has 2 channels, got audio with {len(audio)}; render pairs of channels.")
        parts = list(audio[:, None]) if self.channels == 1 else [audio]
        wet = [self.layout.output(self._render(part, key, request), len(part)) for part in parts]
        return np.concatenate(wet) if len(wet) > 1 else np.ascontiguousarray(wet[0])

    def _render(self, audio: Audio, key: Audio, request: RenderRequest) -> Audio:
        return self._run(self.layout.feed(audio, key), request.blocks, request.hop, request.sample_rate)

    @final
    def _run(self, feed: Audio, blocks: Sequence[Settings], hop: int, sample_rate: float) -> Audio:
        # settings that change do so from one block to the next
        block = BLOCK if len(blocks) == 1 or hop % BLOCK == 0 else hop
        key = (sample_rate, block)
        with self.handle() as engines:
            reseed()
            if key not in engines or self.reset == "reload":
                self._load(engines, sample_rate, block)
            elif self.reset == "graph":
                engines[key].connect()
            return self.run_on(engines[key], feed, blocks, hop, block, self.late)

    @final
    def run_on(
        self,
        loaded: Loaded,
        feed: Audio,
        blocks: Sequence[Settings],
        hop: int,
        block: int = BLOCK,
        spare: int = 0,
    ) -> Audio:
        """The first two outputs of a processor that stands at its beginning, lined up with the inputs.

        Args:
            loaded: the processor.
            feed: (inputs, time).
            blocks: settings for each `hop` samples.
            hop: samples; any number for a single block.
            block: samples that the engine takes at once.
            spare: samples of latency to be ready for, before the processor tells more.
        """
        loaded.wait(self.settle)
        latency, length = self._begin(loaded, blocks, hop), feed.shape[1]
        spare, lead = max(latency, spare), self.lead
        total = -(-(lead + length + spare) // block) * block
        wet = loaded.run(feed, lead, total)[:, lead:]
        if self.late and self.reset == "reload":
            wet, latency = np.array(wet), self._told(loaded)
            if latency > spare:
                again = self.load_one(loaded.sample_rate, block)
                return self.run_on(again, feed, blocks, hop, block, latency)
        return np.array(wet[:2, latency : latency + length])

    def _told(self, loaded: Loaded) -> int:
        """The latency of a processor that was in use and is not used again, in samples."""
        if not loaded.reborn:
            loaded.connect()
        return self.latency_of(loaded.processor)

    def _begin(self, loaded: Loaded, blocks: Sequence[Settings], hop: int) -> int:
        """Sets a processor that stands at its beginning; its latency at these settings, in samples."""
        # settings made before the graph are lost in LV2; latency is known only after it in VST2
        self.arrange(loaded, blocks[0])
        self.set(loaded, blocks, hop)
        # silence changes nothing for those that need not be loaded again
        if self.flushed or self.pause or (self.late and self.reset != "reload"):
            self.pass_silence(loaded)
            if self.pause:
                time.sleep(self.pause)
            if not (self.pause and loaded.reborn):  # a new one would not have answered yet
                loaded.connect()
                loaded.wait(self.settle)
                self.set(loaded, blocks, hop)
        return self.latency_of(loaded.processor)

    @final
    def pass_silence(self, loaded: Loaded, samples: int = _PRELUDE) -> None:
        """Lets the settings reach a plugin that takes them only while it processes."""
        loaded.run(np.zeros((self.layout.inputs, self.lead + samples), np.float32))
