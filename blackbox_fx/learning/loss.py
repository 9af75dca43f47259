"""The loss of a proxy on clips of audio."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.clips import Batch

STFT = 0.5  # its weight beside the error-to-signal ratio
_SOFT = 1e-4  # power of an output, relative to the input, below which errors count less
_STILL = 1e-3  # mean squared change of a log spectrum that counts as one
_FLOOR = 1e-3  # of magnitudes in it


def soft_esr(wet: Tensor, batch: Batch) -> Tensor:
    """Error-to-signal ratios (batch,) of wet (batch, 1, time), in which outputs far below their input count less."""
    return esr(wet, batch.wet, _SOFT * batch.audio.square().mean(dim=(1, 2)))


@final
class Loss(nn.Module):
    """The training loss of a proxy: error-to-signal ratio, and spectral distance at one random resolution.

    Args:
        slopes: weight of the error in changes of the log spectrum from the first half of a batch to the second,
            relative to the effect's changes.
        robust: whether distances above 1 count by their logarithm, for effects that are often silent.
    """

    def __init__(self, slopes: float, robust: bool = False) -> None:
        super().__init__()
        self.robust = robust
        self.stft = MultiResolutionSTFT(overlap=2)
        self.slopes = slopes

    def forward(self, wet: Tensor, batch: Batch, draw: np.random.Generator) -> Tensor:
        """A scalar, for wet (batch, 1, time)."""
        scale = int(draw.integers(len(self.stft.windows)))
        ratios = soft_esr(wet, batch)
        spectra = self.stft(wet, batch.wet, scale)
        if self.robust:
            ratios, spectra = ratios.log1p(), spectra.log1p()
        loss = ratios.mean() + STFT * spectra
        if not self.slopes:
            return loss
        window = self.stft.windows[scale]
        here, true = (self._change(x, window) for x in (wet, batch.wet))
        error = (here - true).square().mean(dim=(1, 2)) / true.square().mean(dim=(1, 2)).clamp_min(_STILL)
        return loss + self.slopes * error.mean()

    def _change(self, audio: Tensor, window: int) -> Tensor:
        half = len(audio) // 2
        shape = torch.hann_window(window, device=audio.device)
        spectra = torch.stft(audio[: 2 * half, 0], window, window // 2, window=shape, return_complex=True).abs()
        first, second = torch.log(spectra + _FLOOR).split(half)
        return second - first
