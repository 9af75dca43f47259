"""Whether a LADSPA plugin is ready at once: `isolation.call` runs this module in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.audio import Audio
from blackbox_fx.effects.hosts.ladspa.effect import LADSPA
from blackbox_fx.effects.hosts.ladspa.ports import RATE
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.effects.settling import difference, settling

_LENGTH = 4096  # samples of a clip
_EQUAL = 1e-6


@final
class _Examined(LADSPA):
    """A plugin that is made in this process."""

    def _learn(self) -> None:
        pass


def _reply(name: str, report: Callable[[Any], None]) -> dict[str, Any]:
    effect = _Examined(name)
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (effect.channels, _LENGTH)).astype(np.float32)
    several: list[Settings] = [effect.space.decode(row) for row in effect.space.sample(2, 0)]

    def render(settings: Settings, gain: float = 1.0) -> Audio:
        wet = effect.process(RenderRequest(gain * audio, [effect.space.complete(settings)], _LENGTH, RATE))
        report("rendered")
        return np.nan_to_num(wet)

    def at(age: float) -> Audio:
        effect.settle = age
        return render(several[0])

    settle = effect.settle = settling(at)
    if not settle:
        return {"settle": 0.0, "keeps": False}
    fresh = [render(settings) for settings in several]
    effect.keeps = True
    for settings in several:
        render(settings, 4.0)
    again = [render(settings) for settings in several]
    return {"settle": settle, "keeps": max(map(difference, fresh, again)) <= _EQUAL}


if __name__ == "__main__":
    isolation.answer(_reply)
