"""A mixing task with a known answer: a hidden engineer sets a console from features of the tracks."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from blackbox_fx.data.clips import Clip
from blackbox_fx.effects import Rack, load
from blackbox_fx.estimators import SPSA, Estimator, Identity
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.console import Console
from blackbox_fx.runtime import Pool
from blackbox_fx.tasks.mixing.features import listen
from blackbox_fx.tasks.mixing.teacher import Teacher


def demo_console(
    pool: Pool,
    sample_rate: float,
    seed: int,
    make_estimator: Callable[[torch.Generator], Estimator] = lambda draw: SPSA(generator=draw),
) -> Console:
    """A console of pedalboard effects: EQ, compressor, gain and pan per track; compressor and reverb on the bus.

    Args:
        pool: where the effects run.
        sample_rate: in Hz.
        seed: of the gradient estimators.
        make_estimator: gives the estimator of strip and bus; called with a generator for each.
    """
    bands = {"low": ("LowShelfFilter", 200.0), "mid": ("PeakFilter", 1200.0), "high": ("HighShelfFilter", 5000.0)}
    eq = {
        band: load(f"pedalboard:{name}").fix(cutoff_frequency_hz=hz).within(gain_db=(-12, 12)).only("gain_db")
        for band, (name, hz) in bands.items()
    }
    comp = load("pedalboard:Compressor").fix(attack_ms=5, release_ms=80)
    strip = Rack({**eq, "comp": comp.within(threshold_db=(-45, -5), ratio=(1, 8))}, name="strip")
    reverb = load("pedalboard:Reverb").fix(dry_level=0.5, damping=0.4, width=1.0, freeze_mode=False)
    bus = Rack(
        {
            "comp": comp.within(threshold_db=(-35, -5), ratio=(1, 6)),
            "reverb": reverb.within(wet_level=(0, 0.3), room_size=(0.1, 0.9)),
        },
        name="bus",
    )

    def layer(rack: Rack, offset: int) -> BlackBox:
        estimator = make_estimator(torch.Generator().manual_seed(2 * seed + offset))
        return BlackBox(rack, estimator, audio_rule=Identity(), pool=pool, sample_rate=sample_rate)

    return Console(layer(strip, 0), layer(bus, 1), gain_db=(-18, 12))


@final
class HiddenEngineer(Teacher):
    """Sets `demo_console` from level, brightness and punch of the tracks: smooth rules that a network can learn.

    Quiet tracks come up and loud ones down, dull ones get treble, punchy ones more compression and a place further to
    the left, bright ones to the right, and the bus follows the density of the song.

    Args:
        console: what is set; its columns must be those of `demo_console`.
    """

    name = "hidden engineer's mix"

    def target(self, tracks: Tensor, song: Tensor, clip: Clip) -> Tensor:
        """What the console gives at the engineer's settings."""
        return self.console(tracks, song, *self.decide(tracks, song, 1))[0]

    def decide(self, tracks: Tensor, song: Tensor, mixes: int) -> tuple[Tensor, Tensor]:
        """The hidden settings: (track, track_width) and (mixes, bus_width) in [0, 1]."""
        level, bright, punch = listen(tracks, self.sample_rate)
        per_track = {
            "low.gain_db": 0.5 - 0.4 * torch.tanh(1.2 * bright),
            "mid.gain_db": 0.5 + 0.4 * torch.tanh(1.5 * (level - 0.2)),
            "high.gain_db": 0.5 - 0.4 * torch.tanh(1.5 * bright),
            "comp.threshold_db": 0.45 + 0.3 * torch.tanh(level),
            "comp.ratio": 0.45 + 0.35 * torch.tanh(1.5 * punch),
            "gain_db": 0.5 - 0.45 * torch.tanh(1.3 * level) + 0.05 * torch.tanh(2 * punch),
            "pan": 0.5 + 0.45 * torch.tanh(1.5 * bright) - 0.05 * torch.tanh(2 * punch),
        }
        zero = level.new_zeros(mixes)
        mean_bright = zero.scatter_reduce(0, song, bright, "mean", include_self=False)
        mean_level = zero.scatter_reduce(0, song, level, "mean", include_self=False)
        count = zero.index_add(0, song, torch.ones_like(level))
        per_bus = {
            "comp.threshold_db": 0.55 - 0.2 * torch.tanh(mean_level),
            "comp.ratio": 0.4 + 0.2 * torch.tanh((count - 5) / 2),
            "reverb.room_size": 0.5 + 0.25 * torch.tanh(2 * mean_bright),
            "reverb.wet_level": 0.3 - 0.15 * torch.tanh((count - 5) / 2),
        }
        track_params = torch.stack([per_track[name] for name in self.console.track_columns], dim=1)
        bus_params = torch.stack([per_bus[name] for name in self.console.bus_columns], dim=1)
        return track_params.clamp(0, 1), bus_params.clamp(0, 1)
