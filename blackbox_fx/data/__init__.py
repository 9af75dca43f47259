"""Songs to train on: composed from a seed or read from a folder of stems, random excerpts, and normalised stems."""

from __future__ import annotations

from blackbox_fx.data.clips import Clip, Clips
from blackbox_fx.data.composer import Part, Score, compose, write_score
from blackbox_fx.data.folder import SongFiles, SongFolder, read_recordings, read_song, read_songs
from blackbox_fx.data.modules import ModuleSong, read_module
from blackbox_fx.data.normalising.averages import EffectAverages, average_effects
from blackbox_fx.data.normalising.features import StemFeatures, measure_effects
from blackbox_fx.data.normalising.songs import NormalisedSongs, StemReport, normalise_songs
from blackbox_fx.data.normalising.spreads import Spread, spreads
from blackbox_fx.data.normalising.stems import EffectChanges, NormalisedStem, normalise_effects
from blackbox_fx.data.roles import ROLES, role_of
from blackbox_fx.data.sampler import Note
from blackbox_fx.data.song import Song
from blackbox_fx.data.stems import StemSong
from blackbox_fx.data.wet import Wet, random_effects

__all__ = [
    "ROLES",
    "Clip",
    "Clips",
    "EffectAverages",
    "EffectChanges",
    "ModuleSong",
    "NormalisedSongs",
    "NormalisedStem",
    "Note",
    "Part",
    "Score",
    "Song",
    "SongFiles",
    "SongFolder",
    "Spread",
    "StemFeatures",
    "StemReport",
    "StemSong",
    "Wet",
    "average_effects",
    "compose",
    "measure_effects",
    "normalise_effects",
    "normalise_songs",
    "random_effects",
    "read_module",
    "read_recordings",
    "read_song",
    "read_songs",
    "role_of",
    "spreads",
    "write_score",
]
