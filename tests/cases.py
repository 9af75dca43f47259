"""Every effect, estimator and pool, once; the tests cross these lists."""

import functools

import numpy as np
import torch

from blackbox_fx import estimators, runtime
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import Rack, function, load
from blackbox_fx.effects.hosts.pedalboard import BUILTINS
from blackbox_fx.space import Choice, Continuous, Integer, Space, Toggle
from tests.trouble import mixed

RATE = 44100

SPACE = Space(
    {
        "gain_db": Continuous(-20, 10, 0, "dB"),
        "freq_hz": Continuous(20, 20_000, 440, "Hz", log=True),
        "drive": Continuous(1, 9, 1, step=0.5),
        "order": Integer(-2, 5, 1),
        "on": Toggle(True),
        "kind": Choice(("low", "band", "high"), "band"),
    }
)

BASS = Space({"gain_db": Continuous(-20, 10, 3, "dB"), "frequency_hz": Continuous(40, 400, 100, "Hz", log=True)})
TONE = """
import("stdfaust.lib");
gain = hslider("gain [unit:dB]", 0, -24, 12, 0.1) : ba.db2linear;
cutoff = hslider("cutoff [unit:Hz][scale:log]", 2000, 50, 15000, 1);
bend = _ <: select2(checkbox("drive"), _, ma.tanh);
process = par(i, 2, fi.lowpass(2, cutoff) : bend : *(gain));
"""


def music(seconds=1.0, channels=2, seed=0):
    """Something tonal, transient and loud, (channel, time)."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    tones = sum(
        np.sin(2 * np.pi * f * t + p) for f, p in zip(rng.uniform(80, 3000, 6), rng.uniform(0, 6, 6), strict=True)
    )
    beat = np.exp(-((t * 4) % 1) * 8)
    x = 0.12 * tones * (0.3 + beat) + 0.02 * rng.standard_normal((channels, n))
    return x.astype(np.float32)


def scaled(audio, params, sample_rate):
    """A differentiable stand-in that takes any number of parameters and is wrong about each."""
    return audio * (1 + 0.1 * params.sum(dim=1)[:, None, None])


def _builtin(name):
    if name == "Convolution":
        impulse = np.random.default_rng(3).standard_normal((1, 2000)) * np.exp(-np.arange(2000) / 300) * 0.1
        return load("pedalboard:Convolution", impulse_response=impulse, impulse_rate=RATE)
    return load(f"pedalboard:{name}")


EFFECTS = {f"pedalboard:{name}": functools.partial(_builtin, name) for name in BUILTINS}
EFFECTS |= {f"twin:{name}": twin.effect for name, twin in TWINS.items()}
EFFECTS["function"] = lambda: function(mixed, SPACE)
EFFECTS["rack"] = lambda: Rack(
    [load("pedalboard:PeakFilter"), load("pedalboard:Compressor"), load("pedalboard:Reverb")]
)
EFFECTS["vst3:ZamCompX2"] = lambda: load("vst3:ZamCompX2")
EFFECTS["vst3:ZamEQ2"] = lambda: load("vst3:ZamEQ2")
EFFECTS["vst3:ZamTube"] = lambda: load("vst3:ZamTube")
EFFECTS["ladspa:tap_reverb"] = lambda: load("ladspa:tap_reverb")
EFFECTS["ladspa:sc4"] = lambda: load("ladspa:sc4")
EFFECTS["ladspa:fastLookaheadLimiter"] = lambda: load("ladspa:fastLookaheadLimiter")
EFFECTS["vst2:3BandEQ"] = lambda: load("vst2:3BandEQ")
EFFECTS["lv2:mda/Combo"] = lambda: load("lv2:http://drobilla.net/plugins/mda/Combo")
EFFECTS["faust:tone"] = lambda: load("faust:tone", code=TONE)
EFFECTS["command:sox"] = lambda: load("command:sox -D {in} {out} bass {gain_db} {frequency_hz}", space=BASS)

ESTIMATORS = {
    "FiniteDifference": estimators.FiniteDifference,
    "OneSided": lambda: estimators.FiniteDifference(central=False),
    "SPSA": lambda: estimators.SPSA(pairs=2, generator=torch.Generator().manual_seed(1)),
    "MultiplexedSPSA": lambda: estimators.MultiplexedSPSA(generator=torch.Generator().manual_seed(1)),
    "ScoreFunction": lambda: estimators.ScoreFunction(generator=torch.Generator().manual_seed(1)),
    "GuidedES": lambda: estimators.GuidedES(generator=torch.Generator().manual_seed(1)),
    "ControlVariate": lambda: estimators.ControlVariate(
        estimators.SPSA(generator=torch.Generator().manual_seed(1)), scaled
    ),
    "Autodiff": lambda: estimators.Autodiff(scaled),
    # no measured time decides, so that two runs are equal
    "Auto": lambda: estimators.Auto(generator=torch.Generator().manual_seed(1), choice="error"),
}
AUDIO_RULES = {
    "Identity": estimators.Identity,
    "TimeReversal": estimators.TimeReversal,
    "Pointwise": estimators.Pointwise,
    "LocalSpectrum": estimators.LocalSpectrum,
    "TwoStage": estimators.TwoStage,
    "Dynamics": estimators.Dynamics,
    "Crosswise": estimators.Crosswise,
    "ModulatedDelay": estimators.ModulatedDelay,
    "MovingFilter": estimators.MovingFilter,
    "Surrogate": lambda: estimators.Surrogate(lambda audio, params, rate: audio * params[:, :1, None]),
    "Verified": estimators.Verified,
}

POOLS = {
    "Inline": runtime.Inline,
    "Threads": lambda: runtime.Threads(2),
    "Processes": lambda: runtime.Processes(2, deadline=30),
    "Ray": lambda: runtime.Ray(2, deadline=30),
}
