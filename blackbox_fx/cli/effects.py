"""Commands about effects: list, render."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from blackbox_fx.audio import Audio, check_audio
from blackbox_fx.cli import show
from blackbox_fx.effects import Effect, ladspa, load, vst3
from blackbox_fx.effects.pedalboard import BUILTINS
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Space, Toggle

Address = Annotated[str, typer.Argument(help="Such as pedalboard:Compressor, vst3:/path/to/Plugin.vst3 or ladspa:sc4.")]
Preset = Annotated[Path | None, typer.Option("--preset", help="Settings to begin with; --set goes above them.")]
Impulse = Annotated[Path | None, typer.Option("--impulse", help="Impulse response, for pedalboard:Convolution.")]


def load_effect(address: str, impulse: Path | None, parameters: Path | None = None) -> Effect:
    """The effect that a command line names."""
    options = {"impulse_response": impulse, "parameters": parameters}
    return load(address, **{name: value for name, value in options.items() if value is not None})


def effects() -> None:
    """List the effects that can be loaded."""
    rows = [(f"pedalboard:{name}", str(len(parameters))) for name, parameters in BUILTINS.items()]
    rows += [(f"vst3:{path}", "-") for path in vst3.installed()]
    rows += [(address, "-") for address in ladspa.installed()]
    show.table("Effects", ("address", "parameters"), rows, numbers=1)


def render(
    effect: Address,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Audio file to read.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Audio file to write; the ending sets the format.")],
    settings: Annotated[list[str], typer.Option("--set", help="name=value, in physical units; may be repeated.")] = [],
    preset: Preset = None,
    impulse: Impulse = None,
) -> None:
    """Render a file through an effect."""
    from blackbox_fx.audio import read, write

    loaded = load_effect(effect, impulse)
    values = loaded.space.complete(choose(loaded, preset, settings))
    audio, rate = read(source)
    if target.exists() and target.samefile(source):
        raise EffectError(f"OUT is the same file as IN ({source}); name another.")
    write(
        target,
        _supervised(loaded.fix(values), audio, rate) if loaded.native else loaded.render(audio, values, rate),
        rate,
    )
    show.out.print(
        f"wrote {target} ({audio.shape[1] / rate:.2f} s, {audio.shape[0]} channels, {rate:g} Hz)",
        markup=False,
        soft_wrap=True,
    )


def _supervised(effect: Effect, audio: Audio, rate: float) -> Audio:
    """A render in a worker process, at what the effect is fixed to."""
    import numpy as np

    from blackbox_fx.runtime import Job, shared_pool

    job = Job(effect, check_audio(audio)[None], np.zeros((1, 0)), np.zeros(1, np.int64), rate)
    return shared_pool().map(job)[0]


def choose(effect: Effect, preset: Path | None, settings: Sequence[str]) -> dict[str, Any]:
    """The values of a preset, and above them those of the command line."""
    parsed = parse_settings(effect.space, settings)
    return parsed if preset is None else {**effect.load_preset(preset), **parsed}


def parse_settings(space: Space, settings: Sequence[str]) -> dict[str, Any]:
    """name=value, in physical units, to values by name. Raises ParameterError on anything else."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ParameterError(f"--set takes name=value, got {setting!r}.")
        space.require([name])
        values[name] = _value(name, space.parameters[name], text)
    return values


def _value(name: str, parameter: Parameter, text: str) -> Any:
    if isinstance(parameter, Choice):
        return text
    words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    try:
        if isinstance(parameter, Toggle):
            return words[text.lower()]
        if isinstance(parameter, Continuous | Integer):
            return float(text)
    except (KeyError, ValueError):
        pass
    raise ParameterError(f"{name}={text!r} is not allowed; allowed is {parameter.describe()}.")
