"""The score function: gradients of an expectation over random settings."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.base import Call, Plan, Rows
from blackbox_fx.estimators.moves import around
from blackbox_fx.estimators.stochastic import Stochastic, check_count
from blackbox_fx.space import Choice, Space, Toggle

_FLOOR = 0.1  # of the probability of either state, and of all options of a choice together


@final
class ScoreFunction(Stochastic):
    """Draws settings at random and weighs each by its score; knows nothing of steps, and needs no smoothness.

    Continuous and integer columns are drawn from a Gaussian around their value, on/off parameters from a coin with the
    column as its probability, choices from their normalised weights. Samples come in antithetic pairs: the Gaussian
    part mirrored, the discrete part the same in both, so that neither part is noise to the other. The discrete part is
    held against the mean of the other pairs, or against the forward pass where there is only one pair.

    What is estimated is the gradient of the mean over these settings, which for Gaussian columns is the gradient of the
    effect blurred by sigma. A column nearer to a bound than its sample reaches is drawn around a centre moved inside by
    as much as that takes: nothing is clipped, so a gradient is whole at a bound. For an on/off parameter it is what
    turning on changes against off, and for an option what moving there changes, up to a constant that all options of a
    choice share, which a softmax in front of the layer ignores. The others stand meanwhile at what is drawn, not at
    their present values. Probabilities of a coin are kept within [0.1, 0.9] and a tenth of a choice is spread evenly
    over its options, so that each can be drawn.

    Over K pairs, with slopes a of a function linear in the Gaussian columns, column j has the variance
    (sum of all a^2 + a_j^2) / K. (A baseline over all other single samples was worked out: a mirrored
    sample in the baseline of its own twin biases the gradient.)

    Args:
        samples: renders for each item of the batch, an even number.
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
        self.samples = check_count("samples", samples, 2)
        if samples % 2:
            raise ParameterError(f"samples come in pairs and must be even, got {samples}.")
        if isinstance(sigma, bool) or not isinstance(sigma, (int, float)) or not 0 < sigma <= 0.125:
            raise ParameterError(f"sigma must lie in (0, 0.125] of a parameter's range, got {sigma!r}.")
        self.sigma = float(sigma)

    def plan(self, call: Call) -> Plan:
        """Mirrored pairs of random settings."""
        space, rows = call.effect.space, call.rows
        batch, width = rows.shape
        pairs = self.samples // 2 if width else 0
        start = np.repeat(rows[:, None], pairs, axis=1)
        drawn = torch.randn(batch, pairs, width, generator=self.generator, dtype=torch.float64).numpy()
        plus, minus = around(start, drawn * self.sigma)
        normal = np.zeros(width, bool)
        score = np.zeros((batch, pairs, width))
        for name in space.free:
            p, s = space.parameters[name], space.slices[name]
            if isinstance(p, (Toggle, Choice)):
                state, score[..., s] = self._discrete(start[..., s], isinstance(p, Toggle))
                plus[..., s] = minus[..., s] = state
            else:
                normal[s] = True
        items = np.repeat(np.arange(batch), pairs)

        def combine(scores: NDArray[np.float64], here: NDArray[np.float64]) -> Rows:
            up, down = scores.reshape(2, batch, pairs)
            mean = (up + down) / 2
            others = (mean.sum(axis=1, keepdims=True) - mean) / (pairs - 1) if pairs > 1 else here[:, None]
            weight = np.where(
                normal, drawn * ((up - down) / (2 * self.sigma))[..., None], score * (mean - others)[..., None]
            )
            return weight.mean(axis=1) if pairs else np.zeros((batch, width))

        points = np.concatenate([plus, minus]).reshape(2 * batch * pairs, width)
        return Plan(points, np.tile(items, 2), combine)

    def _discrete(self, u: Rows, toggle: bool) -> tuple[Rows, Rows]:
        """Random states of an on/off parameter or a choice, and their scores; u is (batch, pairs, columns)."""
        if toggle:
            on = np.clip(u, _FLOOR, 1 - _FLOOR)
            coin = torch.rand(u.shape, generator=self.generator, dtype=torch.float64).numpy()
            state = (coin < on).astype(np.float64)
            return state, (state - on) / (on * (1 - on))
        total = u.sum(axis=-1, keepdims=True)
        weights = np.divide(u, total, out=np.full_like(u, 1 / u.shape[-1]), where=total > 0)
        weights = (1 - _FLOOR) * weights + _FLOOR / u.shape[-1]
        flat = torch.from_numpy(weights.reshape(-1, u.shape[-1]))
        if not len(flat):
            return u, u
        chosen = torch.multinomial(flat, 1, generator=self.generator)[:, 0].numpy()
        state = np.eye(u.shape[-1])[chosen].reshape(u.shape)
        return state, (state / weights).astype(np.float64)

    def cost(self, space: Space) -> int:
        """As many as samples, where there is anything to move."""
        return self.samples if space.width else 0

    def extra_repr(self) -> str:
        """Samples and sigma."""
        return f"samples={self.samples}, sigma={self.sigma:g}"
