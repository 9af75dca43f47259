"""Estimators: how gradients are obtained from renders."""

from blackbox_fx.estimators.audio_rules import Dynamics as Dynamics
from blackbox_fx.estimators.audio_rules import Identity as Identity
from blackbox_fx.estimators.audio_rules import LocalSpectrum as LocalSpectrum
from blackbox_fx.estimators.audio_rules import ModulatedDelay as ModulatedDelay
from blackbox_fx.estimators.audio_rules import MovingFilter as MovingFilter
from blackbox_fx.estimators.audio_rules import Pointwise as Pointwise
from blackbox_fx.estimators.audio_rules import Surrogate as Surrogate
from blackbox_fx.estimators.audio_rules import TimeReversal as TimeReversal
from blackbox_fx.estimators.audio_rules import TwoStage as TwoStage
from blackbox_fx.estimators.audio_rules import Verified as Verified
from blackbox_fx.estimators.audio_rules.crosswise import Crosswise as Crosswise
from blackbox_fx.estimators.auto import Auto as Auto
from blackbox_fx.estimators.autodiff import Autodiff as Autodiff
from blackbox_fx.estimators.base import AudioRule as AudioRule
from blackbox_fx.estimators.base import Estimator as Estimator
from blackbox_fx.estimators.base import Probing as Probing
from blackbox_fx.estimators.call import Call as Call
from blackbox_fx.estimators.call import Plan as Plan
from blackbox_fx.estimators.control_variate import ControlVariate as ControlVariate
from blackbox_fx.estimators.finite_difference import FiniteDifference as FiniteDifference
from blackbox_fx.estimators.guided import GuidedES as GuidedES
from blackbox_fx.estimators.multiplexed import MultiplexedSPSA as MultiplexedSPSA
from blackbox_fx.estimators.score_function import ScoreFunction as ScoreFunction
from blackbox_fx.estimators.spsa import SPSA as SPSA
from blackbox_fx.estimators.stochastic import Stochastic as Stochastic
