"""What is wanted of settings themselves: few effects, and what is likely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.effects import Effect
from blackbox_fx.tasks.matching.arrangement import count_used
from blackbox_fx.tasks.matching.prior import Prior
from blackbox_fx.tasks.matching.target import FOLDED

Array = NDArray[np.float64]


@final
class Preference:
    """A price for each effect that is used, and a prior.

    Args:
        chain: whose settings they are.
        effects: in it, by label.
        price: of an effect, in units of the loss.
        prior: of the columns, or None.
    """

    def __init__(self, chain: Effect, effects: Mapping[str, Effect], price: float, prior: Prior | None) -> None:
        self._chain, self._effects, self._price, self._prior = chain, effects, price, prior

    def add(self, point: Array, parts: Array, residuals: NDArray[np.float32]) -> tuple[Array, NDArray[np.float32]]:
        """The parts of a loss and its residuals, with those of the settings at a point behind."""
        own = np.zeros(FOLDED, np.float32)
        if self._prior is not None:
            found = self._prior.residuals(point)
            own[: len(found)] = found  # a chain has fewer columns than that
        likely = float(np.square(own, dtype=np.float64).sum())
        paid = self._price * count_used(self._chain.space.decode(point), self._effects)
        return np.append(parts, likely + paid), np.concatenate([residuals, own[: len(residuals) and FOLDED]])
