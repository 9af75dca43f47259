"""What an estimator is: a way to get a gradient from extra renders of an effect that has none."""

from __future__ import annotations

import abc
import dataclasses
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blackbox_fx.effects.base import Effect
from blackbox_fx.runtime.base import Job, Pool
from blackbox_fx.space import Space

Rows = NDArray[np.float64]


def to_numpy(x: Tensor) -> NDArray[np.float32]:
    """A tensor of any device and floating type as a contiguous float32 array; without a copy where possible."""
    return x.detach().to("cpu", torch.float32).contiguous().numpy()


@final
@dataclasses.dataclass(frozen=True)
class Call:
    """One forward pass through an effect, as its backward pass sees it.

    Attributes:
        effect, pool, sample_rate: what rendered, where, and at which rate in Hz.
        audio: dry, (batch, channel, time), float32.
        params: (batch, width) in [0, 1], float32.
        output: wet, (batch, channel, time), float32.
    """

    effect: Effect
    pool: Pool
    sample_rate: float
    audio: Tensor
    params: Tensor
    output: Tensor

    @property
    def rows(self) -> Rows:
        """The parameter rows, (batch, width), in float64."""
        return to_numpy(self.params).astype(np.float64)

    def render(self, points: Rows, items: NDArray[np.int64]) -> Tensor:
        """Renders audio[items[n]] at points[n]. Shapes (n, width) and (n,) to (n, channel, time)."""
        out = self.pool.map(self._job(points, items))
        return torch.from_numpy(out).to(self.audio.device)

    def project(self, points: Rows, items: NDArray[np.int64], g: Tensor) -> NDArray[np.float64]:
        """The inner product of g[items[n]] with the render of audio[items[n]] at points[n].

        Args:
            points: (n, width), columns in [0, 1].
            items: (n,), which item of the batch.
            g: cotangent, (batch, channel, time).

        Returns:
            (n,), float64.
        """
        return self.pool.project(self._job(points, items), to_numpy(g))

    def here(self, g: Tensor) -> NDArray[np.float64]:
        """The inner product of each g with the output of the forward pass, (batch,), float64; no renders."""
        return torch.einsum("bct,bct->b", g.double(), self.output.double()).cpu().numpy()

    def _job(self, points: Rows, items: NDArray[np.int64]) -> Job:
        return Job(self.effect, to_numpy(self.audio), points, items, self.sample_rate)


class Estimator(nn.Module, abc.ABC):
    """Gives the gradient with respect to parameters."""

    @abc.abstractmethod
    def vjp(self, call: Call, g: Tensor) -> Tensor:
        """The gradient of <g, output> with respect to params.

        The gradient of a continuous or integer column is a slope on the [0, 1] axis. That of an on/off column is what
        turning on changes, against off; that of an option of a choice is what moving there from the present one
        changes.

        Args:
            call: the forward pass.
            g: cotangent of its output, (batch, channel, time), float32.

        Returns:
            (batch, width), any floating type.
        """

    @abc.abstractmethod
    def cost(self, space: Space) -> int:
        """The most renders that `vjp` makes for one item of the batch."""


class AudioRule(nn.Module, abc.ABC):
    """Gives the gradient with respect to audio."""

    @abc.abstractmethod
    def vjp(self, call: Call, g: Tensor) -> Tensor:
        """The gradient of <g, output> with respect to audio; shapes as in `Estimator.vjp`, (batch, channel, time)."""

    @abc.abstractmethod
    def cost(self, space: Space) -> int:
        """The most renders that `vjp` makes for one item of the batch."""
