"""The members of a layer in series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

from torch import Tensor

from blackbox_fx.layers.automation import Curves, call_layer
from blackbox_fx.layers.bypass import ON, Switched
from blackbox_fx.layers.chain import Chain, Dry


@final
class Member(NamedTuple):
    """One layer of several in series, with what it is called with beside audio.

    Args:
        label: such as "comp"; empty for a layer that stands alone.
        layer: that is called.
        params: (1, its width).
        inputs: its further inputs, by name.
        curves: by its own columns.
        on: whether no switch leaves it out.
        why: why a session cannot hold it as a plugin, as a part of a sentence; empty if it can.
    """

    label: str
    layer: Any
    params: Tensor
    inputs: Mapping[str, Tensor]
    curves: Curves
    on: bool = True
    why: str = ""

    @property
    def name(self) -> str:
        """Label and effect, for people."""
        effect = getattr(self.layer, "effect", None) or getattr(self.layer, "model", None)
        kind = getattr(effect, "name", type(self.layer).__name__)
        return f"{self.label} ({kind})" if self.label else kind


def in_series(
    layer: Any, params: Tensor, inputs: Mapping[str, Tensor], curves: Curves, label: str = ""
) -> list[Member]:
    """The members of a layer, one after another; chains and switches are taken apart.

    Args:
        layer: None for a wire.
        params: (1, its width).
        inputs: its further inputs, by name.
        curves: by its columns.
        label: of the layer, such as "comp".
    """
    if layer is None or isinstance(layer, Dry):
        return []
    if isinstance(layer, Chain):
        own, further, moving = layer.split(params), layer.distribute(inputs), layer.split_curves(curves, 1)
        parts = [
            in_series(member, own[name], further[name], moving[name], f"{label}.{name}" if label else name)
            for name, member in layer.members.items()
        ]
        return [member for part in parts for member in part]
    if isinstance(layer, Switched) and ON not in curves:
        on = bool(params[0, -1] >= 0.5)
        members = in_series(layer.layer, params[:, :-1], inputs, curves, label)
        return [member._replace(on=on and member.on) for member in members]
    return [Member(label, layer, params, inputs, curves)]


def through(members: Sequence[Member], audio: Tensor) -> Tensor:
    """What comes out of members in series, as the layer that they were taken from gives it, (1, channel, time)."""
    for member in members:
        if member.on:
            audio = call_layer(member.layer, audio, member.params, member.inputs, member.curves)
    return audio


def printed(members: Sequence[Member]) -> int:
    """How many members have to be printed to audio: all up to the last one that is on and cannot be held."""
    return max((k + 1 for k, member in enumerate(members) if member.on and member.why), default=0)
