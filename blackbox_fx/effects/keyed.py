"""An effect seen from one of its further inputs."""

from __future__ import annotations

import dataclasses
from typing import final

from blackbox_fx.audio import Audio
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.request import AUDIO, RenderRequest


@final
class Keyed(Effect):
    """An effect as a function of one of its further inputs: that input is its audio, and the audio an input.

    The gradient of the effect's output with respect to the input is that of this effect with respect to its audio.

    Args:
        effect: one that has the input.
        name: of the input, such as "sidechain".
        channels: of the audio.
    """

    def __init__(self, effect: Effect, name: str, channels: int) -> None:
        super().__init__(f"the {name} of {effect.name}", effect.space)
        self._effect, self._name, self._channels = effect, name, channels
        self.inputs = (AUDIO, *(other for other in effect.inputs if other != name))
        self.native, self.automatable = effect.native, effect.automatable

    def version(self) -> bytes:
        """That of the effect."""
        return self._effect.version()

    def open_handle(self) -> None:
        """Opens the effect."""
        self._effect.open()

    def output_channels(self, channels: int) -> int:
        """As many as the effect gives for its audio, whatever the input has."""
        return self._effect.output_channels(self._channels)

    def process(self, request: RenderRequest) -> Audio:
        """Renders a request; see `Effect.process`."""
        others = {name: given for name, given in request.inputs.items() if name != AUDIO}
        inputs = {**others, self._name: request.audio}
        return self._effect.process(dataclasses.replace(request, audio=request.inputs[AUDIO], inputs=inputs))
