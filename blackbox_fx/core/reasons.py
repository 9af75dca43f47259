"""Why a file could not be read, in words for an error message."""

from __future__ import annotations

import json


def reason(error: BaseException) -> str:
    """What an exception says of a file, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON: {error}"
    if isinstance(error, KeyError) and error.args:
        return f"{error.args[0]!r} is missing"
    if isinstance(error, (TypeError, AttributeError)):
        return f"it holds something else: {_line(error)}"
    return _line(error)


def _line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
