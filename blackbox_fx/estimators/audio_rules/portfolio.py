"""The rules that `Verified` tries, the cheap ones first."""

from __future__ import annotations

from blackbox_fx.estimators.audio_rules.base import Modelled
from blackbox_fx.estimators.audio_rules.crosswise import Crosswise
from blackbox_fx.estimators.audio_rules.dynamics import Dynamics
from blackbox_fx.estimators.audio_rules.identity import Identity
from blackbox_fx.estimators.audio_rules.modulated_delay import ModulatedDelay
from blackbox_fx.estimators.audio_rules.moving_filter import MovingFilter
from blackbox_fx.estimators.audio_rules.pointwise import Pointwise
from blackbox_fx.estimators.audio_rules.probes import HIGH, SMALL
from blackbox_fx.estimators.audio_rules.spectrum import LocalSpectrum
from blackbox_fx.estimators.audio_rules.time_reversal import TimeReversal
from blackbox_fx.estimators.audio_rules.two_stage import TwoStage


def portfolio(size: float = SMALL) -> list[Modelled]:
    """All rules, with random probes of this size against the clip's root mean square."""
    gains = ((False, 3), (False, 64), (True, 0), (True, 1024))
    return [
        Identity(),
        TimeReversal(),
        TimeReversal(HIGH),
        Dynamics(size),
        Pointwise(1, size),
        Pointwise(32, size),
        Pointwise(512, size),
        LocalSpectrum(256, size),
        LocalSpectrum(1024, size),
        *(TwoStage(where, curve, n, size) for where in ("after", "before", "around") for curve, n in gains),
        ModulatedDelay(False, size),
        ModulatedDelay(True, size),
        MovingFilter(),
        Crosswise(size),
    ]
