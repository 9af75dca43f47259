"""Surrogates, which are differentiable models of an effect, as estimators use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from torch import Tensor

Differentiable = Callable[[Tensor, Tensor, float], Tensor]
Pulled = tuple[Tensor | None, Tensor | None]  # gradients of audio and of params


@final
class Pullbacks:
    """The gradients that surrogates gave at one backward pass, so that audio and params share one pass of each.

    Args:
        audio: whether this backward pass will ask a surrogate for the gradient of audio.
        params: whether it will ask one for that of params.
    """

    def __init__(self, audio: bool = False, params: bool = False) -> None:
        self.audio, self.params = audio, params
        self._kept: dict[tuple[int, ...], tuple[tuple[object, ...], Pulled]] = {}

    def keep(self, objects: tuple[object, ...], found: Pulled) -> None:
        """Keeps what was found for a surrogate, an audio and a cotangent."""
        self._kept[tuple(map(id, objects))] = objects, found

    def find(self, objects: tuple[object, ...]) -> Pulled | None:
        """What was kept for the very same objects."""
        return self._kept.get(tuple(map(id, objects)), (None, None))[1]


def surrogate_name(surrogate: Differentiable) -> str:
    """What to call a surrogate in tables and in states."""
    known = (getattr(surrogate, name, None) for name in ("name", "effect_name", "__name__"))
    return str(next((name for name in known if name is not None), type(surrogate).__name__))
