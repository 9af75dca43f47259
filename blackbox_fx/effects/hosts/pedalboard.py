"""The built-in effects of pedalboard, with the ranges that pedalboard does not publish."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any, final

import numpy as np

from blackbox_fx.audio import Audio, check_audio, check_sample_rate, read
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.hosts.host import Entry, Host
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.errors import EffectError, ParameterError, did_you_mean
from blackbox_fx.space import Choice, Continuous, Parameter, Space, Toggle


def _hz(default: float, low: float = 20.0, high: float = 20_000.0) -> Continuous:
    return Continuous(low, high, default, "Hz", log=True)


def _ms(default: float, low: float, high: float) -> Continuous:
    return Continuous(low, high, default, "ms", log=True)


def _db(default: float, low: float, high: float) -> Continuous:
    return Continuous(low, high, default, "dB")


def _unit(default: float, low: float = 0.0, high: float = 1.0) -> Continuous:
    return Continuous(low, high, default)


def _shelf() -> dict[str, Parameter]:
    return {
        "cutoff_frequency_hz": _hz(440.0),
        "gain_db": _db(0.0, -24, 24),
        "q": Continuous(0.1, 10, 0.7071067690849304, log=True),
    }


_QUALITIES = ("ZeroOrderHold", "Linear", "CatmullRom", "Lagrange", "WindowedSinc", "WindowedSinc8", "WindowedSinc16")
_QUALITIES += ("WindowedSinc32", "WindowedSinc64", "WindowedSinc128", "WindowedSinc256")
_LADDER_MODES = ("LPF12", "HPF12", "BPF12", "LPF24", "HPF24", "BPF24")

# Ranges are what an engineer would turn, within what pedalboard accepts; defaults and names are pedalboard's own.
BUILTINS: dict[str, dict[str, Parameter]] = {
    "Bitcrush": {"bit_depth": Continuous(1, 24, 8, "bit")},
    "BrickwallLimiter": {
        "ceiling_db": _db(-1.0, -24, 0),
        "release_ms": _ms(100, 1, 1000),
        "lookahead_ms": _ms(5, 0.1, 20),
        "true_peak": Toggle(False),
    },
    "Chorus": {
        "rate_hz": _hz(1.0, 0.05, 20),
        "depth": _unit(0.25),
        "centre_delay_ms": Continuous(1, 50, 7, "ms"),
        "feedback": _unit(0.0, -0.95, 0.95),
        "mix": _unit(0.5),
    },
    "Clipping": {"threshold_db": _db(-6, -60, 0)},
    "Compressor": {
        "threshold_db": _db(0, -60, 0),
        "ratio": Continuous(1, 20, 1, log=True),
        "attack_ms": _ms(1, 0.1, 200),
        "release_ms": _ms(100, 1, 2000),
    },
    "Convolution": {"mix": _unit(1.0)},
    "Delay": {
        "delay_seconds": Continuous(0.001, 2, 0.5, "s", log=True),
        "feedback": _unit(0.0, 0.0, 0.95),
        "mix": _unit(0.5),
    },
    "Distortion": {"drive_db": _db(25, 0, 60)},
    "GSMFullRateCompressor": {"quality": Choice(_QUALITIES, "WindowedSinc8")},
    "Gain": {"gain_db": _db(1.0, -60, 24)},
    "HighShelfFilter": _shelf(),
    "HighpassFilter": {"cutoff_frequency_hz": _hz(50)},
    "Invert": {},
    "LadderFilter": {
        "mode": Choice(_LADDER_MODES, "LPF12"),
        "cutoff_hz": _hz(200),
        "resonance": _unit(0.0),
        "drive": Continuous(1, 20, 1, log=True),
    },
    "Limiter": {"threshold_db": _db(-10, -40, 0), "release_ms": _ms(100, 1, 1000)},
    "LowShelfFilter": _shelf(),
    "LowpassFilter": {"cutoff_frequency_hz": _hz(50)},
    "MP3Compressor": {"vbr_quality": _unit(2.0, 0.0, 9.9)},
    "NoiseGate": {
        "threshold_db": _db(-100, -100, 0),
        "ratio": Continuous(1, 100, 10, log=True),
        "attack_ms": _ms(1, 0.1, 200),
        "release_ms": _ms(100, 1, 2000),
    },
    "PeakFilter": _shelf(),
    "Phaser": {
        "rate_hz": _hz(1.0, 0.05, 20),
        "depth": _unit(0.5),
        "centre_frequency_hz": _hz(1300, 100, 10_000),
        "feedback": _unit(0.0, -0.95, 0.95),
        "mix": _unit(0.5),
    },
    "PitchShift": {"semitones": Continuous(-24, 24, 0, "semitones")},
    "Resample": {
        "target_sample_rate": _hz(8000, 1000, 48_000),
        "quality": Choice(_QUALITIES, "WindowedSinc32"),
    },
    "Reverb": {
        "room_size": _unit(0.5),
        "damping": _unit(0.5),
        "wet_level": _unit(0.33),
        "dry_level": _unit(0.4),
        "width": _unit(1.0),
        "freeze_mode": Toggle(False),
    },
}

# These look ahead or resample inside, so a stream cut into chunks comes out shifted.
_NOT_AUTOMATABLE = {"BrickwallLimiter", "GSMFullRateCompressor", "MP3Compressor", "PitchShift", "Resample"}
_ENUMS = {"quality": ("Resample", "Quality"), "mode": ("LadderFilter", "Mode")}


@final
class Builtin(Effect):
    """A built-in of pedalboard.

    Every render makes a new native object: that costs microseconds and keeps rendering pure. Filter frequencies above
    0.49 of the sample rate are rendered at 0.49, beyond which these filters fold over or blow up.

    Args:
        name: a key of `BUILTINS`, which is also the name of pedalboard's class.
        impulse_response: for Convolution alone: an audio file, or an array (channel, time).
        impulse_rate: sample rate in Hz of that array.

    Raises:
        EffectError: an unknown name, a missing or superfluous impulse response.
        AudioError: an impulse response that cannot be read.
    """

    def __init__(
        self, name: str, impulse_response: str | os.PathLike[str] | Any = None, impulse_rate: float | None = None
    ) -> None:
        if name not in BUILTINS:
            question = did_you_mean(name, BUILTINS)
            hint = "`blackbox-fx effects` lists them" if question else f"known are {', '.join(BUILTINS)}"
            raise EffectError(f"pedalboard has no built-in {name!r}{question}; {hint}.")
        super().__init__(f"pedalboard:{name}", Space(BUILTINS[name]))
        self.builtin = name
        self.automatable = name not in _NOT_AUTOMATABLE
        self._impulse = self._read_impulse(impulse_response, impulse_rate)

    def _read_impulse(self, impulse: Any, rate: float | None) -> tuple[Audio, float] | None:
        if (impulse is None) == (self.builtin == "Convolution"):
            if impulse is None:
                raise EffectError(f"{self.name} needs an impulse response: load(..., impulse_response='hall.wav').")
            raise EffectError(f"{self.name} takes no impulse_response; leave it out, only Convolution has one.")
        if impulse is None:
            return None
        if isinstance(impulse, str | os.PathLike):
            return read(impulse)
        if rate is None:
            raise ParameterError("An impulse_response given as an array needs impulse_rate, its sample rate in Hz.")
        return check_audio(impulse, "impulse_response"), check_sample_rate(rate)

    def version(self) -> bytes:
        """The host's version."""
        return version("pedalboard").encode()

    def process(self, request: RenderRequest) -> Audio:
        """Renders a request; see `Effect.process`."""
        audio, blocks, hop, sample_rate = request.audio, request.blocks, request.hop, request.sample_rate
        plugin = self._plugin(blocks[0], sample_rate)
        if len(blocks) == 1:
            if audio.shape[0] != audio.shape[1]:
                return plugin.process(audio, sample_rate, reset=True)
            # pedalboard cannot distinguish its channels from its samples
            return plugin.process(np.pad(audio, ((0, 0), (0, 1))), sample_rate, reset=True)[:, : audio.shape[1]]
        native = [self._native(b, sample_rate) for b in blocks]
        out = np.empty_like(audio)
        for k, settings in enumerate(native):
            for name, value in settings.items():
                setattr(plugin, name, value)
            cut = slice(k * hop, (k + 1) * hop)
            out[:, cut] = plugin.process(audio[:, cut], sample_rate, reset=k == 0)
        return out

    def _plugin(self, settings: Settings, sample_rate: float) -> Any:
        import pedalboard

        arguments = self._native(settings, sample_rate)
        if self._impulse is not None:
            arguments["impulse_response_filename"], arguments["sample_rate"] = self._impulse
        return getattr(pedalboard, self.builtin)(**arguments)

    def pedalboard_stage(self, settings: Settings, sample_rate: float) -> Any:
        """A new plugin, unless it looks ahead or resamples."""
        return self._plugin(settings, sample_rate) if self.automatable else None

    def _native(self, settings: Settings, sample_rate: float) -> dict[str, Any]:
        import pedalboard

        values: dict[str, Any] = dict(settings)
        for name, value in settings.items():
            if name in _ENUMS:
                owner, enum = _ENUMS[name]
                values[name] = getattr(getattr(getattr(pedalboard, owner), enum), str(value))
            elif name in ("cutoff_frequency_hz", "cutoff_hz"):
                values[name] = min(float(value), 0.49 * sample_rate)
            elif name == "freeze_mode":
                values[name] = float(value)
        return values


HOST = Host(
    name="pedalboard",
    effect=Builtin,
    example="pedalboard:Compressor",
    package="pedalboard",
    installed=lambda: [Entry(f"pedalboard:{name}", parameters=len(own)) for name, own in BUILTINS.items()],
)
