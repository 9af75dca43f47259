"""What the effects have in common that dawdreamer hosts: its engine, and how each is brought back to its beginning."""

from __future__ import annotations

import abc
import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from blackbox_fx.audio import Audio, check_sample_rate
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.native import reseed, same_arithmetic
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.effects.texts import python_names
from blackbox_fx.errors import EffectError, MissingHost, ParameterError
from blackbox_fx.space import Space

_BLOCK = 512  # samples; the input is padded to whole blocks, since some plugins fail on others
_RESETS = ("none", "graph", "reload")
_KEPT = 4  # engines of one effect, each for a sample rate and a block size
names = python_names


def dawdreamer() -> Any:
    """The module, imported on first use. Raises MissingHost if it is not installed."""
    try:
        with same_arithmetic():
            return import_module("dawdreamer")
    except ImportError as error:
        raise MissingHost(
            f"VST2, LV2 and Faust need dawdreamer ({error}); pip install 'blackbox_fx[dawdreamer]'."
        ) from error


class _Loaded(NamedTuple):
    """One processor in its engine, behind the player of its input."""

    engine: Any
    player: Any
    processor: Any

    def connect(self) -> None:
        """Makes the graph, which prepares the processor again."""
        self.engine.load_graph([(self.player, []), (self.processor, ["player"])])


@final
class _Engines(dict[tuple[float, int], _Loaded]):
    """The engines of an effect by sample rate and block size.

    Plugins that are dropped outside the main thread wait for it, for ever; there they are parked instead.
    """

    parked: ClassVar[list[Any]] = []

    def __del__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.parked.append(dict(self))


class DawDreamer(Effect, abc.ABC):
    """An effect that dawdreamer hosts; a subclass says how it is made and how it is set.

    Attributes:
        reset: what is done before each render so that nothing is left of those before: "none", "graph" (the processor
            is prepared again: a few milliseconds) or "reload" (it is loaded again: tens of milliseconds, on the main
            thread only).
        channels: of the audio that goes through at once, 1 or 2.
        latency: samples that it reports at its defaults and `sample_rate`; they are compensated.
    """

    native = True

    def __init__(self, name: str, reset: str | None, sample_rate: float) -> None:
        if reset is not None and reset not in _RESETS:
            raise ParameterError(f"reset={reset!r} is not allowed; allowed is {', '.join(_RESETS)}, or None.")
        super().__init__(name, Space())
        self.sample_rate = check_sample_rate(sample_rate)
        self.reset = reset or "none"
        self.audio_inputs = self.channels = self.latency = 0
        self._learn(reset is None)

    @abc.abstractmethod
    def _learn(self, choose: bool) -> None:
        """Finds out channels, latency, parameters, and the reset if it is to be chosen."""

    @final
    def learn_here(self, choose: bool) -> None:
        """Learns channels, latency, parameters and, if it is to be chosen, the reset by loading it in this process."""
        with self.handle() as engines:
            processor = next(iter(engines.values())).processor
            self.audio_inputs = processor.get_num_input_channels()
            self.channels = min(self.audio_inputs, processor.get_num_output_channels(), 2)
            self.latency = self._latency(processor)
            self.space = self._read(processor)
            engines.clear()  # reading ranges moves parameters
        if choose:
            self.reset = self._cheapest_reset()

    def _latency(self, processor: Any) -> int:
        """In samples, as it is now."""
        return 0

    @abc.abstractmethod
    def _make(self, engine: Any) -> Any:
        """A new processor; raises RuntimeError with the host's reason if there is none."""

    @abc.abstractmethod
    def _read(self, processor: Any) -> Space:
        """The parameters; the processor is not used after that."""

    @abc.abstractmethod
    def _set(self, processor: Any, blocks: Sequence[Settings], hop: int) -> None:
        """Sets all parameters, for each block of `hop` samples if there are several."""

    def _cheapest_reset(self) -> str:
        """The first of "none" and "graph" under which no bit of a render depends on those before it.

        Twelve settings, loud and quiet by turns, are rendered in two orders; the last is also compared with a fresh
        processor. What shows only elsewhere is not found.
        """
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((self.channels, int(self.sample_rate / 5))).astype(np.float32)
        settings = [self.space.defaults | self.space.decode(row) for row in self.space.sample(12, rng)]
        jobs = [((1.0, 0.003)[k % 2] * noise, values) for k, values in enumerate(settings)]
        order = [*range(len(jobs)), *rng.permutation(len(jobs) - 1), len(jobs) - 1]

        def render(k: int) -> Audio:
            return self._run(jobs[k][0], [jobs[k][1]], 0, self.sample_rate)

        fresh = render(order[-1])
        for self.reset in _RESETS[:-1]:
            self._forget()
            wet: dict[int, Audio] = {order[-1]: fresh}
            if all(np.array_equal(wet.setdefault(k, y), y) for k in order for y in [render(k)]):
                return self.reset
        return "reload"

    @final
    def _forget(self) -> None:
        with self.handle() as engines:
            engines.clear()

    def version(self) -> bytes:
        """The host's version."""
        return version("dawdreamer").encode()

    @final
    def open_handle(self) -> _Engines:
        """The engines, with one for the sample rate of the effect."""
        engines = _Engines()
        self._load(engines, self.sample_rate, _BLOCK)
        return engines

    @final
    def loaded(self, sample_rate: float) -> _Loaded:
        """The engine for a sample rate, opened if it is not yet."""
        with self.handle() as engines:
            if (sample_rate, _BLOCK) not in engines:
                self._load(engines, sample_rate, _BLOCK)
            return engines[sample_rate, _BLOCK]

    @final
    def _load(self, engines: _Engines, sample_rate: float, block: int) -> None:
        """Adds a fresh engine, in place of the oldest if there are many."""
        # elsewhere dawdreamer waits for the main thread, for ever
        if threading.current_thread() is not threading.main_thread():
            when = "for each render" if self.reset == "reload" else "once for each sample rate"
            raise EffectError(f"{self.name} is loaded {when}, on the main thread only; give the layer Processes().")
        engines.parked.clear()
        while len(engines) >= _KEPT or (engines and self.reset == "reload"):
            del engines[next(iter(engines))]
        engine = dawdreamer().RenderEngine(sample_rate, block)
        try:
            with same_arithmetic():
                processor = self._make(engine)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise EffectError(f"Cannot load {self.name} ({reason}); check its address and what it needs.") from error
        inputs = processor.get_num_input_channels()
        if not (inputs and processor.get_num_output_channels()):
            lacks = "gives no audio" if inputs else "takes no audio, as an instrument"
            raise EffectError(f"{self.name} does not turn audio into audio: it {lacks}; choose an effect.")
        player = engine.make_playback_processor("player", np.zeros((inputs, block), np.float32))
        engines[sample_rate, block] = _Loaded(engine, player, processor)
        engines[sample_rate, block].connect()

    def process(self, request: RenderRequest) -> Audio:
        """Renders a request; see `Effect.process`."""
        audio, blocks, hop, sample_rate = request.audio, request.blocks, request.hop, request.sample_rate
        if self.channels == 1:
            return np.concatenate([self._run(row[None], blocks, hop, sample_rate) for row in audio])
        if len(audio) > 2:
            raise EffectError(f"{self.name} has 2 channels, got audio with {len(audio)}; render pairs of channels.")
        return self._run(np.broadcast_to(audio, (2, audio.shape[1])), blocks, hop, sample_rate)[: len(audio)]

    @final
    def _run(self, audio: Audio, blocks: Sequence[Settings], hop: int, sample_rate: float) -> Audio:
        # settings that change do so from one block to the next
        block = _BLOCK if len(blocks) == 1 or hop % _BLOCK == 0 else hop
        key, time = (sample_rate, block), audio.shape[1]
        with self.handle() as engines:
            reseed()
            if key not in engines or self.reset == "reload":
                self._load(engines, sample_rate, block)
            elif self.reset == "graph":
                engines[key].connect()
            engine, player, processor = engines[key]
            # settings made before the graph are lost in LV2; latency is known only after it in VST2
            self._set(processor, blocks, hop)
            latency = self._latency(processor)
            total = -(-(time + latency) // block) * block
            padded = np.zeros((self.audio_inputs, total), np.float32)
            padded[: self.channels, :time] = audio
            player.set_data(padded)
            engine.render((total + 0.5) / sample_rate)
            return np.array(engine.get_audio()[: self.channels, latency : latency + time])
