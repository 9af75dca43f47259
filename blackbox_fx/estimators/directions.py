"""Random directions of the settings, along which the effect tells its gradient's square without the gradient."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.estimators.base import Call, Rows
from blackbox_fx.estimators.moves import pair, reaches

STEP = 5e-3  # where a gradient changes within this, as that of a delay does, a smoother one is wanted
DIRECTIONS = 4  # for each item
ITEMS = 8

Whole = NDArray[np.int64]


class Directions(NamedTuple):
    """Both ends of random directions, the way between them, and the items they belong to; (n, width) and (n,)."""

    plus: Rows
    minus: Rows
    moved: Rows
    items: Whole


def some_items(call: Call, cotangent: Tensor, generator: torch.Generator, most: int = ITEMS) -> tuple[Call, Tensor]:
    """Random items of a call that have not failed, at most so many, and their cotangents."""
    chosen = torch.randperm(len(call.params), generator=generator)[:most]
    chosen = chosen[torch.from_numpy(~call.failed[chosen.numpy()])]
    return at_items(call, cotangent, chosen)


def at_items(call: Call, cotangent: Tensor, items: Tensor) -> tuple[Call, Tensor]:
    """Items of a call, and their cotangents."""
    audio, params, output = (x[items.to(x.device)] for x in (call.audio, call.params, call.output))
    return dataclasses.replace(call, audio=audio, params=params, output=output), cotangent[items.to(cotangent.device)]


def draw_directions(call: Call, generator: torch.Generator) -> Directions:
    """Random signs of the columns that move by small steps, four times for each item; none if no column does."""
    space, points = call.effect.space, call.points
    reach = reaches(space, STEP)
    items = np.repeat(np.arange(len(points)), DIRECTIONS if reach.any() else 0)
    signs = torch.randint(2, (len(items), points.shape[1]), generator=generator).numpy() * 2.0 - 1
    return Directions(*pair(space, space.snap(points)[items], signs * reach), items)


def slopes(scores: Rows, directions: Directions, failed: NDArray[np.bool_]) -> Rows:
    """Slopes (n,) from the scores of all plus ends and all minus ends; 0 for items that have failed."""
    n = len(directions.items)
    return np.where(failed[directions.items], 0.0, scores[:n] - scores[n : 2 * n]) / (2 * STEP)


def slopes_of(gradient: Rows, directions: Directions, failed: NDArray[np.bool_]) -> Rows:
    """What a gradient (items, width) says to the directions, (n,); 0 for items that have failed."""
    along = np.einsum("nw,nw->n", gradient[directions.items], directions.moved) / (2 * STEP)
    return np.where(failed[directions.items], 0.0, along)
