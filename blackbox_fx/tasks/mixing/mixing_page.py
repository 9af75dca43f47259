"""The page about a song that a network has mixed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from blackbox_fx.audio import Audio, to_channels, write
from blackbox_fx.audio.excerpts import loudest
from blackbox_fx.data.folder import SongFiles
from blackbox_fx.report import plot
from blackbox_fx.report.html import Section, write_page
from blackbox_fx.tasks.mixing.mixer import Mixer

_HEARD_S = 20.0
_NETWORK, MIX = "network's mix", "networks-mix.flac"


def write_song_page(folder: Path, mixer: Mixer, song: SongFiles, mix: Audio, rows: Tensor, buses: Tensor) -> Path:
    """Writes index.html: the mix beside the sum of the tracks, and beside the real mix if there is one; settings.

    Args:
        folder: of the page.
        mixer: that mixed.
        song: that was mixed.
        mix: the whole, (2, time).
        rows: settings of tracks.
        buses: settings of the mix.

    Returns:
        The path of the page.
    """
    console, rate = mixer.console, mixer.sample_rate
    length = min(round(_HEARD_S * rate), mix.shape[1])
    start = loudest(mix, length)
    part = song.excerpt(start, length)
    sounds = {"sum of the tracks": part.stack(2).sum(0), _NETWORK: mix[:, start : start + length]}
    if part.mix is not None:
        sounds["real mix"] = to_channels(part.mix, 2)
    levelled = {name: _levelled(x) for name, x in sounds.items()}
    players = []
    for name, x in levelled.items():
        file = MIX if name == _NETWORK else name.replace(" ", "-") + ".flac"
        write(folder / file, x, rate)
        players.append((name, file))
    words = f"{song.name}, from {start / rate:.0f} s on, where it is loudest. Levels are matched."
    shown = [
        plot.save(plot.settings(names, columns, own.numpy()), folder / file)
        for names, columns, own, file in (
            (song.track_names, console.track_columns, rows, "tracks.svg"),
            (["mix"], console.bus_columns, buses, "buses.svg"),
        )
        if columns
    ]
    table = [("track", "role", *console.track_columns)]
    table += [
        (name, role, *(f"{u:.2f}" for u in row.tolist()))
        for name, role, row in zip(song.track_names, song.roles, rows, strict=True)
    ]
    sections = [
        Section(
            "Listen", words, players=players, images=[plot.save(plot.sounds(levelled, rate), folder / "sounds.png")]
        ),
        Section(
            "Settings",
            "Each in [0, 1] of the range of its parameter; settings.csv has them in their units.",
            images=shown,
        ),
        Section("All settings", "The same as numbers.", table=table),
    ]
    page = folder / "index.html"
    write_page(
        page,
        f"A mix of {song.name}",
        "A network chose these settings of real effects.",
        sections,
        "mix.wav is the whole.",
    )
    return page


def write_samples_page(folder: Path, name: str, pages: Sequence[Path]) -> Path:
    """Writes index.html with a player for each of several mixes of a song, whose own pages are in folders below.

    Args:
        folder: of the page.
        name: of the song.
        pages: of the mixes.

    Returns:
        The path of the page.
    """
    players = [(f"mix {page.parent.name}", f"{page.parent.name}/{MIX}") for page in pages]
    listen = Section("Listen", "Each mix has a page of its own in its folder. Levels are matched.", players=players)
    page = folder / "index.html"
    lead = "A network drew these mixes; each is plausible."
    write_page(page, f"{len(pages)} mixes of {name}", lead, [listen], "1/index.html is the page of the first.")
    return page


def _levelled(x: Audio) -> Audio:
    """Audio as loud as others, far from full scale."""
    level = float(np.sqrt(np.square(x, dtype=np.float64).mean()))
    gain = 0.1 / max(level, 1e-6)
    return (x * min(gain, 0.95 / max(float(np.abs(x).max()), 1e-6))).astype(np.float32)
