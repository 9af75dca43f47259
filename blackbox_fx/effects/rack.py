"""Several effects in series as one opaque effect."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import final

from blackbox_fx.audio import Audio
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.request import RenderRequest
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Space


def label(names: Sequence[str]) -> list[str]:
    """Labels for effects, or whatever else stands in a row, by their names; numbered where a name repeats."""
    labels: list[str] = []
    for name in names:
        stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.split("[:/#]", name)[-1].removesuffix(".vst3")).lower()
        count = sum(re.fullmatch(rf"{re.escape(stem)}(_\d+)?", other) is not None for other in labels)
        labels.append(f"{stem}_{count + 1}" if count else stem)
    return labels


@final
class Rack(Effect):
    """Several effects in series as one opaque effect, whose parameters are named label.parameter, and inputs alike.

    Args:
        effects: in the order of the signal; a mapping gives them labels, a sequence labels them by their names.
        name: for tables and errors.

    Raises:
        EffectError: no effect, or something that is not one.

    >>> from blackbox_fx.effects import load
    >>> Rack({"eq": load("pedalboard:LowpassFilter"), "comp": load("pedalboard:Compressor").only("ratio")}).space.free
    ('eq.cutoff_frequency_hz', 'comp.ratio')
    """

    def __init__(self, effects: Mapping[str, Effect] | Sequence[Effect], name: str = "rack") -> None:
        labelled = _labelled(effects)
        parameters = {f"{m}.{n}": p for m, e in labelled.items() for n, p in e.space.parameters.items()}
        if len(parameters) < sum(len(e.space.parameters) for e in labelled.values()):
            raise EffectError(
                f"Two parameters of this Rack get the same name; label its members {list(labelled)} otherwise."
            )
        free = [f"{m}.{n}" for m, e in labelled.items() for n in e.space.free]
        super().__init__(name, Space(parameters, free))
        self._members = labelled
        # a member that cannot change during a clip says so itself, when its own settings are asked to
        self.automatable = any(e.automatable for e in labelled.values())
        self.native = any(e.native for e in labelled.values())
        self._take_over(labelled)

    def _take_over(self, members: Mapping[str, Effect]) -> None:
        """Traits of the members, which are kept only where they are unusual, since they are part of the fingerprint."""
        if inputs := tuple(f"{label}.{name}" for label, e in members.items() for name in e.inputs):
            self.inputs = inputs
        if settle := max(e.settle for e in members.values()):
            self.settle = settle

    @property
    def members(self) -> Mapping[str, Effect]:
        """The effects in series, by label."""
        return self._members

    def find_hop_multiple(self) -> int:
        """The least that suits all members that can change during a clip."""
        return math.lcm(*(effect.find_hop_multiple() for effect in self._members.values() if effect.automatable))

    def output_channels(self, channels: int) -> int:
        """How many channels the last effect gives."""
        for effect in self._members.values():
            channels = effect.output_channels(channels)
        return channels

    def version(self) -> bytes:
        """The versions of all members."""
        return b"".join(effect.version() for effect in self.members.values())

    def open_handle(self) -> None:
        """Opens all members."""
        for effect in self.members.values():
            effect.open()

    def process(self, request: RenderRequest) -> Audio:
        """Renders a request; see `Effect.process`."""
        audio, blocks, hop, sample_rate = request.audio, request.blocks, request.hop, request.sample_rate
        own = {m: [{n: b[f"{m}.{n}"] for n in e.space.parameters} for b in blocks] for m, e in self._members.items()}
        if len(blocks) == 1:
            stages = [e.pedalboard_stage(own[label][0], sample_rate) for label, e in self._members.items()]
            square = audio.shape[0] == audio.shape[1]  # pedalboard cannot distinguish its channels from its samples
            if all(stage is not None for stage in stages) and not square:
                # one pass through memory for all of them, in place, instead of one for each
                from pedalboard._pedalboard import Pedalboard

                return Pedalboard(stages).process(audio, sample_rate, reset=True)
        for label, effect in self._members.items():
            varying = own[label] if len(blocks) > 1 else own[label][0]
            further = {name: request.inputs[f"{label}.{name}"] for name in effect.inputs}
            audio = effect.run(effect.request(audio, varying, sample_rate, hop if len(blocks) > 1 else None, further))
        return audio


def _labelled(effects: Mapping[str, Effect] | Sequence[Effect]) -> dict[str, Effect]:
    """Effects by label. Raises EffectError if there are none, or something else is among them."""
    given = list(effects.values() if isinstance(effects, Mapping) else effects)
    wrong = [f"{e!r:.80}" for e in given if not isinstance(e, Effect)]
    if wrong or not given:
        raise EffectError(f"A Rack needs one or more effects, got {wrong[0] if wrong else 'none'}; use bfx.load.")
    if isinstance(effects, Mapping):
        return dict(effects)
    return dict(zip(label([e.name for e in given]), given, strict=True))
