"""The estimators that are compared, each with several budgets of renders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from blackbox_fx import estimators
from blackbox_fx.errors import ParameterError
from blackbox_fx.lab.case import Case
from blackbox_fx.lab.sample import Method
from blackbox_fx.lab.truth import Differentiable, differentiable
from blackbox_fx.layers.black_box import BlackBox

Make = Callable[[Case, torch.Generator], estimators.Estimator]


def _budgets(most: int, least: int) -> Iterator[int]:
    n = least
    while n <= most:
        yield n
        n *= 2


def multiplexed(case: Case, draw: torch.Generator, pairs: int = 1) -> estimators.Estimator:
    """`MultiplexedSPSA` that knows the longest window of the case's loss."""
    return estimators.MultiplexedSPSA(pairs, window=max(case.windows), generator=draw)


def _twin(case: Case) -> Differentiable:
    function = differentiable(case.effect)
    if function is None:
        raise ParameterError(f"{case.effect.name} has no differentiable twin.")
    return function


def _off(case: Case) -> Differentiable:
    """A surrogate as good as a trained proxy might be: the twin, with every setting a tenth nearer to the middle."""
    function = _twin(case)
    return lambda audio, params, sample_rate: function(audio, 0.05 + 0.9 * params, sample_rate)


def _lines(most: int) -> dict[str, list[tuple[str, Make]]]:
    """The labelled members of each family; those that take a budget get 2, 4, ... up to `most` renders."""
    budgets, pairs = list(_budgets(most, 2)), [n // 2 for n in _budgets(most, 2)]
    return {
        "FiniteDifference": [
            ("FiniteDifference()", lambda case, draw: estimators.FiniteDifference()),
            ("FiniteDifference(central=False)", lambda case, draw: estimators.FiniteDifference(central=False)),
        ],
        "SPSA": [(f"SPSA({n})", lambda case, draw, n=n: estimators.SPSA(n, generator=draw)) for n in pairs],
        "MultiplexedSPSA": [
            (f"MultiplexedSPSA({n})", lambda case, draw, n=n: multiplexed(case, draw, n)) for n in pairs
        ],
        "ScoreFunction": [
            (f"ScoreFunction({n})", lambda case, draw, n=n: estimators.ScoreFunction(n, generator=draw))
            for n in budgets
        ],
        "GuidedES": [(f"GuidedES({n})", lambda case, draw, n=n: estimators.GuidedES(n, generator=draw)) for n in pairs],
        "Auto": [(f"Auto({n})", lambda case, draw, n=n: estimators.Auto(n, generator=draw)) for n in budgets if n > 2],
        "ControlVariate": [
            (
                f"ControlVariate(SPSA({n}), twin a tenth off)",
                lambda case, draw, n=n: estimators.ControlVariate(estimators.SPSA(n, generator=draw), _off(case)),
            )
            for n in pairs
        ],
        "Autodiff": [("Autodiff(twin)", lambda case, draw: estimators.Autodiff(_twin(case)))],
    }


LINES = tuple(_lines(0))


def methods(lines: Sequence[str] = LINES, most: int = 32) -> list[Method]:
    """Estimators behind a `BlackBox`, by family.

    Args:
        lines: names of families, of `LINES`.
        most: renders for one gradient, for families that take a budget; 2 or more.

    Raises:
        ParameterError: an unknown family.
    """
    known = _lines(most)
    unknown = [name for name in lines if name not in known]
    if unknown:
        raise ParameterError(f"Unknown estimator {unknown[0]!r}; known are {', '.join(known)}.")

    def boxed(make: Make) -> Callable[[Case, torch.Generator], BlackBox]:
        return lambda case, draw: BlackBox(case.effect, make(case, draw), sample_rate=case.sample_rate)

    return [Method(name, label, boxed(make)) for name in lines for label, make in known[name]]
