"""Modules that route audio through layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard, final

import numpy as np
import torch
from torch import Tensor, nn

from blackbox_fx.audio import check_sample_rate
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import Effect
from blackbox_fx.effects.rack import label
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.estimators import AudioRule, Estimator
from blackbox_fx.layer import BlackBox, check_inputs
from blackbox_fx.runtime import Pool


@final
class _Dry(nn.Module):
    """A branch without an effect."""

    columns = ()
    width = 0

    def forward(self, audio: Tensor, params: Tensor) -> Tensor:
        """The audio itself."""
        return audio


class _Group(nn.Module):
    """Members by label, with the columns of their params side by side."""

    def __init__(
        self,
        members: Mapping[str, Any] | Sequence[Any],
        estimator: Callable[[], Estimator] | None,
        audio_rule: Callable[[], AudioRule] | None,
        pool: Pool | None,
        sample_rate: float | None,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        if not isinstance(members, (Mapping, Sequence)) or isinstance(members, str):
            raise EffectError(f"The members of a {kind} must be a list or a mapping of effects, got {members!r}.")
        for made in (estimator, audio_rule):
            if isinstance(made, nn.Module) or (made is not None and not callable(made)):
                raise ParameterError(f"A {kind} makes one for each effect: write lambda: {made!r} instead.")
        if not isinstance(members, Mapping):
            members = dict(zip(label([_name(m) for m in members]), members, strict=True))
        if not members:
            raise EffectError(f"A {kind} needs one or more members, got none; see bfx.load.")
        layers: list[Any] = [m for m in members.values() if _is_layer(m)]
        rates = {m.sample_rate for m in layers} | (set() if sample_rate is None else {check_sample_rate(sample_rate)})
        if len(rates) > 1:
            raise AudioError(f"The members of a {kind} have sample rates {sorted(rates)} Hz; it needs one for all.")
        self.sample_rate = rates.pop() if rates else 44100.0
        self.members = nn.ModuleDict()
        for name, member in members.items():
            if isinstance(member, Effect):
                own = estimator() if estimator else None
                rule = audio_rule() if audio_rule else None
                member = BlackBox(member, own, audio_rule=rule, pool=pool, sample_rate=self.sample_rate)
            elif member is None and isinstance(self, Mix):
                member = _Dry()
            if not _is_layer(member) and not isinstance(member, _Dry):
                raise EffectError(
                    f"{name} in a {kind} must be an effect, a BlackBox, a Hybrid, a Chain or a Mix, got {member!r}."
                )
            if not isinstance(name, str) or not name or "." in name or hasattr(self.members, name):
                raise EffectError(f"A label of a {kind} must be a word without a dot, and not {name!r}.")
            self.members[name] = member

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of params: label.parameter."""
        return tuple(
            f"{name}.{c}" for name, member in zip(self.members, self._each(), strict=True) for c in member.columns
        )

    @property
    def width(self) -> int:
        """How many columns params has."""
        return len(self.columns)

    def split(self, params: Tensor) -> dict[str, Tensor]:
        """The columns of each member, (batch, its width), by label."""
        if params.ndim != 2 or params.shape[1] != self.width:
            raise ParameterError(
                f"params must be (batch, {self.width}), got {tuple(params.shape)}; the columns are "
                f"{', '.join(self.columns)}."
            )
        widths = [len(member.columns) for member in self._each()]
        stops = np.cumsum(widths).tolist()
        return {n: params[:, b - w : b] for n, w, b in zip(self.members, widths, stops, strict=True)}

    def _each(self) -> list[Any]:
        return list(self.members.values())


def _is_layer(member: Any) -> TypeGuard[nn.Module]:
    """Whether it is a module that holds an effect and is called as a `BlackBox` is, or a group of such."""
    own = isinstance(member, nn.Module) and isinstance(getattr(member, "effect", None), Effect)
    return own or isinstance(member, _Group)


def _name(member: Any) -> str:
    effect = getattr(member, "effect", member)
    return effect.name if isinstance(effect, Effect) else "dry" if member is None else type(member).__name__


@final
class Chain(_Group):
    """Effects in series, each a black box of its own.

    Backpropagation goes effect by effect: each sees its own few parameters and its own cotangent, and no effect is
    rendered again for a parameter of one before it. A `Rack` of the same effects renders the same audio as one opaque
    effect, whose parameters all share one estimate.

    Args:
        members: effects, `BlackBox`es, `Hybrid`s, `Chain`s or `Mix`es in the order of the signal; a mapping gives them
            labels.
        estimator: makes the estimator of each bare effect, such as `bfx.FiniteDifference` or `lambda: bfx.SPSA(2)`.
        audio_rule: makes the audio rule of each bare effect.
        pool: where bare effects render.
        sample_rate: in Hz; that of the layers among the members, or 44100, if not given.

    Shape:
        - audio: (batch, channel, time)
        - params: (batch, width) in [0, 1], the columns of the members side by side
        - output: (batch, channel, time)

    Raises:
        EffectError: no members, or something that is not one.
        AudioError, ParameterError: see `BlackBox`.

    >>> import blackbox_fx as bfx
    >>> chain = Chain([bfx.load("pedalboard:PeakFilter"), bfx.load("pedalboard:Compressor").only("ratio")])
    >>> chain.columns
    ('peak_filter.cutoff_frequency_hz', 'peak_filter.gain_db', 'peak_filter.q', 'compressor.ratio')
    """

    def __init__(
        self,
        members: Mapping[str, Any] | Sequence[Any],
        estimator: Callable[[], Estimator] | None = None,
        *,
        audio_rule: Callable[[], AudioRule] | None = None,
        pool: Pool | None = None,
        sample_rate: float | None = None,
    ) -> None:
        super().__init__(members, estimator, audio_rule, pool, sample_rate)

    def forward(self, audio: Tensor, params: Tensor) -> Tensor:
        """Renders audio through all members."""
        own = self.split(params)
        for name, member in self.members.items():
            audio = member(audio, own[name])
        return audio


@final
class Mix(_Group):
    """Effects side by side, summed: sends, parallel compression.

    Args:
        members: as in `Chain`, or None for the dry signal; a mapping gives them labels.
        level_db: range of a fader behind every branch, whose column comes after those of all members; no faders if not
            given. Faders are exact.
        estimator, audio_rule, pool, sample_rate: as in `Chain`.

    Shape:
        - audio: (batch, channel, time)
        - params: (batch, width) in [0, 1]
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
        estimator: Callable[[], Estimator] | None = None,
        *,
        level_db: tuple[float, float] | None = None,
        audio_rule: Callable[[], AudioRule] | None = None,
        pool: Pool | None = None,
        sample_rate: float | None = None,
    ) -> None:
        super().__init__(members, estimator, audio_rule, pool, sample_rate)
        if level_db is not None and not (len(level_db) == 2 and -200 <= level_db[0] < level_db[1] <= 60):
            raise ParameterError(f"level_db must be (low, high) in dB within [-200, 60], got {level_db!r}.")
        self.level_db = level_db

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the members' columns, then of the faders."""
        return (*super().columns, *(f"{name}.level_db" for name in self.members if self.level_db))

    def forward(self, audio: Tensor, params: Tensor) -> Tensor:
        """The sum of all branches."""
        check_inputs(audio, params, self.columns)
        own = self.split(params)
        wet = torch.stack([member(audio, own[name]) for name, member in self.members.items()])
        if self.level_db:
            low, high = self.level_db
            faders = 10 ** ((low + (high - low) * params[:, -len(wet) :]) / 20)
            wet = wet * faders.T[:, :, None, None]
        return wet.sum(dim=0)


@final
class Console(nn.Module):
    """A mixing console: the same channel strip for every track, gain and pan, a sum, and a mix bus.

    Strip and bus are black boxes; gain, pan and sum are exact. Tracks of several songs go through together: `song` says
    which mix each belongs to, so songs may have any number of tracks.

    Args:
        strip: the channel strip, or None for a wire.
        bus: the effect on the stereo mix, or None for a wire.
        gain_db: range of the faders.

    Shape:
        - tracks: (track, channel, time), one channel or two
        - song: (track,) integers in [0, mixes)
        - track_params: (track, track_width) in [0, 1]: strip, gain, pan
        - bus_params: (mixes, bus_width) in [0, 1]
        - output: (mixes, 2, time)

    Raises:
        AudioError, ParameterError: shapes that do not fit together; see `BlackBox` for others.
    """

    def __init__(
        self, strip: BlackBox | None, bus: BlackBox | None, gain_db: tuple[float, float] = (-24.0, 12.0)
    ) -> None:
        super().__init__()
        self.strip = strip
        self.bus = bus
        rates = {layer.sample_rate for layer in (strip, bus) if layer is not None} or {44100.0}
        if len(rates) > 1:
            raise AudioError(f"strip and bus have sample rates {sorted(rates)} Hz; a console needs one for both.")
        self.sample_rate = rates.pop()
        twin = TWINS["gain_pan"]
        self.gain_pan = type(twin)(twin.name, twin.function, twin.space.within(gain_db=gain_db))

    @property
    def track_columns(self) -> tuple[str, ...]:
        """A name for every column of track_params."""
        return (*(self.strip.columns if self.strip else ()), *self.gain_pan.space.columns)

    @property
    def bus_columns(self) -> tuple[str, ...]:
        """A name for every column of bus_params."""
        return self.bus.columns if self.bus else ()

    @property
    def track_width(self) -> int:
        """How many columns track_params has."""
        return len(self.track_columns)

    @property
    def bus_width(self) -> int:
        """How many columns bus_params has."""
        return len(self.bus_columns)

    def forward(self, tracks: Tensor, song: Tensor, track_params: Tensor, bus_params: Tensor) -> Tensor:
        """The mixes; see the class for shapes and errors."""
        self._check(tracks, song, track_params, bus_params)
        strip_params, fader_params = track_params.split([self.track_width - 2, 2], dim=1)
        wet = self.strip(tracks, strip_params) if self.strip else tracks
        placed = self.gain_pan(wet, fader_params, self.sample_rate)
        mix = placed.new_zeros(len(bus_params), 2, tracks.shape[-1]).index_add(0, song, placed)
        return self.bus(mix, bus_params) if self.bus else mix

    def _check(self, tracks: Tensor, song: Tensor, track_params: Tensor, bus_params: Tensor) -> None:
        if tracks.ndim != 3 or tracks.shape[1] not in (1, 2):
            raise AudioError(f"tracks must be (track, 1 or 2 channels, time), got {tuple(tracks.shape)}.")
        for name, params, wanted in (
            ("track_params", track_params, (len(tracks), self.track_width)),
            ("bus_params", bus_params, (len(bus_params), self.bus_width)),
        ):
            if tuple(params.shape) != wanted:
                raise ParameterError(f"{name} must have shape {wanted}, got {tuple(params.shape)}.")
        mixes = len(bus_params)
        if song.shape != (len(tracks),) or not bool(((song >= 0) & (song < mixes)).all()):
            raise ParameterError(f"song must name one of {mixes} mixes for each of {len(tracks)} tracks.")


def join(songs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Tracks of several songs, each (track, channel, time), as `Console` takes them: side by side, with their song."""
    song = torch.cat([torch.full((len(tracks),), k, device=tracks.device) for k, tracks in enumerate(songs)])
    return torch.cat(songs), song
