"""Base of random estimators: a generator whose state is part of the layer's, and signs drawn from it."""

from __future__ import annotations

import hashlib
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.estimators.base import Probing
from blackbox_fx.estimators.call import Rows


def make_generator(generator: torch.Generator | None) -> torch.Generator:
    """The generator, or one seeded from torch's default generator, as the weights of any torch module are."""
    if generator is not None:
        return generator
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))


def rank_and_size() -> tuple[int, int]:
    """The rank of this process in torch's default process group, and how many there are; (0, 1) without a group."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class Stochastic(Probing):
    """An estimator that draws from a generator of its own, on the CPU, whose state is part of `state_dict`.

    A subclass draws from `draws()` in its `plan`, once for each plan. Other state that it keeps goes through
    `memory` and `recall`.

    Args:
        generator: if not given, one is seeded from torch's default generator.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.generator = make_generator(generator)

    @final
    def draws(self) -> torch.Generator:
        """The generator to draw one plan from.

        Where torch.distributed runs several processes, that is one of this rank alone: equal seeds give independent
        draws on every rank, and the state of any rank restores the draws of all.
        """
        rank, size = rank_and_size()
        if size == 1:
            return self.generator
        seed = int(torch.randint(2**62, (), generator=self.generator))
        folded = hashlib.blake2b(f"{seed} {rank}".encode(), digest_size=7).digest()
        return torch.Generator().manual_seed(int.from_bytes(folded))

    def memory(self) -> NDArray[np.float64]:
        """What else to keep from call to call, (any,); given back to `recall` when a state is loaded."""
        return np.zeros(0)

    def recall(self, memory: NDArray[np.float64]) -> None:
        """Restores what `memory` gave."""

    def get_extra_state(self) -> Tensor:
        """The state of the generator, and what else is kept; bytes."""
        kept = torch.from_numpy(np.frombuffer(self.memory().tobytes(), np.uint8).copy())
        return torch.cat([self.generator.get_state(), kept])

    def set_extra_state(self, state: Tensor) -> None:
        """Restores what `get_extra_state` gave."""
        size = len(self.generator.get_state())
        own, kept = state.cpu().contiguous().split([size, len(state) - size])
        self.generator.set_state(own)
        self.recall(np.frombuffer(kept.numpy().tobytes(), np.float64))


def signs(batch: int, count: int, width: int, generator: torch.Generator) -> Rows:
    """Random signs, (batch, count, width), orthogonal as far as they can be.

    They are rows of a Hadamard matrix of the smallest order m = 2^k >= width, m different ones before any comes again,
    with random signs of the columns. Each vector alone is uniform, so whatever is unbiased with independent signs is
    unbiased with these; over `count` vectors the products of two columns sum to zero where m divides count, and
    otherwise have mean square r (m - r) / (m - 1) with r = count mod m, instead of count.
    """
    if not width or not count:
        return np.zeros((batch, count, width))
    order = 1 << (width - 1).bit_length()
    cycles = -(-count // order)
    rows = torch.rand(batch, cycles, order, generator=generator).argsort(dim=-1).flatten(1)[:, :count].numpy()
    columns = torch.randint(2, (batch, 1, width), generator=generator).numpy() * 2.0 - 1.0
    from scipy.linalg import hadamard

    return hadamard(order)[rows, :width] * columns
