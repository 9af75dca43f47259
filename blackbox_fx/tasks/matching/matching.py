"""Finds the settings of a chain of effects that make one recording sound like another."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.audio import Audio, check_audio, check_sample_rate, to_channels
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import Effect
from blackbox_fx.errors import BlackBoxError, EffectError, ParameterError
from blackbox_fx.runtime import Pool, Processes, Threads
from blackbox_fx.tasks.matching.arrangement import nested
from blackbox_fx.tasks.matching.asking import ALIGNED, Wanted, ask, check_numbers, check_prior, digest, starting_points
from blackbox_fx.tasks.matching.hybrid import Hybrid
from blackbox_fx.tasks.matching.memory import Memory
from blackbox_fx.tasks.matching.prior import Prior
from blackbox_fx.tasks.matching.problem import Problem, Progressed, Spent
from blackbox_fx.tasks.matching.searches import by_adam, by_nevergrad, check_name
from blackbox_fx.tasks.matching.settled import Determined, determine, simplify, values_at
from blackbox_fx.tasks.matching.target import Loss
from blackbox_fx.tasks.matching.taste import Preference

Array = NDArray[np.float64]

HYBRID, ADAM = "hybrid", "adam"
SEARCH_FILE = "search.safetensors"
_LONGEST_S = 10.0  # of what is compared in the search
_FINISH = 0.5  # of the renders of the search, for its last steps


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Match:
    """Settings that were found.

    Args:
        chain: all effects as one, with a switch for each if it may be bypassed, and the order if that was searched.
        effects: in series, by label, as they were given.
        params: the settings as columns of the chain, (width,) in [0, 1].
        settings: of each effect by label, in physical units, in the order in which they render; effects that are
            bypassed are missing.
        loss: at the settings.
        before: the loss at the defaults.
        renders: passes through the chain that the search took, without those of the last two steps: defaults where
            they do as well, and how well settings are determined.
        seconds: of the search, of which `rendering` were spent in effects and `comparing` in the loss.
        rendering, comparing: seconds.
        failures: renders that failed, each of which cost one render.
        trace: how the best loss fell.
        determined: how well each setting is known; empty if the search was interrupted.
        interrupted: whether the user stopped it.
        start: first sample of the excerpt of the dry recording that was rendered.
        sample_rate: in Hz.
        channels: of what the search rendered: 2 for a mono recording with a stereo reference, sample by sample.
    """

    chain: Effect
    effects: Mapping[str, Effect]
    params: Tensor
    settings: dict[str, dict[str, Any]]
    loss: float
    before: float
    renders: float
    seconds: float
    rendering: float
    comparing: float
    failures: int
    trace: tuple[Progressed, ...]
    determined: tuple[Determined, ...]
    interrupted: bool
    start: int
    sample_rate: float
    channels: int

    def render(self, dry: Any) -> Audio:
        """Audio, (channel, time), through the chain at these settings, as the search rendered it.

        Args:
            dry: (channel, time); mono is rendered on both sides where the search did so for a stereo reference.
        """
        audio = check_audio(dry)
        audio = to_channels(audio, max(len(audio), self.channels))
        return self.chain.render(audio, self.chain.space.decode(self.params.double().numpy()), self.sample_rate)


def match(
    dry: Any,
    reference: Any,
    chain: Effect | Sequence[Effect] | Mapping[str, Effect],
    *,
    sample_rate: float = 44100,
    loss: str | Loss = ALIGNED,
    renders: float = 700,
    seconds: float = math.inf,
    method: str = HYBRID,
    starts: Sequence[Mapping[str, Mapping[str, Any]]] | Array | None = None,
    prior: Prior | None = None,
    may_bypass: bool = False,
    search_order: bool = False,
    price: float = 0.0,
    excerpt: float = _LONGEST_S,
    pool: Pool | None = None,
    seed: int = 0,
    folder: Path | str | None = None,
    progress: Progress = quiet,
) -> Match:
    """Finds the settings of a chain of effects that make one recording sound like another.

    The best so far is always kept: Ctrl-C ends the search and returns it. A render that fails counts as one, and its
    settings as infinitely bad, unless a pool is given that raises.

    Args:
        dry: (channel, time), mono or stereo.
        reference: what the wet audio shall be or sound like, (channel, time), mono or stereo.
        chain: one effect, or several in the order of the signal. Their free parameters are searched.
        sample_rate: of both, in Hz.
        loss: "aligned" if the reference is the dry recording through unknown settings, sample by sample, see `Aligned`;
            "sound" for any other recording, see `Sound`; or a function or module of wet audio and reference, (1,
            channel, time) each, that gives one number, differentiable or not.
        renders: passes through the chain that may be made; effects that need not be rendered again do not count.
        seconds: that the search may take, without its last steps, which take a third of the renders or less.
        method: "hybrid": a population, then Gauss-Newton from differences, see `Hybrid`; "adam": the gradients that
            layers give by default, which leave choices alone; or the name of any optimiser of nevergrad.
        starts: settings to begin with: mappings like `Match.settings`, or rows (n, width) such as a network gives; each
            takes a render. The defaults are always among them.
        prior: of likely settings, on the columns of the chain.
        may_bypass: whether each effect may be bypassed.
        search_order: whether the order of effects, of at most four, is searched.
        price: of each effect that is used, in units of the loss, so that the smallest chain that does it wins.
        excerpt: seconds that are rendered: the loudest part of the reference, of "sound" of the dry recording, too.
        pool: where effects render; worker processes that skip failures, or threads for effects that cannot crash.
        seed: of all draws.
        folder: keeps what was rendered, so that an interrupted search with the same arguments goes on; None for none.
        progress: called after each job of renders.

    Raises:
        AudioError: bad audio, a silent dry recording, lengths that are not those of an aligned pair.
        ParameterError: an unknown loss or method, bad numbers, starts or prior, a loss that gives no number, a chain
            with nothing free, no time for a single render.
        EffectError: no effect, or one that fails in every render.
        DataError: a folder that holds another search, or cannot be written to.

    >>> import numpy as np, blackbox_fx as bfx
    >>> comp = bfx.load("pedalboard:Gain")
    >>> dry = np.random.default_rng(0).standard_normal((1, 8000)).astype(np.float32) * 0.1
    >>> found = bfx.match(dry, 2 * dry, comp, renders=40)
    >>> round(found.settings["gain"]["gain_db"], 2)
    6.02
    """
    check_numbers(renders, seconds, price, excerpt, seed)
    check_sample_rate(sample_rate)
    if method not in (HYBRID, ADAM):
        check_name(method)
    wanted = ask(dry, reference, chain, float(sample_rate), loss, excerpt, (may_bypass, search_order))
    check_prior(prior, wanted.chain)
    # a search that uses residuals keeps them, and cannot go on from one that does not
    memory = _memory(wanted, loss, folder, price, _said(prior), method == HYBRID)
    taste = Preference(wanted.chain, wanted.effects, price, prior) if price or prior is not None else None
    with _own_pool(wanted.chain) if pool is None else contextlib.nullcontext(pool) as used:
        problem = Problem(
            wanted.chain, wanted.dry, wanted.target, wanted.sample_rate, used, renders, seconds, memory, progress,
            method == HYBRID, taste, pool is None and not wanted.chain.native,
        )  # fmt: skip
        first = starting_points(wanted, starts)
        interrupted = _search(problem, method, first, seed)
        memory.save()
        return _result(wanted, problem, interrupted)


def _said(prior: Prior | None) -> str:
    return "" if prior is None else f"{prior.weight} {digest(prior.mean, prior.covariance)}"


def _own_pool(chain: Effect) -> Pool:
    return Processes(on_failure="skip") if chain.native else Threads()


def _memory(wanted: Wanted, loss: str | Loss, folder: Path | str | None, *further: Any) -> Memory:
    """What a folder keeps of this search."""
    if folder is None:
        return Memory()
    try:
        name = loss if isinstance(loss, str) else hashlib.blake2b(cloudpickle.dumps(loss), digest_size=16).hexdigest()
    except (TypeError, pickle.PicklingError) as error:
        raise ParameterError(
            f"The loss cannot be pickled ({error}), so a folder cannot tell it from others; take folder=None."
        ) from error
    return Memory(Path(folder) / SEARCH_FILE, " ".join(map(str, (wanted.subject, name, *further))))


def _search(problem: Problem, method: str, starts: Array, seed: int) -> bool:
    """Searches until nothing is left; whether the user stopped it."""
    try:
        with _spending():
            if method == HYBRID:
                Hybrid(problem, starts, seed).run()
            elif method == ADAM:
                by_adam(problem, starts, seed)
            else:
                by_nevergrad(problem, method, starts, seed)
    except KeyboardInterrupt:
        if not problem.trace:
            raise
        return True
    return False


@contextlib.contextmanager
def _spending() -> Iterator[None]:
    with contextlib.suppress(Spent):
        yield


def _result(wanted: Wanted, problem: Problem, interrupted: bool) -> Match:
    if not problem.trace:
        raise _nothing(problem)
    renders, seconds = problem.renders, problem.clock.total
    rendering, comparing = problem.clock.rendering, problem.clock.comparing
    space, point, found = wanted.chain.space, problem.best, list[Determined]()
    loss, before = problem.loss, problem.memory.get(space.encode())
    trace = tuple(problem.trace)
    if not interrupted:
        try:
            point, found, loss = _finish(problem, space.snap(point[None])[0])
        except KeyboardInterrupt:
            interrupted = True
    values = values_at(space, point)
    return Match(
        wanted.chain, wanted.effects, torch.from_numpy(point), nested(wanted.effects, values), loss,
        float(before.parts.sum()) if before is not None else math.nan, renders, seconds, rendering, comparing,
        problem.failures, trace, tuple(found), interrupted, wanted.start, wanted.sample_rate,
        len(wanted.dry),
    )  # fmt: skip


def _nothing(problem: Problem) -> BlackBoxError:
    """Why there is no best point."""
    if not problem.renders:
        return ParameterError(f"seconds={problem.seconds:g} was over before the first render; give more.")
    if problem.failures:
        last = f", the last one because {problem.why}" if problem.why else ""
        return EffectError(
            f"Every render failed, {problem.failures} of them{last}; see blackbox-fx check for the effects."
        )
    return ParameterError("The loss was NaN or infinite for every render, so none is best; mend the loss.")


def _finish(problem: Problem, point: Array) -> tuple[Array, list[Determined], float]:
    """Sets back what may stand at its default; the point, how well it is determined, and its loss."""
    problem.allowed = problem.renders + max(_FINISH * problem.renders, 4.0 * len(point) + 20)
    problem.seconds, problem.wants_residuals, problem.memory = math.inf, problem.target.has_residuals, Memory()
    point = simplify(problem, point)
    few = sum(len(option.values) for option in problem.options)
    problem.allowed = problem.renders + 2 * len(problem.continuous) + few + 3
    return point, determine(problem, point), float(problem.evaluate(point[None]).losses[0])
