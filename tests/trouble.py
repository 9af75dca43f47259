"""Effects that tests send to workers; they import nothing slow."""

import os
import resource
from pathlib import Path

from blackbox_fx.effects.base import Effect


class Gate(Effect):
    native = True

    def _process(self, audio, blocks, hop, sample_rate):
        with Path(self.log).open("a") as file:
            file.write("x")
        return audio * 0


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
