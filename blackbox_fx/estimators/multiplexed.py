"""Simultaneous perturbation with different signs in every block of a clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.core import checks
from blackbox_fx.effects.base import WHOLE_HOP
from blackbox_fx.estimators.blocks import automatable, block_plan, segments, sum_segments
from blackbox_fx.estimators.call import Call, Plan, carry_out
from blackbox_fx.estimators.finite_difference import FiniteDifference
from blackbox_fx.estimators.moves import Move, check_step, coarse_moves, most_moves, plan, reaches
from blackbox_fx.estimators.slopes import ITEMS, at_items, some_items
from blackbox_fx.estimators.spsa import SPSA, draw
from blackbox_fx.estimators.stochastic import Stochastic
from blackbox_fx.space import Space

_SHORTEST = 4096  # samples; shorter blocks than this were never best
_DRAWS = 8  # least in a check
_COLUMNS = 128  # most in a check of more items
_EVERY = 400  # calls from one check to the next, for batches that need not repeat an item in one
_KEPT = 0.5  # least part of the gradient in the mean of a candidate's estimates
_MARGIN = 0.7  # largest error of a candidate, over that of plain SPSA


class Way(NamedTuple):
    """One way to estimate: blocks or segments of a number of samples, by central or one-sided differences."""

    length: int
    central: bool


def _blend(old: float, new: float) -> float:
    return (old + new) / 2 if np.isfinite(old) else new


@final
class MultiplexedSPSA(Stochastic):
    """SPSA with different signs in every block of time: many estimates from the two renders of one pair.

    The parameters are automated: each block of the clip has its own random signs, and the share of <cotangent, y> that
    falls into a block, cut out with overlapping windows that sum to one, is correlated with that block's signs. In the
    geometric mean over six scenes of 3 and 10 s, with a multi-resolution STFT loss, its squared error was 150 times
    below that of SPSA with as many renders for a rack of 15 parameters and 35 times for ZamCompX2.

    Signs are rows of a Hadamard matrix, one for each block in turn. Instead of a pair with opposite signs, each render
    may have its own signs and be compared with the forward pass (one-sided). This halves the error where automation
    changes no bit outside the blocks that it moves. It fails where the loss amplifies such bits in near-silent
    passages.

    Blocks must be much longer than the effect's memory and the loss's longest window, and much shorter than the clip,
    so their length is chosen by measurement. The first backward pass, and every 400th after it (more rarely for batches
    of less than 8), takes 8 random items, or as few as 4 of a wide space, and measures the relative squared error of
    each candidate against central differences, over 2 draws. Candidates are up to four lengths from max(4096,
    window) upwards of which four blocks fit into the clip, and one-sided differences for the best of them. The
    candidate with the least average error over checks is chosen; each check halves the weight of earlier ones. Plain
    SPSA is chosen if no candidate has at most 0.7 of its error, which is measured too, or computed for a linear
    function if that is less. Candidates that keep less than half of the gradient are rejected, since an estimate of
    zero has an error of one, far below that of SPSA. A check costs up to 24 * pairs + 2 * columns
    renders for each of its items;
    `chosen` and `reason` report its result. (A length derived from the effect's memory alone was no better than a fixed
    8192.)

    An effect that cannot change during a clip is rendered in segments instead, which are then items of a batch for
    SPSA, each with a quarter of itself before it to run in: a quarter more audio, central differences only.

    The mean is the gradient for an effect without memory. Otherwise it lacks the effect's response after the end of a
    block's window, a bias that no averaging removes. Its square was 0 to 1 % of the squared gradient on a rack of
    filters and a compressor, and on ZamCompX2, whose release is long, 6 to 15 % with blocks of 16384 and 25 to 55 %
    with 4096. On/off parameters, choices and large steps move one at a time, as in `SPSA`, and without bias.

    Args:
        pairs: pairs of renders for each item of the batch.
        block: samples per block, from which the next multiple that the effect can do is taken; chosen among four
            lengths if not given. Blocks are used only if they beat SPSA.
        window: the loss's longest window, in samples.
        step: distance of each move, on the [0, 1] axis.
        generator: draws the signs, see `SPSA`; its state and the results of checks are part of `state_dict`.

    Attributes:
        chosen: the chosen way, such as "blocks of 8192 samples, one-sided".
        reason: the errors that decided.

    Raises:
        ParameterError: pairs or window below 1, a block below 512, a step outside (0, 0.5].

    References:
        "Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient Approximation" (Spall, 1992).
    """

    def __init__(
        self,
        pairs: int = 1,
        block: int | None = None,
        window: int = 2048,
        step: float = 0.02,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.pairs = checks.whole("pairs", pairs)
        self.block = None if block is None else checks.whole("block", block, 512)
        self.window = checks.whole("window", window)
        self.step = check_step(step)
        shortest = max(_SHORTEST, 1 << (window - 1).bit_length())
        lengths = tuple(shortest << k for k in range(4)) if block is None else (block,)
        self._ways = [Way(length, central) for central in (True, False) for length in lengths]
        self._errors = np.full(len(self._ways), np.nan)  # relative squared error of each
        self._plain_error = np.nan
        self._calls = 0
        self.chosen, self.reason = "SPSA", "nothing was measured yet"

    @property
    def _plain(self) -> SPSA:
        return SPSA(self.pairs, self.step, self.generator)

    @property
    def in_use(self) -> str:
        """Its blocks or segments, or SPSA where the check has left it alone."""
        return "SPSA" if self.chosen == "SPSA" else f"MultiplexedSPSA, {self.chosen}"

    @property
    def error(self) -> float | None:
        """The least squared error that checks have measured, over the squared gradient; None before the first."""
        known = self._errors[np.isfinite(self._errors)]
        return float(known.min()) if len(known) else None

    def fits(self, call: Call) -> bool:
        """Whether the clip is long enough for four blocks, and there is more than one column."""
        return bool(self._fitting(call)) and int(np.count_nonzero(reaches(call.effect.space, self.step))) > 1

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to params; see `Estimator.vjp`. Checks its own way first where that is due."""
        generator = self.draws()
        if self.fits(call):
            if self._is_due(call):
                self._check(call, cotangent, generator)
            self._calls += 1
        way, moves = self._best(call), self._moves(call, generator)
        if way is None:
            return carry_out(self._plain.joint(call, generator, moves), call, cotangent)
        if automatable(call.effect):
            return carry_out(self._blocks(call, way, generator, moves), call, cotangent)
        grad = self._segments(call, cotangent, way, generator)
        if any(moves):
            empty = np.zeros((0, grad.shape[1]))
            zeros = np.zeros(tuple(grad.shape))
            coarse = plan(empty, np.zeros(0, np.int64), moves, lambda scores, here: zeros)
            grad = grad + carry_out(coarse, call, cotangent)
        return grad

    def plan(self, call: Call) -> Plan:
        """The renders of the way chosen by the checks so far; of SPSA where that needs segments."""
        generator = self.draws()
        way, moves = self._best(call), self._moves(call, generator)
        if way is None or not automatable(call.effect):
            return self._plain.joint(call, generator, moves)
        return self._blocks(call, way, generator, moves)

    def ahead(self, call: Call) -> Plan | None:
        """The plan; None where a check is due, or segments are rendered."""
        if self.fits(call):
            if self._is_due(call) or not automatable(call.effect):
                return None
            self._calls += 1
        return self.plan(call)

    def _is_due(self, call: Call) -> bool:
        return self._calls % (_EVERY * -(-_DRAWS // max(1, len(call.params)))) == 0

    def _fitting(self, call: Call) -> list[int]:
        most = call.audio.shape[-1] // 4
        either = automatable(call.effect)
        lengths = [self._length(call, way) for way in self._ways]
        return [k for k, way in enumerate(self._ways) if lengths[k] <= most and (either or way.central)]

    def _length(self, call: Call, way: Way) -> int:
        """Samples per block: what the effect can do, from those of the way upwards."""
        multiple = 1 if way.length % WHOLE_HOP == 0 else call.effect.find_hop_multiple()
        return -(-way.length // multiple) * multiple

    def _best(self, call: Call) -> Way | None:
        """The way with the least error, or None for plain SPSA; says so in `chosen` and `reason`."""
        known = [k for k in self._fitting(call) if np.isfinite(self._errors[k])]
        if not known:
            self.chosen = "SPSA"
            measured = not np.isnan(self._errors).all()
            self.reason = "nothing keeps half of the gradient" if measured else "the clip or the space is too small"
            return None
        best = min(known, key=lambda k: self._errors[k])
        way, error = self._ways[best], self._errors[best]
        length = self._length(call, way)
        kind = "blocks" if automatable(call.effect) else "segments"
        found = f"relative squared error {error:.2g}, against {self._plain_error:.2g} of SPSA"
        if not error <= _MARGIN * self._plain_error:
            self.chosen, self.reason = "SPSA", f"{kind} of {length} samples have {found}"
            return None
        self.chosen = f"{kind} of {length} samples, {'central' if way.central else 'one-sided'}"
        self.reason = found
        return way

    def _check(self, call: Call, cotangent: Tensor, generator: torch.Generator) -> None:
        most = min(ITEMS, max(4, _COLUMNS // max(1, call.params.shape[1])))
        part, own = some_items(call, cotangent, generator, most)
        truth = carry_out(FiniteDifference(self.step / 8).fine(part), part, own)
        draws = max(2, _DRAWS // max(1, len(truth)))
        (part, own), truth = at_items(part, own, torch.arange(len(truth)).repeat(draws)), truth.repeat(draws, 1)
        if not truth.any():
            return

        def measure(estimate: Callable[[], Tensor]) -> tuple[float, float]:
            """The squared error of an estimate, and what it keeps of the gradient; both over the squared gradient."""
            known = part.failed.copy()
            found = estimate()
            there = torch.from_numpy(~part.failed)
            part.failed[:] = known
            energy = float(truth[there].square().sum()) or np.nan
            off, kept = (found - truth)[there].square().sum(), (found * truth)[there].sum()
            return float(off) / energy, float(kept) / energy

        def enter(k: int) -> None:
            error, kept = measure(lambda: self._once(part, own, self._ways[k], generator))
            if np.isfinite(error):
                self._errors[k] = _blend(self._errors[k], error if kept > _KEPT else np.inf)

        fitting = self._fitting(call)
        central = [k for k in fitting if self._ways[k].central]
        for k in central:
            enter(k)
        best = self._ways[min(central, key=lambda k: self._errors[k])]
        for k in set(fitting) - set(central):
            if self._ways[k].length == best.length:
                enter(k)
            else:
                self._errors[k] = np.nan  # of other settings: what is not measured along would stay for ever
        linear = self._plain.error(int(np.count_nonzero(reaches(call.effect.space, self.step))))
        plain, _ = measure(lambda: carry_out(self._plain.joint(part, generator), part, own))
        if np.isfinite(plain):
            self._plain_error = _blend(self._plain_error, min(linear, plain))

    def _once(self, call: Call, cotangent: Tensor, way: Way, generator: torch.Generator) -> Tensor:
        if not automatable(call.effect):
            return self._segments(call, cotangent, way, generator)
        return carry_out(self._blocks(call, way, generator, [[]] * len(call.params)), call, cotangent)

    def _blocks(self, call: Call, way: Way, generator: torch.Generator, moves: list[list[Move]]) -> Plan:
        reach = reaches(call.effect.space, self.step)
        return block_plan(call, self._length(call, way), self.pairs, way.central, reach, moves, generator)

    def _segments(self, call: Call, cotangent: Tensor, way: Way, generator: torch.Generator) -> Tensor:
        parts, own = segments(call, cotangent, self._length(call, way))
        owners = np.repeat(np.arange(len(call.params)), len(parts.params) // max(1, len(call.params)))
        parts.failed[:] = call.failed[owners]
        grad = sum_segments(carry_out(self._plain.joint(parts, generator), parts, own), len(call.params))
        call.note(owners, parts.failed)
        return call.without_failed(grad)

    def _moves(self, call: Call, generator: torch.Generator) -> list[list[Move]]:
        space, reach = call.effect.space, reaches(call.effect.space, self.step)
        return [draw(coarse_moves(space, point, reach), self.pairs, generator) for point in call.points]

    def cost(self, space: Space) -> int:
        """As `SPSA`: two for each pair, and coarse moves; checks, and the run-in of segments, come on top."""
        reach = reaches(space, self.step)
        return 2 * self.pairs * bool(reach.any()) + min(self.pairs, most_moves(space, reach))

    def memory(self) -> NDArray[np.float64]:
        """The number of calls, and the errors that checks have measured."""
        return np.array([self._calls, self._plain_error, *self._errors])

    def recall(self, memory: NDArray[np.float64]) -> None:
        """Restores what checks have measured."""
        self._calls, self._plain_error, self._errors = int(memory[0]), float(memory[1]), memory[2:].copy()

    def extra_repr(self) -> str:
        """Pairs, window, step, and what was chosen why."""
        return f"pairs={self.pairs}, window={self.window}, step={self.step:g}, chosen={self.chosen} ({self.reason})"
