"""Finds the settings of a target output, by gradients and by nevergrad's searches, with the same number of renders."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.errors import ParameterError
from blackbox_fx.lab.case import Case
from blackbox_fx.lab.counting import count, effects_in
from blackbox_fx.lab.sample import Method
from blackbox_fx.layers.black_box import BlackBox

SEARCHES = ("TwoPointsDE", "CMA", "OnePlusOne", "NGOpt")
LEARNING_RATE = 0.05  # on the [0, 1] axis, falling to nothing along a half cosine

Point = tuple[float, float]  # effect renders so far, loss


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One search from one start.

    Args:
        name: of the method.
        case: where it searched.
        renders: effect renders, forward and backward, until each loss was known; increasing.
        losses: as long as `renders`.
    """

    name: str
    case: Case
    renders: NDArray[np.float64]
    losses: NDArray[np.float64]

    def best(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """The least loss within `at` renders, over the loss at the start; 1 before the first render."""
        least = np.minimum.accumulate(self.losses) / self.case.loss
        found = np.searchsorted(self.renders, at, side="right")
        return np.concatenate([[1.0], least])[found]


def by_gradient(case: Case, method: Method, budget: float, seed: int = 0) -> Run:
    """Adam on parameters kept in [0, 1], until the next step would exceed the budget.

    Args:
        case: its setting is the start, its target the goal.
        method: that gives the gradients.
        budget: effect renders, forward passes included; see `Tally`.
        seed: of the method's draws.
    """
    layer = method.make(case, torch.Generator().manual_seed(seed))
    tally = count(layer, case.audio.shape[-1])
    params = case.params[None].clone().requires_grad_()
    optimizer = torch.optim.Adam([params], lr=LEARNING_RATE)
    distance, points, dearest, before = case.distance(), list[Point](), 0.0, 0.0
    while True:
        loss = distance(layer(case.audio[None], params))
        points.append((tally.total, float(loss.detach())))
        if tally.total + dearest > budget:
            return _run(method.label, case, points)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * tally.total / budget))
        optimizer.step()
        with torch.no_grad():
            params.clamp_(0, 1)
        # the dearest step so far, and the forward pass that sees what it did
        dearest, before = max(dearest, tally.total - before), tally.total


def by_search(case: Case, name: str, budget: float, seed: int = 0) -> Run:
    """One of nevergrad's optimisers, which see losses and no gradients, from the same start.

    Args:
        case: its setting is the start, its target the goal.
        name: in nevergrad's registry, such as "CMA".
        budget: effect renders; one pass through a rack costs as many as it has members.
        seed: of its draws.

    Raises:
        ParameterError: a name that nevergrad does not know.
    """
    layer = BlackBox(case.effect, sample_rate=case.sample_rate)
    tally, distance, points = count(layer, case.audio.shape[-1]), case.distance(), list[Point]()

    @torch.no_grad()
    def loss_at(point: NDArray[np.float64]) -> float:
        loss = float(distance(layer(case.audio[None], torch.from_numpy(point).float()[None])))
        points.append((tally.total, loss))
        return loss

    asked = max(1, int(budget // effects_in(case.effect)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its optimisers warn of each other's habits
        optimizer = _searcher(name, case.params, asked, seed)
        for _ in range(asked):
            candidate = optimizer.ask()
            optimizer.tell(candidate, loss_at(candidate.value))
    return _run(name, case, points)


def _searcher(name: str, start: Tensor, budget: int, seed: int) -> Any:
    import nevergrad

    if name not in nevergrad.optimizers.registry:
        raise ParameterError(f"nevergrad knows no optimiser {name!r}; try {', '.join(SEARCHES)}.")
    settings = nevergrad.p.Array(init=start.double().numpy(), lower=0.0, upper=1.0)
    settings.random_state.seed(seed)
    return nevergrad.optimizers.registry[name](parametrization=settings, budget=budget)


def _run(name: str, case: Case, points: Sequence[Point]) -> Run:
    renders, losses = np.array(points).T
    return Run(name, case, renders, losses)


@final
class Race:
    """Every method from every start; what was run stays if it is interrupted.

    Args:
        methods: who gives gradients.
        searches: names of nevergrad's optimisers.
        budget: effect renders for each run.
        seed: of all draws.

    Attributes:
        runs: filled by `run`.
        unsuited: lines of methods that do not suit the effect, with their reasons.
    """

    def __init__(
        self, methods: Sequence[Method], searches: Sequence[str] = SEARCHES, budget: float = 300, seed: int = 0
    ) -> None:
        self.methods, self.searches = tuple(methods), tuple(searches)
        self.budget, self.seed = budget, seed
        self.runs: list[Run] = []
        self.unsuited: dict[str, str] = {}

    def _runs(self, case: Case, seed: int) -> Iterator[Run]:
        for method in self.methods:
            if method.line in self.unsuited:
                continue
            try:
                yield by_gradient(case, method, self.budget, seed)
            except ParameterError as error:
                self.unsuited[method.line] = str(error)
        for name in self.searches:
            yield by_search(case, name, self.budget, seed)

    def run(self, cases: Sequence[Case], progress: Progress = quiet) -> None:
        """Runs all methods from the settings of all cases."""
        each = len(self.methods) + len(self.searches)
        for k, case in enumerate(cases):
            for run in self._runs(case, self.seed * 1_000_003 + k):
                self.runs.append(run)
                progress(k * each + (len(self.runs) - 1) % each + 1, len(cases) * each, f"{case.name}: {run.name}")

    def curves(self, points: int = 60) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
        """Least loss so far over the loss at the start.

        Returns:
            effect renders, (points,), and for each method the quartiles over its runs, (3, points), best method first.
        """
        at = np.unique(np.geomspace(1, self.budget, points).round())
        names = list(dict.fromkeys(run.name for run in self.runs))
        found = {n: np.quantile([r.best(at) for r in self.runs if r.name == n], (0.25, 0.5, 0.75), 0) for n in names}
        return at, dict(sorted(found.items(), key=lambda pair: float(pair[1][1, -1])))
