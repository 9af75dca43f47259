"""Effects that tests send to workers; they import nothing slow."""

import ctypes
import os
import resource
import time
from pathlib import Path

import numpy as np

from blackbox_fx.effects.base import Effect


class Gate(Effect):
    native = True

    def process(self, request):
        with Path(self.log).open("a") as file:
            file.write("x")
        return request.audio * 0


def fussy(audio, sample_rate, a, b, c):
    """Fails for audio that begins with 1 once a parameter leaves the middle; for 2 always."""
    if audio[0, 0] == 2 or (audio[0, 0] == 1 and not a == b == c == 0.5):
        raise ValueError("on purpose")
    return audio * (a + b * b - c)


def environment_of(audio, sample_rate):
    lines = [f"{k}={v}" for k, v in os.environ.items()]
    limits = [resource.getrlimit(k) for k in (resource.RLIMIT_CORE, resource.RLIMIT_CPU)]
    Path(os.environ["XDG_SEEN"]).write_text("\n".join([*lines, f"core {limits[0]}", f"cpu {limits[1][0]}"]))
    return audio * 0.5


def mixed(audio, sample_rate, gain_db, freq_hz, drive, order, on, kind):
    """Smooth in every continuous and integer parameter; kind and on switch."""
    y = np.tanh(audio * drive) / drive * 10 ** (gain_db / 20)
    y = y * (1 + 0.1 * order) * (1.3 if on else 0.8) * {"low": 0.5, "band": 1.0, "high": 1.2}[kind]
    return y + 0.01 * np.log(freq_hz) * audio


def misbehave(audio, sample_rate, mode, sleep_ms=0):
    time.sleep(sleep_ms / 1000)
    if mode == 1:
        ctypes.string_at(0)
    if mode == 2:
        os.abort()
    if mode == 3:
        time.sleep(600)  # longer than a test may take
    if mode == 4:
        raise ValueError("no such mode")
    if mode == 5:
        return audio * np.nan
    return audio * 0.5


def meet(me, other, audio, sample_rate):
    """Renders only once another one does, which has made its file."""
    me.touch()
    while not other.exists():
        time.sleep(0.01)
    return audio


def fails_above(audio, sample_rate, gain):
    if gain > 0.5:
        raise ValueError("too loud")
    return audio * gain


kept = []


def unruly(audio, sample_rate, mode, at, once=""):
    """Gain by `at`, but at 0.5 trouble, the first time only with a path, and from 0.8 a leak or a pause."""
    if abs(at - 0.5) < 1e-9 and not (once and Path(once).exists()):
        if once:
            Path(once).touch()
        if mode == 0:
            os.abort()
        if mode == 1:
            time.sleep(1000)
        if mode == 2:
            return audio * np.nan
    if mode == 3 and at >= 0.8:
        kept.append(np.ones(2**21))
    if mode == 4 and at >= 0.8:
        time.sleep(0.06)
    return audio * at
