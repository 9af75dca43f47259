"""Rules for the gradient with respect to audio."""

from blackbox_fx.estimators.audio_rules.dynamics import Dynamics as Dynamics
from blackbox_fx.estimators.audio_rules.identity import Identity as Identity
from blackbox_fx.estimators.audio_rules.modulated_delay import ModulatedDelay as ModulatedDelay
from blackbox_fx.estimators.audio_rules.moving_filter import MovingFilter as MovingFilter
from blackbox_fx.estimators.audio_rules.pointwise import Pointwise as Pointwise
from blackbox_fx.estimators.audio_rules.spectrum import LocalSpectrum as LocalSpectrum
from blackbox_fx.estimators.audio_rules.surrogate import Surrogate as Surrogate
from blackbox_fx.estimators.audio_rules.time_reversal import TimeReversal as TimeReversal
from blackbox_fx.estimators.audio_rules.two_stage import TwoStage as TwoStage
from blackbox_fx.estimators.audio_rules.verified import Verified as Verified
