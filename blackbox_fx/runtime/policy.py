"""What happens to renders that crash, hang or give NaN, wherever they run: one retry, then an error or a skip."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Literal, final

from blackbox_fx.errors import BlackBoxError, EffectError, MissingHost, NotFinite, RenderTimeout, WorkerDied
from blackbox_fx.runtime.base import Job
from blackbox_fx.runtime.counters import Tally
from blackbox_fx.runtime.quarantine import Quarantine, settings

OnFailure = Literal["raise", "skip"]
Failure = Literal["crashes", "hangs", "not_finite"]  # the names of their counters
FAILURES: dict[Failure, type[BlackBoxError]] = {
    "crashes": WorkerDied,
    "hangs": RenderTimeout,
    "not_finite": NotFinite,
}
OPENING, STARTING = -1, -2  # stand for a render while a worker opens the effect, or starts
_BEFORE = {OPENING: "while it was opened", STARTING: "before it was opened"}
_UNKNOWN, _LEAST, _GENEROUS = 60.0, 20.0, 30.0  # see `Known.deadline`
_log = logging.getLogger("blackbox_fx")


@final
class Known:
    """What a pool has learnt about an effect.

    Attributes:
        pace: the most seconds of rendering for one second of audio; 0 while nothing was rendered.
        recent: the same on average for the latest renders.
        reported: the kinds of trouble that the user was warned of.
    """

    def __init__(self) -> None:
        self.pace = self.recent = 0.0
        self.reported: set[str] = set()

    def deadline(self, seconds: float) -> float:
        """How many seconds a render of this many seconds of audio may take.

        Thirty times what the slowest render so far would have taken, and at least 20; a minute while nothing is known.
        """
        return max(_LEAST, _GENEROUS * self.pace * seconds) if self.pace else _UNKNOWN

    def learn(self, seconds: Sequence[float], length: float) -> None:
        """Takes how many seconds some renders took, each of this many seconds of audio."""
        self.pace = max(self.pace, max(seconds) / length)
        self.recent = sum(seconds) / len(seconds) / length


@final
class RetryPolicy:
    """Decides, for one job, what becomes of renders that failed.

    Args:
        job: what is rendered.
        key: names the effect in the quarantine.
        known: what is known about the effect.
        quarantine: settings that are not rendered any more.
        tally: counts what happens.
        deadline: seconds for one render; measured if None.
        on_failure: what to do about a render that failed twice.

    Attributes:
        errors: of renders that failed and are not skipped, the first first.
    """

    def __init__(
        self,
        job: Job,
        key: str,
        known: Known,
        quarantine: Quarantine,
        tally: Tally,
        deadline: float | None,
        on_failure: OnFailure,
    ) -> None:
        self._job, self._key, self._known = job, key, known
        self._quarantine, self._tally = quarantine, tally
        self._fixed, self._on_failure = deadline, on_failure
        self._losses: Counter[int] = Counter()
        self.errors: list[BlackBoxError] = []

    @property
    def deadline(self) -> float:
        """Seconds that one render may take."""
        return self._fixed or self._known.deadline(self._length)

    @property
    def _length(self) -> float:
        """Seconds of audio in a render."""
        return self._job.audio.shape[-1] / self._job.sample_rate

    def renders_within(self, seconds: float) -> int:
        """How many renders take about this long, at least one; one while nothing is known."""
        return max(1, int(seconds / (self._known.recent * self._length))) if self._known.recent else 1

    def admitted(self) -> list[int]:
        """The renders to make; those whose settings are in quarantine are given up."""
        found = []
        for n in range(len(self._job)):
            if self._job.failed[n]:
                continue
            refusal = self._quarantine.refusal(self._key, self._job, n)
            if refusal is None:
                found.append(n)
            else:
                self.give_up([n], refusal)
        return found

    def succeeded(self, seconds: Sequence[float], stale: int) -> None:
        """Counts renders that were made, each in its number of seconds; stale ones came from a reopened effect."""
        self._tally.add(renders=len(seconds), seconds=sum(seconds), stale=stale)
        self._known.learn(seconds, self._length)
        if stale:
            self._report("stale", f"{self._job.effect.name} came out silent or dry until it was reopened.")

    def retries(self, n: int, failure: Failure, how: str, workers: int = 1) -> bool:
        """Counts a render, or an opening, that ended badly; whether it is tried once more.

        Args:
            n: the render, or OPENING or STARTING.
            failure: what happened.
            how: the same in words, such as "ended its worker by SIGSEGV".
            workers: how many ended so; 0 for a further render that was lost with one.
        """
        self._tally.add(restarts=workers, **{failure: workers})
        self._losses[n] += 1
        if self._losses[n] > 1:
            return False
        self._report(failure, f"{self.describe(n, how)}; another worker takes over.")
        self._tally.add(retries=n >= 0)
        return True

    def failure(self, n: int, failure: Failure, how: str, output: str, notes: Sequence[str]) -> BlackBoxError:
        """The error of what failed twice; its settings go into quarantine, with a report."""
        words = f"{self.describe(n, how)}, twice"
        error = self._quarantine.add(self._key, self._job, n, FAILURES[failure], words, output)
        self._tally.add(quarantined=n >= 0)
        for note in notes:
            error.add_note(note)
        return error

    def give_up(self, renders: Sequence[int], error: BlackBoxError, opening: bool = False) -> bool:
        """Skips renders that failed for good, or keeps the error; whether they were skipped.

        Args:
            renders: that failed.
            error: why.
            opening: whether the effect could not be opened: if it never was, that is an error always.
        """
        skippable = isinstance(error, (EffectError, WorkerDied, RenderTimeout)) and not isinstance(error, MissingHost)
        if self._on_failure == "raise" or not skippable or (opening and not self._known.pace):
            self.errors.append(error)
            return False
        self._job.failed[list(renders)] = True
        self._tally.add(skipped=len(renders))
        self._report(
            "skipped", f"{error} It was skipped: dry audio, no gradient. The pool's counters say how many were."
        )
        return True

    def describe(self, n: int, how: str) -> str:
        """What happened to a render, or an opening, in words."""
        where = f"at {settings(self._job, n)}" if n >= 0 else _BEFORE[n]
        return f"{self._job.effect.name} {how} {where}"

    def _report(self, kind: str, words: str) -> None:
        """Warns of the first of a kind; further ones are counted, and logged as information."""
        _log.log(logging.INFO if kind in self._known.reported else logging.WARNING, "%s", words)
        self._known.reported.add(kind)
