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
from blackbox_fx.estimators.base import AudioRule
from blackbox_fx.estimators.call import Call
from blackbox_fx.estimators.tensors import to_numpy

Signal = NDArray[np.float64]
_SAME = 0.02  # distance of gradients that leaves their cosine at 0.9998
_MOST = 32  # models that are kept, of about a megabyte


class Model(abc.ABC):
    """A linear operator that models the Jacobian J of an effect at one clip and setting; signals are (channel, time).

    Attributes:
        exact: whether it comes from equations that reproduce the effect's output, so that no probe need confirm it.
        lasting: whether it would be the same for another clip, so that it needs no probes where a setting comes again.
    """

    exact: bool = False
    lasting: bool = False

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
        inputs: the effect's further inputs by name, (channel, time).
        effect: that was rendered; None if unknown.
        point: its params, (width,); None if unknown.
    """

    x: Signal
    y: Signal
    sample_rate: float
    responses: Mapping[Probe, Any]
    inputs: Mapping[str, Signal] = dataclasses.field(default_factory=dict[str, Signal])
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
    inputs = {name: to_numpy(given).astype(np.float64) for name, given in call.inputs.items()}
    return [
        Site(
            x.astype(np.float64),
            y.astype(np.float64),
            call.sample_rate,
            found,
            {name: given[item] for name, given in inputs.items()},
            call.effect,
            point,
        )
        for item, (x, y, found, point) in enumerate(zip(audio, output, responses, call.points, strict=True))
    ]


def to_input(gradient: Signal, x: Signal) -> Signal:
    """A gradient that a model pulled back, (channel, time), for an input of one channel: the sum over its channels."""
    return gradient.sum(axis=0, keepdims=True) if len(x) < len(gradient) else gradient


@final
class _Kept:
    """Models by their setting, each used once it has proved to be the same for two clips."""

    def __init__(self) -> None:
        self._effect: Effect | None = None
        self._models: dict[Any, tuple[Model, bool]] = {}

    def __reduce__(self) -> Any:
        """A copy is empty: what is found must not depend on what was copied or saved when."""
        return _Kept, ()

    def recall(self, call: Call) -> list[Model | None]:
        """For each item, the model that was proved at its setting."""
        if call.effect is not self._effect:
            self._effect, self._models = call.effect, {}
        shape = tuple(call.audio.shape[1:])
        found = (self._models.get((point.tobytes(), shape, call.sample_rate)) for point in call.points)
        return [model if model and proved else None for model, proved in (one or (None, False) for one in found)]

    def compare(self, site: Site, model: Model, gradient: Signal, cotangent: Signal) -> None:
        """Keeps a model, and proves the one that was kept for another clip, if they give the same gradient."""
        key = (b"" if site.point is None else site.point.tobytes(), site.x.shape, site.sample_rate)
        other, _ = self._models.pop(key, (None, False))
        off = np.inf if other is None else np.linalg.norm(other.pull(cotangent) - gradient)
        self._models[key] = model, bool(off < _SAME * np.linalg.norm(gradient))
        for old in list(self._models)[:-_MOST]:
            del self._models[old]


class Modelled(AudioRule):
    """A rule that fits a `Model` to probes of the effect itself, at the call's own clip and setting.

    Attributes:
        identifies: whether it looks for the effect's equations, which makes it exact or slow.
    """

    identifies: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._kept = _Kept()

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
        models = self._kept.recall(call)
        new = np.flatnonzero([model is None for model in models])
        audio = to_numpy(call.audio)
        pulled = [
            np.zeros(0) if model is None else to_input(model.pull(v), x)
            for model, v, x in zip(models, cotangents, audio, strict=True)
        ]
        part = call if len(new) == len(models) else call.part(new)
        sites = visit(part, self.probes()) if len(new) else []
        call.failed[new] = part.failed
        for item, site in zip(new, sites, strict=True):
            model = self.fit(site)
            pulled[item] = to_input(model.pull(cotangents[item]), site.x)
            if model.lasting:
                self._kept.compare(site, model, pulled[item], cotangents[item])
        return torch.from_numpy(np.stack(pulled))

    @final
    def cost(self, channels: int) -> int:
        """Renders of all probes."""
        return sum(probe.renders(channels) for probe in self.probes())
