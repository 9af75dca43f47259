"""Effects for tests: one that is right, and one that does what bad plugins do."""

from __future__ import annotations

import ctypes
import os
import time
from typing import final

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.request import RenderRequest
from blackbox_fx.space import Choice, Continuous, Space

_HANG_S = 60.0


@final
class Gain(Effect):
    """The simplest effect: it multiplies the audio by `gain`, in [0, 2].

    >>> Gain().render(np.ones((1, 2), np.float32), {"gain": 0.5}).tolist()
    [[0.5, 0.5]]
    """

    automatable = True
    tail_seconds = 0.0

    def __init__(self) -> None:
        super().__init__("testing:gain", Space({"gain": Continuous(0, 2, default=1)}))

    def process(self, request: RenderRequest) -> Audio:
        """Multiplies each block by its gain."""
        gains = np.repeat([float(settings["gain"]) for settings in request.blocks], request.hop)
        return request.audio * gains[: request.audio.shape[1]].astype(np.float32)


@final
class Misbehaving(Effect):
    """Halves the audio, unless `mode` says what goes wrong instead.

    Modes are "fine", "crash" (a segmentation fault), "abort", "hang" (for a minute), "raise" (a ValueError) and "nan".
    Before it does anything, it sleeps for `sleep_ms`.

    Args:
        native: whether it claims to run foreign code, so that layers render it in worker processes.
    """

    modes = ("fine", "crash", "abort", "hang", "raise", "nan")

    def __init__(self, native: bool = False) -> None:
        parameters = {"mode": Choice(self.modes, "fine"), "sleep_ms": Continuous(0, 60_000, default=0, unit="ms")}
        super().__init__("testing:misbehaving", Space(parameters))
        self.native = native

    def process(self, request: RenderRequest) -> Audio:
        """Does what the mode says."""
        mode = request.settings["mode"]
        time.sleep(float(request.settings["sleep_ms"]) / 1000)
        if mode == "crash":
            ctypes.string_at(0)
        if mode == "abort":
            os.abort()
        if mode == "hang":
            time.sleep(_HANG_S)
        if mode == "raise":
            raise ValueError("on purpose")
        return request.audio * np.float32(np.nan if mode == "nan" else 0.5)
