"""Effects side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from blackbox_fx.core import checks
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators import AudioRule, Estimator
from blackbox_fx.estimators.inputs import check_inputs
from blackbox_fx.layers.automation import Curves
from blackbox_fx.layers.chain import Group
from blackbox_fx.layers.routing import LEVEL, gain
from blackbox_fx.layers.stages import Stages, beside, stages_of
from blackbox_fx.runtime import Pool


@final
class Mix(Group):
    """Effects side by side, summed: sends, parallel compression.

    Args:
        members: as in `Chain`, or None for the dry signal; a mapping gives them labels.
        level_db: range of a fader behind every branch, whose column comes after those of all members; no faders if not
            given. Faders are exact.
        estimator, audio_rule, pool, sample_rate, direct: as in `Chain`.

    Shape:
        - audio: (batch, channel, time)
        - params: (batch, width) in [0, 1]
        - further inputs of members, and curves, as in `Chain`; faders move sample by sample
        - output: (batch, channel, time)

    Raises:
        EffectError, AudioError, ParameterError: as in `Chain`.

    >>> import blackbox_fx as bfx
    >>> parallel = Mix({"dry": None, "comp": bfx.load("pedalboard:Compressor").only("ratio")}, level_db=(-40, 6))
    >>> parallel.columns
    ('comp.ratio', 'dry.level_db', 'comp.level_db')
    """

    def __init__(
        self,
        members: Mapping[str, Any] | Sequence[Any],
        estimator: Estimator | None = None,
        *,
        level_db: tuple[float, float] | None = None,
        audio_rule: AudioRule | None = None,
        pool: Pool | None = None,
        sample_rate: float | None = None,
        direct: bool | None = None,
    ) -> None:
        super().__init__(members, estimator, audio_rule, pool, sample_rate, direct, dry=True)
        if level_db is not None and not (len(level_db) == 2 and -200 <= level_db[0] < level_db[1] <= 60):
            raise ParameterError(f"level_db must be (low, high) in dB within [-200, 60], got {level_db!r}.")
        self.level_db = level_db

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the members' columns, then of the faders."""
        return (*super().columns, *(f"{name}.{LEVEL}" for name in self.members if self.level_db))

    def decode(self, params: Any) -> Any:
        """Columns in [0, 1] to physical settings by label and name, with the level_db of each branch."""
        rows = torch.as_tensor(params)
        found = super().decode(rows)
        if rows.ndim == 1 or not self.level_db:
            return found
        low, high = self.level_db
        for settings, row in zip(found, rows[:, -len(self.members) :].tolist(), strict=True):
            for name, u in zip(settings, row, strict=True):
                settings[name] = {**settings[name], LEVEL: min(max(low + (high - low) * u, low), high)}
        return found

    def encode(self, settings: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {}) -> Tensor:
        """What `decode` gave, or a part of it, to columns in [0, 1]; a level that is left out stands at 0 dB."""
        if not isinstance(settings, Mapping) or not self.level_db:
            return super().encode(settings)
        low, high = self.level_db
        branches = {name: dict(given) for name, given in settings.items()}
        zero = min(max(0.0, low), high)
        levels = [branches.get(name, {}).pop(LEVEL, zero) for name in self.members]
        for level in levels:
            checks.within(LEVEL, level, low, high)
        faders = torch.tensor([(level - low) / (high - low) for level in levels])
        return torch.cat([super().encode(branches), faders])

    def stages(self, audio: Tensor, params: Tensor, inputs: Mapping[str, Tensor], curves: Curves) -> Stages:
        """The output, whose renders are left to who asks; see `stages_of`."""
        check_inputs(audio, params, self.columns)
        own, further = self.split(params), self.distribute(inputs)
        moving = self.split_curves(curves, len(params))
        branches = yield from beside(
            [stages_of(member, audio, own[name], further[name], moving[name]) for name, member in self.members.items()]
        )
        if self.level_db:
            faders = params[:, -len(branches) :].unbind(1)
            for k, (name, column) in enumerate(zip(self.members, faders, strict=True)):
                curve = curves.get(f"{name}.{LEVEL}")
                level = column[:, None] if curve is None else curve.samples(audio.shape[-1], self.sample_rate)
                branches[k] = branches[k] * gain(level, self.level_db)[:, None].to(branches[k])
        return torch.stack(branches).sum(dim=0)
