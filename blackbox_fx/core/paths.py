"""Where a user's files are, also for a user without a home, as in some containers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from blackbox_fx.core import system


def cache() -> Path:
    """The folder for what was measured; for a user without a home, one for temporary files."""
    import platformdirs

    try:
        return platformdirs.user_cache_path("blackbox_fx")
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"blackbox_fx-cache-{system.user()}"


def data() -> Path:
    """The folder for what a user keeps; for a user without a home, one for temporary files."""
    import platformdirs

    try:
        return platformdirs.user_data_path("blackbox_fx")
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"blackbox_fx-data-{system.user()}"


def home() -> Path:
    """The user's home, or the root of the file system."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
