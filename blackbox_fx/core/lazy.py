"""Packages that take long to import, loaded when a name of theirs is first used."""

from __future__ import annotations

from typing import Any

import lazy_loader

scipy: Any = lazy_loader.load("scipy")
