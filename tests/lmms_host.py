"""LMMS without a window: it renders the projects that tests wrote."""

import os
import subprocess

import soundfile

DEADLINE, TRIES = 60.0, 4


class Lmms:
    """LMMS with a home of its own, so that nothing of the user's is read or written.

    Args:
        home: a new folder.
    """

    def __init__(self, home):
        self.environment = os.environ | {"HOME": str(home), "QT_QPA_PLATFORM": "offscreen"}
        self.environment["LADSPA_PATH"] = os.environ.get("LADSPA_PATH", "/usr/lib/ladspa")
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            self.environment.pop(name, None)

    def render(self, project, target):
        """What a project sounds like, (channel, time), at 44.1 kHz. LMMS may crash after it has written that."""
        how = ("-f", "wav", "-a", "-s", "44100", "-x", "1", "-i", "linear")
        for _ in range(TRIES):
            target.unlink(missing_ok=True)
            command = ("lmms", "--allowroot", "render", project, "-o", target, *how)
            output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            try:
                subprocess.run(command, env=self.environment, timeout=DEADLINE, check=False, **output)
            except subprocess.TimeoutExpired:
                continue
            if target.is_file() and target.stat().st_size > 1000:
                return soundfile.read(target, dtype="float32", always_2d=True)[0].T
        raise AssertionError(f"LMMS rendered nothing of {project} in {TRIES} tries")
