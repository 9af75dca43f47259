"""Tries nets on an effect for a few steps each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from blackbox_fx.learning.fit import flushed
from blackbox_fx.learning.levels import level_distance
from blackbox_fx.learning.loss import soft_esr
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.clips import Batch, ClipStream
from blackbox_fx.proxy.nets import ProxyNet, make_net

_ROUNDS = (100, 120, 200)
_RATE = 1e-2
_TESTED = 3  # batches of bursts, and as many of clips, on which nets are compared
_SOFTER = 0.1
_LEAST = 1e-6  # ratio that counts
_LINEAR = 1e-3  # relative error below which an effect acts at one level as at another


def follows_level(stream: ClipStream) -> bool:
    """Whether an effect does something else with softer bursts.

    Raises:
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    loud = stream.bursts(0)
    soft = stream.render((_SOFTER * loud.audio).numpy(), loud.params.double().numpy())
    return len(soft.wet) != len(loud.wet) or bool((esr(soft.wet / _SOFTER, loud.wet) > _LINEAR**2).any())


def audition(
    stream: ClipStream, nets: Sequence[Mapping[str, Any]], rounds: Sequence[int] = _ROUNDS
) -> Mapping[str, Any]:
    """The net that learns an effect best in a few steps on bursts, by its error-to-signal ratio on others and on clips.

    Args:
        stream: clips of the effect.
        nets: kind and arguments of each.
        rounds: steps of each; the better half takes part in the next one.

    Raises:
        EffectError, WorkerDied, RenderTimeout: the effect failed.
    """
    later = range(sum(rounds), sum(rounds) + _TESTED)
    tests = [draw(number) for draw in (stream.bursts, stream.batch) for number in later]
    with torch.random.fork_rng(devices=[]), flushed():
        torch.manual_seed(stream.seed)
        tried = [_Candidate(config, stream) for config in nets]
        done = 0
        for steps in rounds:
            for number in range(done, done + steps):
                batch = stream.bursts(number)
                for one in tried:
                    one.learn(batch)
            done += steps
            tried = sorted(tried, key=lambda one: one.distance(tests))[: -(-len(tried) // 2)]
    return tried[0].config


class _Candidate:
    """A net that learns levels."""

    def __init__(self, config: Mapping[str, Any], stream: ClipStream) -> None:
        self.config, self.rate = config, stream.clips.sample_rate
        self.net: ProxyNet = make_net(config, stream.effect.space.width, self.rate)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=_RATE, betas=(0.9, 0.99))

    def learn(self, batch: Batch) -> None:
        """One step."""
        self.optimizer.zero_grad()
        wet = self.net(batch.audio, batch.params, self.rate)
        loss = level_distance(wet, batch.wet) + soft_esr(wet, batch).mean()
        loss.backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)):
            self.optimizer.step()

    @torch.no_grad()
    def distance(self, batches: Sequence[Batch]) -> float:
        """The logarithm of the error-to-signal ratio, mean over items; NaN counts as 1."""
        found = []
        for batch in batches:
            ratio = soft_esr(self.net(batch.audio, batch.params, self.rate), batch)
            found.append(float(ratio.nan_to_num(nan=1).clamp(_LEAST, 1).log10().mean()))
        return float(np.mean(found))
