"""Writes songs whose stems are normalised, each as a folder of files."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from blackbox_fx import audio
from blackbox_fx.core import files
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import Source
from blackbox_fx.data.normalising.averages import EffectAverages
from blackbox_fx.data.normalising.features import SILENCE_LUFS, StemFeatures
from blackbox_fx.data.normalising.stems import NormalisedStem, normalise_effects
from blackbox_fx.data.roles import role_of
from blackbox_fx.data.song import Song
from blackbox_fx.errors import AudioError, DataError

DONE = "normalised.json"  # written last into the folder of a song
_NAME_LENGTH = 100


class StemReport(NamedTuple):
    """A stem that was written.

    Args:
        song: its folder.
        file: its file.
        role: see `role_of`.
        before: its features before.
        after: and in the file.
        alone: whether it was left as it was.
    """

    song: str
    file: str
    role: str
    before: StemFeatures
    after: StemFeatures
    alone: bool


class NormalisedSongs(NamedTuple):
    """What became of songs.

    Args:
        stems: of all songs, those written before included.
        written: songs written now.
        resumed: songs that had been written before.
        skipped: songs and stems that were left out, each with the reason.
    """

    stems: tuple[StemReport, ...]
    written: int
    resumed: int
    skipped: tuple[tuple[str, str], ...]


def normalise_songs(
    songs: Iterable[Source], out: Path, averages: EffectAverages, progress: Progress = quiet
) -> NormalisedSongs:
    """Writes songs with normalised stems, as folders that `read_songs` reads, with their mixes as they are.

    A song is done when its file normalised.json is there, which holds what was done to each stem; it is not made again.
    One song at a time is in memory.

    Args:
        songs: such as those of `read_songs`.
        out: folder for the folders of songs; made if missing.
        averages: of each role.
        progress: gets songs done, all songs, and the name of the present one.

    Raises:
        DataError: a file cannot be written, or one of an earlier run is damaged.
    """
    listed, taken = tuple(songs), set[str]()
    stems: list[StemReport] = []
    skipped: list[tuple[str, str]] = []
    resumed = written = 0
    for k, source in enumerate(listed):
        progress(k, len(listed), source.name)
        name = _free(source.name, taken)
        if (out / name / DONE).exists():
            stems += _read(name, out / name / DONE)
            resumed += 1
            continue
        try:
            song = source.excerpt(0, source.length)
        except DataError as error:
            skipped.append((source.name, str(error)))
            continue
        found = _write(song, out / name, averages, skipped)
        stems += found
        written += bool(found)
    return NormalisedSongs(tuple(stems), written, resumed, tuple(skipped))


def _free(name: str, taken: set[str]) -> str:
    """A name for a file or folder that is not taken, also where case does not count; it is taken then."""
    plain = re.sub(r'[\x00-\x1f/\\:*?"<>|]+', "-", name)[:_NAME_LENGTH].strip(" .") or "unnamed"
    free, number = plain, 1
    while free.lower() in taken:
        number += 1
        free = f"{plain} ({number})"
    taken.add(free.lower())
    return free


def _called(track: str, role: str) -> str:
    """A name for a track that says its role."""
    return next((name for name in (track, f"{role} {track}") if role_of(name) == role), role)


def _write(song: Song, folder: Path, averages: EffectAverages, skipped: list[tuple[str, str]]) -> list[StemReport]:
    files.make_folder(folder)
    reports: list[StemReport] = []
    said: list[dict[str, Any]] = []
    taken = {"mix"}
    for name, role, track in zip(song.track_names, song.roles, song.tracks, strict=True):
        where = f"{song.name}/{name}"
        try:
            stem = normalise_effects(track, song.sample_rate, averages.of(role))
        except AudioError as error:
            skipped.append((where, str(error)))
            continue
        if stem.before.loudness <= SILENCE_LUFS:
            skipped.append((where, "is silent, and is written as it is."))
        file = f"{_free(_called(name, role), taken)}.wav"
        audio.write(folder / file, stem.audio, song.sample_rate)
        reports.append(StemReport(folder.name, file, role, stem.before, stem.after, not stem.changes))
        said.append({"file": file, "role": role, **_as_json(stem)})
    if reports:
        if song.mix is not None:
            audio.write(folder / "mix.wav", song.mix, song.sample_rate)
        try:
            files.write_text(folder / DONE, json.dumps({"stems": said}, indent=1, allow_nan=False))
        except OSError as error:
            raise DataError(f"Cannot write {folder / DONE} ({error.strerror}); choose another place.") from error
    return reports


def _as_json(stem: NormalisedStem) -> dict[str, Any]:
    changes = [dataclasses.asdict(change) for change in stem.changes]
    found = {"before": dataclasses.asdict(stem.before), "after": dataclasses.asdict(stem.after), "changes": changes}
    return {name: _finite(value) for name, value in found.items()}


def _finite(value: Any) -> Any:
    """A value for JSON, with None for what is not finite."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _read(song: str, path: Path) -> list[StemReport]:
    try:
        return [
            StemReport(
                song,
                str(stem["file"]),
                str(stem["role"]),
                _features(stem["before"]),
                _features(stem["after"]),
                not stem["changes"],
            )
            for stem in json.loads(path.read_text(encoding="utf-8"))["stems"]
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({str(error)[:100]}); remove its folder and run again.") from error


def _features(said: dict[str, Any]) -> StemFeatures:
    def known(value: Any) -> float:
        return math.nan if value is None else float(value)

    values = {
        name: tuple(map(known, value)) if isinstance(value, list) else known(value) for name, value in said.items()
    }
    return StemFeatures(**values)  # pyright: ignore[reportArgumentType]
