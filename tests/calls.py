"""Forward passes that estimators are tried on, and how their estimates are judged."""

import numpy as np
import torch

from blackbox_fx.effects import function
from blackbox_fx.estimators import Call
from blackbox_fx.runtime import Inline
from blackbox_fx.space import Continuous, Space
from tests.cases import RATE, music


def call(effect, rows, seconds=0.05, pool=None, seed=0):
    """One forward pass at rows, all on the same audio, and a cotangent."""
    rows = torch.as_tensor(np.atleast_2d(rows)).float()
    audio = torch.from_numpy(music(seconds, seed=seed)).expand(len(rows), -1, -1)
    values = [effect.space.decode(row) for row in rows.double().numpy()]
    first = {str(v): torch.from_numpy(effect.render(audio[0].numpy(), v, RATE)) for v in values}
    output = torch.stack([first[str(v)] for v in values])
    g = torch.from_numpy(music(seconds, seed=seed + 1)).expand_as(audio)
    return Call(effect, pool or Inline(), RATE, audio, rows, output), g


def many(effect, row, estimator, draws):
    """Estimates at one row, (draws, width), each an item of one batch."""
    one, g = call(effect, np.repeat(np.atleast_2d(row), draws, axis=0))
    return estimator.vjp(one, g).numpy()


def assert_unbiased(estimates, truth):
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    distance = np.abs(estimates.mean(axis=0) - truth)
    assert (distance <= 4 * error + 1e-6 * np.abs(truth).max()).all(), (distance, error)


def linear(weights):
    """An effect whose inner product with any cotangent is linear in its parameters."""
    space = Space({f"p{k}": Continuous(0, 1, 0.5) for k in range(len(weights))})
    return function(lambda x, sr, **p: x * sum(w * v for w, v in zip(weights, p.values(), strict=True)), space)
