"""Laws by which the numbers of a net follow from the parameters of its effect."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blackbox_fx.errors import ParameterError
from blackbox_fx.proxy.nets.base import Measured, ProxyNet, mlp, start_at

Floats = NDArray[np.float64]


@final
class Law(NamedTuple):
    """A number as (base . [1, u])^power exp(exponent . [1, u]), for parameters u in [0, 1].

    Args:
        base, exponent: (1 + width,).
        power: 1 or -1.
        spread: about how far the number is off, to be learned; 0 for a law that is exact.
    """

    base: Floats
    power: float
    exponent: Floats
    spread: float = 0.0

    def at(self, points: Floats) -> Floats:
        """The number at points (n, width)."""
        return (with_ones(points) @ self.base) ** self.power * np.exp(with_ones(points) @ self.exponent)


def with_ones(points: Floats) -> Floats:
    """(n, 1 + width), for points (n, width)."""
    return np.concatenate([np.ones((len(points), 1)), points], axis=1)


@final
class Laws(nn.Module):
    """Numbers that follow from the parameters by laws that were measured, and by what is learnt beyond these.

    A law is (a + b u)^power exp(c + d u), where u are the parameters in [0, 1].

    Args:
        width: of the parameters.
        start: (numbers,), their values before anything is measured.
        hidden: units of the MLP that learns the rest.
    """

    base: Tensor
    power: Tensor
    exponent: Tensor
    spread: Tensor

    def __init__(self, width: int, start: Tensor, hidden: int = 64) -> None:
        super().__init__()
        count = len(start)
        base = torch.zeros(count, 1 + width, dtype=torch.float64)
        base[:, 0] = start
        # in double precision, since an oscillator tells a millionth of its rate
        self.register_buffer("base", base)
        self.register_buffer("power", torch.ones(count, dtype=torch.float64))
        self.register_buffer("exponent", torch.zeros(count, 1 + width, dtype=torch.float64))
        self.register_buffer("spread", start.abs().double())  # of what is learnt; 0 for laws that are exact
        self.bend = start_at(mlp(width, hidden, count), 0.0)

    @torch.no_grad()
    def start_from(self, laws: Sequence[Law]) -> None:
        """Takes laws, one for each number; nothing is learnt beyond them yet. Raises ParameterError for others."""
        if len(laws) != len(self.power):
            raise ParameterError(f"A net of {len(self.power)} numbers needs as many laws, got {len(laws)}.")
        start_at(self.bend, 0.0, 0.0)
        for k, law in enumerate(laws):
            for name in ("base", "power", "exponent", "spread"):
                getattr(self, name)[k] = torch.as_tensor(getattr(law, name))

    def forward(self, p: Tensor) -> Tensor:
        """(items, numbers), float64, for p (items, width) in [-1, 1]."""
        u = (1 + p.double()) / 2
        base, exponent = (torch.addmm(law[:, 0], u, law[:, 1:].T) for law in (self.base, self.exponent))
        # the power of 0 is kept finite
        powered = torch.where(self.power == 1, base, 1 / torch.where(base.abs() < 1e-9, 1e-9, base))
        return powered * exponent.exp() + self.spread * self.bend(p)


class LawfulNet(ProxyNet, abc.ABC):
    """A net whose numbers follow from the parameters by laws; it can be rendered at given numbers, to fit them.

    A subclass sets `laws`.
    """

    laws: Laws

    def start_from(self, measured: Measured) -> None:
        """Takes the laws that were measured."""
        if measured.laws:
            self.laws.start_from(measured.laws)

    @abc.abstractmethod
    def render(self, x: Tensor, numbers: Tensor) -> Tensor:
        """The output for x (items, time) at given numbers, (items, numbers), whatever the laws are."""

    @abc.abstractmethod
    def steps(self, numbers: Floats, time: int) -> Floats:
        """By how much each of some numbers is moved to see what it does, in clips of so many samples."""

    @abc.abstractmethod
    def sensible(self, numbers: Floats) -> Floats:
        """The numbers within what makes sense."""
