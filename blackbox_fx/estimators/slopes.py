"""Differences along a few columns of each item, which tell the square of the gradient without the whole gradient."""

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
COLUMNS = 4  # for each item
ITEMS = 8

Whole = NDArray[np.int64]


class Slopes(NamedTuple):
    """Both ends of differences along single columns, (n, width); the columns and items they belong to, (n,).

    Attributes:
        weight: of each slope, so that the sum of their squares is that of the gradient, in the mean over draws.
    """

    plus: Rows
    minus: Rows
    columns: Whole
    items: Whole
    weight: float


def some_items(call: Call, cotangent: Tensor, generator: torch.Generator, most: int = ITEMS) -> tuple[Call, Tensor]:
    """Random items of a call that have not failed, at most so many, and their cotangents."""
    chosen = torch.randperm(len(call.params), generator=generator)[:most]
    chosen = chosen[torch.from_numpy(~call.failed[chosen.numpy()])]
    return at_items(call, cotangent, chosen)


def at_items(call: Call, cotangent: Tensor, items: Tensor) -> tuple[Call, Tensor]:
    """Items of a call, and their cotangents."""
    audio, params, output = (x[items.to(x.device)] for x in (call.audio, call.params, call.output))
    return dataclasses.replace(call, audio=audio, params=params, output=output), cotangent[items.to(cotangent.device)]


def draw_columns(call: Call, generator: torch.Generator) -> Slopes:
    """Up to four columns of each item, of those that move by small steps; each comes as often as any other."""
    space, points = call.effect.space, call.points
    reach = reaches(space, STEP)
    fine = np.flatnonzero(reach)
    each, batch = min(COLUMNS, len(fine)), len(points)
    items = np.repeat(np.arange(batch), each)
    order = torch.randperm(max(1, len(fine)), generator=generator).numpy()
    columns = fine[np.resize(order, batch * each)] if each else np.zeros(0, np.int64)
    moved = np.zeros((len(items), points.shape[1]))
    moved[np.arange(len(items)), columns] = reach[columns]
    plus, minus, _ = pair(space, space.snap(points)[items], moved)
    return Slopes(plus, minus, columns, items, float(np.sqrt(len(fine) / max(1, each))))


def slopes(scores: Rows, along: Slopes, failed: NDArray[np.bool_]) -> Rows:
    """Weighted slopes (n,) from the scores of all plus ends and all minus ends; 0 for items that have failed."""
    n = np.arange(len(along.items))
    way = (along.plus - along.minus)[n, along.columns]
    there = ~failed[along.items] & (way != 0)
    return along.weight * np.divide(scores[n] - scores[len(n) + n], way, out=np.zeros(len(n)), where=there)


def slopes_of(gradient: Rows, along: Slopes, failed: NDArray[np.bool_]) -> Rows:
    """The same slopes as a gradient (items, width) has them; 0 for items that have failed."""
    return np.where(failed[along.items], 0.0, along.weight * gradient[along.items, along.columns])
