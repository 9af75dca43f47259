"""What an effect is like, measured, and whether it keeps what every effect promises."""

from blackbox_fx.profiling.check import Check, Report, check_effect
from blackbox_fx.profiling.profiles import cached, check_isolated, plots, profile
from blackbox_fx.profiling.record import ParameterProfile, Profile

__all__ = [
    "Check",
    "ParameterProfile",
    "Profile",
    "Report",
    "cached",
    "check_isolated",
    "check_effect",
    "plots",
    "profile",
]
