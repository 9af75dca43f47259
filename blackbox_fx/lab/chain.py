"""Effects in series: backpropagation effect by effect, against the same effects as one opaque rack."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from blackbox_fx.effects import Effect, Rack, load
from blackbox_fx.errors import EffectError
from blackbox_fx.estimators import (
    SPSA,
    AudioRule,
    Auto,
    Estimator,
    FiniteDifference,
    Identity,
    Verified,
)
from blackbox_fx.lab.case import Case
from blackbox_fx.lab.counting import effects_in
from blackbox_fx.lab.gradients import Study
from blackbox_fx.lab.methods import multiplexed
from blackbox_fx.lab.sample import Method
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import Chain


def channel_strip() -> Rack:
    """Four filters, a compressor and a gain, 15 parameters: what the numbers about chains are measured on."""
    low, peak, high = (load(f"pedalboard:{name}Filter") for name in ("LowShelf", "Peak", "HighShelf"))
    members: dict[str, Effect] = {
        "low": low.within(cutoff_frequency_hz=(40, 400), gain_db=(-18, 18)).fix(q=0.7),
        "peak": peak.within(cutoff_frequency_hz=(200, 2000), gain_db=(-18, 18), q=(0.3, 4)),
        "peak_2": peak.within(cutoff_frequency_hz=(800, 6000), gain_db=(-18, 18), q=(0.3, 4)),
        "high": high.within(cutoff_frequency_hz=(2000, 12000), gain_db=(-18, 18)).fix(q=0.7),
        "comp": load("pedalboard:Compressor").within(
            threshold_db=(-50, 0), ratio=(1, 10), attack_ms=(1, 100), release_ms=(20, 500)
        ),
        "gain": load("pedalboard:Gain").within(gain_db=(-12, 12)),
    }
    return Rack(members, name="channel strip")


def _chain(
    label: str, estimator: Callable[[torch.Generator], Estimator], rule: Callable[[], AudioRule] = Verified
) -> Method:
    def make(case: Case, draw: torch.Generator) -> nn.Module:
        if not isinstance(case.effect, Rack):
            raise EffectError(f"{case.effect.name} is no Rack, whose members could be a Chain.")
        rate = case.sample_rate
        boxes = {
            name: BlackBox(member, estimator(draw), audio_rule=rule(), sample_rate=rate)
            for name, member in case.effect.members.items()
        }
        return Chain(boxes)

    return Method(label, label, make)


def _joint(label: str, estimator: Callable[[Case, torch.Generator], Estimator]) -> Method:
    def make(case: Case, draw: torch.Generator) -> nn.Module:
        return BlackBox(case.effect, estimator(case, draw), sample_rate=case.sample_rate)

    return Method(label, label, make)


def chain_methods(case: Case, seed: int = 0) -> list[Method]:
    """All compared methods: chains, and the opaque rack with one pair and with as many renders as the best chain."""
    ways = by_effect()
    price = Study(ways, draws=2, seed=seed)
    price.run([case])
    auto = next(s for s in price.samples if "Auto" in s.method.label)
    return [*ways, *jointly(effects_in(case.effect), auto.renders + auto.audio_renders)]


def by_effect() -> list[Method]:
    """Chains: each effect has its own estimator and the audio rule that `Verified` finds; "wires" pass audio as it is.

    The compressor's rule decides the residual error. `Pointwise` over 1 to 512 samples, `TwoStage` and `LocalSpectrum`
    also have cosines near 1 on random directions, but a residual error of about 0.1 on four cases. A filter before the
    compressor changes its level, and these rules hold its gain fixed; `Dynamics` does not.
    """
    return [
        _chain("Chain: FiniteDifference()", lambda draw: FiniteDifference()),
        _chain("Chain: Auto(3)", lambda draw: Auto(3, generator=draw)),
        _chain("Chain: SPSA(1)", lambda draw: SPSA(1, generator=draw)),
        _chain("Chain: SPSA(1), wires", lambda draw: SPSA(1, generator=draw), Identity),
    ]


def jointly(size: int, spent: float) -> list[Method]:
    """The opaque rack as one black box, with the renders of one pair and with about `spent` effect renders.

    Args:
        size: number of effects in the rack.
        spent: effect renders for one gradient; rounded up to whole pairs.
    """
    pairs = sorted({1, max(1, math.ceil(spent / (2 * size)))})
    plain = [_joint(f"Rack: SPSA({n})", lambda _, draw, n=n: SPSA(n, generator=draw)) for n in pairs]
    return plain + [
        _joint(f"Rack: MultiplexedSPSA({n})", lambda case, draw, n=n: multiplexed(case, draw, n)) for n in pairs
    ]
