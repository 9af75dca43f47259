"""Train networks through audio effects that cannot be differentiated.

>>> import blackbox_fx as bfx
>>> bfx.load("pedalboard:Compressor").only("threshold_db", "ratio")
pedalboard:Compressor(threshold_db, ratio)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blackbox_fx.effects import Effect as Effect
    from blackbox_fx.effects import Rack as Rack
    from blackbox_fx.effects import function as function
    from blackbox_fx.effects import load as load
    from blackbox_fx.errors import AudioError as AudioError
    from blackbox_fx.errors import BlackBoxError as BlackBoxError
    from blackbox_fx.errors import DataError as DataError
    from blackbox_fx.errors import EffectError as EffectError
    from blackbox_fx.errors import MissingHost as MissingHost
    from blackbox_fx.errors import NotFinite as NotFinite
    from blackbox_fx.errors import ParameterError as ParameterError
    from blackbox_fx.errors import RenderTimeout as RenderTimeout
    from blackbox_fx.errors import WorkerDied as WorkerDied
    from blackbox_fx.estimators import SPSA as SPSA
    from blackbox_fx.estimators import AudioRule as AudioRule
    from blackbox_fx.estimators import Auto as Auto
    from blackbox_fx.estimators import Autodiff as Autodiff
    from blackbox_fx.estimators import ControlVariate as ControlVariate
    from blackbox_fx.estimators import Dynamics as Dynamics
    from blackbox_fx.estimators import Estimator as Estimator
    from blackbox_fx.estimators import FiniteDifference as FiniteDifference
    from blackbox_fx.estimators import GuidedES as GuidedES
    from blackbox_fx.estimators import Identity as Identity
    from blackbox_fx.estimators import LocalSpectrum as LocalSpectrum
    from blackbox_fx.estimators import ModulatedDelay as ModulatedDelay
    from blackbox_fx.estimators import MovingFilter as MovingFilter
    from blackbox_fx.estimators import MultiplexedSPSA as MultiplexedSPSA
    from blackbox_fx.estimators import Pointwise as Pointwise
    from blackbox_fx.estimators import ScoreFunction as ScoreFunction
    from blackbox_fx.estimators import Surrogate as Surrogate
    from blackbox_fx.estimators import TimeReversal as TimeReversal
    from blackbox_fx.estimators import TwoStage as TwoStage
    from blackbox_fx.estimators import Verified as Verified
    from blackbox_fx.expectation import expected_loss as expected_loss
    from blackbox_fx.graph import Chain as Chain
    from blackbox_fx.graph import Console as Console
    from blackbox_fx.graph import Mix as Mix
    from blackbox_fx.layer import BlackBox as BlackBox
    from blackbox_fx.profiling import Profile as Profile
    from blackbox_fx.profiling import check_effect as check_effect
    from blackbox_fx.profiling import profile as profile
    from blackbox_fx.proxy.hybrid import Hybrid as Hybrid
    from blackbox_fx.proxy.model import Proxy as Proxy
    from blackbox_fx.proxy.recipe import ProxyRecipe as ProxyRecipe
    from blackbox_fx.proxy.refresh import Refresh as Refresh
    from blackbox_fx.proxy.store import load_proxy as load_proxy
    from blackbox_fx.proxy.train import train_proxy as train_proxy
    from blackbox_fx.runtime import Inline as Inline
    from blackbox_fx.runtime import Processes as Processes
    from blackbox_fx.runtime import Threads as Threads
    from blackbox_fx.space import Choice as Choice
    from blackbox_fx.space import Continuous as Continuous
    from blackbox_fx.space import Integer as Integer
    from blackbox_fx.space import Space as Space
    from blackbox_fx.space import Toggle as Toggle

# Where each public name lives. They load on first use, so that a worker process never pays for torch.
_HOMES = {
    "effects": ["Effect", "Rack", "function", "load"],
    "errors": [
        "AudioError",
        "BlackBoxError",
        "DataError",
        "EffectError",
        "MissingHost",
        "NotFinite",
        "ParameterError",
        "RenderTimeout",
        "WorkerDied",
    ],
    "estimators": [
        "AudioRule",
        "Auto",
        "Autodiff",
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
        "Pointwise",
        "SPSA",
        "ScoreFunction",
        "Surrogate",
        "TimeReversal",
        "TwoStage",
        "Verified",
    ],
    "expectation": ["expected_loss"],
    "graph": ["Chain", "Console", "Mix"],
    "layer": ["BlackBox"],
    "profiling": ["Profile", "check_effect", "profile"],
    "proxy.hybrid": ["Hybrid"],
    "proxy.model": ["Proxy"],
    "proxy.recipe": ["ProxyRecipe"],
    "proxy.refresh": ["Refresh"],
    "proxy.store": ["load_proxy"],
    "proxy.train": ["train_proxy"],
    "runtime": ["Inline", "Processes", "Threads"],
    "space": ["Choice", "Continuous", "Integer", "Space", "Toggle"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
