"""Checks whether an effect keeps the promises that every effect must keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import final

from blackbox_fx.effects import Effect
from blackbox_fx.profiling.habits import HABITS
from blackbox_fx.profiling.promises import PROMISES, Outcome, Trial

CHECKS: dict[str, Callable[[Trial], Outcome]] = PROMISES | HABITS


@final
@dataclasses.dataclass(frozen=True)
class Check:
    """Result of the check of one promise.

    Args:
        name: such as "used equals fresh".
        passed: whether the promise is kept; None where it does not apply to the effect.
        value: the measured value, or the error.
        allowed: the values that pass.
    """

    name: str
    passed: bool | None
    value: str
    allowed: str


@final
@dataclasses.dataclass(frozen=True)
class Report:
    """Results of `check_effect`.

    Args:
        effect: its name.
        checks: one for each promise.
    """

    effect: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no promise is broken."""
        return all(check.passed is not False for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The promises that are broken."""
        return tuple(check for check in self.checks if check.passed is False)


def run(effect: Effect, seconds: float = 0.5, names: Collection[str] = CHECKS) -> Iterator[Check]:
    """The checks of these names, one by one; see `check_effect`."""
    try:
        trial = Trial(effect, seconds)
    except Exception as error:
        yield Check("settings", False, f"{type(error).__name__}: {error}", "settings from the space")
        return
    for name in names:
        try:
            yield Check(name, *CHECKS[name](trial))
        except (Exception, SystemExit) as error:
            yield Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}", "no error")


def check_effect(effect: Effect, seconds: float = 0.5) -> Report:
    """Checks whether an effect keeps the promises of `Effect`: for authors of new hosts, and to examine a plugin.

    Everything runs in this process, on the main thread; a plugin that crashes ends it. `blackbox-fx check` runs it in
    a process of its own.

    Args:
        effect: any.
        seconds: length of the clip.

    Returns:
        A `Report`: `passed`, and a `Check` for shape, type, range, purity (used equals fresh, A after B is A, no
        residue of loud audio), cutting, mono and stereo, lengths, sample rates, pickling, the space, and threads.

    >>> from blackbox_fx.effects import load
    >>> check_effect(load("pedalboard:Gain"), seconds=0.1).passed
    True
    """
    return Report(effect.name, tuple(run(effect, seconds)))


def table(checks: Sequence[Check]) -> list[tuple[str, str, str, str]]:
    """Rows of name, verdict, value and what is allowed."""
    words = {True: "pass", False: "FAIL", None: "-"}
    return [(c.name, words[c.passed], c.value, c.allowed) for c in checks]
