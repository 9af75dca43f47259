"""What `prepare` reaches on many effects: as sound, and as gradients."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Sequence
from typing import Any, final

from blackbox_fx import isolation
from blackbox_fx.effects import scanning

PARAMS, AUDIO = 0.9, 0.95  # cosines that are good enough
_WORKER = "blackbox_fx.lab.coverage_worker"
_SILENCE_S = 900.0  # after which an effect is given up; its identification says nothing meanwhile
_OTHERS = (
    "ladspa:Compress",
    "ladspa:Eq10",
    "ladspa:Noisegate",
    "ladspa:PhaserII",
    "ladspa:Plate",
    "ladspa:Saturate",
    "ladspa:ToneStack",
    "ladspa:fadDelay",
    "ladspa:fastLookaheadLimiter",
    "ladspa:fbdelay_1s",
    "ladspa:flanger",
    "ladspa:gate",
    "ladspa:gverb",
    "ladspa:lfoPhaser",
    "ladspa:mbeq",
    "ladspa:multivoiceChorus",
    "ladspa:plate",
    "ladspa:sc4",
    "ladspa:singlePara",
    "ladspa:svf",
    "ladspa:tap_chorusflanger",
    "ladspa:tap_equalizer",
    "ladspa:tap_limiter",
    "ladspa:tap_reverb",
    "ladspa:tap_stereo_echo",
    "ladspa:tap_tremolo",
    "ladspa:tap_tubewarmth",
    "ladspa:valve",
    "lv2:http://drobilla.net/plugins/mda/Ambience",
    "lv2:http://drobilla.net/plugins/mda/Delay",
    "lv2:http://drobilla.net/plugins/mda/Dynamics",
    "lv2:http://drobilla.net/plugins/mda/Overdrive",
    "lv2:http://drobilla.net/plugins/mda/RezFilter",
    "vst2:3BandEQ",
)


def surveyed_effects() -> list[str]:
    """Addresses of all built-ins of pedalboard, all VST3 plugins of zam, and 34 effects of other packages and hosts."""
    found = scanning.installed(("pedalboard", "vst3"))
    zam = [address for address in found["vst3"] if address.startswith("vst3:Za")]
    return [*found["pedalboard"], *zam, *_OTHERS]


@final
@dataclasses.dataclass(frozen=True)
class Covered:
    """What was reached for one effect; nan where there is nothing to measure.

    Args:
        address: to `load` it.
        failure: why it could not be prepared; empty if it could.
        refused: why its proxy is not used; empty if it may be.
        esr: error-to-signal ratio of the proxy, on held-out clips and settings.
        dry: that of the dry audio.
        params: cosine of the proxy's parameter gradient, where one is known.
        audio: cosine of its audio gradient.
        layer_params, layer_audio: the same of a default layer, which may prefer renders or rules.
        forward: of the layer, in ms for each clip of 1.5 s.
        backward: that gradients of params and audio add to it.
        by: what the layer chose.
        seconds: that all took.
    """

    address: str
    failure: str = ""
    refused: str = ""
    esr: float = math.nan
    dry: float = math.nan
    params: float = math.nan
    audio: float = math.nan
    layer_params: float = math.nan
    layer_audio: float = math.nan
    forward: float = math.nan
    backward: float = math.nan
    by: str = ""
    seconds: float = math.nan

    @property
    def package(self) -> str:
        """To which group it belongs: pedalboard, zam or others."""
        host, _, name = self.address.partition(":")
        return host if host == "pedalboard" else "zam" if host == "vst3" and name.startswith("Za") else "others"

    @property
    def counts(self) -> bool:
        """Whether there is anything to learn: it renders, and has parameters with a gradient."""
        return not self.failure and not math.isnan(self.params)

    @property
    def reason(self) -> str:
        """Why the proxy is not good enough, in words; empty if it is."""
        if self.failure or self.refused:
            return self.failure or self.refused
        if math.isnan(self.params):
            return "its settings have no gradient"
        low = [
            f"cosine of {name} {cosine:.3f}"
            for name, cosine, least in (("params", self.params, PARAMS), ("audio", self.audio, AUDIO))
            if not cosine >= least
        ]
        return ", ".join(low)


def measure(address: str, stop: threading.Event, minutes: float, seed: int) -> Covered:
    """Prepares one effect in a process of its own, with one thread, and measures what a layer of it then does.

    Args:
        address: of the effect.
        stop: ends it when set.
        minutes: of training.
        seed: of everything random.
    """
    found: dict[str, Any] = {}
    question = {"address": address, "minutes": minutes, "seed": seed}
    try:
        found.update(isolation.call(_WORKER, question, _SILENCE_S, found.update, stop))
    except isolation.Failed as error:
        found["failure"] = f"it {error}"
    except isolation.Refused as error:
        found["failure"] = error.args[1]
    return Covered(address, **{name: value for name, value in found.items() if value is not None})


@final
@dataclasses.dataclass(frozen=True)
class Share:
    """One group of effects in numbers.

    Args:
        group: its name.
        found: effects.
        counted: those that render and have parameters with a gradient.
        good: those whose proxy is good enough.
        layers: those whose default layer is, by whatever it chose.
    """

    group: str
    found: int
    counted: int
    good: int
    layers: int


def summarise(covered: Sequence[Covered]) -> list[Share]:
    """One share for each group, and one for all."""
    shares = []
    for name in [*dict.fromkeys(c.package for c in covered), "all"]:
        own = [c for c in covered if name in (c.package, "all")]
        counted = [c for c in own if c.counts]
        layers = sum(c.layer_params >= PARAMS and c.layer_audio >= AUDIO for c in counted)
        shares.append(Share(name, len(own), len(counted), sum(not c.reason for c in counted), layers))
    return shares
