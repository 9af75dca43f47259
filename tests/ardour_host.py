"""Ardour without a window: it exports the sessions that tests wrote."""

import os
import subprocess
from pathlib import Path

import soundfile

LIBRARY = Path("/usr/lib/ardour7")
DEADLINE, TRIES = 60.0, 8
SCANNED = ("ZamEQ2", "ZamCompX2", "ZaMaximX2")


class Ardour:
    """Ardour with a home of its own, so that nothing of the user's is read or written.

    Args:
        home: a new folder.
    """

    def __init__(self, home):
        self.environment = os.environ | {
            "HOME": str(home),
            "LD_LIBRARY_PATH": str(LIBRARY),
            "ARDOUR_DATA_PATH": "/usr/share/ardour7",
            "ARDOUR_CONFIG_PATH": "/etc/ardour7",
            "ARDOUR_DLL_PATH": str(LIBRARY),
        }
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            self.environment.pop(name, None)
        for name in SCANNED:
            self._run(LIBRARY / "ardour-vst3-scanner", f"/usr/lib/vst3/{name}.vst3")

    def _run(self, *command):
        output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run(command, env=self.environment, timeout=DEADLINE, check=False, **output).returncode

    def export(self, document, target, is_good):
        """The mix of a session, (channel, time), and its sample rate in Hz.

        About one export in five of Ardour 7.3 ends with its heap damaged, or writes noise; those of sessions that it
        saved itself do, too. So it is tried again until the result is good, which a wrong session never becomes.
        """
        audio = rate = None
        for _ in range(TRIES):
            target.unlink(missing_ok=True)
            command = (LIBRARY / "utils/ardour7-export", "-b", "float", "-o", target, document.parent, document.stem)
            try:
                failed = self._run(*command)
            except subprocess.TimeoutExpired:  # it may hang as well
                continue
            if not failed and target.is_file():
                audio, rate = soundfile.read(target, dtype="float32", always_2d=True)
                if is_good(audio.T):
                    return audio.T, rate
        assert audio is not None, f"Ardour exported nothing of {document} in {TRIES} tries"
        return audio.T, rate
