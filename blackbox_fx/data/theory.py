"""Scales, chords, progressions and voicings, as MIDI keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}

# Four chords each, as degrees of the scale counted from 0.
PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 5, 4), (1, 4, 0, 5), (0, 2, 3, 4), (3, 4, 2, 5)),
    "minor": ((0, 5, 2, 6), (0, 6, 5, 6), (0, 3, 5, 4), (0, 3, 6, 2), (5, 6, 0, 0), (0, 2, 6, 3), (0, 4, 5, 2)),
    "dorian": ((0, 3, 0, 3), (0, 6, 3, 0), (0, 2, 3, 6), (0, 1, 2, 3)),
    "mixolydian": ((0, 6, 3, 0), (0, 4, 6, 3), (0, 3, 6, 3), (3, 0, 6, 0)),
}

NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")


class Key(NamedTuple):
    """A tonic, [0, 11] with 0 for C, and the name of a scale."""

    tonic: int
    scale: str

    @property
    def classes(self) -> tuple[int, ...]:
        """The pitch classes of the scale, from the tonic up."""
        return tuple((self.tonic + step) % 12 for step in SCALES[self.scale])

    def keys(self, low: int, high: int) -> list[int]:
        """Every MIDI key of the scale in [low, high], ascending."""
        classes = self.classes
        return [p for p in range(low, high + 1) if p % 12 in classes]

    def __str__(self) -> str:
        return f"{NAMES[self.tonic]} {self.scale}"


class Chord(NamedTuple):
    """Thirds stacked on a degree of a key: three notes, or four with the seventh."""

    key: Key
    degree: int
    size: int = 3

    @property
    def classes(self) -> tuple[int, ...]:
        """The pitch classes of the chord, from the root up."""
        return tuple(self.key.classes[(self.degree + 2 * i) % 7] for i in range(self.size))

    @property
    def root(self) -> int:
        """The pitch class of the root."""
        return self.classes[0]

    def keys(self, low: int, high: int) -> list[int]:
        """Every MIDI key of the chord in [low, high], ascending."""
        classes = self.classes
        return [p for p in range(low, high + 1) if p % 12 in classes]


def nearest(pitch_class: int, near: float, low: int, high: int) -> int:
    """The MIDI key of a pitch class in [low, high] that is closest to `near`; the range must span an octave."""
    return min((p for p in range(low, high + 1) if p % 12 == pitch_class), key=lambda p: (abs(p - near), p))


def voice(chord: Chord, before: Sequence[int], low: int, high: int) -> list[int]:
    """The close position of a chord in [low, high] that moves least from the chord before, or from the middle."""
    centre = sum(before) / len(before) if before else (low + high) / 2
    choices: list[list[int]] = []
    for first in chord.keys(low, high):
        notes = chord.keys(first, min(first + 11, high))
        if len(notes) == chord.size:
            choices.append(notes)
    return min(choices, key=lambda notes: (abs(sum(notes) / len(notes) - centre), notes))
