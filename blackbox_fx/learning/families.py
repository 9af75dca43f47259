"""Families of effects that a modulated net can be, and where to begin with their numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.estimators.audio_rules.modulated_delay import oscillator, sightings
from blackbox_fx.estimators.audio_rules.moving_filter import cycle
from blackbox_fx.estimators.audio_rules.probes import Echoes
from blackbox_fx.learning.numbers import BACK, CENTRE, DEPTH, DRY, HIGH, LOW, POLE, RATE, START, WET

Floats = NDArray[np.float64]
Guesses = Callable[[Echoes, Floats, int, float], list[Floats]]
_NEAR = 24  # samples after an impulse that belong to the dry path
_ENDLESS = 1e9  # samples
_SIGHTINGS = 8  # of echoes, at least
_SLOW_HZ = (0.1, 0.4)  # rates to begin with if no whole cycle is heard
_FILTERS_HZ, _SWEEP = (400.0, 2000.0, 7000.0), 0.7  # frequencies of filters to begin with, and logarithm of the sweep
_LOWEST_HZ, _HIGHEST = 30.0, 0.49  # ends of sweeps to begin with; of the sample rate


@final
class Family(NamedTuple):
    """Effects that one net can be.

    Args:
        configs: of the nets to be searched.
        variants: options whose values are compared once there are laws.
        free: indices of the numbers that are fitted.
        enough: median error-to-signal ratio with which no other net is better.
        coarse: whether low frequencies are fitted first, and all guesses to the end.
        guesses: numbers to begin with; of the echoes, the impulse response, the length of the clip and the sample rate.
    """

    configs: list[dict[str, Any]]
    variants: dict[str, tuple[Any, ...]]
    free: tuple[int, ...]
    enough: float
    coarse: bool
    guesses: Guesses


def _still_delays(echoes: Echoes, response: Floats, length: int, rate: float) -> list[Floats]:
    """The strongest echo, and how loud it comes back once more."""
    delay = _NEAR + int(np.abs(response[_NEAR:]).argmax())
    wet, again = response[delay - 2 : delay + 3].sum(), response[2 * delay - 2 : 2 * delay + 4].sum()
    back = float(np.clip(again / wet, -0.95, 0.95)) if wet else 0.0
    return [np.array([response[0], wet, back, pole, delay, 0, 0, 0, 1, _ENDLESS]) for pole in (0.0, 0.5)]


def _moving_delays(echoes: Echoes, response: Floats, length: int, rate: float) -> list[Floats]:
    """The oscillator on which the echoes are."""
    when, delays = sightings(echoes)
    found = oscillator(when, delays, length, None) if len(when) >= _SIGHTINGS else None
    if found is None:
        return []
    cosine, sine = found.weights[1], found.weights[4]
    depth, start = np.hypot(cosine, sine), np.arctan2(cosine, sine) / (2 * np.pi) % 1
    moving = [found.weights[0], depth, found.frequency * rate, start, max(found.floor, 1.0), _ENDLESS]
    return [np.array([0.5, 0.5, back, 0.0, *moving]) for back in (0.0, 0.5, -0.5)]


def _phasers(echoes: Echoes, response: Floats, length: int, rate: float) -> list[Floats]:
    """The rate at which responses recur, with several frequencies and phases."""
    found = cycle(echoes, length)
    rates = (found * rate,) if found * length > 1 else _SLOW_HZ
    ends = np.log([_LOWEST_HZ, _HIGHEST * rate])
    return [
        np.array([0.5, 0.5, 0.0, 0.0, np.log(centre), _SWEEP, hz, start, *ends])
        for hz, centre, start in itertools.product(rates, _FILTERS_HZ, (0.0, 0.25, 0.5, 0.75))
    ]


STILL = (
    Family(
        configs=[{"moves": False, "lag": lag} for lag in (0, 1)],
        variants={},
        free=(DRY, WET, BACK, POLE, CENTRE),
        enough=1e-3,  # a filter or a reverberation is learnt about as well
        coarse=False,
        guesses=_still_delays,
    ),
)
MOVING = (
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
