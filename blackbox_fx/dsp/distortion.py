"""A memoryless distortion."""

from __future__ import annotations

from torch import Tensor


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
        - every parameter: (batch,)
    """
    drive, bias, mix = (p[:, None, None].to(audio.dtype) for p in (10 ** (drive_db / 20), bias, mix))
    wet = (drive * audio + bias).tanh() - bias.tanh()
    return audio + mix * (wet - audio)
