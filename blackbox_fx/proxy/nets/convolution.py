"""Convolution by FFT, with a gradient that uses the spectra again."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def fast_length(n: int) -> int:
    """The next length of 2^k, 3 2^k, 5 2^k or 9 2^k, for fast transforms."""
    return min(m << max(0, math.ceil(math.log2(n / m))) for m in (1, 3, 5, 9))


def convolve(x: Tensor, response: Tensor) -> Tensor:
    """Causal convolution of (items, time) with (items, taps); as long as x."""
    return _Convolve.apply(x, response[:, : x.shape[-1]])


@final
class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, response: Tensor) -> Tensor:
        time, ctx.taps = x.shape[-1], response.shape[-1]
        n = fast_length(time + ctx.taps - 1)
        spectra = torch.fft.rfft(x, n), torch.fft.rfft(response, n)
        ctx.save_for_backward(*spectra)
        ctx.n = n
        return torch.fft.irfft(spectra[0] * spectra[1], n)[..., :time]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        spectra, time = ctx.saved_tensors, grads[0].shape[-1]
        back = torch.fft.rfft(grads[0], ctx.n)
        needed = zip(ctx.needs_input_grad, spectra[::-1], (time, ctx.taps), strict=True)
        return tuple(
            torch.fft.irfft(back * other.conj(), ctx.n)[..., :length] if wanted else None
            for wanted, other, length in needed
        )
