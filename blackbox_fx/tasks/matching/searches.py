"""Other searches for the same problem: nevergrad's, which see losses alone, and Adam on the gradients of layers."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.errors import ParameterError
from blackbox_fx.lab.counting import count, effects_in
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import Chain
from blackbox_fx.tasks.matching.problem import Problem, Spent

COMMON = ("OnePlusOne", "CMA", "DE", "TwoPointsDE", "TBPSA")
_AT_ONCE = 8  # renders of a population in one job
_BLIND = 100_000  # renders that nevergrad plans with where there is no limit
_RATE = 0.05  # of Adam on the axis of columns, falling to nothing along a half cosine
_STEPS = 200  # of Adam where the renders have no limit

Array = NDArray[np.float64]


def check_name(name: str) -> None:
    """Raises ParameterError unless nevergrad knows an optimiser of this name."""
    import nevergrad

    if name not in nevergrad.optimizers.registry:
        known = ", ".join(("hybrid", "adam", *COMMON))
        raise ParameterError(f"Unknown method {name!r}; known are {known}, and all optimisers of nevergrad.")


def by_nevergrad(problem: Problem, name: str, starts: Array, seed: int) -> None:
    """One of nevergrad's optimisers on the columns in [0, 1], until the problem has no renders left.

    Options are columns, too, and stand where they decode to: nevergrad's own choices found worse losses with
    both methods that were tried. Populations are rendered eight at a time.

    Args:
        problem: that is asked.
        name: in nevergrad's registry.
        starts: (n, width); the best of them is where it begins.
        seed: of its draws.

    Raises:
        ParameterError: an unknown name, or a method that fails by itself.
        Spent: no renders are left.
    """
    import nevergrad

    check_name(name)
    heard = problem.evaluate(starts)
    start = starts[int(np.argmin(heard.losses))]
    budget = int(problem.allowed) if problem.allowed < math.inf else _BLIND
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its optimisers warn of each other's habits
        settings = nevergrad.p.Array(init=start, lower=0.0, upper=1.0)
        settings.random_state.seed(seed)
        optimizer = nevergrad.optimizers.registry[name](parametrization=settings, budget=max(budget, 1))
        while not problem.is_found:
            _round(problem, optimizer, name, 1 if "OnePlusOne" in name else _AT_ONCE)


def _round(problem: Problem, optimizer: Any, name: str, size: int) -> None:
    """Asks for some points, and tells their losses."""
    try:
        candidates = [optimizer.ask() for _ in range(size)]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ParameterError(f"nevergrad's {name} fails by itself ({error}); choose another method.") from error
    heard = problem.evaluate(np.array([c.value for c in candidates], np.float64))
    worst = np.nanmax(np.where(np.isfinite(heard.losses), heard.losses, 0.0))
    for candidate, loss in zip(candidates, heard.losses, strict=True):
        optimizer.tell(candidate, float(loss) if math.isfinite(loss) else 10 * float(worst) + 1)


def by_adam(problem: Problem, starts: Array, seed: int) -> None:
    """Adam on the gradients that a chain of layers gives by default, from proxies where there are right ones.

    Choices stand where the best start has them. Its renders for gradients count as those of the layers do.

    Args:
        problem: that is asked.
        starts: (n, width); the best of them is where it begins.
        seed: of the gradients' draws.

    Raises:
        Spent: no renders are left.
    """
    heard = problem.evaluate(starts)
    torch.manual_seed(seed)
    effects = list(problem.chain.members.values()) or [problem.chain]
    layer = Chain(effects, pool=problem.pool, sample_rate=problem.sample_rate)
    for box in (m for m in layer.modules() if isinstance(m, BlackBox)):
        box.lookahead = False
    tally = count(layer, problem.dry.shape[1])
    audio, size = torch.from_numpy(problem.dry)[None], effects_in(problem.chain)
    params = torch.from_numpy(starts[int(np.argmin(heard.losses))]).float()[None].requires_grad_()
    moving = torch.zeros(params.shape[1])
    moving[torch.from_numpy(problem.continuous)] = 1.0
    optimizer = torch.optim.Adam([params], lr=_RATE)
    step = 0
    while not problem.is_found:
        done = problem.renders / problem.allowed if problem.allowed < math.inf else step / _STEPS
        if done >= 1:
            raise Spent
        before = tally.total
        loss = problem.target.loss(layer(audio, params)[0])
        optimizer.zero_grad()
        loss.backward()
        problem.charge((tally.total - before) / size)
        assert params.grad is not None
        params.grad *= moving
        optimizer.param_groups[0]["lr"] = _RATE * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        optimizer.step()
        with torch.no_grad():
            params.clamp_(0, 1)
        problem.evaluate(params.detach().double().numpy())
        step += 1
