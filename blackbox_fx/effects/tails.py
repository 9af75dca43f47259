"""What an effect still sounds after its input has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects.request import RenderRequest

LONGEST = 10.0  # seconds that are appended at most
_QUIET = 1e-4  # of the loudest sample: 80 dB below it


def render_with_tail(run: Callable[[RenderRequest], Audio], request: RenderRequest, known: float | None) -> Audio:
    """Renders a request with what sounds after its end.

    Where it is not known how long that is, the longest tail is rendered and cut: after a silence there may be an echo.

    Args:
        run: renders a request.
        request: without the tail.
        known: how many seconds the effect sounds on at most; None where that is not known.

    Returns:
        (channel, time), at most `LONGEST` seconds longer than the audio.
    """
    seconds = LONGEST if known is None else min(known, LONGEST)
    wet = run(_prolonged(request, round(seconds * request.sample_rate)))
    loud = np.abs(wet).max(axis=0)
    last = np.flatnonzero(loud > _QUIET * loud.max(initial=0.0))
    end = max(request.audio.shape[1], int(last[-1]) + 1 if len(last) else 0)
    return np.ascontiguousarray(wet[:, :end])


def _prolonged(request: RenderRequest, samples: int) -> RenderRequest:
    """The request with this many samples of silence after it, at its last settings."""

    def prolong(audio: Audio) -> Audio:
        return np.pad(audio, ((0, 0), (0, samples)))

    audio = prolong(request.audio)
    inputs = {name: prolong(given) for name, given in request.inputs.items()}
    if len(request.blocks) == 1:
        return dataclasses.replace(request, audio=audio, inputs=inputs, hop=audio.shape[1])
    missing = -(-audio.shape[1] // request.hop) - len(request.blocks)
    blocks = [*request.blocks, *[request.blocks[-1]] * missing]
    return dataclasses.replace(request, audio=audio, inputs=inputs, blocks=blocks)
