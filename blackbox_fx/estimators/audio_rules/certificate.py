"""The audio rules that were chosen for an effect, kept on disk."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, final

from blackbox_fx.core import cache

_log = logging.getLogger("blackbox_fx")
_FOLDER, _FORMAT = "audio_rules", 5


@final
@dataclasses.dataclass(frozen=True)
class Certificate:
    """The rules that were chosen for an effect, and their scores.

    Args:
        effect: its name.
        rules: chosen, by their text; several if the best one changes with the settings.
        scores: of each rule that was tried, mean over settings: the agreement of its predictions for a random probe
            with the effect's renders, over segments of time; 1 is perfect. A rule is never fitted to this probe.
        cosine: of the chosen rule's gradient to the true one, from random directions it was not chosen on.
        error: standard error of the cosine.
        differentiable: whether the response to small changes of the input is proportional to them. If not, gradients
            are smoothed over changes as large as `size`.
        size: of the probes, against the clip's root mean square.
        surrogate: the name of the surrogate that is used instead of rules, or "".
        milliseconds: that a gradient takes for each item, by the text of rules and the name of surrogates.
    """

    effect: str
    rules: tuple[str, ...]
    scores: dict[str, float]
    cosine: float
    error: float
    differentiable: bool
    size: float
    surrogate: str = ""
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict[str, float])

    @property
    def what(self) -> str:
        """What gives the gradient."""
        return f"Surrogate({self.surrogate})" if self.surrogate else " or ".join(self.rules)

    def lines(self) -> list[tuple[str, ...]]:
        """Headings, then a line for each surrogate and rule that was tried: milliseconds, score, and whether chosen."""
        chosen = {self.surrogate} if self.surrogate else set(self.rules)
        found: list[tuple[str, ...]] = [("audio gradient", "ms an item", "score", "")]
        for name, score in sorted(self.scores.items(), key=lambda pair: -pair[1]):
            ms = self.milliseconds.get(name)
            took = "" if ms is None else f"{ms:.3g}"
            found.append((name, took, f"{score:.3f}", "chosen" if name in chosen else ""))
        return found

    def __str__(self) -> str:
        """One line to read."""
        kind = "" if self.differentiable else f", no derivative: smoothed over changes of {self.size:.0%} of the level"
        return f"{self.what}: cosine {self.cosine:.3f} +- {self.error:.3f}{kind}"


def load(key: str) -> Certificate | None:
    """The certificate that was kept under a key; None if there is none that can be read."""
    data = cache.load(_FOLDER, key)
    try:
        return None if data is None or data["format"] != _FORMAT else from_plain(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("Cannot read %s (%s); the effect is measured again.", cache.where(_FOLDER, key), error)
        return None


def save(key: str, certificate: Certificate) -> None:
    """Keeps a certificate."""
    cache.save(_FOLDER, key, {"format": _FORMAT} | dataclasses.asdict(certificate))


def from_plain(data: Mapping[str, Any]) -> Certificate:
    """The certificate that `dataclasses.asdict` made plain. Raises what a wrong type does."""
    return Certificate(
        effect=str(data["effect"]),
        rules=tuple(str(rule) for rule in data["rules"]),
        scores={str(rule): float(score) for rule, score in data["scores"].items()},
        cosine=float(data["cosine"]),
        error=float(data["error"]),
        differentiable=bool(data["differentiable"]),
        size=float(data["size"]),
        surrogate=str(data["surrogate"]),
        milliseconds={str(name): float(ms) for name, ms in data["milliseconds"].items()},
    )
