"""Answers that are kept in the user's cache, one file each."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from blackbox_fx.core import files, paths

_log = logging.getLogger("blackbox_fx")


def load(folder: str, key: Any) -> Any:
    """What `save` wrote under this key, or None; a damaged file counts as none, with a warning."""
    path = where(folder, key)
    try:
        data = json.loads(path.read_text())
        return data["answer"] if data["key"] == json.loads(json.dumps(key)) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        _log.warning("Cannot read %s (%s); what it held is measured again.", path, error)
        return None


def save(folder: str, key: Any, content: Any) -> None:
    """Writes JSON; a cache that cannot be written is logged and does no harm."""
    path = where(folder, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps({"key": key, "answer": content}))
    except OSError as error:
        _log.warning("Cannot write %s (%s); what was measured is not kept.", path, error)


def where(folder: str, key: Any) -> Path:
    """The file of a key."""
    name = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=12).hexdigest()
    return paths.cache() / folder / f"{name}.json"
