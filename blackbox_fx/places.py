"""Where a user's files are, also for a user without a home, as in some containers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs


def cache() -> Path:
    """The folder for what was measured; for a user without a home, one for temporary files."""
    try:
        return platformdirs.user_cache_path("blackbox_fx")
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"blackbox_fx-cache-{os.getuid()}"


def data() -> Path:
    """The folder for what a user keeps; for a user without a home, one for temporary files."""
    try:
        return platformdirs.user_data_path("blackbox_fx")
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"blackbox_fx-data-{os.getuid()}"


def home() -> Path:
    """The user's home, or the root of the file system."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
