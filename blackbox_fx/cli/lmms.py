"""The command that says what an LMMS project holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blackbox_fx.errors import EffectError
from blackbox_fx.report import terminal as show

if TYPE_CHECKING:
    from blackbox_fx.sessions.lmms.project import LmmsEffect, LmmsProject


def lmms(
    project: Annotated[Path, typer.Argument(metavar="PROJECT", help="An .mmp or .mmpz file.")],
) -> None:
    """Show the tracks and FX channels of an LMMS project, the settings of its LADSPA effects, and what is lost."""
    from blackbox_fx.sessions.lmms.console import lmms_console
    from blackbox_fx.sessions.lmms.reading import read_lmms

    found = read_lmms(project)
    title = f"{found.path.name}: {found.tempo:g} beats per minute, {_decibels(found.volume)} in all"
    show.table(title, ("track or FX channel", "role", "to", "dB", "pan"), _rows(found), numbers=2)
    for where, effect in found.effects:
        show.out.print(f"{where}: {_said(effect)}", markup=False, soft_wrap=True, highlight=False)
    if found.tracks:
        made = lmms_console(found)
        show.out.print(repr(made), markup=False, soft_wrap=True, highlight=False)
        for sentence in made.lost:
            show.out.print(f"- {sentence}", markup=False, soft_wrap=True, highlight=False)
    for sentence in found.skipped:
        show.out.print(f"- {sentence}", markup=False, soft_wrap=True, highlight=False)


def _decibels(gain: float) -> str:
    from blackbox_fx.sessions.points import decibels

    return f"{decibels(gain):.1f} dB"


def _rows(project: LmmsProject) -> list[tuple[str, ...]]:
    tracks = [
        (
            _muted(each.name, each.mute),
            each.role,
            str(each.channel or "master"),
            _decibels(each.volume),
            f"{each.pan:.2f}",
        )
        for each in project.tracks
    ]
    channels = [
        (
            _muted(f"FX {each.number} {each.name}" if each.number else each.name, each.mute),
            "",
            ", ".join(f"{send.to or 'master'} at {_decibels(send.amount)}" for send in each.sends),
            _decibels(each.volume),
            "",
        )
        for each in project.channels
    ]
    return [tuple(map(show.plain, row)) for row in tracks + channels]


def _muted(name: str, mute: bool) -> str:
    return f"{name} (muted)" if mute else name


def _said(effect: LmmsEffect) -> str:
    """The settings of an effect in physical units, or why there are none."""
    from blackbox_fx.sessions.lmms.plugins import load_author_effect

    try:
        found = load_author_effect(effect)
    except EffectError as error:
        return str(error)
    states = [] if effect.on else ["off"]
    states += [f"wet {effect.wet:g}"] if effect.wet != 1 else []
    values = ", ".join(f"{name}={value:.6g}" for name, value in found.settings.items())
    return f"{effect.name} {' '.join(states)}".rstrip() + f" ({values})"
