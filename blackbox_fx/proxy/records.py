"""The scores of a proxy, as its card keeps them."""

from __future__ import annotations

import dataclasses
from typing import final


@final
@dataclasses.dataclass(frozen=True)
class Sound:
    """Distances of audio to the effect's output, over held-out items.

    Args:
        esr: error-to-signal ratio, mean.
        esr_error: its standard error.
        esr_median: its median.
        stft: multi-resolution STFT distance, mean.
        stft_error: its standard error.
        loudness_lu: difference of the loudness in LU, mean; loudness below -70 LUFS counts as -70.
        loudness_error: its standard error.
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

    Args:
        mean: over the active items; None if no item is active.
        error: standard error of the mean.
        median: over the active items.
        low: the 10 % quantile over the active items.
        active: number of items where the effect depends on its parameters and its gradient is known.
        items: number of all items.
        unknown: number of items where the effect depends on its parameters, but its central differences depend on their
            step, as at kinks and jumps.
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

    Args:
        mean: over items.
        error: standard error due to the random directions.
        truth: correlation of the effect's own answers at two sizes of the step; no cosine can be expected to exceed it.
        wire: cosine of the gradient that is passed unchanged.
        items: number of items.
        directions: number of random directions for each item.
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
    """Scores of a proxy on held-out clips and settings.

    Args:
        sound: of its output.
        parameters: of its gradient with respect to params.
        audio: of its gradient with respect to audio.
        realtime: seconds of mono audio for each second of computing, on one core.
        items: number of held-out clips.
        seconds: length of each clip.
    """

    sound: Sound
    parameters: ParameterGradient
    audio: AudioGradient
    realtime: float
    items: int
    seconds: float
