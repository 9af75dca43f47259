"""The true gradient of audio, as its inner products with directions, from renders of the effect itself."""

from __future__ import annotations

import itertools
from typing import final

import numpy as np

from blackbox_fx.estimators.audio_rules.certifying import correlation
from blackbox_fx.estimators.call import Call
from blackbox_fx.estimators.tensors import to_numpy

_SIZES = (1e-5, 1e-4, 1e-3, 4e-3)  # of the clip's root mean square


@final
class AudioTruth:
    """The answers <v, J u> of an effect to directions u, by central differences of the size that rounding and curvature
    leave most alike.

    Args:
        call: of one item.
        v: cotangent at the output, (channel, time).
        seed: of the directions that choose the size.
        tried: how many of these; each is rendered eight times.

    Attributes:
        agreement: correlation of the answers at that size and the next larger one.
    """

    def __init__(self, call: Call, v: np.ndarray, seed: int, tried: int = 16) -> None:
        self._call, self._v, self._x = call, v, to_numpy(call.audio)[0].astype(np.float64)
        us = np.random.default_rng(seed).standard_normal((tried, *v.shape))
        seen = [self._answers(us, size) for size in _SIZES]
        alike = [correlation(a, b) for a, b in itertools.pairwise(seen)]
        self._size, self.agreement = _SIZES[int(np.argmax(alike))], max(alike)

    def _answers(self, us: np.ndarray, size: float) -> np.ndarray:
        step = size * np.sqrt(np.mean(np.square(self._x)))
        inputs = np.concatenate([self._x + step * us, self._x - step * us]).astype(np.float32)
        up, down = np.split(self._call.respond(inputs, np.zeros(len(inputs), np.int64)).astype(np.float64), 2)
        return np.einsum("ct,nct->n", self._v, up - down) / (2 * step)

    def __call__(self, us: np.ndarray) -> np.ndarray:
        """For directions (n, channel, time)."""
        return self._answers(us, self._size)
