"""The command that normalises the stems of songs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blackbox_fx.core import files
from blackbox_fx.errors import DataError
from blackbox_fx.report import terminal as show

if TYPE_CHECKING:
    from blackbox_fx.data import EffectAverages
    from blackbox_fx.data.folder import SongFolder
    from blackbox_fx.data.normalising.songs import StemReport

_AVERAGES, _SOURCE = "averages.json", "source.json"


def normalise(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of songs, as for train mix.")],
    out: Annotated[Path, typer.Option(help="Folder for the normalised songs; an unfinished one is resumed.")],
    like: Annotated[
        Path | None, typer.Option(help="Folder of songs whose averages are the aim; FOLDER if not given.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Tracks before processing, where there are: MedleyDB, modules.")
    ] = False,
) -> None:
    """Make wet stems stand in for dry ones: write songs with the effects on each stem at the average of its role."""
    from blackbox_fx.data.folder import read_songs
    from blackbox_fx.data.normalising.songs import normalise_songs

    _require_apart(out, [folder, *([like] if like else [])])
    songs = read_songs(folder, raw=raw)
    show.err.print(str(songs), markup=False, soft_wrap=True)
    averages = _averages(out, songs, folder, like, raw)
    with show.bar("normalising") as progress:
        done = normalise_songs(songs.songs, out, averages, progress)
    for where, reason in [*((str(path), why) for path, why in songs.skipped), *done.skipped]:
        show.err.print(f"skipped {where}: {reason}", markup=False, soft_wrap=True)
    alone = sum(stem.alone for stem in done.stems)
    _show_spreads(done.stems)
    show.out.print(
        f"{done.written} songs written, {done.resumed} there before; {len(done.stems)} stems, {alone} of them as they "
        f"were; {len(done.skipped) + len(songs.skipped)} skipped. They are in {out}",
        markup=False,
        soft_wrap=True,
    )


def _require_apart(out: Path, others: Sequence[Path]) -> None:
    """Raises DataError if one of the folders lies in another."""
    mine = out.resolve()
    for other in (path.resolve() for path in others):
        if mine == other or mine in other.parents or other in mine.parents:
            raise DataError(f"--out {out} and the songs in {other} lie in each other; name a folder elsewhere.")


def _averages(out: Path, songs: SongFolder, folder: Path, like: Path | None, raw: bool) -> EffectAverages:
    """The averages to aim at: those of an earlier run into the same folder, or measured now."""
    from blackbox_fx.data.folder import read_songs
    from blackbox_fx.data.normalising.averages import EffectAverages, average_effects

    source = {"songs": str(folder.resolve()), "like": str((like or folder).resolve()), "raw": raw}
    try:
        out.mkdir(parents=True, exist_ok=True)
        known = json.loads((out / _SOURCE).read_text()) if (out / _SOURCE).exists() else None
        if known is not None and known != source:
            raise DataError(f"{out} holds songs of {known} and not of {source}; name another folder with --out.")
        if known is None and any(out.iterdir()):
            raise DataError(f"{out} holds what this command did not write; name a new folder with --out.")
        files.write_text(out / _SOURCE, json.dumps(source))
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"Cannot use {out} ({error}); name another folder with --out.") from error
    if (out / _AVERAGES).exists():
        return EffectAverages.load(out / _AVERAGES)
    corpus = songs if like is None else read_songs(like, raw=raw)
    with show.bar("measuring") as progress:
        averages = average_effects(corpus.songs, progress)
    if not averages.roles:
        raise DataError(f"All stems in {corpus.path} are silent; give songs with sound.")
    averages.save(out / _AVERAGES)
    return averages


def _show_spreads(stems: Sequence[StemReport]) -> None:
    from blackbox_fx.data.normalising.spreads import spreads

    roles = [stem.role for stem in stems]
    if len(set(roles)) == len(roles):
        return
    found = spreads(roles, [stem.before for stem in stems], [stem.after for stem in stems])
    rows = [
        (s.feature, f"{s.before:.2f}", f"{s.after:.2f}", f"{s.ratio:.2f}", f"{s.low:.2f} to {s.high:.2f}")
        for s in found
    ]
    show.table("Spread within roles", ("feature", "before", "after", "ratio", "95 %"), rows, numbers=4)
