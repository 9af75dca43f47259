"""Perturbed parameter rows that respect bounds, steps and kinds, with the distance they really moved."""

from __future__ import annotations

from typing import Any

import numpy as np

from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.base import Rows
from blackbox_fx.space import Choice, Space


def check_step(step: Any) -> float:
    """A step on the [0, 1] axis. Raises ParameterError outside (0, 0.5]."""
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not 0 < step <= 0.5:
        raise ParameterError(f"step must lie in (0, 0.5] of a parameter's range, got {step!r}.")
    return float(step)


def pair(space: Space, rows: Rows, direction: Rows, step: float) -> tuple[Rows, Rows, Rows]:
    """Rows moved both ways along a direction.

    Each column moves by `step`, or by the parameter's own step where that is larger, and stops at 0 and 1. Columns of
    choices stay.

    Args:
        space: of the effect.
        rows: (n, width), where to start.
        direction: (n, width), -1, 0 or 1 for each column.
        step: on the [0, 1] axis.

    Returns:
        plus, minus: (n, width) the two ends, as they will be rendered.
        moved: (n, width) plus - minus, signed. Dividing by it instead of 2 * step keeps slopes whole at a bound.
    """
    reach = direction * np.maximum(step, space.unit_steps)
    for name in choices(space):
        reach[:, space.slices[name]] = 0.0
    plus, minus = (np.clip(rows + s * reach, 0.0, 1.0) for s in (1, -1))
    snapped = [np.where(reach != 0, space.snap(ends), ends) for ends in (plus, minus)]
    return snapped[0], snapped[1], snapped[0] - snapped[1]


def choices(space: Space) -> list[str]:
    """Names of the free parameters that are choices."""
    return [name for name in space.free if isinstance(space.parameters[name], Choice)]


def choose(space: Space, rows: Rows, name: str, option: int) -> Rows:
    """Rows with one choice set to an option by its number."""
    moved = rows.copy()
    moved[:, space.slices[name]] = np.eye(space.parameters[name].columns)[option]
    return moved
