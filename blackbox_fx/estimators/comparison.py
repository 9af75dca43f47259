"""Compares surrogates with their effect, by differences of renders along a few directions of its settings."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.autodiff import pull, surrogate_scores, surrogate_vjp
from blackbox_fx.estimators.base import Estimator
from blackbox_fx.estimators.call import Call, Plan, Rows
from blackbox_fx.estimators.decision import EXACT
from blackbox_fx.estimators.moves import Move, coarse_moves, reaches
from blackbox_fx.estimators.slopes import (
    DIRECTIONS,
    STEP,
    Slopes,
    Whole,
    at_items,
    directions,
    draw_slopes,
    slopes,
    slopes_of,
    some_items,
)
from blackbox_fx.estimators.surrogates import Differentiable, Pullbacks, surrogate_name
from blackbox_fx.space import Space


@final
@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a check found, as sums over slopes and moves; shapes (surrogate,) or (), in units of the gradient.

    Args:
        names: of the surrogates.
        fine: squared gradient of the columns that move by small steps.
        coarse: squared gradient of the others.
        fine_off: squared error of each surrogate in the former; infinite where it failed.
        coarse_off: squared error of each surrogate in the latter.
        product: inner product of each surrogate's gradient with the effect's.
        size: squared gradient of each surrogate.
        base_off: squared error of an estimator by renders; NaN if none was measured.
        doubt: standard error of each surrogate's error over the gradient, over items.
        render: seconds for each render.
        seconds: that each surrogate takes for the gradient of params, for each item; if it gives that of audio anyway,
            what is added to that.
        items: on which it was made.
    """

    names: tuple[str, ...]
    fine: float
    coarse: float
    fine_off: Rows
    coarse_off: Rows
    product: Rows
    size: Rows
    doubt: Rows
    base_off: float
    render: float
    seconds: Rows
    items: int

    @property
    def _errors(self) -> Rows:
        return (self.fine_off + self.coarse_off) / (self.fine + self.coarse)

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        found = dataclasses.asdict(self)
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Comparison:
        """What `to_plain` gave."""
        fields: dict[str, Any] = {
            name: np.array(value) if isinstance(value, list) else value for name, value in plain.items()
        }
        fields["names"] = tuple(plain["names"])
        return cls(**fields)

    def blended(self, old: Comparison | None) -> Comparison:
        """With what an earlier check of the same found, at half the weight; not if a surrogate was trained since."""
        if old is None or old.names != self.names or np.isnan(old.base_off) != np.isnan(self.base_off):
            return self
        if (self._errors < old._errors / _LEARNT).any():
            return self
        names = ("fine", "coarse", "fine_off", "coarse_off", "product", "size", "base_off")
        sums = {name: getattr(self, name) + 0.5 * getattr(old, name) for name in names}
        return dataclasses.replace(self, **sums, items=self.items + old.items)


_PLACES = (0.125, 0.375, 0.625, 0.875)  # on the way between the ends of a slope
_LESS = 0.4  # part of its squared distance that a gradient keeps in the mean over these, at a kink
_LEARNT = 8  # times less error shows that a surrogate has been trained since


def cost(space: Space) -> int:
    """Renders for each item that a comparison takes at most, beyond those of an estimator by renders."""
    fine = int(np.count_nonzero(reaches(space, STEP)))
    return 2 * directions(fine) + (DIRECTIONS if fine < space.width else 0)


def compare(
    call: Call,
    cotangent: Tensor,
    surrogates: tuple[Differentiable, ...],
    generator: torch.Generator,
    base: Estimator | None = None,
) -> Comparison | None:
    """Measures how far the gradients of surrogates are from the effect's; None where that is zero or unknown.

    Over many items the sum of squared slopes along a few directions tells the squared gradient, and that of their
    differences from a surrogate's the squared error. No gradient need be known for it.

    Args:
        call: the forward pass; up to 8 of its items are used.
        cotangent: of the outputs.
        surrogates: of the effect.
        generator: draws items, directions and moves.
        base: an estimator that is measured, too, in as many renders as a gradient takes; its gradient of the columns
            that do not move by small steps counts as exact.
    """
    part, own = some_items(call, cotangent, generator)
    drawn = draw_slopes(part, generator)
    plan, moves, owners, share = _probes(part, drawn, generator)
    began = time.perf_counter()
    scores = part.project(plan, own)
    render = (time.perf_counter() - began) / max(1, len(plan.items))
    ok, items = ~part.failed, drawn.items
    true = slopes(scores, drawn, part.failed)
    here = part.here(own)
    ends = scores[2 * len(items) :]
    jumps = np.array([m.weight * (s - here[k]) for m, k, s in zip(moves, owners, ends, strict=True)])
    jumps = np.where(ok[owners], jumps, 0.0)
    gives_audio = [call.pullbacks.find((s, call.audio, cotangent)) is not None for s in surrogates]
    base_off = float("nan")
    if base is not None:
        known = slopes_of(base.vjp(part, own).double().cpu().numpy(), drawn, part.failed)
        base_off = float(np.square(known - true).sum())
    answers = [
        _answers(s, part, own, drawn, moves, owners, true, gives)
        for s, gives in zip(surrogates, gives_audio, strict=True)
    ]
    power = _sums(np.square(true), items, len(ok)), _sums(share * jumps**2, owners, len(ok))
    total = float(power[0].sum() + power[1].sum())
    if not ok.any() or not total > 0 or not np.isfinite(total):
        return None
    found = [_off(true, jumps, answer, items, owners, share, ok) for answer in answers]
    offs = [(a.sum(), b.sum(), p, s, _doubt(a + b, power[0] + power[1])) for a, b, p, s in found]
    columns = np.array(offs, np.float64).reshape(len(surrogates), 5).T
    passes = np.array([answer[2] for answer in answers])
    names = tuple(map(surrogate_name, surrogates))
    sums = float(power[0].sum()), float(power[1].sum())
    return Comparison(names, *sums, *columns, base_off=base_off, render=render, seconds=passes, items=int(ok.sum()))


Answer = tuple[Rows, Rows, float]  # slopes, what moves change, and seconds for each item


def _sums(values: Rows, owners: Whole, count: int) -> Rows:
    """The sum of the values of every owner, (count,)."""
    total = np.zeros(count)
    np.add.at(total, owners, values)
    return total


def _probes(call: Call, fine: Slopes, generator: torch.Generator) -> tuple[Plan, list[Move], Whole, Rows]:
    """The renders of both ends of slopes and of coarse moves; the moves, their items, how many each stands for."""
    space, points = call.effect.space, call.points
    batch, width = points.shape
    reach = reaches(space, STEP)
    moves: list[Move] = []
    owners: list[int] = []
    share: list[float] = []
    for item, point in enumerate(points):
        possible = coarse_moves(space, point, reach)
        drawn = torch.randperm(len(possible), generator=generator)[:DIRECTIONS].tolist()
        moves += [possible[k] for k in drawn]
        owners += [item] * len(drawn)
        share += [len(possible) / max(1, len(drawn))] * len(drawn)
    ends = np.array([move.point for move in moves]).reshape(len(moves), width)
    at = np.array(owners, np.int64)
    nothing = np.zeros((batch, width))
    rows = np.concatenate([fine.plus, fine.minus, ends])
    plan = Plan(rows, np.concatenate([fine.items, fine.items, at]), lambda scores, here: nothing)
    return plan, moves, at, np.array(share)


def _answers(
    surrogate: Differentiable,
    call: Call,
    cotangent: Tensor,
    drawn: Slopes,
    moves: list[Move],
    owners: Whole,
    true: Rows,
    gives_audio: bool,
) -> Answer:
    """What a surrogate says to slopes and moves; NaN where it fails."""
    try:
        _seconds(surrogate, call, cotangent, gives_audio)  # the first pass may compile something
        seconds = _seconds(surrogate, call, cotangent, gives_audio) / max(1, len(call.params))
        gradient = surrogate_vjp(surrogate, call, cotangent).double().cpu().numpy()
        along = slopes_of(gradient, drawn, call.failed)
        both = np.concatenate([drawn.plus, drawn.minus]), np.tile(drawn.items, 2)
        own = slopes(surrogate_scores(surrogate, call, cotangent, *both), drawn, call.failed)
        along = _through_kinks(surrogate, call, cotangent, drawn, along, own, true)
        if not moves:
            return along, np.zeros(0), seconds
        ends = np.stack([move.point for move in moves])
        there = surrogate_scores(surrogate, call, cotangent, ends, owners)
        here = surrogate_scores(surrogate, call, cotangent, call.points, np.arange(len(call.points)))
    except (AudioError, ParameterError):
        return np.full(len(drawn.items), np.nan), np.full(len(moves), np.nan), 0.0
    jumps = np.array([m.weight for m in moves]) * (there - here[owners])
    return along, jumps, seconds


def _through_kinks(
    surrogate: Differentiable, call: Call, cotangent: Tensor, drawn: Slopes, along: Rows, own: Rows, true: Rows
) -> Rows:
    """The slopes of a surrogate's gradient, or its own differences at items where only these can be compared.

    Where a surrogate gives the very differences of the effect and another gradient, the effect may have a kink there,
    and differences are not its gradient. Then the surrogate's gradients on the way from end to end have the difference
    for their mean, and it takes the place of the gradient; a gradient that is wrong has not.
    """
    items, count = drawn.items, int(drawn.items.max(initial=-1)) + 1
    power, off, gap = (_sums(np.square(x), items, count) for x in (true, own - true, along - own))
    doubtful = (off < EXACT * power) & (gap > EXACT * power)
    rows = np.flatnonzero(doubtful[items])
    if not len(rows):
        return along
    sub, v = at_items(call, cotangent, torch.from_numpy(items[rows]))
    mean = np.zeros(len(rows))
    for place in _PLACES:
        points = drawn.minus[rows] + place * (drawn.plus - drawn.minus)[rows]
        there = dataclasses.replace(sub, params=torch.from_numpy(points).to(sub.params), pullbacks=Pullbacks())
        gradient = surrogate_vjp(surrogate, there, v).double().cpu().numpy()
        mean += (gradient * drawn.moved[rows]).sum(axis=1) * drawn.weight / (2 * STEP * len(_PLACES))
    left = _sums(np.square(mean - own[rows]), items[rows], count)
    return np.where((doubtful & (left < _LESS * gap))[items], own, along)


def _seconds(surrogate: Differentiable, call: Call, cotangent: Tensor, gives_audio: bool) -> float:
    """Seconds that the gradient of params adds to a pass of a surrogate that gives that of audio, or takes alone."""
    spent = []
    for params in (False, True) if gives_audio else (True,):
        fresh = dataclasses.replace(call, pullbacks=Pullbacks())
        began = time.perf_counter()
        pull(surrogate, fresh, cotangent, audio=gives_audio, params=params)
        spent.append(time.perf_counter() - began)
    return max(0.0, spent[-1] - spent[0]) if gives_audio else spent[0]


def _off(
    true: Rows, jumps: Rows, answer: Answer, items: Whole, owners: Whole, share: Rows, ok: NDArray[np.bool_]
) -> tuple[Rows, Rows, float, float]:
    """Squared errors of an answer by item, fine and coarse; its product with the truth and its own square."""
    along = np.where(ok[items], answer[0], 0.0)
    there = np.where(ok[owners], answer[1], 0.0)
    if not (np.isfinite(along).all() and np.isfinite(there).all()):
        lost = np.full(len(ok), np.inf)
        return lost, lost, 0.0, np.inf
    fine = _sums(np.square(along - true), items, len(ok))
    coarse = _sums(share * np.square(there - jumps), owners, len(ok))
    product = float((along * true).sum() + (share * there * jumps).sum())
    size = float(np.square(along).sum() + (share * np.square(there)).sum())
    return fine, coarse, product, size


def _doubt(off: Rows, power: Rows) -> float:
    """Standard error of sum(off) / sum(power), over items left out in turn."""
    n = len(off)
    if n < 2 or not np.isfinite(off).all():
        return float("nan") if n < 2 else 0.0
    rest = power.sum() - power
    each = np.divide(off.sum() - off, rest, out=np.zeros(n), where=rest > 0)
    return float(np.sqrt((n - 1) / n * np.square(each - each.mean()).sum()))
