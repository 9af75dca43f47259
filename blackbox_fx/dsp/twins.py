"""All twins with the ranges of their parameters."""

from __future__ import annotations

from blackbox_fx.dsp.distortion import waveshaper
from blackbox_fx.dsp.dynamics import (
    compressor,
    expander,
    limiter,
    noise_gate,
    sidechain_compressor,
    soft_knee_compressor,
)
from blackbox_fx.dsp.filters import BAND_NAMES, PEAKS, graphic_eq, parametric_eq, six_band_eq
from blackbox_fx.dsp.mixing import gain_pan, mid_side
from blackbox_fx.dsp.modulation import chorus, feedback_delay, phaser
from blackbox_fx.dsp.reverberation import LONGEST_S, convolution, reverberation
from blackbox_fx.dsp.twin import Twin
from blackbox_fx.space import Continuous, Parameter, Space


def _db(low: float, high: float, default: float = 0.0) -> Continuous:
    return Continuous(low, high, default, unit="dB")


def _log(low: float, high: float, default: float, unit: str = "") -> Continuous:
    return Continuous(low, high, default, unit=unit, log=True)


def _times(attack_ms: float, release_ms: float) -> dict[str, Parameter]:
    return {"attack_ms": _log(0.1, 100, attack_ms, "ms"), "release_ms": _log(10, 1000, release_ms, "ms")}


def _peaks() -> dict[str, Parameter]:
    centres = (200, 600, 1800, 5000)
    found: dict[str, Parameter] = {}
    for k in range(PEAKS):
        found[f"peak_{k + 1}_gain_db"] = _db(-18, 18)
        found[f"peak_{k + 1}_freq_hz"] = _log(50 * 2**k, 2000 * 2**k, centres[k], "Hz")
        found[f"peak_{k + 1}_q"] = _log(0.3, 8, 1)
    return found


_LOW_SHELF: dict[str, Parameter] = {
    "low_shelf_gain_db": _db(-18, 18),
    "low_shelf_freq_hz": _log(30, 500, 100, "Hz"),
    "low_shelf_q": _log(0.3, 2, 0.71),
}
_HIGH_SHELF: dict[str, Parameter] = {
    "high_shelf_gain_db": _db(-18, 18),
    "high_shelf_freq_hz": _log(1500, 16_000, 6000, "Hz"),
    "high_shelf_q": _log(0.3, 2, 0.71),
}
_SOFT_KNEE: dict[str, Parameter] = {
    "threshold_db": _db(-60, 0, -24),
    "ratio": _log(1, 20, 4),
    **_times(10, 100),
    "knee_db": _db(0, 24, 6),
    "makeup_db": _db(0, 24),
    "mix": Continuous(0, 1, 1),
}

_ALL = (
    Twin(
        "parametric_eq",
        parametric_eq,
        Space(
            {
                **_LOW_SHELF,
                "peak_gain_db": _db(-18, 18),
                "peak_freq_hz": _log(100, 10_000, 1000, "Hz"),
                "peak_q": _log(0.3, 8, 1),
                **_HIGH_SHELF,
            }
        ),
    ),
    Twin(
        "six_band_eq",
        six_band_eq,
        Space(
            {
                "high_pass_hz": _log(10, 500, 20, "Hz"),
                **_LOW_SHELF,
                **_peaks(),
                **_HIGH_SHELF,
                "low_pass_hz": _log(1000, 20_000, 20_000, "Hz"),
            }
        ),
    ),
    Twin("graphic_eq", graphic_eq, Space({name: _db(-12, 12) for name in BAND_NAMES})),
    Twin(
        "compressor",
        compressor,
        Space(
            {
                "threshold_db": _db(-60, 0, -24),
                "ratio": _log(1, 20, 4),
                **_times(10, 100),
                "makeup_db": _db(0, 24),
            }
        ),
    ),
    Twin("soft_knee_compressor", soft_knee_compressor, Space(_SOFT_KNEE)),
    Twin("sidechain_compressor", sidechain_compressor, Space(_SOFT_KNEE), ("sidechain",)),
    Twin(
        "expander",
        expander,
        Space(
            {
                "threshold_db": _db(-80, 0, -40),
                "ratio": _log(1, 10, 2),
                **_times(1, 100),
                "knee_db": _db(0, 24, 6),
                "range_db": _db(0, 80, 40),
            }
        ),
    ),
    Twin(
        "noise_gate",
        noise_gate,
        Space({"threshold_db": _db(-80, 0, -40), "ratio": _log(1, 100, 10), **_times(1, 100)}),
    ),
    Twin("limiter", limiter, Space({"threshold_db": _db(-40, 0, -10), "release_ms": _log(1, 1000, 100, "ms")})),
    Twin(
        "waveshaper",
        waveshaper,
        Space({"drive_db": _db(0, 40, 12), "bias": Continuous(-1, 1, 0), "mix": Continuous(0, 1, 1)}),
    ),
    Twin(
        "feedback_delay",
        feedback_delay,
        Space(
            {
                "delay_s": _log(0.001, 2, 0.3, "s"),
                "feedback": Continuous(0, 0.95, 0.4),
                "damping": Continuous(0, 0.95, 0),
                "mix": Continuous(0, 1, 0.3),
            }
        ),
    ),
    Twin(
        "chorus",
        chorus,
        Space(
            {
                "rate_hz": _log(0.05, 20, 1, "Hz"),
                "depth": Continuous(0, 1, 0.25),
                "centre_delay_ms": _log(1, 50, 7, "ms"),
                "feedback": Continuous(-0.95, 0.95, 0),
                "mix": Continuous(0, 1, 0.5),
            }
        ),
    ),
    Twin(
        "phaser",
        phaser,
        Space(
            {
                "rate_hz": _log(0.05, 20, 1, "Hz"),
                "depth": Continuous(0, 1, 0.5),
                "centre_frequency_hz": _log(100, 10_000, 1300, "Hz"),
                "feedback": Continuous(-0.95, 0.95, 0),
                "mix": Continuous(0, 1, 0.5),
            }
        ),
    ),
    Twin(
        "reverberation",
        reverberation,
        Space(
            {
                "low_decay_s": _log(0.1, LONGEST_S, 1.2, "s"),
                "mid_decay_s": _log(0.1, LONGEST_S, 1, "s"),
                "high_decay_s": _log(0.1, LONGEST_S, 0.6, "s"),
                "wet_db": _db(-96, 6, -12),
                "dry_db": _db(-96, 6),
            }
        ),
        still=("low_decay_s", "mid_decay_s", "high_decay_s"),
    ),
    Twin(
        "convolution",
        convolution,
        Space({"fade_s": _log(0.05, 10, 10, "s"), "wet_db": _db(-96, 6, -12), "dry_db": _db(-96, 6)}),
        still=("fade_s",),
    ),
    Twin("gain_pan", gain_pan, Space({"gain_db": _db(-48, 24), "pan": Continuous(-1, 1, 0)})),
    Twin("mid_side", mid_side, Space({"mid_db": _db(-24, 12), "side_db": _db(-48, 12)})),
)
TWINS: dict[str, Twin] = {twin.name: twin for twin in _ALL}
