"""What a track is, from its name."""

from __future__ import annotations

import re

_WORDS = {
    "bass": "bass|bassline|sub|808",
    "vocals": "vox|vocals?|voc|voices?|singers?|singing|speakers?|choirs?|rap|rapper|bgvs?|adlibs?|chant",
    "kick": "kick|kik|bd",
    "snare": "snares?|snr|sn|sd|rimshots?|claps?",
    "toms": "toms?|timpani",
    "cymbals": "hi hats?|hihats?|hats?|hh|cymbals?|rides?|crash|overheads?|oh",
    "percussion": "percussions?|perc|tambourines?|shakers?|congas?|bongos?|cowbells?|cajon|tabla|maracas|glockenspiel",
    "drums": "drums?|drumset|drumkit|kit|beats?|rooms?",
    "guitar": "guitars?|gtrs?|gt|banjo|mandolin|ukulele|lap steel|slide",
    "keys": "pianos?|keys|keyboards?|organ|rhodes|wurli|wurlitzer|clav|clavinet|harpsichord|celesta|accordion",
    "strings": "strings?|violins?|violas?|cellos?|harp|fiddle|contrabass|double bass|ensemble|erhu|pizzicato",
    "brass": "brass|trumpets?|trombones?|horns?|tuba|cornet",
    "woodwinds": "woodwinds?|flutes?|piccolo|sax|saxophones?|clarinets?|oboe|bassoon|pipe|reed|recorder|whistle",
    "synth": "synths?|synthesizer|pads?|leads?|arp|arpeggio|sequencer|melody|countermelody|chords",
    "fx": "fx|sfx|effects?|noise|risers?|ambience|atmos|sound effects?|scratches|turntables?",
}
ROLES = (*_WORDS, "other")
_COMPOUNDS = {"bass drum": "kick", "double bass": "contrabass", "synth bass": "bass", "bass guitar": "bass"}
_COMPOUNDS |= {f"bass {word}": word for word in ("clarinet", "flute", "trombone", "voice", "singer", "vocal")}
_PATTERNS = {role: re.compile(rf"\b(?:{words})\b") for role, words in _WORDS.items()}


def role_of(name: str) -> str:
    """What a track is, such as "vocals" for "03_LeadVox.wav"; "other" if its name does not say.

    Args:
        name: of the track, its file or its instrument.

    >>> role_of("03_LeadVox_DT2"), role_of("Kick In"), role_of("electric bass"), role_of("x")
    ('vocals', 'kick', 'bass', 'other')
    """
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    text = " ".join(re.findall(r"808|[a-z]+", text.lower()))
    for compound, meant in _COMPOUNDS.items():
        text = text.replace(compound, meant)
    return next((role for role, pattern in _PATTERNS.items() if pattern.search(text)), "other")
