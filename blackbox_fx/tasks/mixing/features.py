"""What an engineer hears first: level, brightness and punch."""

from __future__ import annotations

import torch
from torch import Tensor


def listen(tracks: Tensor, sample_rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Level, brightness and punch of each track, (track,), each about within [-1, 1].

    Args:
        tracks: (track, channel, time).
        sample_rate: in Hz.
    """
    mono = tracks.mean(dim=1)
    rms = mono.square().mean(-1).sqrt().clamp(min=1e-5)
    level = (20 * rms.log10() + 26) / 10
    power = torch.fft.rfft(mono).abs().square()
    hz = torch.fft.rfftfreq(mono.shape[-1], 1 / sample_rate)
    centroid = (power * hz).sum(-1) / power.sum(-1).clamp(min=1e-9)
    brightness = torch.log2(centroid.clamp(min=20) / 700) / 2
    blocks = mono[:, : mono.shape[-1] // 1024 * 1024].reshape(len(mono), -1, 1024).square().mean(-1).sqrt()
    punch = (blocks.std(-1) / blocks.mean(-1).clamp(min=1e-5)) - 0.7
    return level, brightness.clamp(-1.5, 1.5), punch.clamp(-1, 1.5)
