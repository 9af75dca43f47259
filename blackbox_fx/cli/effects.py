"""Commands about effects: list, render."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.console import Group
from rich.text import Text

from blackbox_fx.audio import Audio
from blackbox_fx.effects import Effect, RenderRequest, load
from blackbox_fx.effects.further import check_names
from blackbox_fx.effects.scanning import Scanned, installed, listing_hosts
from blackbox_fx.effects.scanning import scan as scan_effects
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.report import terminal as show
from blackbox_fx.space.texts import parse_settings

Address = Annotated[str, typer.Argument(help="Such as pedalboard:Compressor, vst3:/path/to/Plugin.vst3 or ladspa:sc4.")]
Preset = Annotated[Path | None, typer.Option("--preset", help="Settings to begin with; --set overrides them.")]
Own = Annotated[Path | None, typer.Option("--parameters", help="TOML file that overrides what a plugin reports.")]
Impulse = Annotated[Path | None, typer.Option("--impulse", help="Impulse response, for pedalboard:Convolution.")]


def load_effect(address: str, impulse: Path | None, parameters: Path | None = None) -> Effect:
    """The effect that a command line names."""
    options = {"impulse_response": impulse, "parameters": parameters}
    with show.waiting(f"loading {address}"):
        return load(address, **{name: value for name, value in options.items() if value is not None})


def effects(
    scan: Annotated[bool, typer.Option("--scan", help="Read each one in a process of its own.")] = False,
    host: Annotated[str, typer.Option("--host", help="Hosts, such as vst3,lv2; all if not given.")] = "",
    match: Annotated[str, typer.Option("--match", help="Text in the address, in any case.")] = "",
) -> None:
    """List the addresses of the effects that are installed."""
    names = [name.strip() for name in host.split(",")] if host else listing_hosts()
    listed = installed(names, match)
    if not scan:
        for name, addresses in listed.items():
            if not addresses:
                continue
            show.out.print(f"[bold]{name}[/]: {len(addresses)}")
            # one to a line where a program reads it
            shown = [Text(address, no_wrap=True, overflow="fold") for address in addresses]
            show.out.print(Columns(shown, column_first=True) if show.out.is_terminal else Group(*shown), soft_wrap=True)
        show.out.print("Load one with bfx.load(address); --scan shows channels and parameters.", highlight=False)
        return
    found: list[Scanned] = []
    stopped = False
    reading = scan_effects(names, match)
    with show.bar("effects") as progress:
        total = sum(map(len, listed.values()))
        try:
            for effect in reading:
                found.append(effect)
                progress(len(found), max(total, len(found)), effect.address)
        except KeyboardInterrupt:
            stopped = True
            reading.close()  # with the processes that it started
    for name in listed:
        _show_scanned(name, [f for f in found if f.host == name])
    if stopped:
        show.err.print(
            f"stopped after {len(found)} of {total}; what was read is kept, so the next scan goes on from here"
        )
        raise typer.Exit(130)


def _show_scanned(host: str, found: Sequence[Scanned]) -> None:
    """A table of the effects of a host, and one of what cannot be used."""

    def number(value: int | None) -> str:
        return "-" if value is None else str(value)

    usable = sorted((f for f in found if not f.why), key=lambda f: f.address)
    refused = sorted((f for f in found if f.why), key=lambda f: f.address)
    if not show.out.is_terminal:  # for programs
        for f in (*usable, *refused):
            typer.echo("\t".join([f.address, *map(number, (f.channels, f.parameters, f.latency)), f.why]))
        return
    if usable:
        rows = [(show.plain(f.address), *map(number, (f.channels, f.parameters, f.latency))) for f in usable]
        show.table(f"{host}: {len(rows)}", ("address", "channels", "parameters", "latency"), rows, numbers=3)
    if refused:
        rows = [(show.plain(f.address), show.plain(f.why)) for f in refused]
        show.table(f"{host}: {len(rows)} that cannot be used", ("address", "why"), rows)


def render(
    effect: Address,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Audio file to read.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Audio file to write; the ending sets the format.")],
    settings: Annotated[list[str], typer.Option("--set", help="name=value, in physical units; may be repeated.")] = [],
    inputs: Annotated[
        list[str],
        typer.Option("--input", help="NAME=FILE, audio of a further input, such as sidechain; may be repeated."),
    ] = [],
    preset: Preset = None,
    impulse: Impulse = None,
    parameters: Own = None,
) -> None:
    """Render a file through an effect."""
    from blackbox_fx.audio import read, write

    loaded = load_effect(effect, impulse, parameters)
    values = loaded.space.complete(choose(loaded, preset, settings))
    files = _parse_inputs(loaded, inputs)
    audio, rate = read(source)
    for given in (source, *files.values()):
        if target.exists() and given.exists() and target.samefile(given):
            raise EffectError(f"OUT is the same file as {given}, which is read; name another.")
    further = {name: _as_long(read(file, rate)[0], audio.shape[1]) for name, file in files.items()}
    request = loaded.request(audio, values, rate, inputs=further)
    write(target, _supervised(loaded.fix(values), request) if loaded.native else loaded.run(request), rate)
    show.out.print(
        f"wrote {target} ({audio.shape[1] / rate:.2f} s, {audio.shape[0]} channels, {rate:g} Hz)",
        markup=False,
        soft_wrap=True,
    )


def _parse_inputs(effect: Effect, inputs: Sequence[str]) -> dict[str, Path]:
    """NAME=FILE to files by name. Raises ParameterError on anything else, and on what is no input of the effect."""
    files: dict[str, Path] = {}
    for given in inputs:
        name, _, file = given.partition("=")
        if not name or not file:
            raise ParameterError(f"--input takes NAME=FILE, such as sidechain=kick.wav, got {given!r}.")
        check_names(effect.name, [name], effect.inputs)
        if name in files:
            raise ParameterError(f"--input gives {name!r} twice; leave one of them out.")
        files[name] = Path(file)
    return files


def _as_long(audio: Audio, length: int) -> Audio:
    """Audio of a length, cut or with silence behind it."""
    import numpy as np

    return np.pad(audio[:, :length], ((0, 0), (0, max(0, length - audio.shape[1]))))


def _supervised(effect: Effect, request: RenderRequest) -> Audio:
    """A render in a worker process, at the settings to which the effect is fixed."""
    import numpy as np

    from blackbox_fx.runtime import Job, shared_pool

    further = {name: given[None] for name, given in request.inputs.items()}
    at = np.zeros((1, 0)), np.zeros(1, np.int64), request.sample_rate
    return shared_pool().map(Job(effect, request.audio[None], *at, inputs=further))[0]


def choose(effect: Effect, preset: Path | None, settings: Sequence[str]) -> dict[str, Any]:
    """The values of a preset, overridden by those of the command line."""
    parsed = parse_settings(effect.space, settings)
    return parsed if preset is None else {**effect.load_preset(preset), **parsed}
