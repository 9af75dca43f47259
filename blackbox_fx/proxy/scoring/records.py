"""The scores of a proxy, as its card keeps them."""

from __future__ import annotations

import dataclasses
from typing import final


@final
@dataclasses.dataclass(frozen=True)
class Sound:
    """How near audio is to what the effect renders, over held-out items.

    Attributes:
        esr, esr_error, esr_median: error-to-signal ratio: mean, its standard error, and median.
        stft, stft_error: multi-resolution STFT distance and its standard error.
        loudness_lu, loudness_error: distance of the loudness in LU and its standard error; what is below -70 LUFS
            counts as that.
    """

    esr: float
    esr_error: float
    esr_median: float
    stft: float
    stft_error: float
    loudness_lu: float
    loudness_error: float


@final
@dataclasses.dataclass(frozen=True)
class ParameterGradient:
    """Cosines of the proxy's gradient with respect to params to the effect's, at the effect's output.

    Attributes:
        mean, error, median, low: over the active items; the standard error, and the quantile of 10 %. None if no item
            is active.
        active, items: at how many of all items the effect does anything with its parameters, and its gradient is known.
        unknown: at how many more it does something, but its central differences depend on their step: kinks, jumps.
    """

    mean: float | None
    error: float | None
    median: float | None
    low: float | None
    active: int
    items: int
    unknown: int


@final
@dataclasses.dataclass(frozen=True)
class AudioGradient:
    """Cosines of the proxy's gradient with respect to audio to the effect's, from random directions.

    Attributes:
        mean, error: over items, and the standard error of the directions' chance.
        truth: correlation of the effect's own answers at two sizes of the step, which no cosine can be expected to
            exceed.
        wire: the cosine of leaving the gradient as it is.
        items, directions: how many, and how many at each.
    """

    mean: float
    error: float
    truth: float
    wire: float
    items: int
    directions: int


@final
@dataclasses.dataclass(frozen=True)
class Scores:
    """How good a proxy is on clips and settings that it never saw.

    Attributes:
        sound, parameters, audio: as sound, and as either gradient.
        realtime: seconds of mono audio for each second of computing, on one core.
        items, seconds: held-out clips, and how long each is.
    """

    sound: Sound
    parameters: ParameterGradient
    audio: AudioGradient
    realtime: float
    items: int
    seconds: float
