"""The counters of a pool."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, final

_SINGULAR = {
    "renders": "render",
    "crashes": "crash",
    "hangs": "hang",
    "retries": "retry",
    "restarts": "restart",
}


@final
@dataclasses.dataclass(frozen=True)
class Counters:
    """Events in a pool since it was made, or since `Pool.reset_counters`.

    Args:
        renders: completed renders.
        seconds: of rendering, summed over workers.
        crashes: workers that ended during a render.
        hangs: renders that exceeded their deadline.
        not_finite: renders that gave NaN or infinity.
        stale: renders that were silent or dry until the effect was reopened; the second output was taken.
        retries: renders tried once more after a crash, a hang, NaN or infinity.
        restarts: workers replaced after one of these.
        recycled: workers replaced because their memory grew.
        skipped: renders given up; their audio is dry and their gradient is zero.
        quarantined: settings at which an effect failed twice; they are not rendered any more.
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
        """Whether any counter but those of renders is above zero."""
        return any(vars(self)[name] for name in vars(self) if name not in ("renders", "seconds"))

    def __str__(self) -> str:
        """One line, without counters that are zero."""
        counted = {name: n for name, n in vars(self).items() if n and name != "seconds"}
        nouns = {name: _SINGULAR.get(name, name) if n == 1 else name for name, n in counted.items()}
        words = [f"{n} {nouns[name].replace('_', ' ')}" for name, n in counted.items()]
        return ", ".join([*words, f"{self.seconds:.3g} s of rendering"])


@final
class Tally:
    """Counters that any thread may increase."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = vars(Counters()).copy()

    def add(self, **counts: Any) -> None:
        """Adds to the counters of these names."""
        with self._lock:
            for name, n in counts.items():
                self._counts[name] += n

    @property
    def now(self) -> Counters:
        """The counters as they are."""
        with self._lock:
            return Counters(**self._counts)

    def reset(self) -> None:
        """Sets all counters to zero."""
        with self._lock:
            self._counts.update(vars(Counters()))
