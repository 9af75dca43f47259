"""Chains whose order is searched, and whose effects may be bypassed, as effects with parameters of their own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, final

from blackbox_fx.audio import Audio, to_channels
from blackbox_fx.core.hints import override
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.rack import Rack
from blackbox_fx.effects.request import RenderRequest
from blackbox_fx.errors import ParameterError
from blackbox_fx.space import Choice, Space, Toggle

ON, ORDER = "on", "order"
_MOST = 4  # effects whose order is searched, which have 24 orders
_BETWEEN = " > "


@final
class Switched(Effect):
    """An effect with a switch of its own, beside its parameters.

    Args:
        effect: that is heard where the switch is on.
    """

    def __init__(self, effect: Effect) -> None:
        parameters = {ON: Toggle(default=True), **effect.space.parameters}
        super().__init__(effect.name, Space(parameters, (ON, *effect.space.free)))
        self.effect, self.native, self.settle = effect, effect.native, effect.settle
        self.automatable = False

    @override
    def output_channels(self, channels: int) -> int:
        return self.effect.output_channels(channels)

    @override
    def version(self) -> bytes:
        return self.effect.version()

    @override
    def open_handle(self) -> None:
        self.effect.open()

    @override
    def process(self, request: RenderRequest) -> Audio:
        values = dict(request.blocks[0])
        if not values.pop(ON):
            return to_channels(request.audio, self.output_channels(len(request.audio))).copy()
        return self.effect.run(self.effect.request(request.audio, values, request.sample_rate))


@final
class Ordered(Effect):
    """Effects in series, in an order that is a parameter.

    Args:
        effects: by label, in the order to begin with.

    Raises:
        ParameterError: more than four effects.
    """

    def __init__(self, effects: Mapping[str, Effect]) -> None:
        if len(effects) > _MOST:
            raise ParameterError(
                f"The order of at most {_MOST} effects can be searched, got {len(effects)}; take fewer."
            )
        rack = Rack(effects)
        orders = tuple(_BETWEEN.join(each) for each in itertools.permutations(effects))
        parameters = {**rack.space.parameters, ORDER: Choice(orders, default=orders[0])}
        super().__init__("chain in any order", Space(parameters, (*rack.space.free, ORDER)))
        self.effects, self.native, self.settle = dict(effects), rack.native, rack.settle
        self.automatable = False

    @override
    def output_channels(self, channels: int) -> int:
        for effect in self.effects.values():
            channels = effect.output_channels(channels)
        return channels

    @override
    def version(self) -> bytes:
        return b"".join(effect.version() for effect in self.effects.values())

    @override
    def open_handle(self) -> None:
        for effect in self.effects.values():
            effect.open()

    @override
    def process(self, request: RenderRequest) -> Audio:
        values, audio = request.blocks[0], request.audio
        for label in str(values[ORDER]).split(_BETWEEN):
            effect = self.effects[label]
            own = {name: values[f"{label}.{name}"] for name in effect.space.parameters}
            audio = effect.run(effect.request(audio, own, request.sample_rate))
        return audio


def arrange(effects: Mapping[str, Effect], may_bypass: bool, search_order: bool) -> Effect:
    """One effect of several in series.

    Args:
        effects: by label.
        may_bypass: whether each gets a switch.
        search_order: whether their order is a parameter; of at most four.
    """
    members = {label: Switched(e) for label, e in effects.items()} if may_bypass else dict(effects)
    return Ordered(members) if search_order else Rack(members)


def nested(effects: Mapping[str, Effect], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each effect in the order in which they render, without those that are bypassed.

    Args:
        effects: by label, as given to `arrange`.
        values: of the arranged effect.
    """
    order = str(values[ORDER]).split(_BETWEEN) if ORDER in values else list(effects)
    used = [label for label in order if values.get(f"{label}.{ON}", True)]
    return {
        label: {n: values[f"{label}.{n}"] for n in effects[label].space.parameters if f"{label}.{n}" in values}
        for label in used
    }


def count_used(values: Mapping[str, Any], effects: Mapping[str, Effect]) -> int:
    """How many effects are not bypassed."""
    return sum(bool(values.get(f"{label}.{ON}", True)) for label in effects)
