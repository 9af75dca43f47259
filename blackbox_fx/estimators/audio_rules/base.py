"""An audio rule as a model of the effect's Jacobian, fitted to probes."""

from __future__ import annotations

import abc
import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.effects.base import Effect
from blackbox_fx.estimators.base import AudioRule, Call, to_numpy

Signal = NDArray[np.float64]


class Model(abc.ABC):
    """A linear operator that models the Jacobian J of an effect at one clip and setting; signals are (channel, time).

    Attributes:
        exact: whether it comes from equations that reproduce the effect's output, so that no probe need confirm it.
    """

    exact: bool = False

    @abc.abstractmethod
    def push(self, u: Signal) -> Signal:
        """J u: what a small change u of the input does to the output."""

    @abc.abstractmethod
    def pull(self, v: Signal) -> Signal:
        """The transpose: the gradient of <v, output> with respect to the input."""


class Probe(abc.ABC):
    """Renders that measure something of the Jacobian; frozen and hashable, so that rules can share its response."""

    @abc.abstractmethod
    def renders(self, channels: int) -> int:
        """How many renders it takes."""

    @abc.abstractmethod
    def inputs(self, x: Signal) -> Signal:
        """What to render for a clip, (renders, channel, any time)."""

    @abc.abstractmethod
    def read(self, x: Signal, y: Signal, outputs: Signal) -> Any:
        """The response, from the clip, the effect's output for it, and the renders of `inputs`."""


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """One clip at one setting, with the responses to the probes made there.

    Args:
        x: the clip, (channel, time).
        y: the effect's output, (channel, time).
        sample_rate: in Hz.
        responses: by probe.
        effect: that was rendered; None if unknown.
        point: its params, (width,); None if unknown.
    """

    x: Signal
    y: Signal
    sample_rate: float
    responses: Mapping[Probe, Any]
    effect: Effect | None = None
    point: Signal | None = None

    def __getitem__(self, probe: Probe) -> Any:
        return self.responses[probe]


def visit(call: Call, probes: Sequence[Probe]) -> list[Site]:
    """Makes all probes at every item of a call; inputs of one length go out together."""
    audio, output = to_numpy(call.audio), to_numpy(call.output)
    wanted: dict[int, list[tuple[int, Probe, NDArray[np.float32]]]] = collections.defaultdict(list)
    for item, x in enumerate(audio):
        for probe in probes:
            rows = probe.inputs(x.astype(np.float64)).astype(np.float32)
            wanted[rows.shape[-1]].append((item, probe, rows))
    responses: list[dict[Probe, Any]] = [{} for _ in audio]
    for group in wanted.values():
        items = np.repeat([item for item, _, _ in group], [len(rows) for _, _, rows in group])
        rendered = call.respond(np.concatenate([rows for _, _, rows in group]), items)
        cuts = np.cumsum([len(rows) for _, _, rows in group])[:-1]
        for (item, probe, _), outputs in zip(group, np.split(rendered, cuts), strict=True):
            x, y = audio[item].astype(np.float64), output[item].astype(np.float64)
            responses[item][probe] = probe.read(x, y, outputs.astype(np.float64))
    return [
        Site(x.astype(np.float64), y.astype(np.float64), call.sample_rate, found, call.effect, point)
        for x, y, found, point in zip(audio, output, responses, call.points, strict=True)
    ]


class Modelled(AudioRule):
    """A rule that fits a `Model` to probes of the effect itself, at the call's own clip and setting.

    Attributes:
        identifies: whether it looks for the effect's equations, which makes it exact or slow.
    """

    identifies: bool = False

    @abc.abstractmethod
    def probes(self) -> tuple[Probe, ...]:
        """The probes that it is fitted to."""

    @abc.abstractmethod
    def fit(self, site: Site) -> Model:
        """The model of the Jacobian."""

    @final
    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to audio; see `AudioRule.vjp`."""
        cotangents = to_numpy(cotangent).astype(np.float64)
        pulled = [self.fit(site).pull(v) for site, v in zip(visit(call, self.probes()), cotangents, strict=True)]
        return torch.from_numpy(np.stack(pulled))

    @final
    def cost(self, channels: int) -> int:
        """Renders of all probes."""
        return sum(probe.renders(channels) for probe in self.probes())
