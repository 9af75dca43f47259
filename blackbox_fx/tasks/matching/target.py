"""What is wanted of a sound: the same waveform and spectra, the same sound of another recording, or any loss."""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.audio import Audio, to_channels
from blackbox_fx.core.hints import override
from blackbox_fx.errors import ParameterError
from blackbox_fx.models.encoders import mel_filters

Loss = Callable[[Tensor, Tensor], Any]  # of the wet audio and the reference, (1, channel, time) each

FOLDED = 512  # numbers that stand for all residuals of a part
_FLOOR = 1e-4  # of the mean power: softer bins are not compared
_DECIBELS = 10.0  # that count as a residual of 1
_FINE = ((2048, 40), (512, 16))  # windows at 44.1 kHz, and bands
_CLIPPED = 16  # samples at the largest value, from which on a recording counts as clipped
_LOUDNESS_FLOOR = 1e-7  # power


class Heard(NamedTuple):
    """How renders compare with what is wanted.

    Args:
        parts: (n, parts), mean squares of residuals; the loss is their sum, infinity where a render has failed.
        residuals: (n, parts * 512), random sums of all residuals that keep their lengths and angles in the mean; no
            columns where the loss has none.
    """

    parts: NDArray[np.float64]
    residuals: NDArray[np.float32]

    @property
    def losses(self) -> NDArray[np.float64]:
        """(n,)."""
        return self.parts.sum(1)


class Target(abc.ABC):
    """What is wanted.

    Attributes:
        parts: how many parts the loss has; the first ones show the way from afar.
        has_residuals: whether the loss is a sum of squares.
    """

    parts: int = 1
    has_residuals: bool = True

    @abc.abstractmethod
    def measure(self, wet: Tensor) -> tuple[Tensor, ...]:
        """The residuals of each part of a render, (channel, time), scaled so that the loss is the sum of squares."""

    def hear(self, wet: Audio) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """The parts of the loss of a render, (parts,), and what stands for its residuals, (parts * 512,)."""
        with torch.no_grad():
            found = self.measure(torch.from_numpy(wet))
            lengths = np.array([float(torch.linalg.vector_norm(x, dtype=torch.float64)) for x in found])
            folded = np.concatenate([_fold(x.flatten()).numpy() for x in found])
        parts = np.square(lengths)
        return np.where(np.isfinite(parts), parts, math.inf), folded

    def loss(self, wet: Tensor) -> Tensor:
        """The loss of a render, (channel, time), differentiable if the target is; a scalar."""
        return torch.stack([x.square().sum() for x in self.measure(wet)]).sum()


def _fold(residuals: Tensor) -> Tensor:
    """Sums of residuals with random signs, 512 of them: a sketch by counts, the same for all of one length."""
    padded = torch.nn.functional.pad(residuals, (0, -len(residuals) % FOLDED))
    return (padded * _signs(len(padded))).view(-1, FOLDED).sum(0)


@functools.lru_cache(maxsize=8)
def _signs(length: int) -> Tensor:
    drawn = torch.randint(0, 2, (length,), generator=torch.Generator().manual_seed(length))
    return drawn.float() * 2 - 1


@final
class Aligned(Target):
    """A recording of the same performance: its spectra, in dB, and its waveform.

    The loss is the mean square difference of mel spectra, in units of 10 dB, in frames of 46 and 12 ms, plus the
    power of the difference of the waveforms over that of the reference. What is 40 dB softer than the mean of a bin
    does not count in the spectra. A clipped reference is compared with renders that are clipped alike, a mono one with
    the mean of both sides.

    Args:
        reference: (channel, time).
        sample_rate: in Hz.
        skip: samples at the beginning of renders that are not compared; the reference begins behind them.

    Raises:
        ParameterError: a silent reference.
    """

    parts = 2

    def __init__(self, reference: Audio, sample_rate: float, skip: int = 0) -> None:
        self.reference, self.skip = torch.from_numpy(reference), skip
        self.scale = float(self.reference.double().square().mean().sqrt())
        if not self.scale:
            raise ParameterError("The reference is silent, so no setting is nearer to it than another; give another.")
        self.ceiling = clip_level(reference)
        self.banks = [_Bank(window, bands, sample_rate, self.scale) for window, bands in _FINE]
        self.wanted = self._spectra(self.reference)

    @override
    def measure(self, wet: Tensor) -> tuple[Tensor, ...]:
        wet = wet[:, self.skip :]
        if len(self.reference) < len(wet):
            wet = wet.mean(0, keepdim=True)
        if self.ceiling < math.inf:
            wet = wet.clamp(-self.ceiling, self.ceiling)
        difference = (wet - self.reference) / (self.scale * self.reference.numel() ** 0.5)
        return self._spectra(wet) - self.wanted, difference.flatten()

    def _spectra(self, audio: Tensor) -> Tensor:
        each = [bank(audio).flatten() / _DECIBELS for bank in self.banks]
        return torch.cat([x / (len(self.banks) * len(x)) ** 0.5 for x in each])


def clip_level(audio: Audio) -> float:
    """The level at which a recording is clipped; infinity if it is not."""
    peak = float(np.abs(audio).max(initial=0.0))
    return peak if np.count_nonzero(np.abs(audio) >= peak * (1 - 1e-4)) >= _CLIPPED else math.inf


@final
class _Bank:
    """Mel spectra in dB, (channel, bands, frames), of audio (channel, time)."""

    def __init__(self, window: int, bands: int, sample_rate: float, scale: float = 1.0) -> None:
        length = 2 ** max(5, round(math.log2(window * sample_rate / 44100)))
        self.window = torch.hann_window(length) / scale
        # one row for the real and one for the imaginary part of each bin: a sum of their squares is part of the product
        self.filters = mel_filters(bands, length, sample_rate).repeat_interleave(2, 1).T.contiguous() / length

    def power(self, audio: Tensor) -> Tensor:
        length, half = len(self.window), len(self.window) // 2
        if audio.shape[-1] < length:
            audio = torch.nn.functional.pad(audio, (0, length - audio.shape[-1]))
        mirrored = audio[:, 1 : half + 1].flip(-1), audio, audio[:, -half - 1 : -1].flip(-1)
        frames = torch.cat(mirrored, -1).unfold(-1, length, half)
        pairs = torch.view_as_real(torch.fft.rfft(frames * self.window)).flatten(-2)
        return (pairs.square_() @ self.filters).mT

    def __call__(self, audio: Tensor) -> Tensor:
        return 10 * (self.power(audio) + _FLOOR).log10()


@final
class Sound(Target):
    """The sound of any other recording: what is left of it when nobody knows what was played, and when.

    Residuals are differences of the long-term spectrum in 24 bands and of the loudness, of the distribution of levels
    over time in five bands (which is what dynamics change), of how fast levels fall in these (which is what
    reverberation changes), and of the share of the sides in them (which is width), in units of 10 dB.

    Args:
        reference: (channel, time), of any length.
        sample_rate: in Hz.

    Raises:
        ParameterError: a silent reference.
    """

    _WIDE = 5

    def __init__(self, reference: Audio, sample_rate: float) -> None:
        if not np.any(reference):
            raise ParameterError("The reference is silent, so it has no sound to come near to; give another.")
        self.bank = _Bank(2048, 24, sample_rate)
        with torch.no_grad():
            self.wanted = self._features(torch.from_numpy(to_channels(reference, 2)))

    @override
    def measure(self, wet: Tensor) -> tuple[Tensor, ...]:
        stereo = wet if len(wet) == 2 else wet.expand(2, -1)
        difference = self._features(stereo) - self.wanted
        return (difference / _DECIBELS,)

    def _features(self, stereo: Tensor) -> Tensor:
        """All features in dB, each group divided by the root of how many it has."""
        middle, sides = self.bank.power(torch.stack([stereo.sum(0), stereo[0] - stereo[1]]) / 2**0.5)
        whole = middle + sides + _LOUDNESS_FLOOR
        spectrum = _db(whole.mean(1))
        loudness = _db(whole.sum(0).mean(0, keepdim=True))
        few = torch.stack([x.sum(0) for x in whole.tensor_split(self._WIDE)])
        levels = _db(few) - _db(few.mean(1, keepdim=True))
        ranks = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
        spread = levels.quantile(ranks, dim=1)
        falls = (levels[:, 1:] - levels[:, :-1]).quantile(torch.tensor([0.1, 0.25, 0.75, 0.9]), dim=1)
        width = torch.stack([x.sum() for x in sides.tensor_split(self._WIDE)])
        share = _db(width / few.sum(1) + 1e-3)
        groups = (spectrum, loudness, spread, falls, share)
        return torch.cat([x.flatten() / x.numel() ** 0.5 for x in groups])


def _db(power: Tensor) -> Tensor:
    return 10 * power.log10()


@final
class Custom(Target):
    """Any loss.

    Args:
        function: of the wet audio and the reference, (1, channel, time) each; gives a number, or a tensor with one.
        reference: (channel, time).
    """

    has_residuals = False

    def __init__(self, function: Loss, reference: Audio) -> None:
        self.function, self.reference = function, torch.from_numpy(reference)

    @override
    def measure(self, wet: Tensor) -> tuple[Tensor, ...]:
        # copies, since a loss may write into what it gets
        given = self.function(wet[None].clone(), self.reference[None].clone())
        try:
            found = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError):
            raise ParameterError(
                f"A loss must give one number, got {given!r:.80}; return a float or a tensor."
            ) from None
        if found.numel() != 1 or found.is_complex():
            what = f"the shape {tuple(found.shape)} of {found.dtype}"
            raise ParameterError(f"A loss must give one number, got {what}; take its mean, or its real part.")
        return (found.reshape(1),)

    @override
    def hear(self, wet: Audio) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        with torch.no_grad():
            loss = float(self.measure(torch.from_numpy(wet))[0])
        return np.array([loss if math.isfinite(loss) else math.inf]), np.zeros(0, np.float32)

    @override
    def loss(self, wet: Tensor) -> Tensor:
        return self.measure(wet)[0].reshape(())
