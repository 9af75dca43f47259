"""The score function: gradients of an expectation over random settings."""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.core import checks
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.call import Call, Plan, Rows
from blackbox_fx.estimators.moves import around
from blackbox_fx.estimators.stochastic import Stochastic
from blackbox_fx.space import Choice, Space, Toggle

_FLOOR = 0.1  # of the probability of either state, and of all options of a choice together


@final
class ScoreFunction(Stochastic):
    """Draws settings at random and weighs each by its score; knows nothing of steps, and needs no smoothness.

    Continuous and integer columns are drawn from a Gaussian around their value, on/off parameters from a coin with the
    column as its probability, choices from their normalised weights. Samples come in antithetic pairs: the Gaussian
    part mirrored, the discrete part the same in both, so that neither part is noise to the other. Where there are pairs
    enough for every combination of switches and options, each gets as many and counts by its probability, so that the
    discrete part has no noise of its own. Else combinations are drawn, and held against the mean of the other pairs, or
    against the forward pass where there is only one pair.

    What is estimated is the gradient of the mean over these settings, which for Gaussian columns is the gradient of the
    effect blurred by sigma. A column nearer to a bound than its sample reaches is drawn around a centre moved inside by
    as much as that takes: nothing is clipped, so a gradient is whole at a bound. For an on/off parameter it is what
    turning on changes against off, and for an option what moving there changes, up to a constant that all options of a
    choice share, which a softmax in front of the layer ignores. The others stand meanwhile at what is drawn, not at
    their present values. Probabilities of a coin are kept within [0.1, 0.9] and a tenth of a choice is spread evenly
    over its options, so that each can be drawn.

    Over K drawn pairs, with slopes a of a function linear in the Gaussian columns, column j has the variance
    (sum of all a^2 + a_j^2) / K. (A baseline over all other single samples was worked out: a mirrored
    sample in the baseline of its own twin biases the gradient.)

    Args:
        samples: renders for each item of the batch, an even number; fewer are made where pairs are left over after
            every combination got as many.
        sigma: standard deviation of the Gaussian, on the [0, 1] axis.
        generator: draws the settings, see `SPSA`; its state is part of `state_dict`.

    Raises:
        ParameterError: samples odd or below 2, a sigma outside (0, 0.125].

    References:
        "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning" (Williams, 1992).
        "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (Kool et al., 2019).
        "Evolution Strategies as a Scalable Alternative to Reinforcement Learning" (Salimans et al., 2017).
    """

    def __init__(self, samples: int = 8, sigma: float = 0.05, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        self.samples = checks.whole("samples", samples, 2)
        if samples % 2:
            raise ParameterError(f"samples come in pairs and must be even, got {samples}.")
        if isinstance(sigma, bool) or not isinstance(sigma, (int, float)) or not 0 < sigma <= 0.125:
            raise ParameterError(f"sigma must lie in (0, 0.125] of a parameter's range, got {sigma!r}.")
        self.sigma = float(sigma)

    def plan(self, call: Call) -> Plan:
        """Mirrored pairs of random settings."""
        space, points = call.effect.space, call.points
        batch, width = points.shape
        pairs, every = self.cost(space) // 2, _combinations(space)
        exact = 1 < every <= pairs
        start = np.repeat(points[:, None], pairs, axis=1)
        generator = self.draws()
        drawn = torch.randn(batch, pairs, width, generator=generator, dtype=torch.float64).numpy()
        plus, minus = around(start, drawn * self.sigma)
        weight = np.full((batch, pairs), (every if exact else 1) / max(pairs, 1))
        score, normal, before = np.zeros((batch, pairs, width)), np.ones(width, bool), 1
        for name in _discrete(space):
            own = space.slices[name]
            chances = _chances(points[:, own])
            if exact:
                option = np.tile(np.arange(pairs) // before % chances.shape[1], (batch, 1))
                weight *= np.take_along_axis(chances, option, axis=1)
                before *= chances.shape[1]
            else:
                option = _draw(chances, pairs, generator)
            state = np.eye(chances.shape[1])[option]
            push = state / chances[:, None]
            if isinstance(space.parameters[name], Toggle):
                state, push = state[..., 1:], push[..., 1:] - push[..., :1]
            plus[..., own] = minus[..., own] = state
            score[..., own], normal[own] = push, False

        def combine(scores: NDArray[np.float64], here: NDArray[np.float64]) -> Rows:
            up, down = scores.reshape(2, batch, pairs)
            mean = (up + down) / 2
            total = (weight * mean).sum(axis=1, keepdims=True)
            others = (total - weight * mean) / (1 - weight) if pairs > 1 else here[:, None]
            excess = mean - (total if exact else others)
            slope = np.where(normal, drawn * ((up - down) / (2 * self.sigma))[..., None], score * excess[..., None])
            return (weight[..., None] * slope).sum(axis=1)

        items = np.repeat(np.arange(batch), pairs)
        return Plan(np.concatenate([plus, minus]).reshape(2 * batch * pairs, width), np.tile(items, 2), combine)

    def cost(self, space: Space) -> int:
        """As many as samples, or as share out evenly among all combinations; none where there is nothing to move."""
        pairs, every = self.samples // 2, _combinations(space)
        return 2 * (pairs - pairs % every if every <= pairs else pairs) if space.width else 0

    def extra_repr(self) -> str:
        """Samples and sigma."""
        return f"samples={self.samples}, sigma={self.sigma:g}"


def _discrete(space: Space) -> list[str]:
    return [name for name in space.free if isinstance(space.parameters[name], (Toggle, Choice))]


def _combinations(space: Space) -> int:
    """How many there are of switches and options together."""
    sizes = (space.slices[name] for name in _discrete(space))
    return math.prod(max(2, own.stop - own.start) for own in sizes)


def _chances(u: Rows) -> Rows:
    """Of off and on, or of the options of a choice, (batch, options); u is (batch, columns)."""
    if u.shape[1] == 1:
        on = np.clip(u, _FLOOR, 1 - _FLOOR)
        return np.concatenate([1 - on, on], axis=1)
    total = u.sum(axis=1, keepdims=True)
    weights = np.divide(u, total, out=np.full_like(u, 1 / u.shape[1]), where=total > 0)
    return (1 - _FLOOR) * weights + _FLOOR / u.shape[1]


def _draw(chances: Rows, pairs: int, generator: torch.Generator) -> NDArray[np.int64]:
    """Random options, (batch, pairs), from the chances of each, (batch, options)."""
    if not chances.size:
        return np.zeros((len(chances), pairs), np.int64)
    drawn = torch.multinomial(torch.from_numpy(chances), pairs, replacement=True, generator=generator)
    return drawn.numpy()
