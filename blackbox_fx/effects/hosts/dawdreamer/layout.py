"""Which channels of a processor take the audio, which its side chain, and what comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import final

import numpy as np

from blackbox_fx.audio import Audio


@final
@dataclasses.dataclass(frozen=True)
class Layout:
    """The channels of a processor.

    Args:
        inputs: how many it takes.
        outputs: how many it gives.
        main: those of its inputs that take the audio, one or two.
        side: those that take the side chain, none, one or two. All others get silence.
    """

    inputs: int
    outputs: int
    main: tuple[int, ...]
    side: tuple[int, ...] = ()

    @classmethod
    def of(cls, inputs: int, outputs: int, side: Sequence[int] = ()) -> Layout:
        """The layout where all inputs but those of the side chain take the audio, as far as two of them."""
        main = [k for k in range(inputs) if k not in side]
        return cls(inputs, outputs, tuple(main[:2]), tuple(side))

    @property
    def channels(self) -> int:
        """Of the audio that goes through at once, 1 or 2."""
        return 1 if len(self.main) == self.outputs == 1 else 2

    def feed(self, audio: Audio, key: Audio) -> Audio:
        """What the processor takes, (inputs, time), for audio and side chain of one or two channels.

        Two inputs get left and right, or mono audio both; one input gets the mean of the channels. Where that is the
        audio as it is, no copy is made.
        """
        if self.main == (0, 1) and self.inputs == len(audio) == 2:
            return audio
        fed = np.zeros((self.inputs, audio.shape[1]), np.float32)
        for places, sound in ((self.main, audio), (self.side, key)):
            if places:
                fed[list(places)] = sound if len(places) == 2 else sound.mean(axis=0)
        return fed

    def output(self, wet: Audio, channels: int) -> Audio:
        """As many channels of what the processor gives: the left one for mono; a single one stands for both."""
        return wet[:channels] if len(wet) >= channels else np.broadcast_to(wet[:1], (channels, wet.shape[1]))
