"""Estimators: how gradients are obtained from renders."""

from blackbox_fx.estimators.audio_rules import Identity, LocalSpectrum, Pointwise, TimeReversal, TwoStage
from blackbox_fx.estimators.base import AudioRule, Call, Estimator, Plan, Probing
from blackbox_fx.estimators.finite_difference import FiniteDifference
from blackbox_fx.estimators.spsa import SPSA

__all__ = [
    "SPSA",
    "AudioRule",
    "Call",
    "Estimator",
    "FiniteDifference",
    "Identity",
    "LocalSpectrum",
    "Plan",
    "Pointwise",
    "Probing",
    "TimeReversal",
    "TwoStage",
]
