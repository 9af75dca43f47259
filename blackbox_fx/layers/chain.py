"""Effects in series, and what every group of layers shares."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard, final

import numpy as np
import torch
from torch import Tensor, nn

from blackbox_fx.audio import check_sample_rate
from blackbox_fx.dsp import Twin
from blackbox_fx.effects import Effect
from blackbox_fx.effects.further import gather
from blackbox_fx.effects.rack import label
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.estimators import AudioRule, Estimator
from blackbox_fx.layers.automation import Curves, check_curves, curves_below
from blackbox_fx.layers.black_box import BlackBox, require_object
from blackbox_fx.layers.bypass import Bypass, Switched
from blackbox_fx.layers.direct import Direct, differentiable
from blackbox_fx.layers.stages import Stages, stages_of, together
from blackbox_fx.proxy.adapt import AdaptedProxy
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.runtime import Pool

_DEFAULT_RATE = 44100.0


@final
class Dry(nn.Module):
    """A branch without an effect."""

    columns = ()

    def decode(self, params: Any) -> Any:
        """Nothing to set."""
        return [{} for _ in params] if params.ndim == 2 else {}

    def encode(self, settings: Any) -> Tensor:
        """No columns; raises ParameterError for a setting."""
        if isinstance(settings, Mapping) and settings:
            raise ParameterError(f"There is no effect here, and so no setting {next(iter(settings))!r}; leave it out.")
        return torch.zeros(0 if isinstance(settings, Mapping) else (len(settings), 0))

    def forward(self, audio: Tensor, params: Tensor) -> Tensor:
        """The audio itself."""
        return audio


class Group(nn.Module, abc.ABC):
    """Members by label, with the columns of their params side by side.

    Args:
        members: effects, lists of effects, twins, proxies, `Bypass`es or layers; a mapping gives them labels.
        estimator, audio_rule: for members that are bare effects, a copy for each.
        pool: where bare effects render.
        sample_rate: in Hz; that of the layers among the members, or 44100, if not given.
        direct: what members are that are no layers, see `Chain`.
        dry: whether None may stand among the members, for the dry signal.
    """

    def __init__(
        self,
        members: Mapping[str, Any] | Sequence[Any],
        estimator: Estimator | None,
        audio_rule: AudioRule | None,
        pool: Pool | None,
        sample_rate: float | None,
        direct: bool | None,
        dry: bool = False,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        labelled = _labelled(members, kind)
        self.sample_rate = common_rate(kind, labelled.values(), sample_rate)
        self.members = nn.ModuleDict()
        for name, member in labelled.items():
            if not isinstance(name, str) or not name or "." in name or hasattr(self.members, name):
                raise EffectError(f"A label of a {kind} must be a word without a dot, and not {name!r}.")
            if member is None and dry:
                self.members[name] = Dry()
            else:
                how = How(estimator, audio_rule, pool, self.sample_rate, direct)
                self.members[name] = as_layer(member, how, f"{name} in a {kind}")

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of params: label.parameter."""
        return tuple(f"{name}.{c}" for name, member in self._items() for c in member.columns)

    @property
    def width(self) -> int:
        """How many columns params has."""
        return len(self.columns)

    def split(self, params: Tensor) -> dict[str, Tensor]:
        """The columns of each member, (batch, its width), by label."""
        if not isinstance(params, Tensor) or params.ndim != 2 or params.shape[1] != self.width:
            raise ParameterError(
                f"params must be (batch, {self.width}), got {_shape(params)}; the columns are "
                f"{', '.join(self.columns)}."
            )
        widths = {name: len(member.columns) for name, member in self._items()}
        stops = np.cumsum(list(widths.values())).tolist()
        return {name: params[:, stop - w : stop] for (name, w), stop in zip(widths.items(), stops, strict=True)}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The further inputs of its members, such as "compressor.sidechain"."""
        return tuple(f"{name}.{each}" for name, member in self._items() for each in further_inputs(member))

    def gather(self, inputs: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The further inputs of a mapping and of keywords."""
        plain = [name.rpartition(".")[2] for name in self.inputs]
        return gather(inputs, named, plain if len(set(plain)) == len(plain) else self.inputs)

    def distribute(self, inputs: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The further inputs of each member, by its label, of those by "label.input" or by an input's own name."""
        found: dict[str, dict[str, Tensor]] = {name: {} for name in self.members}
        for name, audio in inputs.items():
            fitting = [known for known in self.inputs if name == known or known.endswith(f".{name}")]
            kind = type(self).__name__
            if len(fitting) != 1:
                known = ", ".join(self.inputs) or "none"
                which = "several inputs" if fitting else "no input"
                raise ParameterError(f"This {kind} has {which} {name!r}; known are {known}.")
            label, _, own = fitting[0].partition(".")
            if own in found[label]:
                raise ParameterError(f"The input {fitting[0]!r} of this {kind} is given twice; leave one of them out.")
            found[label][own] = audio
        return found

    def split_curves(self, curves: Curves, rows: int) -> dict[str, Curves]:
        """The curves of each member, by its label. Raises ParameterError for those that fit none of the columns."""
        check_curves(curves, dict.fromkeys(self.columns, rows), f"a {type(self).__name__}")
        return {name: curves_below(curves, f"{name}.", member.columns) for name, member in self._items()}

    def forward(
        self,
        audio: Tensor,
        params: Tensor,
        inputs: Mapping[str, Tensor] = {},
        *,
        curves: Curves = {},
        **named: Tensor,
    ) -> Tensor:
        """Renders audio, and further inputs by name, through all members."""
        return together([self.stages(audio, params, self.gather(inputs, named), curves)])[0]

    @abc.abstractmethod
    def stages(self, audio: Tensor, params: Tensor, inputs: Mapping[str, Tensor], curves: Curves) -> Stages:
        """The output, whose renders are left to who asks; see `stages_of`."""

    def explain(self) -> str:
        """What gives the gradients of each effect in it, see `BlackBox.explain`."""
        layers = [module for module in self.modules() if isinstance(module, BlackBox)]
        return "\n\n".join(layer.explain() for layer in layers)

    def decode(self, params: Any) -> Any:
        """Columns in [0, 1] to physical settings by label and name.

        Args:
            params: one row, (width,), or several, (n, width).

        Returns:
            a mapping for one row, a list of mappings for several.
        """
        rows = torch.as_tensor(params)
        if rows.ndim == 1:
            return self.decode(rows[None])[0]
        own = self.split(rows)
        found = {name: member.decode(own[name]) for name, member in self._items()}
        return [{name: settings[k] for name, settings in found.items()} for k in range(len(rows))]

    def encode(self, settings: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {}) -> Tensor:
        """What `decode` gave, or a part of it, to columns in [0, 1], (width,) or (n, width)."""
        if not isinstance(settings, Mapping):
            return torch.stack([self.encode(each) for each in settings])
        if unknown := [name for name in settings if name not in self.members]:
            raise ParameterError(f"There is no member {unknown[0]!r}; known are {', '.join(self.members)}.")
        return torch.cat([member.encode(settings.get(name, {})) for name, member in self._items()])

    def _items(self) -> list[tuple[str, Any]]:
        return list(self.members.items())


@final
class Chain(Group):
    """Effects in series, each a black box of its own.

    Backpropagation goes effect by effect: each sees its own few parameters and its own cotangent, and no effect is
    rendered again for a parameter of one before it. A `Rack` of the same effects renders the same audio as one opaque
    effect, whose parameters all share one estimate.

    Args:
        members: effects, lists of effects, twins, proxies, `Bypass`es, `BlackBox`es, `Hybrid`s, `Chain`s or `Mix`es in
            the order of the signal; a mapping gives them labels.
        estimator: such as `bfx.SPSA(2)`; each bare effect gets a copy, which draws numbers of its own.
        audio_rule: each bare effect gets a copy.
        pool: where bare effects render.
        sample_rate: in Hz; that of the layers among the members, or 44100, if not given.
        direct: True for twins and proxies in place of all effects, so that nothing renders; False for black boxes
            everywhere, in place of twins, too. If not given, effects are black boxes, and twins and proxies themselves.

    Shape:
        - audio: (batch, channel, time)
        - params: (batch, width) in [0, 1], the columns of the members side by side
        - further inputs of members by "label.input", see `inputs`; the input alone will do where one member has it:
          `chain(audio, params, sidechain=kick)`
        - curves: a `Curve` with a row for each item, by the column in whose place it moves; see `BlackBox`
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
        estimator: Estimator | None = None,
        *,
        audio_rule: AudioRule | None = None,
        pool: Pool | None = None,
        sample_rate: float | None = None,
        direct: bool | None = None,
    ) -> None:
        super().__init__(members, estimator, audio_rule, pool, sample_rate, direct)

    def stages(self, audio: Tensor, params: Tensor, inputs: Mapping[str, Tensor], curves: Curves) -> Stages:
        """The output, whose renders are left to who asks; see `stages_of`."""
        own, further = self.split(params), self.distribute(inputs)
        moving = self.split_curves(curves, len(params))
        for name, member in self.members.items():
            audio = yield from stages_of(member, audio, own[name], further[name], moving[name])
        return audio


class How(NamedTuple):
    """How bare effects become layers.

    Args:
        estimator: copied for each.
        audio_rule: copied for each.
        pool: where they render.
        sample_rate: in Hz.
        direct: see `Chain`.
    """

    estimator: Estimator | None
    audio_rule: AudioRule | None
    pool: Pool | None
    sample_rate: float
    direct: bool | None


def as_layer(given: Any, how: How, what: str) -> Any:
    """A layer for an effect, a twin, a proxy, or for a list or mapping of them in series, or the layer itself.

    Args:
        given: the effect, effects or layer.
        how: effects become layers.
        what: names it in errors.

    Raises:
        EffectError: something else; an effect without a proxy where nothing is to render.
        ParameterError: a class instead of an object.
    """
    for made, kind in ((how.estimator, Estimator), (how.audio_rule, AudioRule), (how.pool, Pool)):
        require_object(made, kind)
    if isinstance(given, Bypass):
        return Switched(as_layer(given.member, how, what))
    if isinstance(given, Twin | Proxy | AdaptedProxy) and how.direct is not False:
        return Direct(given, how.sample_rate)
    if isinstance(given, AdaptedProxy):
        given = given.proxy.effect().with_space(given.space)
    if isinstance(given, Twin | Proxy):
        given = given.effect()
    if isinstance(given, Effect):
        return differentiable(given, how.sample_rate) if how.direct else _black_box(given, how)
    if isinstance(given, (list, tuple, Mapping)):
        kept = {"audio_rule": how.audio_rule, "pool": how.pool, "sample_rate": how.sample_rate, "direct": how.direct}
        return Chain(given, how.estimator, **kept)
    if not is_layer(given):
        raise EffectError(
            f"{what} must be an effect, a list of effects, a Twin, a Proxy, a Bypass, a BlackBox, a Hybrid, a Chain or "
            f"a Mix, got {given!r:.80}."
        )
    return given


def _black_box(effect: Effect, how: How) -> BlackBox:
    estimator = None if how.estimator is None else how.estimator.replicate()
    rule = None if how.audio_rule is None else how.audio_rule.replicate()
    return BlackBox(effect, estimator, audio_rule=rule, pool=how.pool, sample_rate=how.sample_rate)


def further_inputs(layer: Any) -> tuple[str, ...]:
    """The further inputs that a layer takes, by name."""
    if isinstance(layer, BlackBox):
        return layer.effect.inputs
    if isinstance(layer, Switched):
        return further_inputs(layer.layer)
    return layer.inputs if isinstance(layer, Group | Direct) else ()


def is_layer(member: Any) -> TypeGuard[nn.Module]:
    """Whether it is a module that holds an effect and is called as a `BlackBox` is, or a group of such."""
    holds = isinstance(member, nn.Module) and isinstance(getattr(member, "effect", None), Effect)
    return holds or isinstance(member, Group | Direct | Switched)


def common_rate(kind: str, members: Any, sample_rate: float | None) -> float:
    """The sample rate of all layers among the members. Raises AudioError if there are several."""
    rates: set[float] = {getattr(member, "sample_rate", 0.0) for member in members if is_layer(member)}
    rates |= set() if sample_rate is None else {check_sample_rate(sample_rate)}
    if len(rates) > 1:
        raise AudioError(f"The members of a {kind} have sample rates {sorted(rates)} Hz; it needs one for all.")
    return rates.pop() if rates else _DEFAULT_RATE


def _shape(given: Any) -> Any:
    return tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__


def _labelled(members: Any, kind: str) -> dict[str, Any]:
    if not isinstance(members, (Mapping, Sequence)) or isinstance(members, str):
        raise EffectError(f"The members of a {kind} must be a list or a mapping of effects, got {members!r:.80}.")
    if not members:
        raise EffectError(f"A {kind} needs one or more members, got none; see bfx.load.")
    if isinstance(members, Mapping):
        return dict(members)
    return dict(zip(label([_name(member) for member in members]), members, strict=True))


def _name(member: Any) -> str:
    if isinstance(member, Bypass):
        return _name(member.member)
    if isinstance(member, Twin):
        return member.name
    effect = getattr(member, "effect", member)
    return effect.name if isinstance(effect, Effect) else "dry" if member is None else type(member).__name__
