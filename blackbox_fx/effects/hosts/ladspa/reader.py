"""Whether a LADSPA plugin is ready at once: `isolation.call` runs this module in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.audio import Audio
from blackbox_fx.effects.hosts.ladspa.effect import LADSPA
from blackbox_fx.effects.hosts.ladspa.instance import Instance, Library
from blackbox_fx.effects.hosts.ladspa.ports import RATE
from blackbox_fx.effects.native import same_arithmetic
from blackbox_fx.effects.ordering import is_stepped, positions
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.effects.settling import GROWN, difference, longest

_SEVERAL = 4  # random settings
_LENGTH = 4096  # samples of a clip
_EQUAL, _NEAR = 1e-6, 1e-3  # relative to the largest sample
_OPTIONS = 96  # positions of options that are tried
_ENOUGH = 4  # settings that take time, of which it is measured how much


@final
class _Examined(LADSPA):
    """A plugin that is made in this process."""

    def _learn(self) -> None:
        pass

    def find_forgets(self, library: Library) -> bool:
        """False, for what is forgotten is no matter here."""
        return False

    def find_first(self, library: Library) -> list[int]:
        """None, for the order of settings is no matter here."""
        return []

    def late(self, rows: Sequence[Settings], audio: Audio, report: Callable[[Any], None]) -> list[Settings]:
        """Which of these settings sound differently a while after a new instance was given them."""
        with self.handle() as library, same_arithmetic():
            instances, young = list[Instance](), list[Audio]()
            for row in rows:
                instances.append(self.new_instance(library.plugin, row, RATE))
                _heard(instances[-1], np.zeros_like(audio))
                young.append(_heard(instances[-1], audio))
                report("heard")
            time.sleep(GROWN)
            grown = [_heard(instance, audio) for instance in instances]
            for instance in instances:
                instance.free()
        return [row for row, a, b in zip(rows, young, grown, strict=True) if difference(a, b) > _NEAR]


def _heard(instance: Instance, audio: Audio) -> Audio:
    instance.activate()
    wet = instance.run(audio)
    instance.deactivate()
    return np.nan_to_num(wet)


def _options(effect: LADSPA, settings: Settings) -> list[Settings]:
    """Positions of options, each alone away from these settings."""
    space = effect.space
    ways = [
        {**settings, name: p.decode(np.array([u]))}
        for name, p in space.parameters.items()
        if is_stepped(p.positions)
        for u in positions(p.positions)
        if p.decode(np.array([u])) != settings[name]
    ]
    return ways[:: max(1, -(-len(ways) // _OPTIONS))]


def _reply(name: str, report: Callable[[Any], None]) -> dict[str, Any]:
    effect = _Examined(name)
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (effect.channels, _LENGTH)).astype(np.float32)
    space = effect.space
    several: list[Settings] = [space.complete(space.decode(row)) for row in space.sample(_SEVERAL, 0)]

    def render(settings: Settings, gain: float = 1.0) -> Audio:
        wet = effect.process(RenderRequest(gain * audio, [settings], _LENGTH, RATE))
        report("rendered")
        return np.nan_to_num(wet)

    def at(settings: Settings, age: float) -> Audio:
        effect.settle = age
        return render(settings)

    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (len(effect.ports[0]), _LENGTH)).astype(np.float32)
    late = effect.late([*several, *_options(effect, several[0])], noise, report)
    effect.settle, slow = longest(late[:1] if several[0] in late else late[:_ENOUGH], at)
    if not slow:
        return {"settle": 0.0, "keeps": False}
    several = [*several[:2], *slow]
    fresh = [render(settings) for settings in several]
    effect.keeps = True
    for settings in several:
        render(settings, 4.0)
    again = [render(settings) for settings in several]
    return {"settle": effect.settle, "keeps": max(map(difference, fresh, again)) <= _EQUAL}


if __name__ == "__main__":
    isolation.answer(_reply)
