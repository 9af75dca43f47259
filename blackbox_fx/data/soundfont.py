"""Reads a SoundFont 2 file: which recorded sample sounds at a key of a program, and how it is played.

References:
    "SoundFont Technical Specification 2.04" (E-mu Systems, 2006).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.errors import DataError

DRUM_BANK = 128

_PRESET = np.dtype([("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")])
_INSTRUMENT = np.dtype([("name", "S20"), ("bag", "<u2")])
_BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
_GENERATOR = np.dtype([("what", "<u2"), ("amount", "<i2")])
_SAMPLE = np.dtype(
    [
        ("name", "S20"),
        *((field, "<u4") for field in ("start", "end", "loop_start", "loop_end", "rate")),
        ("key", "u1"),
        ("cents", "i1"),
        ("link", "<u2"),
        ("type", "<u2"),
    ]
)
_TABLES = {"phdr": _PRESET, "pbag": _BAG, "inst": _INSTRUMENT, "ibag": _BAG}

# Numbers of the generators that are read, section 8.1.2 of the specification.
_CUTOFF, _RESONANCE, _ENVELOPE_TO_CUTOFF, _PAN = 8, 9, 11, 17
_CUTOFF_DECAY, _CUTOFF_SUSTAIN = 28, 29
_ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE = 34, 35, 36, 37, 38
_INSTRUMENT_ID, _KEYS, _ATTENUATION = 41, 43, 48
_SEMITONES, _CENTS, _SAMPLE_ID, _LOOP, _SCALE, _EXCLUSIVE, _ROOT = 51, 52, 53, 54, 56, 57, 58

_DEFAULTS = {_CUTOFF: 13500, _SCALE: 100, _ROOT: -1} | dict.fromkeys(
    (_CUTOFF_DECAY, _ATTACK, _HOLD, _DECAY, _RELEASE), -12000
)


class Voice(NamedTuple):
    """One sample as it sounds at one key.

    Args:
        samples: the recording, int16, up to where its loop ends.
        loop: the stretch that repeats after it, int16; empty for none.
        rate: samples per second that give the wanted pitch, in Hz.
        gain: linear.
        pan: -1 for left, 1 for right.
        attack_s, hold_s, decay_s, release_s: of the loudness; decay and release count the time to fall by 100 dB.
        sustain_db: how far the loudness decays, in dB below the peak.
        cutoff_hz, cutoff_end_hz: of the low-pass filter, at the start and where it comes to rest; infinity for none.
        cutoff_decay_s: how long the cutoff takes from the one to the other.
        resonance: of the low-pass filter, as Q.
        exclusive: a number other than 0 is silenced by the next note of this number, as an open hi-hat is by a closed.
    """

    samples: NDArray[np.int16]
    loop: NDArray[np.int16]
    rate: float
    gain: float
    pan: float
    attack_s: float
    hold_s: float
    decay_s: float
    release_s: float
    sustain_db: float
    cutoff_hz: float
    cutoff_end_hz: float
    cutoff_decay_s: float
    resonance: float
    exclusive: int


def _seconds(timecents: int) -> float:
    return 2.0 ** (timecents / 1200)


def _hz(cents: float) -> float:
    return 8.176 * 2.0 ** (cents / 1200) if cents < 13500 else np.inf


@final
@dataclasses.dataclass(frozen=True, eq=False)
class SoundFont:
    """The tables of a SoundFont 2 file; `open_soundfont` reads one."""

    tables: dict[str, NDArray]
    generators: dict[str, list[tuple[int, int]]]
    headers: NDArray
    samples: NDArray[np.int16]

    def _zones(self, table: str, first: int, last: int, key: int, link: int) -> list[dict[int, int]]:
        """The generators of the zones in bags first to last that sound at a key and have the generator `link`."""
        bags, generators = self.tables[table + "bag"]["generator"], self.generators[table + "gen"]
        common: dict[int, int] = {}
        zones: list[dict[int, int]] = []
        for bag in range(first, last):
            zone = dict(generators[bags[bag] : bags[bag + 1]])
            if link not in zone:
                common = zone if bag == first else common
                continue
            zone = common | zone
            keys = zone.get(_KEYS, 127 << 8) & 0xFFFF
            if keys & 0xFF <= key <= keys >> 8:
                zones.append(zone)
        return zones

    def voices(self, bank: int, program: int, key: int) -> list[Voice]:
        """The voices that play together at a key of a program.

        Ranges of velocity are not read: the soundfont this package uses has none.

        Args:
            bank: 0 for instruments, 128 for drum kits.
            program: General MIDI program number less one, [0, 127].
            key: MIDI key, [0, 127].

        Returns:
            One voice for each layer; none where the instrument has no sample at this key.

        Raises:
            DataError: the soundfont has no such program.
        """
        presets, instruments = self.tables["phdr"], self.tables["inst"]
        found = np.nonzero((presets["bank"][:-1] == bank) & (presets["program"][:-1] == program))[0]
        if not len(found):
            raise DataError(f"The soundfont has no program {program} in bank {bank}; use a General MIDI soundfont.")
        preset = int(found[0])
        voices: list[Voice] = []
        for outer in self._zones("p", presets[preset]["bag"], presets[preset + 1]["bag"], key, _INSTRUMENT_ID):
            which = outer[_INSTRUMENT_ID]
            for inner in self._zones("i", instruments[which]["bag"], instruments[which + 1]["bag"], key, _SAMPLE_ID):
                voices.append(self._voice(inner, outer, key))
        return voices

    def _voice(self, inner: dict[int, int], outer: dict[int, int], key: int) -> Voice:
        def amount(what: int) -> int:
            return inner.get(what, _DEFAULTS.get(what, 0)) + outer.get(what, 0)

        header = self.headers[inner[_SAMPLE_ID]]
        root = inner.get(_ROOT, -1)
        root = root if root >= 0 else int(header["key"])
        cents = amount(_SCALE) * (key - root) + 100 * amount(_SEMITONES) + amount(_CENTS) + int(header["cents"])
        start, loop_start, loop_end = int(header["start"]), int(header["loop_start"]), int(header["loop_end"])
        loops = amount(_LOOP) in (1, 3) and loop_end > loop_start
        cutoff, reach = amount(_CUTOFF), amount(_ENVELOPE_TO_CUTOFF)
        return Voice(
            samples=self.samples[start : loop_end if loops else int(header["end"])],
            loop=self.samples[loop_start : loop_end if loops else loop_start],
            rate=float(header["rate"]) * 2.0 ** (cents / 1200),
            # The banks of that time were tuned on hardware that took 0.4 dB for each dB written, as players still do.
            gain=10.0 ** (-0.4 * amount(_ATTENUATION) / 200),
            pan=min(max(amount(_PAN) / 500, -1.0), 1.0),
            attack_s=_seconds(amount(_ATTACK)),
            hold_s=_seconds(amount(_HOLD)),
            decay_s=_seconds(amount(_DECAY)),
            release_s=_seconds(amount(_RELEASE)),
            sustain_db=min(max(amount(_SUSTAIN) / 10, 0.0), 100.0),
            cutoff_hz=_hz(cutoff + reach),
            cutoff_end_hz=_hz(cutoff + reach * (1 - min(max(amount(_CUTOFF_SUSTAIN), 0), 1000) / 1000)),
            cutoff_decay_s=_seconds(amount(_CUTOFF_DECAY)),
            resonance=10.0 ** ((amount(_RESONANCE) / 10 - 3.01) / 20),
            exclusive=amount(_EXCLUSIVE),
        )


def _chunks(data: memoryview) -> dict[str, memoryview]:
    """Every chunk of a RIFF file by its name, lists opened."""
    found: dict[str, memoryview] = {}
    at = 0
    while at + 8 <= len(data):
        name, size = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + size]
        if name in (b"RIFF", b"LIST"):
            found |= _chunks(body[4:])
        else:
            found[name.decode("latin-1")] = body
        at += 8 + size + size % 2
    return found


@functools.lru_cache(maxsize=1)
def open_soundfont(path: Path) -> SoundFont:
    """The soundfont in a file, kept in memory. Raises DataError where it cannot be read as SoundFont 2."""
    try:
        chunks = _chunks(memoryview(path.read_bytes()))
        tables = {name: np.frombuffer(chunks[name], dtype) for name, dtype in _TABLES.items()}
        generators = {name: np.frombuffer(chunks[name], _GENERATOR).tolist() for name in ("pgen", "igen")}
        headers = np.frombuffer(chunks["shdr"], _SAMPLE)
        return SoundFont(tables, generators, headers, np.frombuffer(chunks["smpl"], "<i2"))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"Cannot read {path} as a SoundFont 2 file ({error}); install pretty_midi again.") from error


def bundled_soundfont() -> Path:
    """Where the General MIDI soundfont of the pretty_midi package lies. Raises DataError where it is not installed."""
    # pretty_midi itself is not imported: that takes a second, needs setuptools, and warns.
    spec = importlib.util.find_spec("pretty_midi")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "TimGM6mb.sf2"
        if path.is_file():
            return path
    raise DataError("Composing songs needs TimGM6mb.sf2 of pretty_midi, which is missing; run: pip install pretty_midi")
