"""Rules for the gradient with respect to audio."""

from blackbox_fx.estimators.audio_rules.identity import Identity
from blackbox_fx.estimators.audio_rules.pointwise import Pointwise
from blackbox_fx.estimators.audio_rules.spectrum import LocalSpectrum
from blackbox_fx.estimators.audio_rules.time_reversal import TimeReversal
from blackbox_fx.estimators.audio_rules.two_stage import TwoStage

__all__ = ["Identity", "LocalSpectrum", "Pointwise", "TimeReversal", "TwoStage"]
