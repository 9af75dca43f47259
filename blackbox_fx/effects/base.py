"""The effect: a pure function of audio and settings, as a frozen recipe that pickles."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np

from blackbox_fx.audio import Audio, check_audio, check_sample_rate, is_finite
from blackbox_fx.core.checks import whole
from blackbox_fx.effects import further, presets, tails
from blackbox_fx.effects.identity import canonical
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.errors import AudioError, EffectError, NotFinite, ParameterError
from blackbox_fx.isolation.quiet import quiet
from blackbox_fx.space import Array, Space

_USUAL_RATES = (44_100, 48_000)
WHOLE_HOP = 4096  # samples, and multiples: hops at which every effect can change that can change at all
_SHOWN = 8  # parameters in an error


class _Native:
    """A native handle and its lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.handle: Any = None

    def __del__(self) -> None:
        if self.handle is not None:
            with quiet():  # plugins complain in their destructors
                self.handle = None


class Effect(abc.ABC):
    """A function from audio to audio with named parameters.

    `render` is pure: the same inputs give the same output, whatever was rendered before. An effect is a recipe: it
    pickles without its native handle, which is opened on first use and shared with the copies that `fix`, `only` and
    `within` make.

    A subclass calls `super().__init__(name, space)` and implements `process`. It may also override these hooks:
    `open_handle`, if it keeps something native open; `output_channels`, if it changes the number of channels;
    `version`, if its output depends on files; `write_state` and `read_state`, for each ending in `states`.

    Attributes:
        name: short name for tables and errors, such as "pedalboard:Compressor".
        space: its parameters; `fix` and `only` give a copy with another space.
        automatable: whether settings may change during a clip, see `render`.
        native: whether it runs foreign code that can crash the process; such effects render in worker processes by
            default.
        address: the text that `load` made it of; None if that took options, or it was made in another way.
        states: file endings of its own presets, which it can write and read in addition to ".json".
        inputs: names of its further inputs, such as ("sidechain",); each takes one or two channels, whatever the audio
            has.
        hop_multiple: settings that change during a clip do so at multiples of this many samples only, a part of 4096;
            for LADSPA, `find_hop_multiple` says.
        settle: seconds that it is given after it was loaded, since it is ready only some while after that; nearly
            always 0.
        tail_seconds: the longest output after the input ends, in seconds; None if that is not known.
    """

    automatable: bool = False
    native: bool = False
    address: str | None = None
    states: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    hop_multiple: int = 1
    settle: float = 0.0
    tail_seconds: float | None = None

    def __init__(self, name: str, space: Space) -> None:
        self.name = name
        self.space = space
        self._shared = _Native()

    @abc.abstractmethod
    def process(self, request: RenderRequest) -> Audio:
        """Renders a request from silence.

        Args:
            request: what to render; its audio must not be changed.

        Returns:
            (channels, time): as many channels as `output_channels` says, and the time axis of the audio.
        """

    def output_channels(self, channels: int) -> int:
        """Number of output channels for a number of input channels."""
        return channels

    @property
    def members(self) -> Mapping[str, Effect]:
        """The effects that it is made of, by label; empty for a plain effect."""
        return {}

    def open_handle(self) -> Any:
        """Makes the native handle that `handle` lends; only effects with one override this."""
        return None

    def pedalboard_stage(self, settings: Settings, sample_rate: float) -> Any:
        """A new pedalboard plugin at these settings, if the effect is one without latency; a `Rack` chains them."""
        return None

    @final
    @contextlib.contextmanager
    def handle(self) -> Iterator[Any]:
        """The native handle, opened on first use, for one thread at a time."""
        with self._shared.lock:
            if self._shared.handle is None:
                with quiet() if self.native else contextlib.nullcontext():
                    self._shared.handle = self.open_handle()
            yield self._shared.handle

    @final
    def open(self) -> None:
        """Opens the native handle now, rather than on first use."""
        with self.handle():
            pass

    @property
    def is_open(self) -> bool:
        """Whether the native handle is open in this process."""
        return self._shared.handle is not None

    @property
    def defaults(self) -> Settings:
        """The default of every parameter, in physical units."""
        return self.space.defaults

    @property
    def fingerprint(self) -> str:
        """A text that identifies the effect, for files that keep its measurements."""
        nameless = self.with_space(self.space)
        nameless.address = None
        vars(nameless).pop("hop_multiple", None)  # where settings may change is no part of what it does
        return f"v2-{hashlib.blake2b(canonical(nameless) + self.version(), digest_size=12).hexdigest()}"

    @property
    def version_name(self) -> str:
        """A hash of `version`, for files."""
        return hashlib.blake2b(self.version(), digest_size=12).hexdigest()

    def version(self) -> bytes:
        """Identifies the files and packages that the output depends on and that are not pickled."""
        return b""

    @final
    def save_preset(self, path: str | os.PathLike[str], values: Mapping[str, Any] = {}) -> None:
        """Writes settings to a file, whole or not at all.

        Args:
            path: ending in ".json", or in one of `states`: a VST3 plugin also has ".vstpreset", which other hosts read,
                and ".state", a line of JSON before the bytes that pedalboard calls raw_state. Only JSON holds every
                value exactly.
            values: physical values by parameter name; what is left out stands at `defaults`.

        Raises:
            DataError: another ending, or a file that cannot be written.
            ParameterError: an unknown name, or a value outside its range.
            EffectError: the plugin crashes, hangs or refuses, in a process of its own.
        """
        presets.save(self, path, values)

    @final
    def load_preset(self, path: str | os.PathLike[str]) -> Settings:
        """The settings in a file, to render at, or to hold: `effect.fix(effect.load_preset("warm.vstpreset"))`.

        The effect itself does not change. A plugin's own file is read by the plugin, in a process of its own; a warning
        says if it holds more than parameters, and if JSON was saved with another version of the effect.

        Args:
            path: what `save_preset` wrote, or a ".vstpreset" from elsewhere.

        Returns:
            Physical values by parameter name: all of them, or those that the JSON has.

        Raises:
            DataError: a file that cannot be read, is damaged, or belongs to another effect.
            ParameterError: an unknown name, or a value outside its range.
            EffectError: the plugin crashes, hangs or refuses the file.
        """
        return presets.load(self, path)

    def write_state(self, ending: str, settings: Settings) -> bytes:
        """The plugin's own state at these settings, for each ending in `states`."""
        raise NotImplementedError(ending)

    def read_state(self, path: Path, content: bytes) -> tuple[Settings, float]:
        """The settings that a file of one of these endings holds.

        Args:
            path: of the file, for errors.
            content: of the file.

        Returns:
            physical values by name, and the difference between the outputs at the file's state and at those values,
            relative to the largest sample.
        """
        raise NotImplementedError(path)

    @final
    def fix(self, values: Mapping[str, Any] = {}, **named: Any) -> Self:
        """The same effect with these parameters held at these values: `effect.fix(ratio=4)`."""
        return self.with_space(self.space.fix(values, **named))

    @final
    def only(self, *names: str) -> Self:
        """The same effect with only these parameters free: `effect.only("threshold_db", "ratio")`."""
        return self.with_space(self.space.only(*names))

    @final
    def within(self, ranges: Mapping[str, Any] = {}, **named: Any) -> Self:
        """The same effect with narrower ranges: `effect.within(gain_db=(-12, 12))`."""
        return self.with_space(self.space.within(ranges, **named))

    @final
    def with_space(self, space: Space) -> Self:
        """The same effect with another space; the native handle is shared."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), space=space)
        return other

    @final
    def render(
        self,
        audio: Any,
        values: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {},
        sample_rate: float = 44100,
        hop: int | None = None,
        *,
        inputs: Mapping[str, Any] = {},
        tail: bool = False,
        **named: Any,
    ) -> Audio:
        """The effect's output.

        Args:
            audio: (channel, time), floating point.
            values: physical values by parameter name; what is left out stands at `defaults`. With `hop`, a sequence of
                ceil(time / hop) mappings, one for each block of `hop` samples, which change the settings without a
                reset.
            sample_rate: in Hz.
            hop: samples per block.
            inputs: audio of further inputs by name, (1 or 2 channels, time), as long as `audio`; see `Effect.inputs`.
                An input that is left out gets silence, which is said once in the log.
            tail: whether to append the output after the audio ends, until it is 80 dB below the loudest sample, and at
                most 10 seconds.
            **named: further inputs, too: `sidechain=kick`.

        Returns:
            (channel, time), float32; longer than the audio only with `tail`.

        Raises:
            AudioError: bad audio or sample rate.
            ParameterError: an unknown name, a value outside its range, a wrong number of blocks, an unknown input, or
                one that is given twice.
            EffectError: the effect failed, returned another shape, NaN or infinity, or cannot change during a clip.
        """
        given = further.gather(inputs, named, self.inputs)
        request = self.request(check_audio(audio), values, check_sample_rate(sample_rate), hop, given)
        if tail:
            return tails.render_with_tail(self.run, request, self.tail_seconds)
        return self.run(request)

    @final
    def request(
        self, audio: Audio, values: Any, sample_rate: float, hop: int | None = None, inputs: Mapping[str, Any] = {}
    ) -> RenderRequest:
        """A request for audio and a sample rate that were checked before; see `render` for arguments and errors."""
        blocks = self._blocks(values, hop, audio.shape[1])
        given = {name: check_audio(x, name) for name, x in inputs.items()}
        request = self._request(audio, blocks, sample_rate, hop, given)
        for name, x in given.items():
            further.check_channels(self.name, name, len(x))
        further.say_silent(self.name, [name for name in self.inputs if name not in given])
        return request

    @final
    def request_at(
        self, audio: Audio, point: Array, sample_rate: float, hop: int | None = None, inputs: Mapping[str, Audio] = {}
    ) -> RenderRequest:
        """A request at columns in [0, 1], where all else was checked before.

        Args:
            audio: (channel, time), float32.
            point: (width,); with `hop`, (blocks, width).
            sample_rate: in Hz.
            hop: samples per block.
            inputs: audio of further inputs by name, (channel, time), float32.
        """
        rows = [point] if hop is None else self._counted(point, hop, audio.shape[1])
        return self._request(audio, [self.space.complete_row(row) for row in rows], sample_rate, hop, inputs)

    def _request(
        self,
        audio: Audio,
        blocks: list[Settings],
        sample_rate: float,
        hop: int | None,
        inputs: Mapping[str, Audio],
    ) -> RenderRequest:
        further.check_names(self.name, inputs, self.inputs)
        for name, given in inputs.items():
            if given.shape[1] != audio.shape[1]:
                raise AudioError(
                    f"The input {name} of {self.name} has {given.shape[1]} samples for audio of {audio.shape[1]}; both "
                    "must be equally long."
                )
        if hop is None or all(b == blocks[0] for b in blocks):
            blocks, length = blocks[:1], audio.shape[1]  # settings that stay need no blocks
        elif self.automatable:
            length = self._checked_hop(int(hop))
        else:
            raise EffectError(f"{self.name} cannot change settings during a clip; render it without hop.")
        like = audio if len(audio) <= further.MOST_CHANNELS else audio[:1]
        silence = {name: np.zeros_like(like) for name in self.inputs if name not in inputs}
        return RenderRequest(audio, blocks, length, sample_rate, {**inputs, **silence})

    def _checked_hop(self, hop: int) -> int:
        multiple = 1 if hop % WHOLE_HOP == 0 else self.find_hop_multiple()
        if hop % multiple:
            raise EffectError(
                f"{self.name} changes settings at multiples of {multiple} samples only, got hop={hop}; take "
                f"{-(-hop // multiple) * multiple}."
            )
        return hop

    def find_hop_multiple(self) -> int:
        """`hop_multiple`, or what is found out only when it is wanted; hops of `WHOLE_HOP` will always do."""
        return self.hop_multiple

    @final
    def run(self, request: RenderRequest) -> Audio:
        """Processes a request, and checks the output; see `render` for errors."""
        try:
            with quiet() if self.native else contextlib.nullcontext():
                y = np.asarray(self.process(request), dtype=np.float32)
        except (AudioError, EffectError, ParameterError):
            raise
        except (Exception, SystemExit) as error:
            raise self._failure(request.settings, error) from error
        channels, length = request.audio.shape
        wanted = (self.output_channels(channels), length)
        if y.shape != wanted:
            raise EffectError(
                f"{self.name} returned shape {y.shape} for audio of shape {request.audio.shape}; it must be {wanted}."
            )
        if not is_finite(y):
            raise self._not_finite(request)
        return y

    def _failure(self, settings: Settings, error: BaseException) -> EffectError:
        reason = " ".join(str(error).split()).rstrip(".")[:200] or "without a reason"
        how = f"{type(error).__name__} ({reason})"
        remedy = "mend it, or narrow its parameters" if self.space.parameters else "mend it"
        return EffectError(f"{self.name} failed at {self._shown(settings)} with {how}; {remedy}.")

    def _not_finite(self, request: RenderRequest) -> NotFinite:
        remedies = [] if request.sample_rate in _USUAL_RATES else [f"try {_USUAL_RATES[0]} Hz"]
        remedies += ["narrow the range of its parameters"] if self.space.parameters else []
        where = f"{self._shown(request.settings)} and {request.sample_rate:g} Hz"
        remedy = ", or ".join(remedies) or "leave the effect out"
        return NotFinite(f"{self.name} returned NaN or infinity at {where}; {remedy}.")

    def _shown(self, settings: Settings) -> str:
        """Settings for an error; of many only those that are not at their defaults."""
        if len(settings) <= _SHOWN:
            return str(settings)
        moved = {name: value for name, value in settings.items() if value != self.defaults[name]}
        first = dict(list(moved.items())[:_SHOWN])
        return f"{first} ({len(moved) - len(first)} more are not at their defaults)"

    def _blocks(self, values: Any, hop: int | None, length: int) -> list[Settings]:
        if hop is not None:
            return [self.space.complete(v) for v in self._counted(values, hop, length)]
        if not isinstance(values, Mapping):
            raise ParameterError(f"values must be a mapping of names to values, got {type(values).__name__}.")
        return [self.space.complete(values)]

    def _counted(self, blocks: Any, hop: int, length: int) -> Any:
        """The blocks. Raises ParameterError unless there is one for every `hop` samples."""
        needed = -(-length // whole("hop", hop, 1))
        if isinstance(blocks, Mapping) or len(blocks) != needed:
            got = "one mapping" if isinstance(blocks, Mapping) else str(len(blocks))
            raise ParameterError(f"{length} samples in blocks of {hop} need {needed} mappings of values, got {got}.")
        return blocks

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_shared"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({sys.intern(name): value for name, value in state.items()})
        self._shared = _Native()

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(self.space.free)})"
