"""What is a track and what is the mix, in the layouts of data sets and in plain folders."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, final

import yaml

from blackbox_fx.data.roles import role_of

# Endings that promise audio, also of formats that cannot be read here: such a file is named, not passed over.
AUDIO_ENDINGS = frozenset(
    (
        *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
        *(".au", ".caf", ".w64", ".rf64", ".m4a", ".mp4", ".aac", ".wma", ".wv", ".ape"),
    )
)
# Endings of tracker modules that are hardly those of other files.
MODULE_ENDINGS = frozenset(
    (
        *(".mod", ".xm", ".s3m", ".it", ".mptm", ".stm", ".mtm", ".669", ".ult", ".okt", ".mo3", ".mdl", ".dbm"),
        *(".amf", ".ams", ".far", ".gdm", ".imf", ".j2b", ".psm", ".ptm", ".mt2", ".umx", ".digi", ".m15", ".nst"),
    )
)
STEM_ENDING = ".stem.mp4"  # of a song with all of its stems in one file
Skipped = list[tuple[Path, str]]
_LARGEST = 4 << 20  # bytes of a metadata file
_SPLITS = {"train": "train", "dev": "train", "test": "test", "validation": "validation", "valid": "validation"}
_MUSDB = {"vocals", "drums", "bass", "other"}
_MIX = {"mixture", "mix", "master", "mastered", "mixdown", "bounce", "2mix"}
_MIX |= {f"{word}mix" for word in ("full", "final", "stereo", "main", "original", "reference")}
_SUBMIX = {"accompaniment", "instrumental", "karaoke", "backingtrack", "linearmixture", "novocals", "minusone"}
_FEW = 3  # tracks beside which an instrumental may be a track, and is no sum of them


@final
@dataclasses.dataclass(frozen=True)
class Track:
    """A file that is a track.

    Args:
        name: of the track.
        role: what it is, see `role_of`.
        file: its audio.
    """

    name: str
    role: str
    file: Path


@final
@dataclasses.dataclass(frozen=True)
class Found:
    """The files of a song.

    Args:
        name: of the song.
        folder: where it lies.
        layout: such as "MedleyDB", or "plain".
        tracks: one or more.
        mix: the file of the real mix, if there is one.
        split: "train", "test" or "validation", where the data set says so.
    """

    name: str
    folder: Path
    layout: str
    tracks: tuple[Track, ...]
    mix: Path | None = None
    split: str = ""


def find_songs(folder: Path, raw: bool, skipped: Skipped, split: str = "") -> Iterator[Found]:
    """The songs of a folder, in the layout that is seen there; what is not used is put down with the reason.

    Args:
        folder: of songs, or of splits with songs.
        raw: whether tracks are those before processing, where a data set has them.
        skipped: gets what is not used.
        split: to which the folder belongs.
    """
    entries = visible(folder)
    folders = {entry.name.lower(): entry for entry in entries if entry.is_dir()}
    if {"mixtures", "sources"} <= set(folders):
        yield from _dsd(folders["mixtures"], folders["sources"], skipped)
        return
    skipped += [
        (file, "lies outside of the songs' folders; move it into one.")
        for file in entries
        if file.is_file() and is_audio(file)
    ]
    for name, entry in folders.items():
        try:
            inside = visible(entry)
        except OSError as error:
            skipped.append((entry, f"cannot be read ({error.strerror}); check its permissions."))
            continue
        if name in _SPLITS and not any(map(is_audio, inside)):
            yield from find_songs(entry, raw, skipped, _SPLITS[name])
        elif (found := _song(entry, inside, raw, split, skipped)) is not None:
            yield found


def find_files(folder: Path, wanted: Callable[[Path], bool], split: str = "") -> Iterator[tuple[Path, str]]:
    """The files in a folder and in the folders in it that are songs by themselves, each with its split.

    Args:
        folder: of such files, or of folders with them; what cannot be read is passed over.
        wanted: tells them, such as `is_module`.
        split: to which the folder belongs.
    """
    with contextlib.suppress(OSError):
        for entry in visible(folder):
            if wanted(entry):
                yield entry, split
            elif entry.name.lower() in _SPLITS and entry.is_dir():
                yield from find_files(entry, wanted, _SPLITS[entry.name.lower()])
            elif entry.is_dir():
                with contextlib.suppress(OSError):
                    yield from ((file, split) for file in visible(entry) if wanted(file))


def find_song(folder: Path, raw: bool, skipped: Skipped) -> Found | None:
    """The song in one folder; see `find_songs`. None, and the reason put down, if there is none."""
    try:
        return _song(folder, visible(folder), raw, "", skipped)
    except OSError as error:
        skipped.append((folder, f"cannot be read ({error.strerror}); check its permissions."))
        return None


def visible(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, by name."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def is_audio(file: Path) -> bool:
    """Whether the name of a file promises the audio of one track or mix."""
    return file.suffix.lower() in AUDIO_ENDINGS and not file.name.lower().endswith(STEM_ENDING)


def is_module(file: Path) -> bool:
    """Whether a file is a tracker module by its name."""
    return file.suffix.lower() in MODULE_ENDINGS and file.is_file()


def is_stems(file: Path) -> bool:
    """Whether a file holds all stems of a song by its name."""
    return file.name.lower().endswith(STEM_ENDING) and file.is_file()


def _is_song(file: Path) -> bool:
    """Whether a file is a song of its own."""
    return is_module(file) or is_stems(file)


def _song(folder: Path, inside: list[Path], raw: bool, split: str, skipped: Skipped) -> Found | None:
    names = {entry.name for entry in inside}
    if f"{folder.name}_STEMS" in names or f"{folder.name}_RAW" in names:
        return _medley(folder, raw, split, skipped)
    if "data.json" in names and any(entry.is_dir() for entry in inside):
        return _moises(folder, split, skipped)
    if "stems" in names and ("metadata.yaml" in names or any(entry.stem == "mix" for entry in inside)):
        return _slakh(folder, inside, split, skipped)
    if any(map(_is_song, inside)) and not any(map(is_audio, inside)):
        return None
    return _plain(folder, inside, split, skipped)


def _dsd(mixtures: Path, sources: Path, skipped: Skipped) -> Iterator[Found]:
    for part in visible(sources):
        for folder in visible(part) if part.is_dir() else []:
            beside = mixtures / part.name / folder.name
            mixes = [file for file in visible(beside) if is_audio(file)] if beside.is_dir() else []
            if len(mixes) != 1:
                skipped.append((beside, f"holds {len(mixes)} mixes instead of one, so the song has none."))
            tracks = _by_name(filter(is_audio, visible(folder)))
            split = _SPLITS.get(part.name.lower(), "")
            yield Found(folder.name, folder, "DSD100", tracks, mixes[0] if len(mixes) == 1 else None, split)


def _medley(folder: Path, raw: bool, split: str, skipped: Skipped) -> Found:
    wanted = folder / f"{folder.name}_{'RAW' if raw else 'STEMS'}"
    if not wanted.is_dir():
        skipped.append((wanted, f"is missing, so the {'stems' if raw else 'raw tracks'} of the song are its tracks."))
        wanted = folder / f"{folder.name}_{'STEMS' if raw else 'RAW'}"
    said = _metadata(folder / f"{folder.name}_METADATA.yaml", yaml.safe_load, skipped)
    instruments: dict[str, str] = {}
    for stem in _values(said.get("stems")):
        for entry in (stem, *_values(stem.get("raw"))):
            instruments[str(entry.get("filename"))] = _text(entry.get("instrument"))
    mix = folder / f"{folder.name}_MIX.wav"
    if not mix.is_file():
        skipped.append((mix, "is missing, so the song has no mix."))
    tracks = tuple(
        Track(file.stem, role_of(instruments.get(file.name) or file.stem.removeprefix(folder.name)), file)
        for file in visible(wanted)
        if is_audio(file)
    )
    return Found(folder.name, folder, "MedleyDB", tracks, mix if mix.is_file() else None, split)


def _moises(folder: Path, split: str, skipped: Skipped) -> Found:
    said = _metadata(folder / "data.json", json.loads, skipped)
    known: dict[str, tuple[str, str]] = {}
    for stem in _values(said.get("stems")):
        for k, track in enumerate(_values(stem.get("tracks"))):
            kind, name = _text(track.get("trackType")), _text(stem.get("stemName"))
            role = role_of(kind) if role_of(kind) != "other" else role_of(name)
            known[str(track.get("id"))] = (f"{name} {k + 1} {kind}".strip(), role)
    files = [file for part in visible(folder) if part.is_dir() for file in visible(part) if is_audio(file)]
    for file in files:
        if known and file.stem not in known:
            skipped.append((file, "is not named in data.json, and is a track by the name of its folder."))
    tracks = []
    for file in files:
        name, role = known.get(file.stem, (f"{file.parent.name} {file.stem}", role_of(file.parent.name)))
        tracks.append(Track(name, role, file))
    title = " - ".join(filter(None, (_text(said.get("artist")), _text(said.get("song")))))
    return Found(title or folder.name, folder, "MoisesDB", tuple(tracks), None, split)


def _slakh(folder: Path, inside: list[Path], split: str, skipped: Skipped) -> Found:
    path = folder / "metadata.yaml"
    said = _metadata(path, yaml.safe_load, skipped)
    stems: Any = said.get("stems")
    stems = stems if isinstance(stems, dict) else {}
    tracks = []
    for file in filter(is_audio, visible(folder / "stems")):
        entry = stems.get(file.stem)
        kind = _text(entry.get("inst_class")) if isinstance(entry, dict) else ""
        tracks.append(Track(f"{file.stem} {kind}".strip(), role_of(kind or file.stem), file))
    mixes = [entry for entry in inside if entry.is_file() and is_audio(entry) and entry.stem == "mix"]
    if len(mixes) != 1:
        skipped.append((folder, f"holds {len(mixes)} files called mix instead of one, so the song has no mix."))
    return Found(folder.name, folder, "Slakh", tuple(tracks), mixes[0] if len(mixes) == 1 else None, split)


def _plain(folder: Path, inside: list[Path], split: str, skipped: Skipped) -> Found | None:
    """A folder with one audio file for each track, and maybe the mix, told by its name."""
    nested = [entry for entry in inside if entry.is_dir() and any(map(is_audio, entry.rglob("[!.]*")))]
    skipped += [(e, "is a folder inside a song's folder; move its files up or make it a song.") for e in nested]
    files = list(filter(is_audio, (entry for entry in inside if not entry.is_dir())))
    if several := _several(files):
        skipped.append((folder, f"holds several songs ({', '.join(several)}); give each a folder of its own."))
        return None
    mixes = [file for file in files if _bare(file.stem, folder.name) in _MIX]
    tracks = _without_sums([file for file in files if file not in mixes], folder.name, skipped)
    if mixes and not tracks:
        skipped.append((folder, "holds a mix and no tracks."))
        return None
    found = _by_name(tracks)
    layout = "MUSDB18-HQ" if mixes and {track.name for track in found} <= _MUSDB else "plain"
    return Found(folder.name, folder, layout, found, _only(mixes, skipped), split)


def _by_name(files: Iterable[Path]) -> tuple[Track, ...]:
    return tuple(Track(file.stem, role_of(file.stem), file) for file in files)


def _only(mixes: list[Path], skipped: Skipped) -> Path | None:
    """The mix, if it is the only one."""
    if len(mixes) > 1:
        names = ", ".join(file.name for file in mixes)
        skipped += [(file, f"may be the mix, as others may ({names}), so none is; keep one.") for file in mixes]
    return mixes[0] if len(mixes) == 1 else None


def _without_sums(tracks: list[Path], song: str, skipped: Skipped) -> list[Path]:
    """The tracks without those that are sums of others by their names."""
    sums = [file for file in tracks if _bare(file.stem, song) in _SUBMIX] if len(tracks) >= _FEW else []
    reason = "is a sum of other tracks by its name, and is no track; rename it if it is one."
    skipped += [(file, reason) for file in sums]
    return [file for file in tracks if file not in sums]


def _bare(name: str, song: str) -> str:
    """A name without that of the song, digits in front and what separates words, in small letters."""
    text = name.lower().replace(song.lower(), "")
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^[\W_\d]+(?!mix)", "", text)) or re.sub(r"[^a-z0-9]", "", text)


def _several(files: list[Path]) -> list[str]:
    """The names of songs whose tracks have the same names, in front of which the songs' names stand."""
    groups: dict[str, set[str]] = {}
    for file in files:
        for separator in (" - ", "_"):
            song, found, track = file.stem.rpartition(separator)
            if found:
                groups.setdefault(song, set()).add(track.lower())
                break
    named = {song: tracks for song, tracks in groups.items() if len(tracks) > 1}
    shared = set.intersection(*named.values()) if len(named) > 1 else set()
    return sorted(named) if len(shared) > 1 and sum(map(len, named.values())) == len(files) else []


def _metadata(path: Path, parse: Callable[[str], Any], skipped: Skipped) -> dict[str, Any]:
    """What a file says of a song; nothing, and the reason put down, if it cannot be read."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        said = parse(path.read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise ValueError("it holds no names")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:100]
        skipped.append((path, f"cannot be read ({reason}), so names of files say what tracks are."))
        return {}
    return said


def _values(given: Any) -> list[dict[str, Any]]:
    """The mappings in a list or a mapping; none of anything else."""
    found = given.values() if isinstance(given, dict) else given if isinstance(given, list) else ()
    return [each for each in found if isinstance(each, dict)]


def _text(given: Any) -> str:
    """A text, or the texts of a list."""
    if isinstance(given, list):
        return " ".join(map(_text, given))
    return given if isinstance(given, str) else ""
