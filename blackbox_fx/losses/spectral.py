"""Losses for audio, on top of auraloss."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from blackbox_fx.errors import ParameterError


@final
class MultiResolutionSTFT(nn.Module):
    """Spectral convergence plus log-magnitude distance, averaged over resolutions, with a quarter window as hop.

    auraloss's own default hops are finer and cost three times as much for the same ranking of mixes.

    Args:
        windows: window lengths in samples.
        overlap: windows over each sample.
        floor: power in a bin that counts as silence; auraloss's own unless the effect hisses by itself, whose hiss the
            logarithm would weight like music.

    Shape:
        - wet, target: (batch, channel, time)
        - output: a scalar

    Raises:
        ParameterError: no window, or one below 16 samples; a floor that is not above 0.

    References:
        "Parallel WaveGAN" (Yamamoto et al., 2020); "auraloss: Audio focused loss functions in PyTorch" (Steinmetz and
        Reiss, 2020).
    """

    def __init__(self, windows: tuple[int, ...] = (512, 1024, 2048), overlap: int = 4, floor: float = 1e-8) -> None:
        super().__init__()
        if not windows or min(windows) < 16:
            raise ParameterError(f"windows must be one or more lengths of at least 16 samples, got {windows!r}.")
        if not 0 < floor < float("inf"):
            raise ParameterError(f"floor must be a finite power above 0, got {floor!r}.")
        self.windows = tuple(windows)
        self.scales = nn.ModuleList(_Resolution(n, n // overlap, floor) for n in windows)

    def forward(self, wet: Tensor, target: Tensor, scale: int | None = None) -> Tensor:
        """The distance; with `scale`, at that one resolution alone, which is unbiased if drawn uniformly."""
        if scale is not None:
            return self.scales[scale](wet, target)
        return torch.stack([distance(wet, target) for distance in self.scales]).mean()


@final
class _Resolution(nn.Module):
    """auraloss's STFTLoss, without the phases that it computes in vain: a quarter of the time of small networks."""

    window: Tensor

    def __init__(self, window: int, hop: int, floor: float) -> None:
        from auraloss.freq import SpectralConvergenceLoss, STFTMagnitudeLoss

        super().__init__()
        self.hop, self.floor = hop, floor
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.convergence, self.logarithmic = SpectralConvergenceLoss(), STFTMagnitudeLoss()

    def forward(self, wet: Tensor, target: Tensor) -> Tensor:
        here, there = self._magnitudes(wet), self._magnitudes(target)
        return self.convergence(here, there).mean() + self.logarithmic(here, there)

    def _magnitudes(self, audio: Tensor) -> Tensor:
        """(items, bins, frames)."""
        flat = audio.reshape(-1, audio.shape[-1])
        return power_spectrum(flat, self.window, self.hop).clamp_min(self.floor).sqrt()


def power_spectrum(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """Powers of the bins that `torch.stft` gives, (items, bins, frames), in two thirds of its time with gradients.

    Args:
        audio: (items, time), longer than half a window.
        window: (length,).
        hop: samples between frames.
    """
    half = len(window) // 2
    frames = nn.functional.pad(audio[None], (half, half), mode="reflect")[0].unfold(-1, len(window), hop)
    if torch.compiler.is_compiling():  # torch.compile cannot follow a Function that has a jvp
        spectrum = torch.fft.rfft(frames * window)
        return (spectrum.real.square() + spectrum.imag.square()).mT
    return _Powers.apply(frames * window)[0].mT


class _Powers(torch.autograd.Function):
    """The powers of all bins, and the spectrum of `torch.fft.rfft`, whose own gradient takes a complex FFT.

    The spectrum is an output so that the gradient, which takes it, has a gradient as well.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(frames: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = torch.fft.rfft(frames)
        return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag), spectrum

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.length = inputs[0].shape[-1]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Tensor | None:
        # irfft counts each bin twice, for its mirror image, but the first, and the last of an even length
        (spectrum,), (by_power, by_spectrum) = ctx.saved_tensors, gradients
        share = spectrum.real.new_ones(spectrum.shape[-1])
        share[0] = 2.0
        if ctx.length % 2 == 0:
            share[-1] = 2.0
        found = None
        if by_power is not None:
            parts = torch.view_as_real(spectrum) * (by_power * share)[..., None]
            found = torch.view_as_complex(parts)
        if by_spectrum is not None:
            own = by_spectrum * (share / 2)
            found = own if found is None else found + own
        return None if found is None else torch.fft.irfft(found, ctx.length, norm="forward")

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> tuple[Tensor, Tensor]:
        (spectrum,), moved = ctx.saved_tensors, torch.fft.rfft(tangents[0])
        return 2 * (spectrum.real * moved.real + spectrum.imag * moved.imag), moved
