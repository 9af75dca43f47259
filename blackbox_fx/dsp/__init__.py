"""Classic effects as differentiable functions, and each of them as a black box with known gradients."""

from blackbox_fx.dsp.distortion import waveshaper
from blackbox_fx.dsp.dynamics import compressor
from blackbox_fx.dsp.filters import parametric_eq
from blackbox_fx.dsp.mixing import gain_pan
from blackbox_fx.dsp.reverberation import reverberation
from blackbox_fx.dsp.twin import TWINS, Twin

__all__ = ["TWINS", "Twin", "compressor", "gain_pan", "parametric_eq", "reverberation", "waveshaper"]
