"""What a search is asked: effects, excerpts, what is wanted of them, and where to begin; all of it checked."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.audio import Audio, check_audio, to_channels
from blackbox_fx.audio.excerpts import loudest
from blackbox_fx.core import checks
from blackbox_fx.effects import Effect, Rack
from blackbox_fx.effects.rack import label
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.tasks.matching.arrangement import arrange
from blackbox_fx.tasks.matching.prior import Prior
from blackbox_fx.tasks.matching.target import Aligned, Custom, Loss, Sound, Target

Array = NDArray[np.float64]

ALIGNED, SOUND = "aligned", "sound"
_BEFORE_S = 2.0  # of what is rendered before the excerpt, where there is anything
_LARGEST_SEED = 2**32 - 1


@final
@dataclasses.dataclass(frozen=True)
class Wanted:
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


def check_numbers(renders: Any, seconds: Any, price: Any, excerpt: Any, seed: Any) -> None:
    """Checks the numbers that `match` takes.

    Args:
        renders: see `match`.
        seconds: see `match`.
        price: see `match`.
        excerpt: see `match`.
        seed: see `match`.

    Raises:
        ParameterError: one that is not allowed.
    """
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


def check_prior(prior: Any, chain: Effect) -> None:
    """Raises ParameterError for what is no prior of the columns of a chain."""
    if prior is None:
        return
    if not isinstance(prior, Prior):
        raise ParameterError(f"prior must be a Prior, got {prior!r:.80}; bfx.Prior.of(rows) makes one.")
    if prior.mean.size != chain.space.width:
        raise ParameterError(
            f"The prior has {prior.mean.size} columns and the chain {chain.space.width}; make it of rows of the chain, "
            "which has a switch for each effect that may be bypassed and the order if that is searched."
        )


def ask(
    dry: Any, reference: Any, chain: Any, rate: float, loss: str | Loss, excerpt: float, arranged: tuple[bool, bool]
) -> Wanted:
    """Checks what is asked, and cuts the excerpts that are rendered and compared.

    Args:
        dry: see `match`.
        reference: see `match`.
        chain: see `match`.
        rate: in Hz.
        loss: see `match`.
        excerpt: in seconds.
        arranged: whether effects may be bypassed, and whether their order is searched.

    Raises:
        AudioError, EffectError, ParameterError: see `match`.
    """
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
    return Wanted(effects, whole, audio, target, start, rate, f"{subject}{digest(audio, wanted)}")


def _samples(excerpt: float, rate: float, clips: Sequence[Audio]) -> int:
    return round(min(excerpt * rate, max(x.shape[1] for x in clips)))


def digest(*arrays: Any) -> str:
    """Of the content of arrays."""
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


def starting_points(wanted: Wanted, given: Any) -> Array:
    """Points to begin with, the defaults first, (n, width).

    Args:
        wanted: what is asked.
        given: settings or rows, see `match`; None for none.

    Raises:
        ParameterError: what are no settings, or rows of another width.
    """
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
