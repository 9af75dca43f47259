"""What an effect is asked to render."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import final

from blackbox_fx.audio import Audio
from blackbox_fx.space import Value

Settings = dict[str, Value]
AUDIO = "audio"  # what no further input may be called


@final
@dataclasses.dataclass(frozen=True)
class RenderRequest:
    """One render: checked audio, complete settings, and the sample rate.

    Args:
        audio: (channel, time), float32 and finite.
        blocks: physical values of all parameters by name, one mapping for each block of `hop` samples. There is exactly
            one unless the effect is automatable.
        hop: samples per block; the length of the clip where there is one block.
        sample_rate: in Hz.
        inputs: further inputs by name, such as the key of a compressor, (channel, time) each and as long as the audio.
    """

    audio: Audio
    blocks: Sequence[Settings]
    hop: int
    sample_rate: float
    inputs: Mapping[str, Audio] = dataclasses.field(default_factory=dict[str, Audio])

    @property
    def settings(self) -> Settings:
        """The settings of the first block."""
        return self.blocks[0]
