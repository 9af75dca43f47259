"""Estimators: how gradients are obtained from renders."""

from blackbox_fx.estimators.audio_rules import (
    Dynamics,
    Identity,
    LocalSpectrum,
    ModulatedDelay,
    MovingFilter,
    Pointwise,
    Surrogate,
    TimeReversal,
    TwoStage,
    Verified,
)
from blackbox_fx.estimators.auto import Auto
from blackbox_fx.estimators.autodiff import Autodiff
from blackbox_fx.estimators.base import AudioRule, Call, Estimator, Plan, Probing
from blackbox_fx.estimators.control_variate import ControlVariate
from blackbox_fx.estimators.finite_difference import FiniteDifference
from blackbox_fx.estimators.guided import GuidedES
from blackbox_fx.estimators.multiplexed import MultiplexedSPSA
from blackbox_fx.estimators.score_function import ScoreFunction
from blackbox_fx.estimators.spsa import SPSA

__all__ = [
    "SPSA",
    "AudioRule",
    "Auto",
    "Autodiff",
    "Call",
    "ControlVariate",
    "Dynamics",
    "Estimator",
    "FiniteDifference",
    "GuidedES",
    "Identity",
    "LocalSpectrum",
    "ModulatedDelay",
    "MovingFilter",
    "MultiplexedSPSA",
    "Plan",
    "Pointwise",
    "Probing",
    "ScoreFunction",
    "Surrogate",
    "TimeReversal",
    "TwoStage",
    "Verified",
]
