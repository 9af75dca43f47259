"""Rules for the gradient with respect to audio."""

from blackbox_fx.estimators.audio_rules.dynamics import Dynamics
from blackbox_fx.estimators.audio_rules.identity import Identity
from blackbox_fx.estimators.audio_rules.modulated_delay import ModulatedDelay
from blackbox_fx.estimators.audio_rules.moving_filter import MovingFilter
from blackbox_fx.estimators.audio_rules.pointwise import Pointwise
from blackbox_fx.estimators.audio_rules.spectrum import LocalSpectrum
from blackbox_fx.estimators.audio_rules.surrogate import Surrogate
from blackbox_fx.estimators.audio_rules.time_reversal import TimeReversal
from blackbox_fx.estimators.audio_rules.two_stage import TwoStage
from blackbox_fx.estimators.audio_rules.verified import Verified

__all__ = [
    "Dynamics",
    "Identity",
    "LocalSpectrum",
    "ModulatedDelay",
    "MovingFilter",
    "Pointwise",
    "Surrogate",
    "TimeReversal",
    "TwoStage",
    "Verified",
]
