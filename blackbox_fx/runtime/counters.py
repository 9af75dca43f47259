"""What a pool counts."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, final


@final
@dataclasses.dataclass(frozen=True)
class Counters:
    """What a pool did since it was made, or since `Pool.reset_counters`.

    Attributes:
        renders: that were asked for and made.
        seconds: of rendering, summed over workers.
        crashes: workers that ended in mid-render.
        hangs: renders that outlived their deadline.
        not_finite: renders that came out with NaN or infinity.
        stale: renders that came out silent or dry, where the effect opened anew gave something else, which was taken.
        retries: renders tried once more after one of the first three.
        restarts: workers replaced after one of them.
        recycled: workers replaced since their memory grew.
        skipped: renders given up, whose audio is dry and whose gradient is zero.
        quarantined: settings at which an effect failed twice, and is not rendered any more.
    """

    renders: int = 0
    seconds: float = 0.0
    crashes: int = 0
    hangs: int = 0
    not_finite: int = 0
    stale: int = 0
    retries: int = 0
    restarts: int = 0
    recycled: int = 0
    skipped: int = 0
    quarantined: int = 0

    @property
    def has_failures(self) -> bool:
        """Whether anything but renders happened."""
        return any(vars(self)[name] for name in vars(self) if name not in ("renders", "seconds"))

    def __str__(self) -> str:
        """One line, without what did not happen."""
        words = [
            f"{value} {name.replace('_', ' ')}" for name, value in vars(self).items() if value and name != "seconds"
        ]
        return ", ".join([*words, f"{self.seconds:.3g} s of rendering"])


@final
class Tally:
    """Counters that go on counting, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Counters()

    def add(self, **counts: Any) -> None:
        """Adds to the counters of these names."""
        with self._lock:
            self._now = dataclasses.replace(
                self._now, **{name: getattr(self._now, name) + n for name, n in counts.items()}
            )

    @property
    def now(self) -> Counters:
        """The counters as they are."""
        return self._now

    def reset(self) -> None:
        """Begins again at zero."""
        with self._lock:
            self._now = Counters()
