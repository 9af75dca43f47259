"""Folders that stand in for the user's home while an LV2 plugin is loaded: the host looks for bundles only there.

The host knows ~/.lv2 and the folders of the system, but not LV2_PATH; and it shows some ports wrongly or not at all,
which a changed copy of the bundle in ~/.lv2 mends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from blackbox_fx.core import paths
from blackbox_fx.effects.hosts.dawdreamer.bundles import changed

# where the host looks
_OWN = (".lv2", "Library/Audio/Plug-Ins/LV2")
_SYSTEM = ("/usr/lib/lv2", "/usr/local/lib/lv2", "/Library/Audio/Plug-Ins/LV2")


@contextlib.contextmanager
def home_for(uri: str, bundle: str, sample_rate: float) -> Iterator[None]:
    """Lets the host find a plugin, in the main thread only.

    Args:
        uri: the plugin.
        bundle: its folder, as it is or to be changed for the host; empty for a plugin of another format.
        sample_rate: in Hz, at which it will run.
    """
    home = _home(uri, bundle, sample_rate) if bundle else None
    before = os.environ.get("HOME")
    if home is None or before is None:
        yield
        return
    os.environ["HOME"] = home
    try:
        yield
    finally:
        os.environ["HOME"] = before


@functools.lru_cache(maxsize=64)
def _home(uri: str, bundle: str, sample_rate: float) -> str | None:
    """A folder with .lv2/bundle; None if the host finds the plugin, and all of it, without one."""
    folder = Path(bundle)
    texts = changed(uri, folder, sample_rate)
    if not texts and folder.parent in (*(paths.home() / name for name in _OWN), *map(Path, _SYSTEM)):
        return None
    home = Path(tempfile.mkdtemp(prefix="blackbox_fx-home-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / ".lv2").mkdir()
    if not texts:
        (home / ".lv2/bundle").symlink_to(folder, target_is_directory=True)
        return str(home)
    (home / ".lv2/bundle").mkdir()
    for path in folder.iterdir():
        if path.name not in texts:
            (home / ".lv2/bundle" / path.name).symlink_to(path)
    for name, text in texts.items():
        (home / ".lv2/bundle" / name).write_text(text)
    return str(home)
