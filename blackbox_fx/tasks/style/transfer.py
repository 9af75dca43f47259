"""Sets a chain by a trained network, so that one recording sounds like another."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.audio import Audio, check_audio, resample
from blackbox_fx.audio.excerpts import loudest
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import Effect, Rack
from blackbox_fx.errors import ParameterError
from blackbox_fx.tasks.matching.arrangement import arrange, nested
from blackbox_fx.tasks.matching.asking import SOUND
from blackbox_fx.tasks.matching.matching import Match, match
from blackbox_fx.tasks.matching.settled import values_at
from blackbox_fx.tasks.matching.target import Sound
from blackbox_fx.tasks.style.levels import level, match_level
from blackbox_fx.tasks.style.styler import Styler

Array = NDArray[np.float64]

_HEARD_S = 10.0  # by which the distance to the reference is measured


def transfer(
    dry: Any,
    reference: Any,
    styler: Styler,
    *,
    sample_rate: float = 44100,
    reference_rate: float | None = None,
    refine: int = 0,
    seed: int = 0,
    progress: Progress = quiet,
) -> Match:
    """Settings by which a recording comes to sound like another, whatever is played in it.

    The network chooses them. A parameter that does nothing but scale, such as the last gain of a chain, is then set so
    that the loudest ten seconds have the level of those of the reference; where there is none, or it does not get
    there, a gain called "level", of -60 to 24 dB, does the rest behind the chain. From there `refine` goes on.

    Args:
        dry: (channel, time), mono or stereo, of any length.
        reference: the same, of any other recording.
        styler: the network and its chain, see `load_styler`.
        sample_rate: of the recording, in Hz; effects render at it.
        reference_rate: of the reference; the same if not given.
        refine: passes through the chain by which `match` goes on from the network's settings, for this pair alone.
        seed: of what is drawn there.
        progress: called after each job of renders.

    Returns:
        the settings; `loss` and `before` are distances of the `Sound` at them and of the untouched recording.

    Raises:
        AudioError: bad or silent audio.
        ParameterError: what is no network, or a wrong number of renders.
        EffectError: an effect that fails.
    """
    if not isinstance(styler, Styler):
        raise ParameterError(f"styler must be what bfx.load_styler gives, got {styler!r:.80}.")
    audio, wanted = check_audio(dry, "the recording"), check_audio(reference, "the reference")
    rate = sample_rate if reference_rate is None else reference_rate
    began = time.monotonic()
    params = styler.choose(audio, wanted, sample_rate, rate).double().numpy()
    (piece, start), (heard, _) = _loudest(audio, sample_rate), _loudest(wanted, rate)
    heard = heard if rate == sample_rate else resample(heard, rate, sample_rate)
    params = Rack(styler.effects).space.snap(params[None])[0]
    effects, params, renders = match_level(styler.effects, params, piece, level(heard), sample_rate)
    params = Rack(effects).space.snap(params[None])[0]
    if refine:
        whole = wanted if rate == sample_rate else resample(wanted, rate, sample_rate)
        return match(
            audio, whole, effects, sample_rate=sample_rate, loss=SOUND, renders=refine, starts=params[None],
            excerpt=_HEARD_S, seed=seed, progress=progress,
        )  # fmt: skip
    found = _judged(piece, heard, effects, params, sample_rate, began)
    return dataclasses.replace(found, renders=found.renders + renders, start=start)


def _judged(
    piece: Audio, heard: Audio, effects: Mapping[str, Effect], params: Array, sample_rate: float, began: float
) -> Match:
    """Settings as they are, and how far the sound of the reference is from them and from the untouched recording."""
    chain = arrange(effects, may_bypass=False, search_order=False)
    target = Sound(heard, sample_rate)
    values = values_at(chain.space, params)
    rendering = time.monotonic()
    wet = chain.render(piece, values, sample_rate)
    rendered = time.monotonic()
    before, loss = (float(target.hear(x)[0].sum()) for x in (piece, wet))
    return Match(
        chain=chain,
        effects=effects,
        params=torch.from_numpy(params),
        settings=nested(effects, values),
        loss=loss,
        before=before,
        renders=1.0,
        seconds=time.monotonic() - began,
        rendering=rendered - rendering,
        comparing=0.0,
        failures=0,
        trace=(),
        determined=(),
        interrupted=False,
        start=0,
        sample_rate=sample_rate,
        channels=len(piece),
    )


def _loudest(audio: Audio, sample_rate: float) -> tuple[Audio, int]:
    """The loudest ten seconds, and where they begin."""
    length = round(_HEARD_S * sample_rate)
    start = loudest(audio, length)
    return audio[:, start : start + length].copy(), start
