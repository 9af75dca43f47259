"""Effects that can be switched off, with a gradient for the switch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.inputs import check_shapes, check_values
from blackbox_fx.layers.automation import Curves, check_curves
from blackbox_fx.layers.eager import shows_values
from blackbox_fx.layers.stages import Stages, beside, stages_of, together

ON = "on"


@final
@dataclasses.dataclass(frozen=True)
class Bypass:
    """A member of a `Chain`, `Mix` or `Console` with a switch, its last column: "on" from 0.5 upwards.

    Where it is off, the sound goes past the member, whose own settings then have a gradient of zero. The switch has the
    gradient of other on/off parameters: the inner product of the incoming gradient with what the member changes, as
    long as it needs one; otherwise a member that is off does not render. Where a `Curve` moves the switch, the member
    renders the whole clip.

    Args:
        member: an effect, a list or mapping of effects in series, a twin, a proxy or a layer.

    >>> import blackbox_fx as bfx
    >>> bfx.Chain({"drive": Bypass(bfx.load("pedalboard:Distortion"))}).columns
    ('drive.drive_db', 'drive.on')
    """

    member: Any


@final
class Switched(nn.Module):
    """A layer with a switch; made from a `Bypass`.

    Args:
        layer: that is switched.

    Raises:
        ParameterError: the layer has a column "on" itself.
        AudioError: it gives another number of channels than it gets.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        if ON in layer.columns:
            raise ParameterError('A member of a Bypass cannot have a column "on" of its own; hold that with fix.')
        self.layer = layer
        self.sample_rate: float = layer.sample_rate

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the layer's columns, then of the switch."""
        return (*self.layer.columns, ON)

    @property
    def width(self) -> int:
        """How many columns params has."""
        return len(self.columns)

    def decode(self, params: Any) -> Any:
        """Columns in [0, 1] to physical settings, with "on"."""
        rows = torch.as_tensor(params)
        if rows.ndim == 1:
            return self.decode(rows[None])[0]
        found = self.layer.decode(rows[:, :-1])
        return [{**own, ON: on} for own, on in zip(found, (rows[:, -1] >= 0.5).tolist(), strict=True)]

    def encode(self, settings: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {}) -> Tensor:
        """What `decode` gave, or a part of it, to columns in [0, 1]; on, if that is left out."""
        if not isinstance(settings, Mapping):
            return torch.stack([self.encode(each) for each in settings])
        on = settings.get(ON, True)
        if not isinstance(on, bool):
            raise ParameterError(f'"on" must be true or false, got {on!r}.')
        own = self.layer.encode({name: value for name, value in settings.items() if name != ON})
        return torch.cat([own, torch.tensor([float(on)])])

    def forward(
        self,
        audio: Tensor,
        params: Tensor,
        inputs: Mapping[str, Tensor] = {},
        *,
        curves: Curves = {},
        **named: Tensor,
    ) -> Tensor:
        """The output of the layer where it is on, else the sound itself."""
        return together([self.stages(audio, params, {**inputs, **named}, curves)])[0]

    def stages(self, audio: Tensor, params: Tensor, inputs: Mapping[str, Tensor], curves: Curves) -> Stages:
        """The output, whose renders are left to who asks; see `stages_of`."""
        check_shapes(audio, params, self.columns)
        if shows_values(audio, params):
            check_values(audio, params, self.columns)
        check_curves(curves, dict.fromkeys(self.columns, len(params)), "a Bypass")
        switch = params[:, -1:]
        if ON in curves:
            switch = curves[ON].samples(audio.shape[-1], self.sample_rate).to(params)
        on = switch >= 0.5
        learning = torch.is_grad_enabled() and switch.requires_grad
        inner = {name: curve for name, curve in curves.items() if name != ON}
        wet = yield from self._wet(audio, params[:, :-1], inputs, inner, on.any(1), learning)
        out = torch.where(on[:, None], wet, audio)
        if not learning:
            return out
        slope = (switch - switch.detach())[:, None]  # 0, with a gradient
        return out + slope * (wet - audio).detach()

    def _wet(
        self,
        audio: Tensor,
        own: Tensor,
        inputs: Mapping[str, Tensor],
        curves: Curves,
        on: Tensor,
        learning: bool,
    ) -> Stages:
        """What comes out with the member; items that are off have no gradient, or are not rendered."""
        both = ((True, on.nonzero()[:, 0]), (False, (~on).nonzero()[:, 0]))
        used = [(state, chosen) for state, chosen in both if len(chosen) and (state or learning)]
        parts = yield from beside(
            [
                stages_of(
                    self.layer,
                    _rows(audio, chosen, state),
                    _rows(own, chosen, state),
                    {name: _rows(given, chosen, state) for name, given in inputs.items()},
                    {name: dataclasses.replace(c, points=_rows(c.points, chosen, state)) for name, c in curves.items()},
                )
                for state, chosen in used
            ]
        )
        wet = audio
        for (_, chosen), part in zip(used, parts, strict=True):
            if part.shape[1] != audio.shape[1]:
                raise AudioError(
                    f"A member of a Bypass turned {audio.shape[1]} channels into {part.shape[1]}, and must keep them; "
                    "put it behind the switch."
                )
            wet = part if len(chosen) == len(audio) else wet.index_copy(0, chosen, part.to(wet))
        return wet


def _rows(x: Tensor, chosen: Tensor, learns: bool) -> Tensor:
    """Some rows, with a gradient or without."""
    rows = x if len(chosen) == len(x) else x[chosen.to(x.device)]
    return rows if learns else rows.detach()
