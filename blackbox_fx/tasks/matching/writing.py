"""What a match leaves in a folder: settings, presets, audio, a session for a DAW, and a page."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from blackbox_fx.audio import Audio, to_channels, write
from blackbox_fx.core.files import write_text
from blackbox_fx.effects import Effect
from blackbox_fx.errors import DataError
from blackbox_fx.layers.console import Console
from blackbox_fx.models.encoders import mel_filters
from blackbox_fx.report import plot
from blackbox_fx.report.html import Section, write_page
from blackbox_fx.sessions.report import SessionReport
from blackbox_fx.sessions.saving import save_session
from blackbox_fx.space import Continuous, Integer
from blackbox_fx.tasks.matching.matching import Match
from blackbox_fx.tasks.matching.settled import shown

SETTINGS, TABLE, MATCHED, PRESETS = "match.json", "settings.csv", "matched.wav", "presets"
# what a match writes, and replaces when it is made again
_SHOWN = ("dry.flac", "matched.flac", "reference.flac", "spectra.svg", "sounds.png", "search.svg")
WRITTEN = (MATCHED, TABLE, "index.html", *_SHOWN)
_LARGEST = 4 << 20
_HEARD_S = 20.0
_BANDS = 48


def table_of(found: Match, all_settings: bool = False) -> list[tuple[str, ...]]:
    """Headings, then effect, setting, value and how well it is known, in the order of the signal.

    Args:
        found: whose settings they are.
        all_settings: whether those that stand at their defaults are there, too.
    """
    known = {d.name: d.words() for d in found.determined}
    rows = [("effect", "setting", "value", "unit", "could be")]
    for label, own in found.settings.items():
        effect = found.effects[label]
        rows += [
            (label, name, shown(value), _unit(effect, name), known.get(f"{label}.{name}", ""))
            for name, value in own.items()
            if all_settings or value != effect.defaults[name]
        ]
        held = held_in(effect) if all_settings else {}
        rows += [(label, name, shown(value), _unit(effect, name), "held") for name, value in held.items()]
    return rows if any(row[-1] for row in rows[1:]) else [row[:-1] for row in rows]


def held_in(effect: Effect) -> dict[str, Any]:
    """The settings of an effect that were not searched, which `Match.settings` does not have."""
    return {name: value for name, value in effect.defaults.items() if name not in effect.space.free}


def others(found: Match) -> str:
    """A sentence on the settings that `table_of` does not show."""
    if any(held_in(found.effects[label]) for label in found.settings):
        return f"All other settings stand at their defaults, or where they were held; {TABLE} has them all."
    return "All other settings stand at their defaults."


def _unit(effect: Effect, name: str) -> str:
    parameter = effect.space.parameters[name]
    return parameter.unit if isinstance(parameter, Continuous | Integer) else ""


def bypassed(found: Match) -> list[str]:
    """Labels of effects that the match does without."""
    return [label for label in found.effects if label not in found.settings]


def write_settings(found: Match, folder: Path) -> None:
    """Writes match.json, which `read_settings` reads, settings.csv, and a preset of each effect.

    Raises:
        DataError: a folder that cannot be written to.
    """
    said = {
        "chain": [{"label": label, "effect": found.effects[label].name} for label in found.settings],
        "bypassed": bypassed(found),
        "settings": found.settings,
        "held": {label: held_in(found.effects[label]) for label in found.settings},
        "loss": found.loss,
        "before": found.before if math.isfinite(found.before) else None,
        "renders": found.renders,
        "seconds": found.seconds,
        "failures": found.failures,
        "interrupted": found.interrupted,
        "determined": {
            d.name: {"low": d.low, "high": d.high, "heard": d.is_heard or d.is_made_up_for} for d in found.determined
        },
    }
    text = io.StringIO()
    csv.writer(text).writerows(table_of(found, all_settings=True))
    try:
        (folder / PRESETS).mkdir(parents=True, exist_ok=True)
        write_text(folder / SETTINGS, json.dumps(said, indent=1))
        write_text(folder / TABLE, text.getvalue())
    except OSError as error:
        raise DataError(f"Cannot write to {folder} ({error.strerror}); name a folder you may write to.") from error
    for label, own in found.settings.items():
        effect = found.effects[label]
        ending = ".vstpreset" if ".vstpreset" in effect.states else ".json"
        effect.save_preset(folder / PRESETS / f"{label}{ending}", own)


def read_settings(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings of an earlier match, by label. Raises DataError where there are none."""
    path = folder / SETTINGS if folder.is_dir() else folder
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        said = json.loads(path.read_bytes())["settings"]
        if not all(isinstance(own, dict) for own in said.values()):
            raise ValueError("it holds no settings")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"Cannot read {path} ({error}); name the folder of an earlier match.") from error
    return said


def save_chain(found: Match, dry: Audio, path: Path) -> SessionReport:
    """Writes the dry recording with the chain on its track as a session; see `bfx.save_session`."""
    members = {label: found.effects[label] for label in found.settings}
    console = Console(strip=members or None, sample_rate=found.sample_rate)
    strip = {
        label: {n: v for n, v in own.items() if n in members[label].space.free} for label, own in found.settings.items()
    }
    # a fader at 3 dB makes up for what the place in the middle takes from a mono track
    track = {
        "gain_db": 10 * math.log10(2) if len(dry) == 1 else 0.0,
        "pan": 0.0,
        **({"strip": strip} if members else {}),
    }
    rows, buses = console.encode({"tracks": [track], "buses": [{}]})
    return save_session(console, path, [torch.from_numpy(dry)], rows, buses, names=["matched"], channels=len(dry))


def write_match_page(
    found: Match, folder: Path, sounds: Mapping[str, Audio], lead: str, title: str = "A match"
) -> Path:
    """Writes index.html: players, the settings and how well each is known, how the loss fell, spectra.

    Args:
        found: that is shown.
        folder: of the page.
        sounds: by caption, (channel, time), shown from where the search listened; "dry", "matched" and "reference".
        lead: a sentence below the title.
        title: of the page.

    Returns:
        The path of the page.
    """
    length = round(_HEARD_S * found.sample_rate)
    parts = {name: to_channels(x[:, :length], 2) for name, x in sounds.items()}
    peak = max(1.0, *(float(np.abs(x).max(initial=0.0)) for x in parts.values()))
    players = []
    for name, x in parts.items():
        write(folder / f"{name}.flac", (x / peak).astype(np.float32), found.sample_rate)
        players.append((name, f"{name}.flac"))
    softer = "" if peak == 1.0 else f" All are {20 * math.log10(peak):.1f} dB softer here, so that none is clipped."
    images = [
        plot.save(_spectra(parts, found.sample_rate), folder / "spectra.svg"),
        plot.save(plot.sounds(parts, found.sample_rate), folder / "sounds.png"),
    ]
    gone = bypassed(found)
    words = others(found)
    if found.determined:
        words += (
            " The last column says what else a setting could be while the loss rises by less than a tenth, or 0.0001, "
        )
        words += "if all others follow."
    words += f" Not needed: {', '.join(gone)}." if gone else ""
    sections = [
        Section("Listen", f"From {found.start / found.sample_rate:.1f} s on.{softer}", players=players),
        Section("Settings", words, table=table_of(found)),
        Section("Spectra", "Long-term spectra, and all three sounds.", images=images),
    ]
    if found.trace:
        drawn = plot.save(_convergence(found), folder / "search.svg")
        sections.append(Section("Search", _spent(found), images=[drawn]))
    page = folder / "index.html"
    write_page(page, title, lead, sections, f"{MATCHED} is the whole; presets load into the plugins.")
    return page


def _spent(found: Match) -> str:
    failed = f" {found.failures} renders failed." if found.failures else ""
    stopped = " It was interrupted; the same command goes on from there." if found.interrupted else ""
    return (
        f"{found.renders:.0f} passes through the chain in {found.seconds:.1f} s, of which {found.rendering:.1f} s "
        f"rendering and {found.comparing:.1f} s comparing.{failed}{stopped}"
    )


def _convergence(found: Match) -> Figure:
    figure, ((left, right),) = plot.new_figure(8.5, 3, 1, 2, sharey=True)
    for axis, at, name in (
        (left, [p.renders for p in found.trace], "passes through the chain"),
        (right, [p.seconds for p in found.trace], "seconds"),
    ):
        axis.step(at, [max(p.loss, 1e-14) for p in found.trace], where="post", color=plot.BLUE)
        axis.set(yscale="log", xlabel=name)
    left.set_ylabel("least loss so far")
    return figure


def _spectra(sounds: Mapping[str, Audio], rate: float) -> Figure:
    figure, ((axis,),) = plot.new_figure(8.5, 3)
    length = 4096
    filters = mel_filters(_BANDS, length, rate)
    centres = 700 * (
        10 ** (np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + rate / 1400), _BANDS + 2)[1:-1] / 2595)
        - 1
    )
    for (name, x), colour in zip(sounds.items(), (plot.GREY, plot.BLUE, plot.ORANGE), strict=False):
        padded = torch.from_numpy(np.pad(x, ((0, 0), (0, max(0, length - x.shape[1])))))
        spectrum = torch.stft(padded, length, length // 2, window=torch.hann_window(length), return_complex=True)
        power = (filters @ spectrum.abs().square()).mean((0, 2)) / length
        style = "--" if name == "reference" else "-"
        axis.plot(centres, 10 * np.log10(power.numpy() + 1e-12), color=colour, label=name, linestyle=style)
    axis.set(xscale="log", xlabel="Hz", ylabel="dB")
    axis.legend(fontsize=8, frameon=False)
    return figure
