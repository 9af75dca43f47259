"""What mixes are compared by: differentiable features of stereo mixes at equal levels, and distances between them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.losses.spectral import power_spectrum
from blackbox_fx.models.encoders import mel_filters

_FLOOR = 1e-4  # power of a bin below which mixes are not compared: nearly silent bins make gradients jagged
_QUIET = 1e-4  # of full scale, below which levels are not matched
_LEVEL = 0.1  # that mixes have in the mean, of full scale
_FFT, _BANDS = 2048, 24
_MONO = 1e-4  # power of the sides as a share of the whole, below which a mix counts as mono
_BLOCK_S = 0.4  # of a short-term level
_GATE = 1e-3  # power of a block relative to the mean, below which it counts no less
# of features in the loss, by what each is worth: about a tenth of the distance of spectra at the beginning
_WEIGHTS = {"spectrum": 0.03, "width": 1.0, "panning": 1.0, "balance": 0.3, "crest": 0.03, "dynamics": 0.05}
_SPLITS_HZ = (250.0, 2500.0)  # between the bands in which places are compared

DISTANCES = {
    "stft": "",
    "mel": "dB",
    "spectrum": "dB",
    "centroid": "octaves",
    "bandwidth": "octaves",
    "flatness": "dB",
    "width": "",
    "balance": "",
    "panning": "",
    "crest": "dB",
    "dynamics": "dB",
}


def matched(mix: Tensor) -> Tensor:
    """Mixes, (batch, 2, time), each at a level of -20 dBFS in the mean; nearly silent ones are left as they are."""
    level = (mix.square().mean((1, 2), keepdim=True) + 1e-12).sqrt()  # silence has a gradient, too
    return mix * torch.where(level > _QUIET, _LEVEL / level.clamp(min=_QUIET), 1.0)


def mid_side(mix: Tensor) -> Tensor:
    """Middle and sides, (batch, 2, time), of left and right; as loud together as both were."""
    left, right = mix.unbind(1)
    return torch.stack([left + right, left - right], 1) / 2**0.5


@final
class MixFeatures(nn.Module):
    """What engineers and the literature describe a mix by, whatever its level. A mix and its mirror have the same.

    - "mel": level in 24 bands and frames of 23 ms at 44.1 kHz, in dB
    - "spectrum": the same of the mean power over time, in dB
    - "centroid", "bandwidth": of the long-term spectrum, in octaves
    - "flatness": geometric over arithmetic mean of the spectrum, in dB
    - "width": amplitude of the sides as a share of the whole, from 0 (mono) to 1
    - "balance": by how much the power of one side is above the other's, as a share of both, from 0 to 1
    - "panning": how far from the middle sounds are, from 0 to 1, below 250 Hz, to 2500 Hz, and above
    - "crest": peak over level, in dB
    - "dynamics": standard deviation of the level of blocks of 0.4 s, in dB

    Args:
        sample_rate: in Hz.

    Shape:
        - mix: (batch, 2, time), any level
        - output: for each name, (batch, values)

    References:
        "Automatic music mixing with deep learning and out-of-domain data" (Martínez-Ramírez et al., 2022); "Diff-MST:
        differentiable mixing style transfer" (Vanka et al., 2024); "Stereo panning features for classifying recording
        production style" (Tzanetakis et al., 2007).
    """

    window: Tensor
    filters: Tensor
    octaves: Tensor
    bands: Tensor

    def __init__(self, sample_rate: float) -> None:
        super().__init__()
        self.block = round(_BLOCK_S * sample_rate)
        hz = torch.linspace(0, sample_rate / 2, _FFT // 2 + 1)
        edges = (0.0, *_SPLITS_HZ, sample_rate)
        bands = [((hz >= low) & (hz < high)).float() for low, high in itertools.pairwise(edges)]
        for name, value in {
            "window": torch.hann_window(_FFT),
            "filters": mel_filters(_BANDS, _FFT, sample_rate),
            "octaves": (hz.clamp(min=20) / 1000).log2(),
            "bands": torch.stack(bands, 1),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, mix: Tensor) -> dict[str, Tensor]:
        """The features."""
        mix = matched(mix)
        sides = self._powers(mix)
        whole = sides.sum(1).mean(-1)
        share = whole / whole.sum(1, keepdim=True).clamp(min=1e-9)
        centroid = (share * self.octaves).sum(1, keepdim=True)
        spread = (share * (self.octaves - centroid).square()).sum(1, keepdim=True).clamp(min=1e-6).sqrt()
        audible = whole + 1e-4 * whole.mean(1, keepdim=True)
        left, right = mix.square().mean(-1).clamp(min=1e-9).unbind(1)
        power = left + right
        side = (mix[:, 0] - mix[:, 1]).square().mean(-1) / 2
        return {
            "mel": _db(self.filters @ sides.sum(1) + _FLOOR).flatten(1),
            "spectrum": _db(whole @ self.filters.T + _FLOOR / 10),
            "centroid": centroid,
            "bandwidth": spread,
            "flatness": _db(audible.clamp(min=1e-9)).mean(1, keepdim=True)
            - _db(audible.mean(1, keepdim=True).clamp(min=1e-9)),
            "width": ((side + _MONO * power) / power).sqrt()[:, None],
            "balance": ((right - left) / (left + right)).abs()[:, None],
            "panning": self._places(sides),
            "crest": _db(mix.abs().amax((1, 2)).square().clamp(min=1e-9) / mix.square().mean((1, 2)).clamp(min=1e-9))[
                :, None
            ],
            "dynamics": self._dynamics(mix),
        }

    def _powers(self, audio: Tensor) -> Tensor:
        """(batch, 2, bins, frames)."""
        flat = nn.functional.pad(audio.flatten(0, 1), (0, max(0, _FFT - audio.shape[-1])))
        return power_spectrum(flat, self.window, _FFT // 2).unflatten(0, audio.shape[:2])

    def _places(self, sides: Tensor) -> Tensor:
        """How far from the middle the sound of each band is, weighted by power, (batch, bands)."""
        left, right = sides.unbind(1)
        power = left + right
        apart = 1 - 2 * (left * right + 1e-12).sqrt() / (power + 2e-6)
        heard = torch.einsum("bft,fk->bk", power, self.bands)
        return torch.einsum("bft,fk->bk", apart * power, self.bands) / heard.clamp(min=1e-6)

    def _dynamics(self, mix: Tensor) -> Tensor:
        count = max(1, mix.shape[-1] // self.block)
        power = mix[..., : count * self.block].square().mean(1).reshape(len(mix), count, -1).mean(-1)
        level = _db(power + _GATE * power.mean(1, keepdim=True) + 1e-9)
        return (level.var(1, correction=0, keepdim=True) + 1e-4).sqrt()


def _db(power: Tensor) -> Tensor:
    return 10 * power.log10()


@final
class MixDistances(nn.Module):
    """How far mixes are from others, by each name of `DISTANCES`; levels are matched, a mix and its mirror are equal.

    Args:
        sample_rate: in Hz.

    Shape:
        - wet, target: (batch, 2, time)
        - output: for each name, (batch,); "stft" is `MultiResolutionSTFT` of middle and sides, all others are mean
          absolute differences of `MixFeatures`
    """

    def __init__(self, sample_rate: float) -> None:
        super().__init__()
        self.features, self.stft = MixFeatures(sample_rate), MultiResolutionSTFT(floor=_FLOOR)

    def forward(self, wet: Tensor, target: Tensor, there: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The distances; `there` has the `features` of the target, if they are known."""
        known = self.features(target) if there is None else there
        found = {name: (x - known[name]).abs().mean(1) for name, x in self.features(wet).items()}
        return {"stft": self.of_spectra(wet, target)} | found

    def of_spectra(self, wet: Tensor, target: Tensor) -> Tensor:
        """The distance "stft" alone."""
        pairs = zip(mid_side(matched(wet)), mid_side(matched(target)), strict=True)
        return torch.stack([self.stft(x[None], y[None]) for x, y in pairs])


@final
class MixLoss(nn.Module):
    """The loss of networks that learn from real mixes: spectra of middle and sides, and features of the whole.

    Args:
        sample_rate: in Hz.

    Shape:
        - wet, target: (batch, 2, time)
        - output: a scalar
    """

    def __init__(self, sample_rate: float) -> None:
        super().__init__()
        self.features, self.stft = MixFeatures(sample_rate), MultiResolutionSTFT(floor=_FLOOR)
        self.windows = self.stft.windows

    def forward(self, wet: Tensor, target: Tensor, scale: int | None = None) -> Tensor:
        """The loss; with `scale`, at that one resolution alone."""
        loss = self.stft(mid_side(matched(wet)), mid_side(matched(target)), scale)
        return loss + sound_distance(self.features(wet), self.features(target))


def sound_distance(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Tensor:
    """How far the `MixFeatures` of mixes are apart, those that need no alignment in time; a scalar."""
    return torch.stack([weight * (here[name] - there[name]).abs().mean() for name, weight in _WEIGHTS.items()]).sum()
