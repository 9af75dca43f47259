"""Composes songs from a seed: a score of notes for three to eight instruments, and its audio."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple, final

import numpy as np

from blackbox_fx.audio import Audio, check_sample_rate
from blackbox_fx.data import sampler, soundfont, styles
from blackbox_fx.data.sampler import Note
from blackbox_fx.data.song import Song
from blackbox_fx.data.styles import ROLES, STYLES, Style
from blackbox_fx.data.theory import PROGRESSIONS, Chord, Key
from blackbox_fx.data.writers import WRITERS, Event, Span, Task
from blackbox_fx.errors import DataError

SECONDS = (2.0, 600.0)
LEVELS_DBFS = (-33.0, -15.0)
PEAK = 0.9

_ONE_AT_A_TIME = (styles.BASS, styles.MELODY, styles.COUNTER)
_CHANCES = {
    styles.DRUMS: 0.22,
    styles.BASS: 0.22,
    styles.MELODY: 0.2,
    styles.PADS: 0.13,
    styles.ARPEGGIO: 0.09,
    styles.COUNTER: 0.07,
    styles.PERCUSSION: 0.07,
}
_FORMS = ("AABA", "ABAB", "AABB", "ABAC", "ABCA")


class Part(NamedTuple):
    """The notes of one instrument.

    Args:
        role: one of `styles.ROLES`.
        bank: 0 for instruments, 128 for drum kits.
        program: General MIDI program number less one.
        notes: in order of time.
    """

    role: str
    bank: int
    program: int
    notes: tuple[Note, ...]


@final
@dataclasses.dataclass(frozen=True)
class Score:
    """A song as notes.

    Args:
        style: a name of `styles.STYLES`.
        key: tonic and scale.
        tempo: beats per minute.
        beats: in a bar.
        seconds: length.
        parts: three to eight of them, of different roles.
    """

    style: str
    key: Key
    tempo: float
    beats: int
    seconds: float
    parts: tuple[Part, ...]


class _Section(NamedTuple):
    letter: str
    start: int
    bars: int
    force: float
    roles: tuple[str, ...]
    spans: tuple[Span, ...]


class _Plan(NamedTuple):
    """The plan that all parts of a song share; `bars` is its length, `swing` is in beats."""

    seed: int
    style: Style
    key: Key
    tempo: float
    swing: float
    bars: float
    roles: tuple[str, ...]


def _spans(rng: np.random.Generator, key: Key, bars: int, beats: int, size: int, split: bool) -> tuple[Span, ...]:
    options = PROGRESSIONS[key.scale]
    degrees = options[rng.integers(len(options))]
    length = 2 if split and beats == 4 else beats
    count = bars * beats // length
    return tuple(Span(i * length, length, Chord(key, degrees[i % 4], size)) for i in range(count))


def _roles(rng: np.random.Generator) -> tuple[str, ...]:
    others, chances = list(_CHANCES), np.array(list(_CHANCES.values()))
    count = int(rng.integers(2, len(ROLES)))
    chosen = {styles.CHORDS, *rng.choice(others, count, replace=False, p=chances / chances.sum()).tolist()}
    return tuple(r for r in ROLES if r in chosen)


def _sections(plan: _Plan, rng: np.random.Generator) -> list[_Section]:
    """The form: which chords, how loud, and who plays, for every four bars or, in a short song, every two."""
    style, roles = plan.style, plan.roles
    size = 4 if rng.random() < style.sevenths else 3
    each = 4 if plan.bars > 5 else 2
    form = _FORMS[rng.integers(len(_FORMS))]
    split = plan.tempo < 88 and rng.random() < 0.6
    chords = {letter: _spans(rng, plan.key, each, style.beats, size, split) for letter in sorted(set(form))}
    count = math.ceil(plan.bars / each)
    playing = [[r for r in roles if rng.random() > (0.35 if i == 0 else 0.15)] for i in range(count)]
    # One section of a bar or more has all parts, so that every part plays; not the first one if there are others.
    long_enough = max(math.floor((plan.bars - 1) / each) + 1, 1)
    full = int(rng.integers(min(1, long_enough - 1), long_enough))
    playing[full] = list(roles)
    sections: list[_Section] = []
    for i, active in enumerate(playing):
        letter = form[i % len(form)]
        force = (1.0 if i == full else 0.8) + 0.1 * (letter != "A")
        playing = tuple(active) if len(active) > 1 else roles[:2]
        sections.append(_Section(letter, i * each, each, force, playing, chords[letter]))
    return sections


def _seconds(beat: float, swing: float, tempo: float) -> float:
    """When a beat sounds: swing moves the middle of every beat later."""
    whole, rest = divmod(beat, 1.0)
    late = 0.5 + swing
    rest = rest / 0.5 * late if rest < 0.5 else late + (rest - 0.5) / 0.5 * (1 - late)
    return (whole + rest) * 60 / tempo


class _Player:
    """Turns beats and force into seconds and velocity, not quite evenly, as a person would."""

    def __init__(self, role: str, program: int, tempo: float, swing: float, rng: np.random.Generator) -> None:
        self.tempo, self.swing, self.rng = tempo, swing, rng
        self.late = float(rng.normal(0, 0.004))
        self.spread = 0.004 if role in (styles.DRUMS, styles.PERCUSSION) else 0.008
        self.strum = float(rng.uniform(0.006, 0.02)) if role == styles.CHORDS and program in styles.GUITARS else 0.0

    def play(self, events: list[Event], first_beat: int, force: float) -> list[Note]:
        notes: list[Note] = []
        strings: dict[float, int] = {}
        for event in events:
            beat = first_beat + event.beat
            begin, end = (_seconds(b, self.swing, self.tempo) for b in (beat, beat + event.beats))
            string = strings[beat] = strings.get(beat, -1) + 1
            error = float(np.clip(self.rng.normal(self.late, self.spread), -0.025, 0.025)) + string * self.strum
            start = max(begin + error, 0.0)
            velocity = round(115 * event.force * force * float(self.rng.lognormal(0, 0.06)))
            notes.append(Note(start, max(end + error - start, 0.05), event.pitch, min(max(velocity, 20), 127)))
        return notes


def _one_at_a_time(notes: list[Note]) -> list[Note]:
    """Each note let go when the next begins."""
    ends = [n.start for n in notes[1:]] + [math.inf]
    return [n._replace(duration=max(min(n.duration, end - n.start), 0.03)) for n, end in zip(notes, ends, strict=True)]


def write_score(seed: int, seconds: float = 16.0) -> Score:
    """Writes the notes of a song.

    Args:
        seed: 0 or more; the same seed gives the same score.
        seconds: length, [2, 600].

    Returns:
        the score.

    Raises:
        DataError: a seed or length that is not allowed.
    """
    seed, seconds = _check(seed, seconds)
    rng = np.random.default_rng([seed, 0])
    name = list(STYLES)[rng.integers(len(STYLES))]
    style = STYLES[name]
    tempo = float(rng.uniform(*style.tempo))
    key = Key(int(rng.integers(12)), style.scales[rng.integers(len(style.scales))])
    swing = float(rng.uniform(0.5, 1.0)) * style.swing
    plan = _Plan(seed, style, key, tempo, swing, seconds * tempo / 60 / style.beats, _roles(rng))
    sections = _sections(plan, rng)
    parts = tuple(_part(plan, role, sections, seconds) for role in plan.roles)
    return Score(name, key, tempo, style.beats, seconds, parts)


def _part(plan: _Plan, role: str, sections: list[_Section], seconds: float) -> Part:
    number = 1 + ROLES.index(role)
    rng = np.random.default_rng([plan.seed, number])
    bank, programs = 0, plan.style.programs.get(role, (0,))
    if role in (styles.DRUMS, styles.PERCUSSION):
        bank, programs = soundfont.DRUM_BANK, plan.style.kits if role == styles.DRUMS else (0,)
    program = int(rng.choice(programs))
    low, high = styles.RANGES[program] if bank == 0 else (0, 127)
    player = _Player(role, program, plan.tempo, plan.swing, rng)
    notes: list[Note] = []
    for section in sections:
        if role in section.roles:
            # The same numbers for every section of this letter: it comes back as it was.
            own = np.random.default_rng([plan.seed, number, ord(section.letter)])
            fill = section is not sections[-1]
            task = Task(plan.style, plan.key, plan.tempo, section.bars, section.spans, low, high, fill, own)
            notes += player.play(WRITERS[role](task), section.start * plan.style.beats, section.force)
    notes = sorted(n for n in notes if n.start < seconds - 0.05)
    if role in _ONE_AT_A_TIME:
        notes = _one_at_a_time(notes)
    return Part(role, bank, program, tuple(notes))


def _check(seed: Any, seconds: Any) -> tuple[int, float]:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DataError(f"seed must be a whole number, 0 or more, got {seed!r}.")
    low, high = SECONDS
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float, np.number)) or not low <= seconds <= high:
        raise DataError(f"seconds={seconds!r} is not allowed; allowed is [{low:g}, {high:g}].")
    return int(seed), float(seconds)


def playing_rms(audio: Audio, sample_rate: float) -> float:
    """The RMS level of what lies within 40 dB of the loudest tenth of a second; pauses do not count."""
    size = min(round(0.1 * sample_rate), audio.shape[1])
    blocks = audio[:, : audio.shape[1] // size * size].reshape(audio.shape[0], -1, size)
    power = np.einsum("cbt,cbt->b", blocks, blocks) / (audio.shape[0] * size)
    return float(np.sqrt(np.mean(power[power > 1e-4 * power.max()])))


def compose(seed: int, seconds: float = 16.0, sample_rate: float = 44100) -> Song:
    """Composes a song of three to eight tracks and plays it on sampled instruments.

    Args:
        seed: 0 or more; the same seed gives the same song, sample for sample.
        seconds: length, [2, 600].
        sample_rate: in Hz.

    Returns:
        a song of stereo tracks; while it plays, each is at a random level in [-33, -15] dBFS RMS, or lower where its
        peaks would pass 0.9.

    Raises:
        DataError: a seed or length that is not allowed, or the soundfont is missing.
        AudioError: a sample rate that is not allowed.
    """
    check_sample_rate(sample_rate)
    score = write_score(seed, seconds)
    font = soundfont.open_soundfont(soundfont.bundled_soundfont())
    rng = np.random.default_rng([seed, 99])
    levels = rng.uniform(*LEVELS_DBFS, len(score.parts))
    tracks: list[Audio] = []
    for part, level in zip(score.parts, levels, strict=True):
        audio = sampler.render(font, part.bank, part.program, part.notes, score.seconds, sample_rate)
        gain = min(10.0 ** (level / 20) / playing_rms(audio, sample_rate), PEAK / float(np.abs(audio).max()))
        fade = np.linspace(1, 0, max(round(0.01 * sample_rate), 1), dtype=np.float32)
        audio *= np.float32(gain)
        audio[:, -len(fade) :] *= fade
        tracks.append(audio)
    return Song(f"composed-{seed}", float(sample_rate), tuple(p.role for p in score.parts), tuple(tracks))


@final
class ComposedSong:
    """A source of excerpts of a song, which is composed when the first is asked for, so that a training begins at once.

    Args:
        seed, seconds, sample_rate: as in `compose`.

    Raises:
        DataError, AudioError: as in `compose`, at once.
    """

    def __init__(self, seed: int, seconds: float, sample_rate: float) -> None:
        self._seed, self._seconds = _check(seed, seconds)
        soundfont.bundled_soundfont()
        self.name, self.sample_rate, self.channels = f"composed-{seed}", check_sample_rate(sample_rate), 2
        self.length = round(seconds * sample_rate)

    @functools.cached_property
    def _song(self) -> Song:
        return compose(self._seed, self._seconds, self.sample_rate)

    @property
    def roles(self) -> tuple[str, ...]:
        """What each track is."""
        return self._song.roles

    def excerpt(self, start: int, length: int) -> Song:
        """The song from sample `start` on for `length` samples."""
        return self._song.excerpt(start, length)
