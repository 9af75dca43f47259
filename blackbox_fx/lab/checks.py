"""Checks many effects, and counts which promises are kept."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any, final

from blackbox_fx.effects import scanning
from blackbox_fx.profiling.check import CHECKS, Check
from blackbox_fx.profiling.profiles import check_isolated


def installed_effects() -> list[str]:
    """Addresses of all effects that are installed, of all hosts."""
    return [address for found in scanning.installed().values() for address in found]


@final
@dataclasses.dataclass(frozen=True)
class Checked:
    """The checks of one effect.

    Args:
        address: to `load` it.
        results: name, verdict, value and allowed values of each check.
        refused: why it cannot be loaded; empty if it can.
        seconds: that all took, with loading.
    """

    address: str
    results: Sequence[Sequence[Any]] = ()
    refused: str = ""
    seconds: float = 0.0

    @property
    def checks(self) -> list[Check]:
        """The results as checks."""
        return [Check(*result) for result in self.results]

    @property
    def failed(self) -> list[Check]:
        """Those that are broken."""
        return [check for check in self.checks if check.passed is False]


def measure(address: str, stop: threading.Event, seconds: float) -> Checked:
    """Loads and checks one effect in a process of its own.

    Args:
        address: of the effect.
        stop: ends it when set.
        seconds: length of the clip.
    """
    began, found = time.monotonic(), list[Check]()
    check_isolated(address, seconds, found.append, stop)
    spent = time.monotonic() - began
    if len(found) == 1 and found[0].name == "opens":
        return Checked(address, refused=found[0].value, seconds=spent)
    return Checked(address, [dataclasses.astuple(check) for check in found], seconds=spent)


def count(checked: Sequence[Checked]) -> list[tuple[str, int, int, int]]:
    """For each promise, how many effects keep it, break it, and are not concerned."""
    rows = []
    for name in CHECKS:
        verdicts = [check.passed for one in checked for check in one.checks if check.name == name]
        rows.append((name, verdicts.count(True), verdicts.count(False), verdicts.count(None)))
    return rows
