"""Classic effects as differentiable functions, and each of them as a black box with known gradients."""

from blackbox_fx.dsp.distortion import waveshaper
from blackbox_fx.dsp.dynamics import (
    compressor,
    expander,
    limiter,
    noise_gate,
    sidechain_compressor,
    soft_knee_compressor,
)
from blackbox_fx.dsp.filters import graphic_eq, parametric_eq, six_band_eq
from blackbox_fx.dsp.mixing import gain_pan, mid_side
from blackbox_fx.dsp.modulation import chorus, feedback_delay, phaser
from blackbox_fx.dsp.reverberation import convolution, reverberation
from blackbox_fx.dsp.twin import Twin
from blackbox_fx.dsp.twins import TWINS

__all__ = [
    "TWINS",
    "Twin",
    "chorus",
    "compressor",
    "convolution",
    "expander",
    "feedback_delay",
    "gain_pan",
    "graphic_eq",
    "limiter",
    "mid_side",
    "noise_gate",
    "parametric_eq",
    "phaser",
    "reverberation",
    "sidechain_compressor",
    "six_band_eq",
    "soft_knee_compressor",
    "waveshaper",
]
