"""Songs to train on: composed from a seed, or read from a folder of stems, and random excerpts of either."""

from __future__ import annotations

from blackbox_fx.data.clips import Clip, Clips
from blackbox_fx.data.composer import Part, Score, compose, write_score
from blackbox_fx.data.folder import SongFiles, SongFolder, read_song, read_songs
from blackbox_fx.data.modules import ModuleSong, read_module
from blackbox_fx.data.roles import ROLES, role_of
from blackbox_fx.data.sampler import Note
from blackbox_fx.data.song import Song

__all__ = [
    "ROLES",
    "Clip",
    "Clips",
    "ModuleSong",
    "Note",
    "Part",
    "Score",
    "Song",
    "SongFiles",
    "SongFolder",
    "compose",
    "read_module",
    "read_song",
    "read_songs",
    "role_of",
    "write_score",
]
