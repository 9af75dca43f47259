"""The audio rules that were chosen for an effect, kept on disk."""

from __future__ import annotations

import dataclasses
import logging
from typing import final

from blackbox_fx.core import cache

_log = logging.getLogger("blackbox_fx")
_FOLDER, _FORMAT = "audio_rules", 1


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
    """

    effect: str
    rules: tuple[str, ...]
    scores: dict[str, float]
    cosine: float
    error: float
    differentiable: bool
    size: float

    def __str__(self) -> str:
        """One line to read."""
        kind = "" if self.differentiable else f", no derivative: smoothed over changes of {self.size:.0%} of the level"
        return f"{' or '.join(self.rules)}: cosine {self.cosine:.3f} +- {self.error:.3f}{kind}"


def load(key: str) -> Certificate | None:
    """The certificate that was kept under a key; None if there is none that can be read."""
    data = cache.load(_FOLDER, key)
    try:
        if data is None or data["format"] != _FORMAT:
            return None
        return Certificate(
            effect=str(data["effect"]),
            rules=tuple(str(rule) for rule in data["rules"]),
            scores={str(rule): float(score) for rule, score in data["scores"].items()},
            cosine=float(data["cosine"]),
            error=float(data["error"]),
            differentiable=bool(data["differentiable"]),
            size=float(data["size"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("Cannot read %s (%s); the effect is measured again.", cache.where(_FOLDER, key), error)
        return None


def save(key: str, certificate: Certificate) -> None:
    """Keeps a certificate."""
    cache.save(_FOLDER, key, {"format": _FORMAT} | dataclasses.asdict(certificate))
