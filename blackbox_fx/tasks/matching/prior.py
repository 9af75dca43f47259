"""What settings are likely before anything is heard: their mean and covariance over presets or a corpus."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.core import checks
from blackbox_fx.errors import ParameterError

Array = NDArray[np.float64]
_SHRINK = 0.1  # of the covariance towards its diagonal
_LEAST = 0.02  # standard deviation of a column


@final
class Prior:
    """A Gaussian on the columns of a chain's settings.

    Args:
        mean: (width,) in [0, 1].
        covariance: (width, width), positive definite.
        weight: of the squared distance from the mean, in standard deviations and divided by the width, in the loss.

    Raises:
        ParameterError: shapes that do not fit together, a covariance that is none, a weight below 0.
    """

    def __init__(self, mean: Any, covariance: Any, weight: float = 1e-3) -> None:
        self.mean, self.covariance = _numbers("mean", mean), _numbers("covariance", covariance)
        self.weight = weight
        n = self.mean.size
        if self.mean.shape != (n,) or self.covariance.shape != (n, n):
            shapes = f"{self.mean.shape} and {self.covariance.shape}"
            raise ParameterError(f"mean and covariance must be (width,) and (width, width), got {shapes}.")
        if not checks.is_number(weight) or not 0 <= weight < float("inf"):
            raise ParameterError(f"weight must be 0 or a finite number above, got {weight!r}.")
        wrong = "covariance must be symmetric and positive definite; Prior.of makes one."
        if not np.allclose(self.covariance, self.covariance.T):
            raise ParameterError(wrong)
        try:
            self._root = np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            raise ParameterError(wrong) from None

    @classmethod
    def of(cls, rows: Any, weight: float = 1e-3) -> Prior:
        """The prior of some settings, such as presets.

        Args:
            rows: (settings, width) in [0, 1], two or more; see `Space.encode`.
            weight: see the class.

        Raises:
            ParameterError: fewer than two rows, or what is no finite number.
        """
        given = _numbers("rows", rows)
        if given.ndim != 2 or len(given) < 2:
            raise ParameterError(f"rows must be (settings, width) with two settings or more, got {given.shape}.")
        spread = np.atleast_2d(np.cov(given.T))
        own = np.maximum(np.diag(spread), _LEAST**2)
        return cls(given.mean(0), (1 - _SHRINK) * spread + np.diag(own - (1 - _SHRINK) * np.diag(spread)), weight)

    def residuals(self, point: Array) -> Array:
        """Numbers whose squares add up to this part of the loss, (width,)."""
        away = np.linalg.solve(self._root, point - self.mean)
        return away * (self.weight / max(len(point), 1)) ** 0.5


def _numbers(name: str, given: Any) -> Array:
    """Finite numbers. Raises ParameterError for anything else."""
    try:
        found = np.asarray(given, np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ParameterError(f"{name} must be an array of numbers, got {given!r:.80}.") from error
    if not np.isfinite(found).all():
        raise ParameterError(f"{name} must be finite, and holds NaN or infinity.")
    return found
