"""A memoryless distortion."""

from __future__ import annotations

import torch
from torch import Tensor

from blackbox_fx.dsp.moving import by_channel


def waveshaper(audio: Tensor, sample_rate: float, *, drive_db: Tensor, bias: Tensor, mix: Tensor) -> Tensor:
    """A hyperbolic tangent driven off centre, blended with the dry signal; silence stays silent.

    Args:
        audio: any channel count.
        sample_rate: in Hz; without influence.
        drive_db: gain in dB before the tangent.
        bias: added before the tangent, whose value there is taken off again; 0 gives odd harmonics only.
        mix: share of the distorted signal, in [0, 1].

    Returns:
        The distorted audio.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves
    """
    drive, offset, share = (by_channel(p, audio) for p in (10 ** (drive_db / 20), bias, mix))
    wet = torch.addcmul(offset, drive, audio).tanh() - offset.tanh()
    return torch.lerp(audio, wet, share)
