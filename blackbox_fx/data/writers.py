"""Writes the notes of each role over a section of chords, in beats."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from blackbox_fx.data import styles
from blackbox_fx.data.styles import Groove, Style
from blackbox_fx.data.theory import Chord, Key, nearest, voice


class Event(NamedTuple):
    """A note in beats from the start of its section; force in about [0, 1]."""

    beat: float
    beats: float
    pitch: int
    force: float


class Span(NamedTuple):
    """A chord and where it sounds, in beats from the start of its section."""

    beat: float
    beats: float
    chord: Chord


class Task(NamedTuple):
    """The task of a writer: a section, and the instrument that plays it.

    Args:
        style: the song's.
        key: the song's.
        tempo: beats per minute.
        bars: their number.
        spans: the chords, in order, without gaps.
        low, high: lowest and highest key of the instrument.
        fill: whether another section follows, to be led into.
        rng: the same for each repetition of a section, so that the section repeats exactly.
    """

    style: Style
    key: Key
    tempo: float
    bars: int
    spans: tuple[Span, ...]
    low: int
    high: int
    fill: bool
    rng: np.random.Generator

    def chord_at(self, beat: float) -> Chord:
        """The chord that sounds at a beat."""
        return next(s.chord for s in reversed(self.spans) if s.beat <= beat + 1e-9)


def _strike(rng: np.random.Generator, pattern: str) -> list[tuple[float, float]]:
    """Beats and forces of one bar of a pattern of sixteenths."""
    hits: list[tuple[float, float]] = []
    for step, mark in enumerate(pattern):
        chance, force = {"x": (1.0, 0.8), "o": (0.5, 0.65), "g": (0.6, 0.4)}.get(mark, (0.0, 0.0))
        if rng.random() < chance:
            hits.append((step / 4, force + (0.1 if step % 4 == 0 else 0.0)))
    return hits


def drums(task: Task) -> list[Event]:
    """Kick, snare and cymbals; a crash to begin with, and a fill on the toms where another section follows."""
    rng, beats = task.rng, task.style.beats
    groove: Groove = task.style.grooves[rng.integers(len(task.style.grooves))]
    events = [Event(0.0, 4.0, styles.CRASH, 0.8)] if rng.random() < 0.6 else []
    fill_beats = float(rng.choice([1.0, 2.0])) if task.fill else 0.0
    kick, snare = _strike(rng, groove.kick), _strike(rng, groove.snare)
    for bar in range(task.bars):
        until = (bar + 1) * beats - (fill_beats if bar == task.bars - 1 else 0.0)
        hat = _strike(rng, groove.hat)
        for pitch, hits in ((styles.KICK, kick), (groove.backbeat, snare), (groove.cymbal, hat)):
            events += [Event(bar * beats + b, 1.0, pitch, f) for b, f in hits if bar * beats + b < until]
    start = task.bars * beats - fill_beats
    for step in range(int(fill_beats * 4)):
        if step == 0 or rng.random() < 0.75:
            drum = styles.TOMS[min(int(step / (fill_beats * 4) * 4), 3)] if rng.random() < 0.7 else styles.SNARE
            events.append(Event(start + step / 4, 1.0, drum, 0.6 + 0.3 * step / (fill_beats * 4)))
    return events


def percussion(task: Task) -> list[Event]:
    """One or two instruments struck by hand, the same in every bar."""
    rng = task.rng
    bar_of = styles.PERCUSSIONS[rng.integers(len(styles.PERCUSSIONS))]
    hits = [(p, b, f) for p, marks in bar_of.items() for b, f in _strike(rng, marks[: task.style.beats * 4])]
    return [Event(bar * task.style.beats + b, 1.0, p, f) for bar in range(task.bars) for p, b, f in hits]


def _bass_bar(kind: str, beats: float, rng: np.random.Generator) -> list[tuple[float, float, int]]:
    """Beat, length and interval above the root, in steps of the scale, for one chord."""
    if kind == "pulse":
        return [(i / 2, 0.45, 0) for i in range(round(beats * 2))]
    if kind == "walking":
        return [(float(i), 0.95, (0, 2, 4, 5)[i % 4]) for i in range(math.ceil(beats))]
    if kind == "octaves":
        return [(i / 2, 0.4, 7 * (i % 2)) for i in range(round(beats * 2))]
    if kind == "syncopated":
        steps = [0.0, *(s / 4 for s in range(2, round(beats * 4)) if rng.random() < 0.35)]
        return [(s, 0.3, int(rng.choice([0, 0, 0, 4, 7, 6]))) for s in steps]
    if kind == "fifths":
        return [(0.0, beats / 2, 0), (beats / 2, beats / 2, 4)]
    return [(0.0, beats, 0)]


def bass(task: Task) -> list[Event]:
    """The roots of the chords, in one rhythm for the section."""
    rng = task.rng
    kind = str(rng.choice(task.style.lines))
    events: list[Event] = []
    scale = task.key.keys(task.low, task.high)
    for span in task.spans:
        root = scale.index(nearest(span.chord.root, task.low + 8, task.low, task.high))
        for beat, length, interval in _bass_bar(kind, span.beats, rng):
            # An interval that leaves the instrument's range is played an octave lower.
            at = root + interval if root + interval < len(scale) else root + interval - 7
            force = 0.85 if beat == 0 else 0.7
            events.append(Event(span.beat + beat, min(length, span.beats - beat), scale[at], force))
    return events


_COMPING = {
    4: (
        ((0, 4),),
        ((0, 2), (2, 2)),
        ((0, 0.9), (1, 0.9), (2, 0.9), (3, 0.9)),
        ((0.5, 0.4), (1.5, 0.4), (2.5, 0.4), (3.5, 0.4)),
        ((0, 1.4), (1.5, 1.4), (3, 0.9)),
        ((0, 1.4), (1.5, 0.4)),
        ((0, 0.9), (1, 0.4), (1.5, 0.9), (2.5, 0.4), (3, 0.4), (3.5, 0.4)),
        ((0, 0.2), (0.75, 0.2), (1.5, 0.3), (2.75, 0.2), (3.25, 0.2)),
    ),
    3: (((0, 3),), ((1, 0.8), (2, 0.8)), ((0, 0.9), (1, 0.9), (2, 0.9)), ((0, 1.9), (2, 0.9))),
}


def chords(task: Task) -> list[Event]:
    """The chords in close position, each moving little from the one before, in one rhythm for the section."""
    rng, beats = task.rng, task.style.beats
    rhythm = _COMPING[beats][rng.integers(len(_COMPING[beats]))]
    events: list[Event] = []
    shapes: dict[Chord, list[int]] = {}
    before: list[int] = []
    for span in task.spans:
        before = shapes.setdefault(span.chord, voice(span.chord, before, task.low, task.high - 2))
    for bar in range(task.bars):
        for beat, length in rhythm:
            at = bar * beats + beat
            force = 0.75 if beat == 0 else 0.6
            events += [Event(at, length, p, force + 0.05 * (i == 2)) for i, p in enumerate(shapes[task.chord_at(at)])]
    return events


def pads(task: Task) -> list[Event]:
    """The chords held, with the lowest note doubled an octave below where the instrument reaches it."""
    events: list[Event] = []
    before: list[int] = []
    for span in task.spans:
        before = voice(span.chord, before, task.low, task.high)
        notes = [before[0] - 12, *before] if before[0] - 12 >= task.low else before
        events += [Event(span.beat, span.beats, p, 0.6) for p in notes]
    return events


def arpeggio(task: Task) -> list[Event]:
    """The notes of the chords one after the other, in one pattern for the section."""
    rng = task.rng
    step = 0.25 if task.tempo < 122 and rng.random() < 0.6 else 0.5
    reach = int(rng.integers(4, 7))
    up = list(range(reach))
    order = [up, up[::-1], up + up[-2:0:-1], list(rng.permutation(reach))][rng.integers(4)]
    low = min(task.low + int(rng.integers(0, 8)), task.high - 24)
    events: list[Event] = []
    for span in task.spans:
        notes = span.chord.keys(low, task.high)
        for i in range(round(span.beats / step)):
            at = order[i % len(order)]
            events.append(Event(span.beat + i * step, step * 1.2, notes[at], 0.7 if i % len(order) == 0 else 0.55))
    return events


_RHYTHMS = {
    4: (
        (1, 1, 2),
        (1, 0.5, 0.5, 1, 1),
        (0.5, 0.5, 1, 0.5, 0.5, 1),
        (1.5, 0.5, 2),
        (0.75, 0.75, 0.5, 1, 1),
        (1.5, 1.5, 1),
        (2, 1, 1),
        (0.5, 0.5, 0.5, 0.5, 1, 0.5, 0.5),
        (-0.5, 0.5, 0.5, 0.5, 1, 1),
        (0.5, 1, 0.5, 1, -1),
    ),
    3: ((1, 1, 1), (2, 1), (1.5, 0.5, 1), (1, 0.5, 0.5, 1), (3,), (-1, 1, 1), (0.5, 0.5, 0.5, 0.5, 1)),
}


def melody(task: Task) -> list[Event]:
    """A line of two motifs that rises and falls, at rest on notes of the chord, and ends on a long one."""
    rng, beats = task.rng, task.style.beats
    cells = _RHYTHMS[beats]
    one, other, last = (cells[rng.integers(len(cells))] for _ in range(3))
    bars = [(one, one, other, last), (one, other, one, last), (one, other, other, last)][rng.integers(3)]
    scale = task.key.keys(task.low, task.high)
    middle = len(scale) * float(rng.uniform(0.4, 0.6))
    at = round(middle)
    events: list[Event] = []
    leap = 0
    for bar in range(task.bars):
        beat = 0.0
        cell = (beats,) if bar == task.bars - 1 and rng.random() < 0.5 else bars[bar % 4]
        for length in cell:
            start = bar * beats + beat
            beat += abs(length)
            if length < 0:
                continue
            phrase = start / (task.bars * beats)
            pull = middle + 4 * math.sin(math.pi * phrase) - at
            step = -int(np.sign(leap)) if leap else round(float(rng.normal(0.25 * pull, 1.2)))
            leap = step if abs(step) > 2 else 0
            at = min(max(at + step, 0), len(scale) - 1)
            if length >= 1 or start % 2 == 0:
                classes = task.chord_at(start).classes
                at = min((i for i, p in enumerate(scale) if p % 12 in classes), key=lambda i: (abs(i - at), i))
            force = 0.65 + 0.2 * math.sin(math.pi * phrase) + (0.08 if start % 1 == 0 else 0)
            events.append(Event(start, length * 0.92, scale[at], force))
    return events


def countermelody(task: Task) -> list[Event]:
    """Long notes on the upper notes of the chords, moving little."""
    events: list[Event] = []
    at = (task.low + task.high) / 2
    for span in task.spans:
        for beat in (0.0, span.beats / 2) if task.rng.random() < 0.5 else (0.0,):
            pitch_class = int(task.rng.choice(span.chord.classes[1:]))
            at = nearest(pitch_class, at, task.low, task.high)
            length = (span.beats if beat == 0 else span.beats / 2) * 0.95
            events.append(Event(span.beat + beat, length, at, 0.65))
    return events


WRITERS: dict[str, Callable[[Task], list[Event]]] = {
    styles.DRUMS: drums,
    styles.BASS: bass,
    styles.CHORDS: chords,
    styles.MELODY: melody,
    styles.PADS: pads,
    styles.ARPEGGIO: arpeggio,
    styles.COUNTER: countermelody,
    styles.PERCUSSION: percussion,
}
