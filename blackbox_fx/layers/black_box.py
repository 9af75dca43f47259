"""BlackBox: any effect as a trainable layer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blackbox_fx.audio import check_sample_rate
from blackbox_fx.core import checks, system
from blackbox_fx.effects import further
from blackbox_fx.effects.base import WHOLE_HOP, Effect
from blackbox_fx.effects.keyed import Keyed
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.estimators import AudioRule, Auto, Call, Estimator, Plan, Verified
from blackbox_fx.estimators.inputs import check_further_inputs, check_shapes
from blackbox_fx.estimators.surrogates import Differentiable, Pullbacks
from blackbox_fx.identification.known import as_in_a_fresh_process, identified_proxy
from blackbox_fx.layers.automation import Curves, check_curves
from blackbox_fx.layers.eager import eager, shows_values
from blackbox_fx.layers.moving import render_moving
from blackbox_fx.layers.rendering import Pass, render
from blackbox_fx.layers.stages import Stages, Wanted
from blackbox_fx.layers.surrogates import ProxyLike, usable
from blackbox_fx.proxy.find import find_proxies, unfit_proxies
from blackbox_fx.runtime import Ahead, Inline, Pool, shared_pool

_MOST_AHEAD = 512 * 2**20  # bytes
_EXTRA = "_extra_state"  # what torch calls the key of `get_extra_state`


def report_failures(module: nn.Module) -> list[str]:
    """The counters of each pool of a module's layers in which renders failed, a line each."""
    pools = {id(layer.pool): layer.pool for layer in module.modules() if isinstance(layer, BlackBox)}
    return [str(pool.counters) for pool in pools.values() if pool.counters.has_failures]


@final
class BlackBox(nn.Module):
    """An effect as a layer: the real thing forward, an estimated gradient backward.

    Args:
        effect: what renders; its free parameters are the columns of `params`.
        estimator: how params get their gradient; `Auto()` if not given.
        audio_rule: how audio gets its own; `Verified()` if not given, which tries the effect when it first sees it.
        pool: where renders run. If not given, native effects, which are foreign code (VST3, VST2, LV2, LADSPA, Faust,
            or a `Rack` with any), run in worker processes, so that their crashes and hangs cannot end this process: in
            one `Processes()` that all layers share. Others run in `Inline()`.
        sample_rate: in Hz.
        surrogates: differentiable models of the effect, such as a `Proxy` or a `Twin`, that `Auto` and `Verified` may
            use in place of renders, once they have measured them. If not given, those that `find_proxies` finds at the
            first training step: shipped, your own, and what `prepare` has trained. If there are none, the effect is
            identified there: delays, choruses, phasers, tremolos, compressors, gates and limiters are known within a
            minute, and most others are soon seen to be none of these. () for none.
        lookahead: whether the renders that an estimator wants begin right after the forward pass, in the background, so
            that the backward pass finds them done; gradients are the same. What is not done by then is rendered as
            without it. Not with `Inline`, which has no workers. If not given: with `Processes`, unless those renders
            would take more than 512 MiB of memory.
        hop: samples for which settings that move are held; a multiple of what the effect can do, which 4096 always is.

    Attributes:
        failed: which items of the last forward pass have failed, (batch,), where the pool skips failures: their output
            is the dry audio. Their gradients are zero, and so is that of any item for whose gradient a render failed.
            `layer.pool.counters` has the sums.
        input_rules: what gives further inputs their gradients, in the order of `effect.inputs`: copies of `audio_rule`,
            in whose places other rules may be put.

    Shape:
        - audio: (batch, channel, time), floating point, any device
        - params: (batch, width) in [0, 1]
        - further inputs, such as `layer(audio, params, sidechain=key)`: as audio, with a gradient of their own by a
          copy of the audio rule; see `Effect.inputs`. One that is left out is silence, which is said once in the log.
        - curves: a `Curve` with a row for each item, by the column in whose place it moves, for effects that are
          `automatable`. Every break point has a gradient, for four renders a column whatever their number. Not under
          `torch.func`.
        - output: (batch, channel, time), float32, on the device of audio; as many channels as the effect gives

    Raises:
        AudioError, ParameterError: wrong shapes, NaN or infinity, params outside [0, 1]; a further input that is
            unknown, given twice, or given without its name.
        EffectError, WorkerDied, RenderTimeout: the effect failed.

    >>> import blackbox_fx as bfx
    >>> layer = bfx.BlackBox(bfx.load("pedalboard:Distortion"), bfx.FiniteDifference())
    >>> drive = torch.full((1, layer.width), 0.2, requires_grad=True)
    >>> layer(torch.full((1, 1, 1000), 0.1), drive).square().mean().backward()
    >>> bool(drive.grad > 0)
    True
    """

    def __init__(
        self,
        effect: Effect,
        estimator: Estimator | None = None,
        *,
        audio_rule: AudioRule | None = None,
        pool: Pool | None = None,
        sample_rate: float = 44100,
        lookahead: bool | None = None,
        surrogates: Sequence[Differentiable] | None = None,
        hop: int = WHOLE_HOP,
    ) -> None:
        super().__init__()
        for given, kind in ((estimator, Estimator), (audio_rule, AudioRule), (pool, Pool)):
            require_object(given, kind)
        if not isinstance(effect, Effect):
            raise EffectError(f"effect must be an Effect, got {type(effect).__name__}; make one with bfx.load.")
        self.effect = effect
        self.estimator = Auto() if estimator is None else estimator
        self.audio_rule = Verified() if audio_rule is None else audio_rule
        self.pool = default_pool(effect) if pool is None else pool
        self.failed: NDArray[np.bool_] = np.zeros(0, bool)
        self.sample_rate, self.hop = check_sample_rate(sample_rate), checks.whole("hop", hop)
        self.lookahead: bool | None = checks.one_of("lookahead", lookahead, (None, True, False))
        if lookahead and not self.pool.background:
            raise ParameterError(
                f"lookahead needs a pool with workers of its own, got {type(self.pool).__name__}; use Processes or "
                "Threads."
            )
        self.input_rules = nn.ModuleList(self.audio_rule.replicate() for _ in effect.inputs)
        for module in self.modules():
            if isinstance(module, ProxyLike):
                module.require(effect)
        self._views: dict[tuple[str, int], Keyed] = {}
        self._finds_proxies = surrogates is None
        self._surrogates = None if surrogates is None else usable(surrogates, effect, self.sample_rate)

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every column of params."""
        return self.effect.space.columns

    @property
    def width(self) -> int:
        """How many columns params has."""
        return self.effect.space.width

    def decode(self, params: Any) -> Any:
        """Columns in [0, 1] to physical settings by name; see `Space.decode`."""
        return self.effect.space.decode(params)

    def encode(self, settings: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {}) -> Tensor:
        """Physical settings by name to columns in [0, 1], (width,), or (n, width) for a list of settings."""
        if isinstance(settings, Mapping):
            return torch.from_numpy(self.effect.space.encode(settings)).float()
        return torch.stack([self.encode(each) for each in settings])

    @eager
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        audio: Tensor,
        params: Tensor,
        inputs: Mapping[str, Tensor] = {},
        *,
        curves: Curves = {},
        **named: Tensor,
    ) -> Tensor:
        """Renders audio, and further inputs by name, at params; see the class for shapes and errors."""
        passed, tensors = self._begin(audio, params, further.gather(inputs, named, self.effect.inputs))
        if curves:
            return self._moving(passed, tensors, curves)
        return render(passed, *tensors)

    def stages(self, audio: Tensor, params: Tensor, inputs: Mapping[str, Tensor], curves: Curves) -> Stages:
        """The output, whose renders are left to who asks; see `stages_of`."""
        check_shapes(audio, params, self.columns)
        if curves or not shows_values(audio, params, *inputs.values()):
            return self(audio, params, inputs, curves=curves)
        passed, tensors = self._begin(audio, params, further.gather(inputs, {}, self.effect.inputs))
        (passed.outputs,) = yield [Wanted(self.pool, passed.job(tensors[0], tensors[1], tensors[2:]))]
        return render(passed, *tensors)

    def _begin(self, audio: Tensor, params: Tensor, given: Mapping[str, Tensor]) -> tuple[Pass, list[Tensor]]:
        """A checked pass, and what goes into it."""
        check_shapes(audio, params, self.columns)
        check_further_inputs(self.effect, audio, given)
        further.say_silent(self.effect.name, [name for name in self.effect.inputs if name not in given])
        if audio.requires_grad and torch.is_grad_enabled():
            self._require_rule(audio.shape[1])
        passed = Pass(self, tuple(given), torch.is_grad_enabled() and params.requires_grad, len(params))
        return passed, [x.float() for x in (audio, params, *given.values())]

    def _moving(self, passed: Pass, tensors: Sequence[Tensor], curves: Curves) -> Tensor:
        audio, params, *given = tensors
        check_curves(curves, dict.fromkeys(self.columns, len(params)), self.effect.name)
        return render_moving(self, audio, params, dict(zip(passed.names, given, strict=True)), curves)

    def _require_rule(self, channels: int) -> None:
        out = self.effect.output_channels(channels)
        if out != channels and not self.audio_rule.any_channels:
            raise AudioError(
                f"{self.effect.name} turns {channels} channels into {out}, and {type(self.audio_rule).__name__} gives "
                "the gradient of audio for equal numbers only; use audio_rule=Surrogate(...), or audio.detach()."
            )

    @property
    def surrogates(self) -> tuple[Differentiable, ...]:
        """The differentiable models of the effect that there are."""
        if self._surrogates is None:
            self._surrogates = self._found_surrogates()
        return self._surrogates

    def _found_surrogates(self) -> tuple[Differentiable, ...]:
        """The proxies of the effect, or if there is none, what it is identified as."""
        if self.effect.inputs or not self.width:  # no proxy knows of further inputs
            return ()
        with as_in_a_fresh_process():
            found = tuple(find_proxies(self.effect, self.sample_rate))
        if found or any(self.effect.output_channels(channels) != channels for channels in (1, 2)):
            return found
        identified = identified_proxy(self.effect, self.sample_rate)
        return () if identified is None else (identified,)

    def _surrogates_on(self, device: torch.device) -> tuple[Differentiable, ...]:
        for surrogate in self.surrogates:
            if isinstance(surrogate, nn.Module):
                surrogate.to(device)
        return self.surrogates

    def input_rule(self, name: str) -> AudioRule:
        """What gives the gradient with respect to a further input."""
        rule = self.input_rules[self.effect.inputs.index(name)]
        assert isinstance(rule, AudioRule)
        return rule

    def view(self, name: str, channels: int) -> Keyed:
        """The effect as a function of a further input, beside audio of so many channels; the same each time."""
        return self._views.setdefault((name, channels), Keyed(self.effect, name, channels))

    def call_at(
        self,
        audio: Tensor,
        params: Tensor,
        output: Tensor,
        failed: NDArray[np.bool_] | None = None,
        pullbacks: Pullbacks | None = None,
        inputs: Mapping[str, Tensor] = {},
        user: Estimator | AudioRule | None = None,
    ) -> Call:
        """A forward pass of this layer as its user sees it, the estimator if none is given; see `Call` for the rest."""
        user = user or self.estimator
        call = Call(
            self.effect,
            self.pool,
            self.sample_rate,
            audio,
            params.clamp(0.0, 1.0),
            output,
            inputs=dict(inputs),
            surrogates=self._surrogates_on(audio.device) if user.wants_surrogates else (),
            pullbacks=pullbacks or Pullbacks(),
            is_checked=True,
        )
        if failed is not None:
            call.failed[:] = failed
        return call

    def look_ahead(
        self,
        audio: Tensor,
        params: Tensor,
        failed: NDArray[np.bool_] | None = None,
        inputs: Mapping[str, Tensor] = {},
    ) -> tuple[Plan, Ahead | None] | None:
        """Starts what the backward pass will render, where that is wanted and known."""
        wanted = self.pool.prefers_lookahead if self.lookahead is None else self.lookahead
        if not wanted or not self.pool.background:
            return None
        call = self.call_at(audio, params, audio, failed, inputs=inputs)
        plan = self.estimator.ahead(call)
        if plan is None or not len(plan.items):
            return None
        job = call.job(plan)
        if self.lookahead is None and Ahead.nbytes(job) > _MOST_AHEAD:
            return plan, None  # drawn once, whenever it is rendered
        return plan, Ahead(self.pool, job, part=2 * self.pool.workers)

    def explain(self) -> str:
        """What gives the gradients of params and of audio, and why: the tables of what was compared.

        There is none before the first backward pass, and none for an estimator or rule that compares nothing. Known
        proxies of the effect that do not fit this layer are named, too.
        """
        unfit = unfit_proxies(self.effect, self.sample_rate) if self._finds_proxies else []
        rules = {"audio": self.audio_rule, **{name: self.input_rule(name) for name in self.effect.inputs}}
        audio = [f"{name}: {rule.explain()}" for name, rule in rules.items()]
        parts = [self.effect.name, f"params: {self.estimator.explain()}", *audio, *unfit]
        return "\n".join(parts)

    def get_extra_state(self) -> Tensor:
        """What the effect is, as the bytes of a JSON text: part of `state_dict`."""
        return torch.frombuffer(bytearray(json.dumps(self._identity()).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Compares a saved effect with this one.

        Raises:
            ParameterError: a state that was saved with other columns, or with other ranges of them.
        """
        then, now = json.loads(bytes(state.cpu().tolist())), self._identity()
        for name, what in (("columns", "columns"), ("ranges", "ranges")):
            if then[name] != now[name]:
                raise ParameterError(
                    f"This state was saved for {then['effect']} with the {what} {_brief(then[name], now[name])}; this "
                    f"layer of {now['effect']} has {_brief(now[name], then[name])}: load it into a layer with "
                    f"the same {what}."
                )
        if then["fingerprint"] != now["fingerprint"]:
            same = then["effect"] == now["effect"]
            how = "another version of it, or is held at other values" if same else "another effect"
            warnings.warn(
                f"This state was saved for {then['effect']}, and {now['effect']} here is {how}; the output at its "
                "settings may differ.",
                stacklevel=2,
            )

    def _identity(self) -> dict[str, Any]:
        space = self.effect.space
        kinds = json.loads(space.to_json())["parameters"]
        ranges = {name: {k: v for k, v in kinds[name].items() if k != "default"} for name in space.free}
        return {
            "effect": self.effect.name,
            "fingerprint": self.effect.fingerprint,
            "columns": list(space.columns),
            "ranges": ranges,
            "estimator": type(self.estimator).__name__,
            "audio_rule": type(self.audio_rule).__name__,
        }

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **named: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] torch calls it with positions
        """Leaves out the state of estimators of another kind, and what earlier releases did not save."""
        saved = state_dict.setdefault(f"{prefix}{_EXTRA}", self.get_extra_state())
        then = json.loads(bytes(saved.cpu().tolist()))
        for name in ("estimator", "audio_rule"):
            module: nn.Module = getattr(self, name)
            own = {f"{prefix}{name}.{key}": value for key, value in module.state_dict().items()}
            given = [key for key in state_dict if key.startswith(f"{prefix}{name}.")]
            if then[name] != type(module).__name__ or set(given) != set(own):
                for key in given:
                    del state_dict[key]
                state_dict.update(own)
        super()._load_from_state_dict(state_dict, prefix, *args, **named)

    def extra_repr(self) -> str:
        """The effect and its free parameters."""
        return f"{self.effect!r}, sample_rate={self.sample_rate:g}, pool={type(self.pool).__name__}"


def default_pool(effect: Effect) -> Pool:
    """Where an effect renders that was given no pool: native ones in worker processes, where the system has them."""
    return shared_pool() if effect.native and system.has_worker_processes() else Inline()


def require_object(given: Any, kind: type) -> None:
    """Raises ParameterError if a class, or something else, was given instead of an object of a kind."""
    if given is not None and not isinstance(given, kind):
        got = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
        how = "write its parentheses too" if isinstance(given, type) else "make one"
        raise ParameterError(f"{got} is not an object of kind {kind.__name__}; {how}.")


def _brief(these: Any, others: Any) -> str:
    """What is in these columns or ranges and not in the others."""
    if isinstance(these, dict):
        return str({name: value for name, value in these.items() if others.get(name) != value} or these)
    return ", ".join(these) or "none"
