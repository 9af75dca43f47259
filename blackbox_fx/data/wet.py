"""Random effects on a stem, for pairs of dry and wet audio without an engineer."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from blackbox_fx.audio import Audio, check_sample_rate
from blackbox_fx.core.checks import whole
from blackbox_fx.data.normalising.features import to_stereo
from blackbox_fx.effects import Effect, load

_CHANCE = 0.8  # that an effect is there
_PEAK = 1.0
_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "LowShelfFilter": {"cutoff_frequency_hz": (80, 400), "gain_db": (-9, 9), "q": (0.5, 1.0)},
    "PeakFilter": {"cutoff_frequency_hz": (300, 4000), "gain_db": (-9, 9), "q": (0.4, 1.5)},
    "HighShelfFilter": {"cutoff_frequency_hz": (2000, 8000), "gain_db": (-9, 9), "q": (0.5, 1.0)},
    "Compressor": {"threshold_db": (-36, -12), "ratio": (2, 10), "attack_ms": (1, 30), "release_ms": (50, 400)},
    "Reverb": {"room_size": (0.2, 0.9), "damping": (0.1, 0.9), "wet_level": (0.05, 0.4), "dry_level": (0.4, 0.5)},
}
_WIDTHS, _PANS, _GAINS_DB = (0.2, 1.8), (-0.7, 0.7), (-12.0, 6.0)


class Wet(NamedTuple):
    """A stem after random effects.

    Args:
        audio: (2, time), float32, of peaks up to 1.
        settings: of each effect, in the order of the signal, in physical units.
    """

    audio: Audio
    settings: dict[str, dict[str, float]]


@functools.cache
def _effect(name: str) -> Effect:
    return load(f"pedalboard:{name}")


def random_effects(audio: Any, sample_rate: float, seed: int) -> Wet:
    """Treats a dry stem at random: equaliser, compressor, reverb, width, place and level.

    Shelves and a bell of up to 9 dB, a compressor of a ratio of 2 to 10, and a reverb are pedalboard's, and each is
    there in four of five cases. The sides then get 0.2 to 1.8 times their level, the place is in [-0.7, 0.7] of the way
    to a side, and the gain in [-12, 6] dB. The dry stem and the wet one are a pair to learn from without an engineer.

    Args:
        audio: (channel, time), mono or stereo, floating point.
        sample_rate: in Hz.
        seed: 0 or more; the same seed gives the same effects.

    Raises:
        AudioError: bad audio or sample rate, or more than two channels.
        ParameterError: a seed that is not allowed.
    """
    wet, rate = to_stereo(audio), check_sample_rate(sample_rate)
    rng = np.random.default_rng(whole("seed", seed, 0))
    settings: dict[str, dict[str, float]] = {}
    for name, ranges in _RANGES.items():
        drawn = {key: float(rng.uniform(*ends)) for key, ends in ranges.items()}
        if rng.random() < _CHANCE:
            settings[name] = drawn
            wet = _effect(name).render(wet, drawn, rate)
    width, pan, gain = (float(rng.uniform(*ends)) for ends in (_WIDTHS, _PANS, _GAINS_DB))
    settings |= {"width": {"factor": width}, "pan": {"place": pan}, "gain": {"gain_db": gain}}
    middle, sides = wet.mean(axis=0), (wet[0] - wet[1]) / 2 * width
    angle = (1 + pan) * np.pi / 4  # constant power
    wet = np.stack([(middle + sides) * np.cos(angle), (middle - sides) * np.sin(angle)]) * np.sqrt(2)
    peak = float(np.abs(wet).max())
    factor = min(10 ** (gain / 20), _PEAK / max(peak, 1e-9))
    return Wet((wet * factor).astype(np.float32), settings)
