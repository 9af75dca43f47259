"""A session as the folder of an Ardour session."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, final

import numpy as np
import torch

from blackbox_fx import __version__
from blackbox_fx.core import files
from blackbox_fx.errors import DataError
from blackbox_fx.sessions import strict
from blackbox_fx.sessions.ardour.document import Document
from blackbox_fx.sessions.ardour.folder import ENDING, Folder
from blackbox_fx.sessions.ardour.laws import fader_lines, lag, send_line
from blackbox_fx.sessions.document import plain
from blackbox_fx.sessions.format import STATE, Format, Whole, plugin_name, unheld
from blackbox_fx.sessions.points import above, decibels
from blackbox_fx.sessions.series import Member, through
from blackbox_fx.sessions.session import Points, SessionDevice, SessionTrack

PROGRAM = f"blackbox_fx {__version__}"
_LEAD, _CLIP = 20_011, 16_384  # samples of silence, no whole number of blocks, and of noise
_SAME = 1e-6  # of the loudest sample
_LONGEST_NAME = 100
_TAKEN = ("Master", "Monitor", "Click", "Auditioner")


def session_file(path: Path) -> Path:
    """The document that is written for a path: "song.ardour" stands in a folder "song", as Ardour has it.

    Raises:
        DataError: a name that Ardour does not take, or a folder that may hold the work of others.
    """
    name = path.stem
    if not name or re.search(r"[:;\\\x00-\x1f]", name):
        raise DataError(f"{path} is no name of an Ardour session; leave out colons, semicolons and backslashes.")
    parent = path.resolve().parent
    folder = parent if parent.name == name else path.parent / name
    target = folder / f"{name}{ENDING}"
    if folder.exists() and not _is_own(folder, target):
        raise DataError(f"{folder} holds what save_session did not write there; name another session, or move it away.")
    return target


def _is_own(folder: Path, document: Path) -> bool:
    """Whether a folder is empty, or holds a session that `save_session` wrote and no one saved since."""
    if not folder.is_dir():
        return False
    audio = folder / "interchange" / folder.name / "audiofiles"
    held = [path for path in folder.rglob("*") if not path.is_dir()]
    if any(path != document and path.parent != audio for path in held):
        return False
    if not document.is_file():
        return not held
    try:
        root = strict.parse(Folder(document).document(), "Session")
    except (DataError, strict.Wrong):
        return False
    program = root.find("ProgramVersion")
    return program is not None and program.get("modified-with", "").startswith("blackbox_fx ")


@contextlib.contextmanager
def new_ardour(target: Path, sample_rate: int, dense: bool) -> Iterator[Ardour]:
    """A session whose folder appears whole at the end, or not at all."""
    with files.replacing_folder(target.parent) as folder:
        yield Ardour(folder, target.stem, sample_rate, dense)


@final
class Ardour(Format):
    """An Ardour session that is written; it holds VST3, LV2 and LADSPA plugins.

    Args:
        folder: to write to.
        title: of the song.
        sample_rate: in Hz.
        dense: whether automation has so many points that lines between them follow the console.
    """

    name = "Ardour"
    side_chains = "its side-chain would not be connected"

    def __init__(self, folder: Path, title: str, sample_rate: int, dense: bool) -> None:
        self._folder, self._title, self._rate, self._dense = folder, title, sample_rate, dense
        self.scratch = folder.parent
        self._kept: dict[str, bytes] = {}
        self._compared: dict[tuple[str, str], bool] = {}

    def audio_path(self, name: str) -> str:
        """See `Format.audio_path`."""
        return f"interchange/{self._title}/audiofiles/{name}.wav"

    @contextlib.contextmanager
    def audio(self, path: str) -> Iterator[IO[bytes]]:
        """See `Format.audio`."""
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            yield file

    def holds(self, kind: str, effect: Any) -> str:
        """See `Format.holds`."""
        if kind not in ("vst3", "lv2", "ladspa") or (kind == "vst3" and STATE not in effect.states):
            return unheld(kind, self.name)
        if effect.settle:
            return "it is ready only a while after it was loaded"
        if getattr(effect, "tempo", None) is not None:
            return "its tempo was set by hand"
        widths = _widths(kind, effect)
        if widths not in ((1, 1), (2, 2)):
            return f"it has {widths[0]} audio inputs and {widths[1]} outputs, and not as many of both"
        return ""

    def difference(self, member: Member, is_sent_to: bool = False) -> str:
        """See `Format.difference`: what Ardour does not line up, and what depends on what came before."""
        if is_sent_to and member.layer.effect.latency:
            return "it has a latency, which Ardour does not line up with that of tracks that send to it"
        key = (member.layer.effect.fingerprint, repr(member.params.tolist()))
        if key not in self._compared:
            noise = _noise()
            member = member._replace(inputs={}, curves={})
            first = through([member], noise)
            later = through([member], torch.nn.functional.pad(noise, (_LEAD, 0)))[..., _LEAD:]
            self._compared[key] = bool((first - later).abs().max() > _SAME * first.abs().max().clamp(min=1.0))
        return (
            "it sounds different after silence, or in other blocks of samples, as Ardour runs it"
            if self._compared[key]
            else ""
        )

    def keep_device(self, member: Member, key: str) -> SessionDevice:
        """See `Format.keep_device`."""
        effect, label = member.layer.effect, member.label
        kind, settings = effect.name.partition(":")[0], effect.space.complete(effect.space.decode(member.params[0]))
        channels = _widths(kind, effect)[0]
        if kind == "vst3":
            self._kept[key], plugin_id = self.state(effect, settings)
            return SessionDevice(kind, plugin_name(effect), plugin_id, key, member.on, label, channels=channels)
        plugin_id = effect.target if kind == "lv2" else str(effect.unique_id)
        name = re.split("[/#:]", plugin_id)[-1] if kind == "lv2" else effect.label
        values = tuple(effect.port_values(settings, self._rate).items())
        return SessionDevice(kind, name, plugin_id, "", member.on, label, values, channels)

    def claim(self, tracks: Sequence[SessionTrack]) -> str:
        """See `Format.claim`."""
        return f"Ardour plays it as mixdown does{', but for faders while they move' * bool(self._moving(tracks))}."

    def notes(self, tracks: Sequence[SessionTrack], mutes_pre: bool) -> list[str]:
        """See `Format.notes`; muted tracks send nothing in Ardour."""
        found, loud = [], above(tracks)
        if loud:
            found.append(f"Ardour's faders end at 6 dB, and these stand higher: {', '.join(map(repr, loud))}.")
        if any(name != track.name for name, track in zip(_legal(tracks), tracks, strict=True)):
            found.append("Names in Ardour differ from each other and hold no colons, so some were changed.")
        if moving := self._moving(tracks):
            worst = decibels(max(lag(line, self._rate) for line in moving))
            found.append(
                "Ardour smooths faders that move, so they lag 6.4 ms behind mixdown: the gain of a track differs by at "
                f"most {worst:.0f} dB of full scale while it moves."
            )
        if any(device.kind == "vst3" for track in tracks for device in track.devices):
            found.append("Ardour finds VST3 plugins once it has scanned for them, in its plugin manager.")
        return found

    def _moving(self, tracks: Sequence[SessionTrack]) -> list[Points]:
        """The lines of all faders that move."""
        lines = [fader_lines(track, self._dense)[0] for track in tracks]
        lines += [send_line(send, track, self._dense) for track in tracks for send in track.sends]
        return [line for line in lines if line]

    def write(self, whole: Whole) -> None:
        """See `Format.write`."""
        names = _legal(whole.tracks)
        tracks = [dataclasses.replace(track, name=name) for track, name in zip(whole.tracks, names, strict=True)]
        states, dense = self._kept, self._dense
        made = Document(self._title, tracks, self._rate, whole.tempo, states, dense, PROGRAM, whole.report)
        (self._folder / f"{self._title}{ENDING}").write_bytes(made.content())


def _noise() -> torch.Tensor:
    """Stereo noise that is soft and loud by turns, over 80 dB, (1, 2, time)."""
    level = 10 ** (-4 * np.cos(np.linspace(0, 3 * np.pi, _CLIP)) ** 2)
    noise = np.random.default_rng(0).uniform(-0.7, 0.7, (1, 2, _CLIP))
    return torch.from_numpy((level * noise).astype(np.float32))


def _widths(kind: str, effect: Any) -> tuple[int, int]:
    """How many audio inputs and outputs a plugin has."""
    if kind == "vst3":
        return effect.channels, effect.channels
    if kind == "lv2":
        return effect.layout.inputs, effect.layout.outputs
    return len(effect.ports[0]), len(effect.ports[1])


def _legal(tracks: Sequence[SessionTrack]) -> list[str]:
    """Names as Ardour takes them: all different, without colons, and none that it gives itself."""
    found: list[str] = []
    for track in tracks:
        name = " ".join(plain(track.name).replace(":", "-").split())[:_LONGEST_NAME] or "track"
        known = found if track.kind == "master" else [*found, *_TAKEN]
        count, free = 1, name
        while free in known:
            count += 1
            free = f"{name} {count}"
        found.append(free)
    return found
