"""Any Python function as an effect."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, final

import cloudpickle
import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.core import checks
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.request import RenderRequest
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.space import Space

_NO_AUDIO = "biucSU"  # kinds of arrays: bool, whole and complex numbers, texts
_OWN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# what `render` and layers call their own arguments
_TAKEN = {*(n for n, p in inspect.signature(Effect.render).parameters.items() if p.kind not in _OWN), "params"}


@final
class Function(Effect):
    """A Python function as an effect; made by `function`."""

    def __init__(
        self,
        fn: Callable[..., Any],
        space: Space,
        name: str,
        inputs: tuple[str, ...],
        channels_out: int | None,
        automatable: bool,
    ) -> None:
        super().__init__(name, space)
        self.fn, self.inputs, self.channels_out, self.automatable = fn, inputs, channels_out, automatable

    def process(self, request: RenderRequest) -> Audio:
        """Renders a request; see `Effect.process`."""
        # copied both ways: a function may write into its input, and give its own buffer back
        inputs = {name: given.copy() for name, given in request.inputs.items()}
        values = {name: _over_time(request, name) for name in request.settings}
        wet = np.asarray(self.fn(request.audio.copy(), request.sample_rate, **inputs, **values))
        if wet.dtype.kind in _NO_AUDIO:
            raise EffectError(f"{self.name} returned {wet.dtype}; it must return floating point in about [-1, 1].")
        return np.array(wet, dtype=np.float32)

    def output_channels(self, channels: int) -> int:
        """How many channels come out."""
        return self.channels_out or channels

    def __getstate__(self) -> dict[str, Any]:
        # by value, so that lambdas and functions of a notebook reach worker processes; in a process that
        # `multiprocessing` spawned, the script is a module that they do not have
        script = sys.modules.get("__mp_main__")
        if script is not None:
            cloudpickle.register_pickle_by_value(script)
        return super().__getstate__() | {"fn": cloudpickle.dumps(self.fn)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"fn": cloudpickle.loads(state["fn"])})


def _over_time(request: RenderRequest, name: str) -> Any:
    """The value of a parameter, or one for each sample where it moves."""
    values = [block[name] for block in request.blocks]
    if all(value == values[0] for value in values):
        return values[0]
    return np.repeat(values, request.hop)[: request.audio.shape[1]]


def function(
    fn: Callable[..., Any],
    space: Space,
    name: str | None = None,
    *,
    inputs: Sequence[str] = (),
    channels_out: int | None = None,
    automatable: bool = False,
) -> Function:
    """Wraps any Python function as an effect.

    Args:
        fn: called as `fn(audio, sample_rate, **values)` with audio (channel, time) float32, the rate in Hz and every
            parameter in physical units; returns (channel, time) of the same time. It must be pure.
        space: its parameters.
        name: for tables and errors; the function's own name if not given.
        inputs: names of further inputs, which `fn` gets by name as (channel, time), such as ("sidechain",).
        channels_out: how many channels `fn` returns; as many as it gets if not given.
        automatable: whether settings may move during a clip. `fn` then gets one value for each sample, (time,), of a
            parameter that does.

    Raises:
        ParameterError: fn cannot be called, or takes what nothing gives; space is no Space; an input has the name of
            something else.

    >>> import numpy as np
    >>> from blackbox_fx.space import Continuous, Space
    >>> drive = function(lambda x, sr, drive_db: np.tanh(x * 10 ** (drive_db / 20)),
    ...                  Space({"drive_db": Continuous(0, 40, default=12, unit="dB")}), name="drive")
    >>> drive.render(np.full((1, 2), 0.1), {"drive_db": 20.0}).round(4).tolist()
    [[0.7616000175476074, 0.7616000175476074]]
    """
    if not callable(fn):
        raise ParameterError(f"fn must be a function of audio, sample_rate and parameters by name, got {fn!r:.80}.")
    if not isinstance(space, Space):
        raise ParameterError(f"space must be a Space of parameters, such as bfx.Space({{...}}), got {space!r:.80}.")
    _check_inputs(inputs, space)
    _check_arguments(fn, {*inputs, *space.parameters})
    if channels_out is not None:
        checks.whole("channels_out", channels_out)
    return Function(fn, space, name or getattr(fn, "__name__", "function"), tuple(inputs), channels_out, automatable)


def _check_inputs(inputs: Sequence[str], space: Space) -> None:
    if isinstance(inputs, str) or not all(isinstance(each, str) for each in inputs):
        raise ParameterError(f'inputs must be a list of names, such as ["sidechain"], got {inputs!r:.80}.')
    if taken := [each for each in inputs if each in _TAKEN]:
        raise ParameterError(f"An input cannot be called {taken[0]!r}, as an argument of calls is; rename it.")
    if len(set(inputs)) < len(inputs):
        raise ParameterError(f"inputs={list(inputs)} names an input twice; rename one of them.")
    if taken := [each for each in inputs if each in space.parameters]:
        raise ParameterError(f"{taken[0]!r} is an input and a parameter; rename one of them.")


def _check_arguments(fn: Callable[..., Any], given: set[str]) -> None:
    """Raises ParameterError if a function takes more than audio, sample rate and what it is given by name."""
    try:
        arguments = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # a built-in one
        return
    for argument in arguments[2:]:
        if argument.default is argument.empty and argument.kind not in _OWN and argument.name not in given:
            raise ParameterError(
                f"fn takes {argument.name!r}, which is neither a parameter of its space nor a further input; add it to "
                f'the space, or write inputs=["{argument.name}"].'
            )
