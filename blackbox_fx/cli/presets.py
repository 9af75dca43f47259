"""The command that writes presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blackbox_fx.cli.effects import Address, Impulse, Own, Preset, choose, load_effect
from blackbox_fx.report import terminal as show


def preset(
    effect: Address,
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: .json; for VST3 also .vstpreset and .state.")
    ],
    settings: Annotated[list[str], typer.Option("--set", help="name=value, in physical units; may be repeated.")] = [],
    source: Preset = None,
    impulse: Impulse = None,
    parameters: Own = None,
) -> None:
    """Write settings of an effect to a file, or with --preset another file in another format."""
    loaded = load_effect(effect, impulse, parameters)
    values = loaded.space.complete(choose(loaded, source, settings))
    loaded.save_preset(target, values)
    moved = [name for name, value in values.items() if value != loaded.defaults[name]]
    said = ", ".join(f"{name}={values[name]}" for name in moved) or "all defaults"
    show.out.print(f"wrote {target} ({said})", markup=False, soft_wrap=True)
