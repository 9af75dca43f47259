"""Real effects that are made to crash, hang and give NaN; without torch, since they travel to workers."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Literal, final

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects import Effect, RenderRequest
from blackbox_fx.space import Integer, Space

FAULT, TICKET = "fault", "ticket"
FAULTS = ("none", "crash", "hang", "NaN")
How = Literal["never", "by time", "by settings"]


@final
class Faulty(Effect):
    """A real effect that crashes (1), hangs (2) or gives NaN (3) as its settings ask, once for each ticket.

    Args:
        inner: the effect.
        folder: keeps an empty file for every used ticket.
    """

    native = True

    def __init__(self, inner: Effect, folder: Path) -> None:
        extra = {FAULT: Integer(0, len(FAULTS) - 1, 0), TICKET: Integer(0, 10**9, 0)}
        super().__init__(inner.name, Space({**inner.space.parameters, **extra}))
        self.inner, self.folder = inner, str(folder)

    def open_handle(self) -> None:
        """Opens the real effect."""
        self.inner.open()

    def process(self, request: RenderRequest) -> Audio:
        """Renders, or misbehaves."""
        values = dict(request.settings)
        fault, ticket = values.pop(FAULT), values.pop(TICKET)
        used = Path(self.folder, str(ticket))
        if fault and not used.exists():
            used.touch()
            if fault == 1:
                os.kill(os.getpid(), signal.SIGSEGV)
            while fault == 2:
                time.sleep(0.1)
            return np.full_like(request.audio, np.nan)
        return self.inner.render(request.audio, values, request.sample_rate)


@final
class Crashing(Effect):
    """A real effect that crashes on about one render in `every`.

    Args:
        inner: the effect.
        how: "by time": each process crashes once, at a random one of its renders, so that a second try goes well; or
            "by settings": at a random share of all settings, always; or "never".
        every: renders.
    """

    native = True

    def __init__(self, inner: Effect, how: How, every: int) -> None:
        super().__init__(inner.name, inner.space)
        self.inner, self.how, self.every = inner, how, every

    def open_handle(self) -> list[int]:
        """The number of renders until it crashes."""
        self.inner.open()
        return [random.SystemRandom().randint(1, 2 * self.every)]

    def process(self, request: RenderRequest) -> Audio:
        """Renders, or crashes."""
        settings = request.settings
        with self.handle() as remaining:
            remaining[0] -= 1
            drawn = int.from_bytes(hashlib.blake2b(repr(settings).encode(), digest_size=8).digest())
            if {"never": 1, "by time": remaining[0], "by settings": drawn % self.every}[self.how] == 0:
                os.kill(os.getpid(), signal.SIGSEGV)
        return self.inner.render(request.audio, settings, request.sample_rate)
