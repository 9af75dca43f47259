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
from blackbox_fx.audio.excerpts import loudest
from blackbox_fx.core import checks
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import Effect, Rack
from blackbox_fx.effects.rack import label
from blackbox_fx.errors import AudioError, BlackBoxError, EffectError, ParameterError
from blackbox_fx.runtime import Pool, Processes, Threads
from blackbox_fx.tasks.matching.arrangement import arrange, nested
from blackbox_fx.tasks.matching.hybrid import Hybrid
from blackbox_fx.tasks.matching.memory import Memory
from blackbox_fx.tasks.matching.prior import Prior
from blackbox_fx.tasks.matching.problem import Problem, Progressed, Spent
from blackbox_fx.tasks.matching.searches import by_adam, by_nevergrad, check_name
from blackbox_fx.tasks.matching.settled import Determined, determine, simplify, values_at
from blackbox_fx.tasks.matching.target import Aligned, Custom, Loss, Sound, Target
from blackbox_fx.tasks.matching.taste import Preference

Array = NDArray[np.float64]

ALIGNED, SOUND = "aligned", "sound"
HYBRID, ADAM = "hybrid", "adam"
SEARCH_FILE = "search.safetensors"
_LONGEST_S = 10.0  # of what is compared in the search
_BEFORE_S = 2.0  # of what is rendered before it, where there is anything
_LARGEST_SEED = 2**32 - 1
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


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What a search is asked, checked.

    Args:
        effects: by label.
        chain: of them.
        dry: the excerpt, (channel, time).
        target: what is wanted.
        start: of the excerpt, in samples.
        sample_rate: in Hz.
        subject: what makes the search another one.
    """

    effects: Mapping[str, Effect]
    chain: Effect
    dry: Audio
    target: Target
    start: int
    sample_rate: float
    subject: str


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
    _check_numbers(renders, seconds, price, excerpt, seed)
    check_sample_rate(sample_rate)
    if method not in (HYBRID, ADAM):
        check_name(method)
    wanted = _wanted(dry, reference, chain, float(sample_rate), loss, excerpt, (may_bypass, search_order))
    _check_prior(prior, wanted.chain)
    # a search that uses residuals keeps them, and cannot go on from one that does not
    memory = _memory(wanted, loss, folder, price, _said(prior), method == HYBRID)
    taste = Preference(wanted.chain, wanted.effects, price, prior) if price or prior is not None else None
    with _own_pool(wanted.chain) if pool is None else contextlib.nullcontext(pool) as used:
        problem = Problem(
            wanted.chain, wanted.dry, wanted.target, wanted.sample_rate, used, renders, seconds, memory, progress,
            method == HYBRID, taste, pool is None and not wanted.chain.native,
        )  # fmt: skip
        first = _starts(wanted, starts)
        interrupted = _search(problem, method, first, seed)
        memory.save()
        return _result(wanted, problem, interrupted)


def _said(prior: Prior | None) -> str:
    return "" if prior is None else f"{prior.weight} {_digest(prior.mean, prior.covariance)}"


def _check_numbers(renders: Any, seconds: Any, price: Any, excerpt: Any, seed: Any) -> None:
    for name, value, least in (
        ("renders", renders, 1),
        ("seconds", seconds, 0),
        ("price", price, 0),
        ("excerpt", excerpt, 0.05),
    ):
        if not checks.is_number(value) or not value >= least:
            raise ParameterError(f"{name} must be a number of at least {least}, got {value!r}.")
    if price == math.inf:
        raise ParameterError("price must be a finite number, got inf.")
    if not checks.is_whole(seed) or not 0 <= seed <= _LARGEST_SEED:
        raise ParameterError(f"seed must be a whole number from 0 to {_LARGEST_SEED}, got {seed!r}.")


def _check_prior(prior: Any, chain: Effect) -> None:
    if prior is None:
        return
    if not isinstance(prior, Prior):
        raise ParameterError(f"prior must be a Prior, got {prior!r:.80}; bfx.Prior.of(rows) makes one.")
    if prior.mean.size != chain.space.width:
        raise ParameterError(
            f"The prior has {prior.mean.size} columns and the chain {chain.space.width}; make it of rows of the chain, "
            "which has a switch for each effect that may be bypassed and the order if that is searched."
        )


def _own_pool(chain: Effect) -> Pool:
    return Processes(on_failure="skip") if chain.native else Threads()


def _wanted(
    dry: Any, reference: Any, chain: Any, rate: float, loss: str | Loss, excerpt: float, arranged: tuple[bool, bool]
) -> _Wanted:
    """Checks what is asked."""
    effects = _labelled(chain)
    whole = arrange(effects, *arranged)
    if not whole.space.width:
        raise ParameterError(f"{', '.join(effects)}: no parameter is free, so there is nothing to find; free one.")
    if whole.inputs:
        raise EffectError(f"{whole.inputs[0]} is a further input, which a match cannot give; take an effect without.")
    clips = [check_audio(x, name) for x, name in ((dry, "the dry recording"), (reference, "the reference"))]
    for clip, name in zip(clips, ("dry recording", "reference"), strict=True):
        if len(clip) > 2:
            raise AudioError(f"The {name} has {len(clip)} channels; allowed are 1 and 2.")
        if not np.any(clip):
            raise AudioError(f"The {name} is silent, so no setting is nearer than another; give another one.")
    start, skip, audio, wanted = _excerpts(clips[0], clips[1], loss, _samples(excerpt, rate, clips), rate)
    target = _target(loss, wanted, whole.output_channels(len(audio)), rate, skip)
    subject = f"{whole.fingerprint.hex() if isinstance(whole.fingerprint, bytes) else whole.fingerprint} {rate} "
    return _Wanted(effects, whole, audio, target, start, rate, f"{subject}{_digest(audio, wanted)}")


def _memory(wanted: _Wanted, loss: str | Loss, folder: Path | str | None, *further: Any) -> Memory:
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


def _samples(excerpt: float, rate: float, clips: Sequence[Audio]) -> int:
    return round(min(excerpt * rate, max(x.shape[1] for x in clips)))


def _digest(*arrays: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _labelled(chain: Any) -> dict[str, Effect]:
    """Effects in series by label."""
    if isinstance(chain, Effect):
        return {label([chain.name])[0]: chain}
    if not isinstance(chain, Mapping | Sequence):
        raise EffectError(f"chain must be an effect, or several in a list, got {chain!r:.80}; use bfx.load.")
    given = list(chain.values() if isinstance(chain, Mapping) else chain)
    Rack(given)  # says what is wrong
    return dict(chain) if isinstance(chain, Mapping) else dict(zip(label([e.name for e in given]), given, strict=True))


def _excerpts(
    dry: Audio, reference: Audio, loss: str | Loss, length: int, rate: float
) -> tuple[int, int, Audio, Audio]:
    """Where the excerpt of the dry recording begins, how much of it is not compared, and both excerpts."""
    if loss == SOUND:
        begun, heard = loudest(dry, length), loudest(reference, length)
        return begun, 0, dry[:, begun : begun + length].copy(), reference[:, heard : heard + length].copy()
    if dry.shape[1] != reference.shape[1]:
        lengths = [x.shape[1] / rate for x in (dry, reference)]
        raise AudioError(
            f"The dry recording has {lengths[0]:.2f} s and the reference {lengths[1]:.2f} s, so they are no aligned "
            'pair; cut them alike, or take loss="sound".'
        )
    begun = loudest(reference, length)
    if not np.any(dry[:, begun : begun + length]):
        raise AudioError(f"The dry recording is silent from {begun / rate:.1f} s on, where the reference is loudest.")
    if len(reference) > len(dry):
        dry = to_channels(dry, len(reference))
    # what was played before is heard in echoes and in levels that have not settled
    skip = min(begun, round(_BEFORE_S * rate)) if loss == ALIGNED else 0
    return begun - skip, skip, dry[:, begun - skip : begun + length].copy(), reference[:, begun : begun + length].copy()


def _target(loss: str | Loss, reference: Audio, channels: int, rate: float, skip: int) -> Target:
    if not isinstance(loss, str):
        if not callable(loss):
            raise ParameterError(
                f'loss must be "aligned", "sound" or a function of wet audio and reference, got {loss!r}.'
            )
        return Custom(loss, reference)
    if loss == SOUND:
        return Sound(reference, rate)
    if loss != ALIGNED:
        raise ParameterError(f'Unknown loss {loss!r}; known are "aligned" and "sound", and any function.')
    return Aligned(reference if len(reference) <= channels else reference.mean(0, keepdims=True), rate, skip)


def _starts(wanted: _Wanted, given: Any) -> Array:
    """Points to begin with, the defaults first."""
    space = wanted.chain.space
    defaults = space.encode()
    if given is None:
        return defaults[None]
    if isinstance(given, np.ndarray | Tensor):
        rows = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, np.float64)
        if not rows.ndim or rows.shape[-1] != space.width or not np.isfinite(rows).all():
            raise ParameterError(f"starts must be finite rows of {space.width} columns, got the shape {rows.shape}.")
        return np.vstack([defaults[None], space.snap(rows.reshape(-1, space.width))])
    if isinstance(given, Mapping | str) or not all(_is_nested(one) for one in given):
        raise ParameterError(
            f"starts must be a list of settings by effect, such as [found.settings], or an array, got {given!r:.80}."
        )
    flat = [{f"{m}.{n}": v for m, own in one.items() for n, v in own.items()} for one in given]
    rows = np.array([space.encode(one) for one in flat]).reshape(-1, space.width)
    return np.vstack([defaults[None], space.snap(rows)])


def _is_nested(settings: Any) -> bool:
    return isinstance(settings, Mapping) and all(isinstance(own, Mapping) for own in settings.values())


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


def _result(wanted: _Wanted, problem: Problem, interrupted: bool) -> Match:
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
