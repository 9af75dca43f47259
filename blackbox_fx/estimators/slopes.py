"""Differences along a few directions of the settings, which tell the square of a gradient without the gradient."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.estimators.call import Call, Rows
from blackbox_fx.estimators.moves import pair, reaches

STEP = 5e-3  # where a gradient changes within this, as that of a delay does, a smoother one is wanted
COLUMNS = 8  # that are moved one by one: along a direction that mixes them, the audio of a chorus changes too fast
DIRECTIONS = 4  # for each item, where there are more columns
ITEMS = 8

Whole = NDArray[np.int64]


class Slopes(NamedTuple):
    """Differences along directions of the settings.

    Args:
        plus, minus: their ends, (n, width).
        moved: the way between them, (n, width).
        items: they belong to, (n,).
        weight: of each, so that the mean of the sum of their squares is the squared gradient.
    """

    plus: Rows
    minus: Rows
    moved: Rows
    items: Whole
    weight: float


def some_items(call: Call, cotangent: Tensor, generator: torch.Generator, most: int = ITEMS) -> tuple[Call, Tensor]:
    """Random items of a call that have not failed, at most so many, and their cotangents."""
    chosen = torch.randperm(len(call.params), generator=generator)[:most]
    chosen = chosen[torch.from_numpy(~call.failed[chosen.numpy()])]
    return at_items(call, cotangent, chosen)


def at_items(call: Call, cotangent: Tensor, items: Tensor) -> tuple[Call, Tensor]:
    """Items of a call, and their cotangents."""
    part = dataclasses.replace(call.part(items.numpy()), pullbacks=call.pullbacks)
    return part, cotangent[items.to(cotangent.device)]


def directions(fine: int) -> int:
    """How many slopes tell the squared gradient of so many columns that move by small steps."""
    return fine if fine <= COLUMNS else DIRECTIONS


def draw_slopes(call: Call, generator: torch.Generator) -> Slopes:
    """Along each column that moves by small steps if there are up to eight; else along four random directions an item.

    For random signs s, the mean of <g, s>^2 is |g|^2.
    """
    space, points = call.effect.space, call.points
    reach = reaches(space, STEP)
    fine = np.flatnonzero(reach)
    each = directions(len(fine))
    items = np.repeat(np.arange(len(points)), each)
    if each == len(fine):
        signs = np.tile(np.eye(points.shape[1])[fine], (len(points), 1))
    else:
        signs = torch.randint(2, (len(items), points.shape[1]), generator=generator).numpy() * 2.0 - 1
    weight = 1.0 if each == len(fine) else DIRECTIONS**-0.5
    return Slopes(*pair(space, space.snap(points)[items], signs * reach), items, weight)


def slopes(scores: Rows, along: Slopes, failed: NDArray[np.bool_]) -> Rows:
    """Weighted slopes (n,) from the scores of all plus ends and all minus ends; 0 for items that have failed."""
    n = len(along.items)
    there = ~failed[along.items]
    return np.where(there, scores[:n] - scores[n : 2 * n], 0.0) * (along.weight / (2 * STEP))


def slopes_of(gradient: Rows, along: Slopes, failed: NDArray[np.bool_]) -> Rows:
    """The same slopes as a gradient (items, width) has them; 0 for items that have failed."""
    found = np.einsum("nw,nw->n", gradient[along.items], along.moved)
    return np.where(failed[along.items], 0.0, found) * (along.weight / (2 * STEP))
