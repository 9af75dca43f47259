"""One decision between ways to a gradient: by squared error at equal time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, final

from blackbox_fx.core.checks import LEAST_COSINE

Kind = Literal["renders", "surrogate", "control variate", "rules"]
EXACT = 1e-2  # relative squared errors below this are equal: the cosine is .995, and what is quicker counts


@final
@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to a gradient, as it was measured.

    Args:
        name: of the estimator, the rule or the proxy.
        kind: "renders" of the effect, a "surrogate" alone, a "control variate" of both, or audio "rules".
        error: expected squared error over the squared gradient; None if it was not measured.
        doubt: standard error of the error.
        cosine: of a single estimate to the gradient; None if it was not measured.
        renders: for each item.
        seconds: for each item, on this machine.
    """

    name: str
    kind: Kind
    error: float | None
    doubt: float = 0.0
    cosine: float | None = None
    renders: int = 0
    seconds: float = 0.0

    @property
    def is_wrong(self) -> bool:
        """Whether it is biased so much that no averaging over steps would help, as noise would."""
        return self.kind == "surrogate" and (self.cosine or 0.0) < LEAST_COSINE

    def score(self, budget: float) -> float:
        """Its error, and more in proportion where it takes longer than a budget in seconds for each item."""
        error = float("inf") if self.error is None or self.is_wrong else max(self.error, EXACT)
        return error * max(1.0, self.seconds / budget if budget > 0 else 1.0)


@final
@dataclasses.dataclass(frozen=True)
class Decision:
    """What was measured, and what was chosen.

    Args:
        candidates: all that there were.
        chosen: the index of the one that is used.
        budget: seconds for each item within which time does not count.
        items: clips and settings on which it was measured.
    """

    candidates: tuple[Candidate, ...]
    chosen: int
    budget: float
    items: int

    @property
    def best(self) -> Candidate:
        """The one that is used."""
        return self.candidates[self.chosen]

    def rows(self) -> list[tuple[str, ...]]:
        """Headings, then a line for each candidate: renders, milliseconds, error, cosine, and chosen or why not."""
        rows = [("candidate", "renders", "ms an item", "squared error", "cosine", "")]
        for k, one in enumerate(self.candidates):
            doubt = "" if math.isnan(one.doubt) else f" +- {one.doubt:.1g}"  # one item tells nothing of others
            error = "not measured" if one.error is None else f"{one.error:.2g}{doubt}"
            cosine = "" if one.cosine is None else f"{one.cosine:.3f}"
            rows.append((one.name, str(one.renders), f"{1e3 * one.seconds:.3g}", error, cosine, self._why(k)))
        return rows

    def _why(self, k: int) -> str:
        one, best = self.candidates[k], self.best
        if k == self.chosen:
            return "chosen"
        if one.is_wrong:
            return f"cosine below {LEAST_COSINE:g}"
        if one.error is None:
            return "not needed"
        return "slower" if max(one.error, EXACT) <= max(best.error or 0.0, EXACT) else "larger error"

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Decision:
        """What `to_plain` gave."""
        candidates = tuple(Candidate(**one) for one in data["candidates"])
        return cls(candidates, int(data["chosen"]), float(data["budget"]), int(data["items"]))


def decide(candidates: Sequence[Candidate], budget: float, items: int, timed: bool = True) -> Decision:
    """The candidate with the least error at equal time; the quicker one of equals.

    Args:
        candidates: all that there are.
        budget: seconds for each item within which time does not count.
        items: on which they were measured.
        timed: whether measured times count; else the least error, and of equals the one with the least renders.
    """

    def rank(k: int) -> tuple[float, float]:
        one = candidates[k]
        return (one.score(budget), one.seconds) if timed else (one.score(float("inf")), one.renders)

    return Decision(tuple(candidates), min(range(len(candidates)), key=rank), budget, items)
