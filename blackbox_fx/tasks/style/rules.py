"""What a network must beat: a rule of thumb, and the nearest settings that were seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.signal import firwin2, oaconvolve
from torch import Tensor

from blackbox_fx.audio import Audio
from blackbox_fx.models.encoders import mel_filters
from blackbox_fx.models.treatment import statistics
from blackbox_fx.tasks.style.pairs import Pairs

_FFT, _BANDS, _TAPS = 4096, 32, 2047
_LARGEST_DB = 24.0
KNOWN = 1000  # settings among which the nearest are taken


def match_spectrum(audio: Audio, reference: Audio, sample_rate: float) -> Audio:
    """Audio with the long-term spectrum and the level of a reference, by one linear-phase filter.

    Args:
        audio: (channel, time).
        reference: (channel, time), of any length.
        sample_rate: in Hz.
    """
    filters = mel_filters(_BANDS, _FFT, sample_rate).double()
    here, there = (_bands(x, filters) for x in (audio, reference))
    gains = ((there - here) / 2).clamp(-_LARGEST_DB / 20, _LARGEST_DB / 20).numpy()
    hz = (filters @ torch.linspace(0, sample_rate / 2, _FFT // 2 + 1).double() / filters.sum(1)).numpy()
    grid = np.linspace(0, sample_rate / 2, 513)
    taps = firwin2(_TAPS, grid, 10 ** np.interp(grid, hz, gains), fs=sample_rate)
    wet = np.asarray(oaconvolve(audio, np.asarray(taps).reshape(1, -1), axes=1))[
        :, _TAPS // 2 : _TAPS // 2 + audio.shape[1]
    ]
    level = np.sqrt((np.square(reference).mean() + 1e-12) / (np.square(wet).mean() + 1e-12))
    return (wet * level).astype(np.float32)


def by_rule(pairs: Pairs, sample_rate: float) -> Tensor:
    """The dry audio of pairs with the spectrum and level of their references, (pairs, channel, time)."""
    each = [match_spectrum(x.numpy(), y.numpy(), sample_rate) for x, y in zip(pairs.dry, pairs.reference, strict=True)]
    return torch.from_numpy(np.stack(each))


def _bands(audio: Audio, filters: Tensor) -> Tensor:
    """Powers of bands as logarithms to the base of ten, (bands,)."""
    padded = torch.from_numpy(np.pad(audio, ((0, 0), (0, max(0, _FFT - audio.shape[1]))))).double()
    spectrum = torch.stft(padded, _FFT, _FFT // 2, window=torch.hann_window(_FFT).double(), return_complex=True)
    power = (filters @ spectrum.abs().square()).mean((0, 2))
    return (power + 1e-6 * power.mean() + 1e-12).log10()


def nearest_settings(heard: Tensor, wanted: Tensor, known: Pairs) -> Tensor:
    """The settings of those known pairs whose recording and reference look most alike, (n, width).

    Args:
        heard: `Spectrograms` of recordings, (n, bands, frames).
        wanted: of their references.
        known: pairs among which they are taken.
    """
    mine, others = _features(heard, wanted), _features(known.heard, known.wanted)
    spread = others.std(0).clamp_min(1e-6)
    return known.params[torch.cdist(mine / spread, others / spread).argmin(1)]


def by_nearest(known: Pairs) -> Callable[[Pairs], Tensor]:
    """Chooses for pairs the settings of the nearest of 1000 known ones."""
    few = known.take(range(min(KNOWN, len(known))))
    return lambda pairs: nearest_settings(pairs.heard, pairs.wanted, few)


def _features(*spectrograms: Tensor) -> Tensor:
    """Means and deviations of spectrograms."""
    return torch.cat([statistics(x) for x in spectrograms], 1)
