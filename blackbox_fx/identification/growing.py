"""Laws for the numbers of a net, setting by setting: what is found at some settings begins the fits at the next."""

from __future__ import annotations

import abc

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.identification.numbers import Fit
from blackbox_fx.proxy.nets.laws import Law

Floats = NDArray[np.float64]
FEW = 4  # fits from which there are laws
_ENOUGH = 16  # fits, after which more would not help
_HOPEFUL = 1 / 3  # part of the first fits that are good, below which no more are tried
_PREDICTED = 0.75  # part of the settings left that laws predict, with which no more are fitted


class LawSearch(abc.ABC):
    """Looks for the laws of a net's numbers.

    Fits at a few settings give first laws, these begin the fits at further ones, and so on, until the laws predict what
    the effect answers at the settings that are left.

    A subclass sets the attributes.

    Attributes:
        points: settings, (n, width).
        good: residual of a fit near the truth.
        passable: residual of those that count as long as these are few.
        enough: residual at settings that were not fitted with which the laws are right.
    """

    points: Floats
    good: float
    passable: float
    enough: float

    @abc.abstractmethod
    def search(self, k: int, known: list[Fit]) -> Fit:
        """The best fit at setting k, without laws; known are the good fits at other settings."""

    @abc.abstractmethod
    def fit(self, k: int, start: Floats) -> Fit:
        """The fit at setting k that begins from some numbers."""

    @abc.abstractmethod
    def residuals(self, numbers: Floats) -> Floats:
        """How far the net with numbers (n, numbers) is off at the first n settings, (n,)."""

    @abc.abstractmethod
    def laws_through(self, points: Floats, fits: list[Fit]) -> list[Law]:
        """Laws through fits at points."""

    def choose_variants(self, laws: list[Law], fits: int) -> tuple[bool, list[Law]]:
        """Chooses by laws, at the first few settings, what else the net has; whether that has changed, and the laws."""
        return False, laws

    def grow(self, fits: list[Fit]) -> list[Law]:
        """The laws, for fits at the first settings, to which the others are added; none if too few are good."""
        laws = self._renewed([], fits)
        while len(fits) < min(_ENOUGH, len(self.points)) and not self._predicts(laws, len(fits)):
            if len(fits) > FEW and len(self.known(fits)) < _HOPEFUL * len(fits):
                return []
            for k in range(len(fits), min(len(self.points), len(fits) + max(2, len(fits) // 2))):
                fits.append(self._further(k, laws, fits))
            laws = self._renewed(laws, fits)
        return laws

    def at(self, laws: list[Law]) -> Floats:
        """The numbers at all settings, (n, numbers)."""
        return np.stack([law.at(self.points) for law in laws], axis=1)

    def known(self, fits: list[Fit]) -> list[Fit]:
        """The good fits."""
        return [fit for fit in fits if fit.residual < self.good]

    def _further(self, k: int, laws: list[Law], fits: list[Fit]) -> Fit:
        """The fit from the laws, or where that is not good, the best of it and a search."""
        found = [self.fit(k, self.at(laws)[k])] if laws else []
        if not self.known(found):
            found.append(self.search(k, self.known(fits)))
        return min(found, key=lambda fit: fit.residual)

    def _renewed(self, laws: list[Law], fits: list[Fit]) -> list[Law]:
        """Laws through all fits; those fits that are not good begin anew from them."""
        laws = self._laws(fits) or laws
        if not laws:
            return []
        changed, laws = self.choose_variants(laws, len(fits))
        anew = [k for k, fit in enumerate(fits) if changed or fit.residual >= self.good]
        starts = self.at(laws)
        for k in anew:
            fits[k] = min(fits[k], self.fit(k, starts[k]), key=lambda fit: fit.residual)
        return self._laws(fits) or laws if self.known([fits[k] for k in anew]) else laws

    def _laws(self, fits: list[Fit]) -> list[Law]:
        """Laws through the fits that are right, if these are enough, or the good ones, or the few that are passable."""
        off = np.array([fit.residual for fit in fits])
        few = np.argsort(off)[: self.points.shape[1] + FEW]
        right, good = np.flatnonzero(off < self.enough), np.flatnonzero(off < self.good)
        kept = next((k for k in (right, good) if len(k) >= len(few)), few[off[few] < self.passable])
        if len(right) >= FEW and len(kept) < len(few):
            kept = right
        return self.laws_through(self.points[kept], [fits[k] for k in kept]) if len(kept) >= FEW else []

    def _predicts(self, laws: list[Law], seen: int) -> bool:
        """Whether the laws hold at the settings that were not seen."""
        if not laws:
            return False
        return bool(np.mean(self.residuals(self.at(laws))[seen:] < self.enough) >= _PREDICTED)
