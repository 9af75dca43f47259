"""The effect: a pure function of audio and settings, as a frozen recipe that pickles."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import os
import pickle
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import cloudpickle
import numpy as np

from blackbox_fx.audio import Audio, check_audio, check_sample_rate, is_finite
from blackbox_fx.errors import AudioError, EffectError, NotFinite, ParameterError
from blackbox_fx.space import Space, Value

Settings = dict[str, Value]
_USUAL_RATES = (44_100, 48_000)
_SHOWN = 8  # parameters in an error


class _Native:
    """A native handle and its lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.handle: Any = None


class Effect(abc.ABC):
    """Something that turns audio into audio of the same shape, steered by named parameters.

    `render` is pure: the same inputs give the same output, whatever was rendered before. An effect is a recipe: it
    pickles without its native handle, which is opened on first use and shared with what `fix`, `only` and `within` make
    of it.

    A new host subclasses this, calls `super().__init__(name, space)` and implements `_process`.

    Attributes:
        name: short name for tables and errors, such as "pedalboard:Compressor".
        space: its parameters; `fix` and `only` give a copy with another space.
        automatable: whether settings may change in mid-clip, see `render`.
        native: whether it runs foreign code that can take the process with it; such effects render in worker processes
            unless told otherwise.
        address: what `load` made it of; None if that took options, or it was made otherwise.
        states: endings of the preset files of its own that it can write and read, besides ".json".
    """

    automatable: bool = False
    native: bool = False
    address: str | None = None
    states: tuple[str, ...] = ()

    def __init__(self, name: str, space: Space) -> None:
        self.name = name
        self.space = space
        self._shared = _Native()

    @abc.abstractmethod
    def _process(self, audio: Audio, blocks: Sequence[Settings], hop: int, sample_rate: float) -> Audio:
        """Renders checked audio (channel, time) from silence, with complete settings for each block of `hop` samples.

        There is exactly one block unless the effect is automatable.
        """

    def _open(self) -> Any:
        """Makes the native handle; see `_handle`. Only effects with one override this."""
        return None

    def _stage(self, settings: Settings, sample_rate: float) -> Any:
        """A fresh pedalboard plugin at these settings, if the effect is one without latency; a `Rack` chains them."""
        return None

    @final
    @contextlib.contextmanager
    def _handle(self) -> Iterator[Any]:
        """The native handle, for one thread at a time."""
        with self._shared.lock:
            if self._shared.handle is None:
                self._shared.handle = self._open()
            yield self._shared.handle

    @final
    def open(self) -> None:
        """Opens the native handle now, rather than on first use."""
        with self._handle():
            pass

    @property
    def defaults(self) -> Settings:
        """Where every parameter stands when nothing is said, in physical units."""
        return self.space.defaults

    @property
    def fingerprint(self) -> str:
        """A name for what this effect is, for files that keep what was measured of it."""
        nameless = self._with(self.space)
        nameless.address = None
        # pickled once more: of a copy, other strings may be the same object, which shows in the bytes
        copy = pickle.loads(cloudpickle.dumps(nameless))
        return hashlib.blake2b(cloudpickle.dumps(copy) + self._version(), digest_size=12).hexdigest()

    def _version(self) -> bytes:
        """Of what renders, as far as the recipe does not say it."""
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
        from blackbox_fx.effects import presets

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
        from blackbox_fx.effects import presets

        return presets.load(self, path)

    def _write_state(self, ending: str, settings: Settings) -> bytes:
        """The plugin's own state at these settings, for each ending in `states`."""
        raise NotImplementedError(ending)

    def _read_state(self, path: Path, content: bytes) -> tuple[Settings, float]:
        """The settings in what a file of one of these endings holds, and how far its sound is from that at them."""
        raise NotImplementedError(path)

    @final
    def fix(self, values: Mapping[str, Any] = {}, **named: Any) -> Self:
        """The same effect with these parameters held at these values: `effect.fix(ratio=4)`."""
        return self._with(self.space.fix(values, **named))

    @final
    def only(self, *names: str) -> Self:
        """The same effect with only these parameters free: `effect.only("threshold_db", "ratio")`."""
        return self._with(self.space.only(*names))

    @final
    def within(self, ranges: Mapping[str, Any] = {}, **named: Any) -> Self:
        """The same effect with narrower ranges: `effect.within(gain_db=(-12, 12))`."""
        return self._with(self.space.within(ranges, **named))

    def _with(self, space: Space) -> Self:
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
    ) -> Audio:
        """The effect's output.

        Args:
            audio: (channel, time), floating point.
            values: physical values by parameter name; what is left out stands at `defaults`. With `hop`, a sequence of
                ceil(time / hop) of them, one for each block of `hop` samples, changed in mid-stream without a reset.
            sample_rate: in Hz.
            hop: samples per block.

        Returns:
            (channel, time), float32.

        Raises:
            AudioError: bad audio or sample rate.
            ParameterError: an unknown name, a value outside its range, a wrong number of blocks.
            EffectError: the effect failed, returned another shape, NaN or infinity, or cannot change in mid-clip.
        """
        x = check_audio(audio)
        rate = check_sample_rate(sample_rate)
        return self._render(x, values, rate, hop)

    @final
    def _render(self, x: Audio, values: Any, rate: float, hop: int | None) -> Audio:
        """`render` for audio and a sample rate that were checked before."""
        blocks, hop = self._blocks(values, hop, x.shape[1])
        try:
            y = np.asarray(self._process(x, blocks, hop, rate), dtype=np.float32)
        except (AudioError, EffectError, ParameterError):
            raise
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split()).rstrip(".")[:200] or "it says no more"
            how = f"{type(error).__name__} ({reason})"
            raise EffectError(
                f"{self.name} failed at {self._shown(blocks[0])} with {how}; mend it, or narrow its parameters."
            ) from error
        if y.shape != x.shape:
            raise EffectError(f"{self.name} returned shape {y.shape} for audio of shape {x.shape}; both must be equal.")
        if not is_finite(y):
            advice = "narrow the range of its parameters"
            advice = advice if rate in _USUAL_RATES else f"try {_USUAL_RATES[0]} Hz, or {advice}"
            where = f"{self._shown(blocks[0])} and {rate:g} Hz"
            raise NotFinite(f"{self.name} returned NaN or infinity at {where}; {advice}.")
        return y

    def _shown(self, settings: Settings) -> str:
        """Settings for an error: all, or of many those that are not at their defaults."""
        if len(settings) <= _SHOWN:
            return str(settings)
        moved = {name: value for name, value in settings.items() if value != self.defaults[name]}
        first = dict(list(moved.items())[:_SHOWN])
        return f"{first} ({len(moved) - len(first)} more are not at their defaults)"

    def _blocks(self, values: Any, hop: int | None, length: int) -> tuple[list[Settings], int]:
        if hop is None:
            if not isinstance(values, Mapping):
                raise ParameterError(f"values must be a mapping of names to values, got {type(values).__name__}.")
            return [self.space.complete(values)], length
        if isinstance(hop, bool) or not isinstance(hop, (int, np.integer)) or hop < 1:
            raise ParameterError(f"hop must be a whole number of samples of at least 1, got {hop!r}.")
        needed = -(-length // hop)
        if isinstance(values, Mapping) or len(values) != needed:
            got = "one mapping" if isinstance(values, Mapping) else str(len(values))
            raise ParameterError(f"{length} samples in blocks of {hop} need {needed} mappings of values, got {got}.")
        blocks = [self.space.complete(v) for v in values]
        if all(b == blocks[0] for b in blocks):
            return blocks[:1], length
        if not self.automatable:
            raise EffectError(f"{self.name} cannot change settings in mid-clip; render it without hop.")
        return blocks, int(hop)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_shared"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({sys.intern(name): value for name, value in state.items()})
        self._shared = _Native()

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(self.space.free)})"
