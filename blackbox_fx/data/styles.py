"""Instruments with their ranges, and the rules of some styles of music."""

from __future__ import annotations

from typing import NamedTuple

DRUMS, BASS, CHORDS, MELODY = "drums", "bass", "chords", "melody"
PADS, ARPEGGIO, COUNTER, PERCUSSION = "pads", "arpeggio", "countermelody", "percussion"
ROLES = (DRUMS, BASS, CHORDS, MELODY, PADS, ARPEGGIO, COUNTER, PERCUSSION)

# General MIDI programs less one, with the lowest and the highest key that are written for each.
RANGES = {
    0: (45, 81),  # grand piano
    1: (45, 81),  # bright piano
    4: (45, 79),  # electric piano
    5: (45, 79),  # FM piano
    6: (48, 79),  # harpsichord
    7: (41, 72),  # clavinet
    8: (60, 91),  # celesta
    11: (53, 84),  # vibraphone
    12: (50, 84),  # marimba
    16: (48, 79),  # drawbar organ
    17: (48, 79),  # percussive organ
    18: (48, 79),  # rock organ
    19: (48, 79),  # church organ
    24: (45, 76),  # nylon guitar
    25: (45, 76),  # steel guitar
    26: (45, 76),  # jazz guitar
    27: (45, 76),  # clean guitar
    28: (45, 69),  # muted guitar
    29: (45, 76),  # overdriven guitar
    30: (45, 72),  # distorted guitar
    32: (28, 50),  # double bass
    33: (28, 50),  # fingered bass
    34: (28, 50),  # picked bass
    35: (28, 50),  # fretless bass
    36: (28, 50),  # slap bass
    38: (28, 50),  # synth bass
    39: (28, 50),  # second synth bass
    40: (57, 88),  # violin
    41: (50, 76),  # viola
    42: (38, 67),  # cello
    43: (28, 50),  # contrabass
    45: (43, 79),  # plucked strings
    46: (43, 84),  # harp
    48: (45, 81),  # strings
    49: (45, 81),  # slow strings
    50: (48, 79),  # synth strings
    51: (48, 79),  # second synth strings
    52: (48, 76),  # choir
    56: (56, 81),  # trumpet
    57: (43, 69),  # trombone
    61: (48, 77),  # brass section
    62: (48, 79),  # synth brass
    64: (58, 82),  # soprano saxophone
    66: (46, 74),  # tenor saxophone
    68: (59, 86),  # oboe
    69: (54, 78),  # English horn
    70: (38, 65),  # bassoon
    71: (52, 86),  # clarinet
    73: (61, 91),  # flute
    74: (62, 91),  # recorder
    79: (60, 86),  # ocarina
    80: (52, 84),  # square wave
    81: (52, 84),  # sawtooth
    87: (48, 79),  # bass and lead
    88: (48, 79),  # new age pad
    89: (48, 79),  # warm pad
    90: (48, 79),  # polysynth
    91: (48, 79),  # bowed pad
    95: (48, 79),  # sweep pad
    98: (55, 84),  # crystal
}
GUITARS = range(24, 31)

KICK, SNARE, SIDE_STICK, CLOSED_HAT, OPEN_HAT, RIDE, CRASH, TOMS = 36, 38, 37, 42, 46, 51, 49, (50, 48, 45, 43)


class Groove(NamedTuple):
    """One bar of drums, a character for each sixteenth: x is struck, o by chance, g softly by chance."""

    kick: str
    snare: str
    hat: str
    backbeat: int = SNARE
    cymbal: int = CLOSED_HAT


class Style(NamedTuple):
    """The rules of one style of music.

    Args:
        tempo: slowest and fastest, beats per minute.
        beats: in a bar.
        swing: largest delay of the second half of a beat, in beats.
        sevenths: the chance that the song's chords have four notes.
        scales: names of `theory.SCALES`.
        kits: General MIDI drum kits.
        grooves: one is chosen for each kind of section.
        programs: General MIDI programs less one, for each role but drums and percussion.
        lines: patterns of the bass, see `writers.bass`.
    """

    tempo: tuple[int, int]
    beats: int
    swing: float
    sevenths: float
    scales: tuple[str, ...]
    kits: tuple[int, ...]
    grooves: tuple[Groove, ...]
    programs: dict[str, tuple[int, ...]]
    lines: tuple[str, ...]


def _programs(*columns: str) -> dict[str, tuple[int, ...]]:
    roles = (BASS, CHORDS, MELODY, PADS, ARPEGGIO, COUNTER)
    return {role: tuple(int(p) for p in column.split()) for role, column in zip(roles, columns, strict=True)}


STYLES = {
    "pop": Style(
        (92, 126),
        4,
        0.04,
        0.25,
        ("major", "minor", "mixolydian"),
        (0, 8, 16),
        (
            Groove("x.....x.x.....o.", "....x.......x..g", "x.x.x.x.x.x.x.x."),
            Groove("x.......x.x.....", "....x..g.o..x...", "xoxox.xoxoxox.xo"),
            Groove("x..x..x...x..o..", "....x.......x...", "..x...x...x...x."),
        ),
        _programs("33 34 38", "0 1 4 25 27", "0 27 56 66 71 80 81", "48 50 89 90 52", "25 27 5 98", "48 61 11 42"),
        ("pulse", "fifths", "syncopated", "long"),
    ),
    "rock": Style(
        (104, 152),
        4,
        0.0,
        0.0,
        ("major", "minor", "mixolydian", "dorian"),
        (0, 8, 16),
        (
            Groove("x.......x.x.....", "....x.......x...", "x.x.x.x.x.x.x.x."),
            Groove("x.x.....x.x...o.", "....x.......x.g.", "x...x...x...x..."),
            Groove("x..x..x.x.x.....", "....x.......x...", "x.x.x.x.x.x.x.x.", cymbal=RIDE),
        ),
        _programs("33 34", "25 29 30 18 27", "29 30 81 18 66", "16 18 48 89", "27 28 25", "29 61 56"),
        ("pulse", "pulse", "fifths"),
    ),
    "ballad": Style(
        (62, 84),
        4,
        0.03,
        0.5,
        ("major", "minor"),
        (0, 8, 40),
        (
            Groove("x.........x.....", "........x.......", "x.x.x.x.x.x.x.x.", backbeat=SIDE_STICK),
            Groove("x.....x.x.....o.", "....x.......x...", "x.x.x.x.x.x.x.x."),
        ),
        _programs("32 33 35", "0 4 24 25", "40 42 64 66 68 71 73 24", "48 49 52 89 91", "24 46 5 0", "42 41 69 11"),
        ("long", "fifths"),
    ),
    "jazz": Style(
        (104, 168),
        4,
        0.16,
        1.0,
        ("major", "dorian", "minor"),
        (32, 40),
        (
            Groove("x...o...o...o...", "..g...o...g.o..o", "x...x.x.x...x.x.", cymbal=RIDE),
            Groove("o.......o.....o.", "....g..o....g...", "x...x.x.x...x.x.", cymbal=RIDE),
        ),
        _programs("32 35", "0 4 26 11", "56 57 64 66 71 26 11", "48 16 89", "11 26 12", "57 66 71 42"),
        ("walking", "walking", "fifths"),
    ),
    "electronic": Style(
        (112, 134),
        4,
        0.02,
        0.3,
        ("minor", "dorian", "major"),
        (24, 25),
        (
            Groove("x...x...x...x...", "....x.......x...", "..x...x...x...x.", cymbal=OPEN_HAT),
            Groove("x...x...x...x..o", "....x.......x...", "xgxgxgxgxgxgxgxg"),
            Groove("x..x....x.x...o.", "........x.......", "x.x.x.xgx.x.xgx."),
        ),
        _programs("38 39 87", "5 81 80 90 62", "80 81 87 79 98", "88 89 90 91 95 50 51", "80 81 98 5", "51 90 79"),
        ("octaves", "pulse", "syncopated"),
    ),
    "funk": Style(
        (92, 114),
        4,
        0.08,
        0.8,
        ("dorian", "mixolydian", "minor"),
        (0, 8, 16),
        (
            Groove("x..o..x...x..o..", "....x..g.g..x..g", "xgxgxgxgxgxgxgxg"),
            Groove("x.x....o..x.....", "....x..g.g.gx...", "x.x.x.x.x.x.x.x."),
        ),
        _programs("33 36 34", "7 4 28 17 27", "66 61 56 27 64", "17 48 90", "28 7 12", "61 57 66"),
        ("syncopated", "syncopated", "octaves"),
    ),
    "waltz": Style(
        (92, 138),
        3,
        0.03,
        0.3,
        ("major", "minor"),
        (0, 40, 48),
        (
            Groove("x...........", "....x...x...", "x...x...x...", backbeat=SIDE_STICK),
            Groove("x.......o...", "....g...g...", "x...x.x.x...", cymbal=RIDE),
        ),
        _programs("32 43 33", "0 24 6 46", "40 68 71 73 8 42", "48 49 52 19", "46 24 8 45", "42 41 69 70"),
        ("fifths", "long", "walking"),
    ),
    "cinematic": Style(
        (70, 116),
        4,
        0.0,
        0.2,
        ("minor", "dorian", "major"),
        (48, 16),
        (
            Groove("x...........x...", "........x.......", "........x......."),
            Groove("x.....x.....o...", "....o.......x.g.", "x.......x......."),
        ),
        _programs("43 32 38", "0 46 48 19", "40 42 68 69 73 61 74", "49 52 89 91 48", "45 46 8 12 98", "41 42 70 57"),
        ("long", "pulse"),
    ),
}

# One bar of hand percussion each, a character for each sixteenth, as in Groove; by MIDI key of the drum kit.
PERCUSSIONS: tuple[dict[int, str], ...] = (
    {70: "xgxgxgxgxgxgxgxg"},
    {54: "..x...x...x...x.", 39: "....x.......x..."},
    {69: "x.gxx.gxx.gxx.gx"},
    {63: "..........xx..o.", 62: "x..x..x.......x.", 64: "......o...x....."},
    {60: "x..xo.x.x..xo.x.", 61: "..x..x....x..x.."},
    {75: "x..x..x...x.x...", 82: "xgxgxgxgxgxgxgxg"},
    {56: "x...x...x...x...", 70: "..x...x...x...x."},
    {67: "x..x......x.....", 68: "......x.x....x.."},
)
