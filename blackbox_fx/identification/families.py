"""Families of effects that a modulated net can be, and where to begin with their numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.modulated_delay import oscillator, sightings
from blackbox_fx.estimators.audio_rules.moving_filter import cycle
from blackbox_fx.estimators.audio_rules.probes import Echoes
from blackbox_fx.proxy.nets.modulated import BACK, CENTRE, DEPTH, DRY, HIGH, LOW, POLE, RATE, START, WET

Floats = NDArray[np.float64]
_NEAR = 24  # samples after an impulse that belong to the dry path
_ENDLESS = 1e9  # samples
_SIGHTINGS = 8  # of echoes, at least
_SLOW_HZ = (0.1, 0.4)  # rates to begin with if no whole cycle is heard
_FILTERS_HZ, _SWEEP = (400.0, 2000.0, 7000.0), 0.7  # frequencies of filters to begin with, and logarithm of the sweep
_SLOWEST_HZ, _SLOW_RATES, _PADDED = 0.02, 40, 4  # of gains; clips to which the spectrum is padded
_LOWEST_HZ, _HIGHEST = 30.0, 0.49  # ends of sweeps to begin with; of the sample rate


class Probed(NamedTuple):
    """What an effect answers at one setting.

    Args:
        point: (width,).
        noise: its output for the noise, (time,).
        echoes: of impulses.
        response: to one impulse, (time,).
    """

    point: Floats
    noise: Floats
    echoes: Echoes
    response: Floats


Guesses = Callable[[Probed, Floats, float], list[Floats]]


@final
class Family(NamedTuple):
    """Effects that one net can be.

    Args:
        configs: of the nets to be searched.
        variants: options whose values are compared once there are laws.
        free: indices of the numbers that are fitted.
        enough: median error-to-signal ratio with which no other net is better.
        coarse: whether low frequencies are fitted first, and all guesses to the end.
        guesses: numbers to begin with; of the answers, the noise and the sample rate.
    """

    configs: list[dict[str, Any]]
    variants: dict[str, tuple[Any, ...]]
    free: tuple[int, ...]
    enough: float
    coarse: bool
    guesses: Guesses


def _still_delays(probed: Probed, noise: Floats, rate: float) -> list[Floats]:
    """The strongest echo, and how loud it comes back once more."""
    response = probed.response
    delay = _NEAR + int(np.abs(response[_NEAR:]).argmax())
    wet, again = response[delay - 2 : delay + 3].sum(), response[2 * delay - 2 : 2 * delay + 4].sum()
    back = float(np.clip(again / wet, -0.95, 0.95)) if wet else 0.0
    return [np.array([response[0], wet, back, pole, delay, 0, 0, 0, 1, _ENDLESS]) for pole in (0.0, 0.5)]


def _moving_delays(probed: Probed, noise: Floats, rate: float) -> list[Floats]:
    """The oscillator on which the echoes are."""
    when, delays = sightings(probed.echoes)
    found = oscillator(when, delays, len(noise), None) if len(when) >= _SIGHTINGS else None
    if found is None:
        return []
    cosine, sine = found.weights[1], found.weights[4]
    depth, start = np.hypot(cosine, sine), np.arctan2(cosine, sine) / (2 * np.pi) % 1
    moving = [found.weights[0], depth, found.frequency * rate, start, max(found.floor, 1.0), _ENDLESS]
    return [np.array([0.5, 0.5, back, 0.0, *moving]) for back in (0.0, 0.5, -0.5)]


def _phasers(probed: Probed, noise: Floats, rate: float) -> list[Floats]:
    """The rate at which responses recur, with several frequencies and phases."""
    found = cycle(probed.echoes, len(noise))
    rates = (found * rate,) if found * len(noise) > 1 else _SLOW_HZ
    ends = np.log([_LOWEST_HZ, _HIGHEST * rate])
    return [
        np.array([0.5, 0.5, 0.0, 0.0, np.log(centre), _SWEEP, hz, start, *ends])
        for hz, centre, start in itertools.product(rates, _FILTERS_HZ, (0.0, 0.25, 0.5, 0.75))
    ]


def _moving_gains(probed: Probed, noise: Floats, rate: float) -> list[Floats]:
    """The wave in the output over the noise, whose samples are all of one size."""
    gain, time = probed.noise / noise, len(noise)
    spectrum = np.abs(scipy.fft.rfft(gain - gain.mean(), _PADDED * time))
    slow = np.geomspace(_SLOWEST_HZ, 2 * rate / time, _SLOW_RATES) / rate
    tried = [_wave(gain, each) for each in (*slow, float(spectrum.argmax()) / (_PADDED * time))]
    _, frequency, (constant, cosine, sine) = min(tried, key=lambda each: each[0])
    depth, start = np.hypot(cosine, sine), np.arctan2(cosine, sine) / (2 * np.pi) % 1
    return [np.array([0, 1, 0, 0, constant, depth, frequency * rate, start, -_ENDLESS, _ENDLESS])]


def _wave(values: Floats, frequency: float) -> tuple[float, float, Floats]:
    """What a wave of a frequency leaves of values, the frequency, and its constant, cosine and sine."""
    angle = 2 * np.pi * frequency * np.arange(len(values))
    basis = np.stack([np.ones(len(values)), np.cos(angle), np.sin(angle)], axis=1)
    weights = np.linalg.lstsq(basis, values, rcond=1e-9)[0].astype(np.float64)
    return float(np.square(values - basis @ weights).sum()), frequency, weights


STILL = (
    Family(
        configs=[{"moves": False, "lag": lag} for lag in (0, 1)],
        variants={"nearest": (False, True)},
        free=(DRY, WET, BACK, POLE, CENTRE),
        enough=1e-3,  # a filter or a reverberation is learnt about as well
        coarse=False,
        guesses=_still_delays,
    ),
)
MOVING = (
    Family(
        configs=[{"gain": True}],
        variants={"single": (False, True)},
        free=(CENTRE, DEPTH, RATE, START, LOW, HIGH),
        enough=0.03,
        coarse=False,
        guesses=_moving_gains,
    ),
    Family(
        configs=[{"lag": lag} for lag in (0, 1)],
        variants={"single": (False, True)},
        free=(DRY, WET, BACK, CENTRE, DEPTH, RATE, START, LOW),
        enough=0.03,
        coarse=True,
        guesses=_moving_delays,
    ),
    Family(
        configs=[{"sections": sections} for sections in (2, 4, 6, 8, 10, 12)],
        variants={"hold": (1, 2, 4, 8, 16, 32, 64), "single": (False, True)},
        free=(DRY, WET, BACK, CENTRE, DEPTH, RATE, START, LOW, HIGH),
        enough=0.03,
        coarse=False,
        guesses=_phasers,
    ),
)
