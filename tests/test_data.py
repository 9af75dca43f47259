"""Songs: what the composer writes and how it sounds, what a folder of stems holds, and excerpts of both."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from blackbox_fx import audio, data
from blackbox_fx.data import composer, sampler, soundfont, styles, theory
from blackbox_fx.data.sampler import Note
from blackbox_fx.errors import AudioError, DataError

RATE = 44100
GOOD = list(range(12))


def digest(song):
    h = hashlib.sha256(repr((song.name, song.track_names)).encode())
    for track in song.tracks:
        h.update(track.tobytes())
    return h.hexdigest()


@pytest.fixture(scope="module")
def songs():
    return [data.compose(seed, 4.0) for seed in GOOD]


@pytest.fixture(scope="module")
def font():
    return soundfont.open_soundfont(soundfont.bundled_soundfont())


# the score


@pytest.mark.parametrize("seconds", [2, 9, 16, 40])
def test_scores_have_three_to_eight_parts_and_each_is_heard(seconds):
    counts = set()
    for seed in range(40):
        score = data.write_score(seed, seconds)
        roles = [p.role for p in score.parts]
        counts.add(len(roles))
        assert len(set(roles)) == len(roles) and set(roles) <= set(styles.ROLES) and "chords" in roles
        low, high = styles.STYLES[score.style].tempo
        assert low <= score.tempo <= high
        for part in score.parts:
            starts = [n.start for n in part.notes]
            assert starts and starts == sorted(starts) and starts[0] >= 0 and starts[-1] < seconds
            assert all(n.duration > 0 and 20 <= n.velocity <= 127 for n in part.notes)
    assert counts == {3, 4, 5, 6, 7, 8}


def test_notes_stay_on_the_scale_and_in_the_range_of_the_instrument():
    for seed in range(80):
        score = data.write_score(seed)
        for part in score.parts:
            if part.bank == soundfont.DRUM_BANK:
                continue
            low, high = styles.RANGES[part.program]
            assert all(low <= n.pitch <= high and n.pitch % 12 in score.key.classes for n in part.notes), (seed, part)


def test_bass_lies_below_melody_and_both_play_one_note_at_a_time():
    for seed in range(40):
        parts = {p.role: p for p in data.write_score(seed).parts}
        means = {role: np.mean([n.pitch for n in p.notes]) for role, p in parts.items()}
        if "bass" in parts and "melody" in parts:
            assert means["bass"] + 7 < means["melody"]
        for role in ("bass", "melody", "countermelody"):
            for a, b in pairwise(parts[role].notes if role in parts else ()):
                assert a.start + a.duration <= b.start + 0.031, (seed, role)


def test_chords_sound_as_chords_and_follow_each_other():
    for seed in range(40):
        part = next(p for p in data.write_score(seed).parts if p.role == "chords")
        classes, together = set(), 0
        for note in part.notes:
            others = {n.pitch % 12 for n in part.notes if abs(n.start - note.start) < 0.08}
            together += len(others) >= 3
            classes.add(frozenset(others))
        assert together > 0.8 * len(part.notes) and len(classes) >= 2, seed


def test_voicings_are_close_complete_and_in_range():
    for key in (theory.Key(t, s) for t in range(12) for s in theory.SCALES):
        before = [100, 103, 107]
        for chord in (theory.Chord(key, d, size) for size in (3, 4) for d in range(7)):
            notes = theory.voice(chord, before, 45, 67)
            assert 45 <= min(notes) < max(notes) <= 67 and max(notes) - min(notes) < 12
            assert {n % 12 for n in notes} == set(chord.classes) and len(notes) == chord.size
            before = [n + 9 for n in notes]


def test_playing_is_human_but_in_time():
    """Without swing every note lies near a sixteenth, and none of a long part exactly on it."""
    seeds = [s for s in range(50) if data.write_score(s).style in ("rock", "cinematic")]
    for seed in seeds:
        score = data.write_score(seed)
        grid = 15 / score.tempo
        for part in score.parts:
            if part.role == "chords" and part.program in styles.GUITARS:
                continue
            starts = np.array([n.start for n in part.notes])
            off = np.abs(starts - np.round(starts / grid) * grid)
            assert off.max() <= 0.026, (seed, part.role)
            assert len(off) < 8 or (np.median(off) > 1e-4 and len({n.velocity for n in part.notes}) > 2)


def test_styles_differ_and_parts_drop_out():
    scores = [data.write_score(seed, 32) for seed in range(50)]
    assert {s.style for s in scores} == set(styles.STYLES)
    assert len({s.key.tonic for s in scores}) == 12 and {s.beats for s in scores} == {3, 4}
    pauses = [max(b.start - a.start for a, b in pairwise(p.notes)) for s in scores for p in s.parts if len(p.notes) > 9]
    first = [p.notes[0].start for s in scores for p in s.parts]
    assert np.mean(np.array(pauses) > 5) + np.mean(np.array(first) > 5) > 0.15


def test_length_leaves_style_key_and_tempo_alone():
    """A longer song is another song, but the same seed keeps its style, key and tempo."""
    a, b = data.write_score(3, 8), data.write_score(3, 32)
    assert (a.style, a.key, a.tempo) == (b.style, b.key, b.tempo)


@pytest.mark.parametrize(
    ("seed", "seconds", "word"),
    [
        (-1, 16, "seed"),
        (1.5, 16, "seed"),
        (True, 16, "seed"),
        ("1", 16, "seed"),
        (0, 1.9, "seconds"),
        (0, 601, "seconds"),
        (0, float("nan"), "seconds"),
        (0, "16", "seconds"),
        (0, True, "seconds"),
    ],
)
def test_composer_refuses_what_it_cannot_do(seed, seconds, word):
    with pytest.raises(DataError, match=word):
        data.compose(seed, seconds)


def test_composer_refuses_a_bad_sample_rate():
    with pytest.raises(AudioError, match="sample_rate"):
        data.compose(0, 2.0, 0)


# the instruments


def test_every_instrument_of_a_style_sounds_over_its_range(font):
    used = {p for s in styles.STYLES.values() for programs in s.programs.values() for p in programs}
    assert used == set(styles.RANGES)
    arpeggios = {p for s in styles.STYLES.values() for p in s.programs[styles.ARPEGGIO]}
    assert all(styles.RANGES[p][1] - styles.RANGES[p][0] >= 24 for p in arpeggios)
    for program, (low, high) in styles.RANGES.items():
        assert high - low >= 21 and all(font.voices(0, program, key) for key in range(low, high + 1)), program
    struck = {styles.KICK, styles.CRASH, *styles.TOMS}
    struck |= {key for s in styles.STYLES.values() for g in s.grooves for key in (g.backbeat, g.cymbal)}
    kits = {kit for s in styles.STYLES.values() for kit in s.kits}
    assert all(font.voices(soundfont.DRUM_BANK, kit, key) for kit in kits for key in struck)
    assert all(font.voices(soundfont.DRUM_BANK, 0, key) for bar in styles.PERCUSSIONS for key in bar)


def test_grooves_fill_their_bar():
    for style in styles.STYLES.values():
        lines = [line for g in style.grooves for line in (g.kick, g.snare, g.hat)]
        assert all(len(line) == 4 * style.beats and set(line) <= set("xog.") for line in lines)
    assert all(len(line) == 16 and set(line) <= set("xog.") for bar in styles.PERCUSSIONS for line in bar.values())


def cents_off(x, hz):
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x)), 2**16))
    shifts = np.arange(-90, 91, 3)
    harmonics = hz * np.arange(1, 5)
    scores = [
        np.log(np.interp(harmonics * 2 ** (c / 1200) * 2**16 / RATE, np.arange(2**15 + 1), spectrum) + 1e-3).sum()
        for c in shifts
    ]
    return shifts[int(np.argmax(scores))]


def test_instruments_are_in_tune(font):
    for program, (low, high) in styles.RANGES.items():
        off = []
        for key in (low, (low + high) // 2, high):
            x = sampler.render(font, 0, program, [Note(0, 0.9, key, 100)], 1.0, RATE).sum(axis=0)[2205:33075]
            off.append(abs(cents_off(x, 440 * 2 ** ((key - 69) / 12))))
        assert np.median(off) <= 12 and max(off) <= 26, (program, off)


def rms_db(x):
    return 20 * np.log10(np.sqrt(np.mean(np.square(x, dtype=np.float64))) + 1e-12)


def test_a_note_starts_when_written_and_dies_away(font):
    x = sampler.render(font, 0, 0, [Note(0.5, 0.5, 60, 100)], 4.0, RATE)
    assert not x[:, : RATE // 2].any()
    assert rms_db(x[:, RATE // 2 : RATE // 2 + 2205]) > -40
    assert rms_db(x[:, RATE - 2205 : RATE]) > -50
    assert -75 < rms_db(x[:, RATE + 13230 : RATE + 15435]) < rms_db(x[:, RATE : RATE + 2205]) - 10
    assert not x[:, 3 * RATE :].any()


@pytest.mark.parametrize(("velocity", "decibels"), [(127, 0.0), (90, -5.98), (45, -18.02)])
def test_level_follows_the_square_of_velocity(font, velocity, decibels):
    loudest, played = (sampler.render(font, 0, 0, [Note(0, 0.5, 60, v)], 1.0, RATE) for v in (127, velocity))
    assert rms_db(played) - rms_db(loudest) == pytest.approx(decibels, abs=0.05)


def test_sustained_instruments_hold_longer_than_their_recording(font):
    x = sampler.render(font, 0, 19, [Note(0, 8.0, 60, 100)], 8.0, RATE)
    early, late = rms_db(x[:, RATE : 2 * RATE]), rms_db(x[:, 7 * RATE : 8 * RATE])
    assert late > -40 and abs(early - late) < 3


def test_strings_are_wide_and_bass_is_not(font):
    strings, bass = (sampler.render(font, 0, p, [Note(0, 1.0, 48, 100)], 1.0, RATE) for p in (48, 33))
    assert np.corrcoef(strings)[0, 1] < 0.7 and np.corrcoef(bass)[0, 1] > 0.999


def test_a_closed_hihat_silences_an_open_one(font):
    bank = soundfont.DRUM_BANK
    open_one = Note(0.0, 1.0, styles.OPEN_HAT, 100)
    alone = sampler.render(font, bank, 0, [open_one], 2.0, RATE)
    cut = sampler.render(font, bank, 0, [open_one, Note(0.25, 0.1, styles.CLOSED_HAT, 1)], 2.0, RATE)
    tail = slice(RATE // 2, RATE)
    assert np.array_equal(alone[:, : RATE // 4], cut[:, : RATE // 4])
    assert rms_db(cut[:, tail]) < rms_db(alone[:, tail]) - 20


def test_notes_beyond_the_end_are_cut(font):
    x = sampler.render(font, 0, 0, [Note(0.9, 5, 60, 100), Note(1.2, 1, 64, 100), Note(7, 1, 67, 100)], 1.0, RATE)
    assert x.shape == (2, RATE) and np.abs(x[:, -2000:]).max() > 0.01


def test_a_missing_or_broken_soundfont_says_what_to_do(tmp_path, monkeypatch, font):
    (tmp_path / "bad.sf2").write_bytes(b"RIFF\x10\0\0\0sfbkLIST")
    for name in ("bad.sf2", "missing.sf2"):
        with pytest.raises(DataError, match="SoundFont"):
            soundfont.open_soundfont(tmp_path / name)
    with pytest.raises(DataError, match="program 200"):
        font.voices(0, 200, 60)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for make in (data.compose, composer.ComposedSong):
        with pytest.raises(DataError, match="pip install pretty_midi"):
            make(0, 2.0, RATE)


def test_a_song_that_is_composed_when_it_is_heard_is_the_same_song():
    song, later = data.compose(5, 2.5, RATE), composer.ComposedSong(5, 2.5, RATE)
    assert (later.name, later.sample_rate, later.length, later.channels) == (song.name, RATE, song.length, 2)
    assert "_song" not in vars(later)  # nothing is composed yet
    assert later.roles == song.roles
    for a, b in zip(later.excerpt(700, 900).tracks, song.excerpt(700, 900).tracks, strict=True):
        assert np.array_equal(a, b)
    for seed, seconds, rate in ((-1, 2.0, RATE), (0, 1.0, RATE), (0, 2.0, 0)):
        with pytest.raises((DataError, AudioError)):
            composer.ComposedSong(seed, seconds, rate)


# the sound of a song


def test_composed_tracks_are_finite_unclipped_and_level(songs):
    for song in songs:
        assert 3 <= len(song.tracks) <= 8 and song.length == 4 * RATE
        for name, track in zip(song.track_names, song.tracks, strict=True):
            assert track.shape == (2, 4 * RATE) and track.dtype == np.float32 and np.isfinite(track).all()
            peak = np.abs(track).max()
            blocks = np.array([rms_db(b) for b in np.array_split(track, 40, axis=1)])
            level = 10 * np.log10(np.mean(10 ** (blocks[blocks > blocks.max() - 40] / 10)))
            assert peak <= composer.PEAK * 1.0001 and level < -14.5, (song.name, name, level)
            assert level > -33.5 or peak > 0.89 * composer.PEAK, (song.name, name, level)
    levels = [rms_db(t) for s in songs for t in s.tracks]
    assert max(levels) - min(levels) > 12


def test_the_end_of_a_song_does_not_click(songs):
    assert max(np.abs(t[:, -1]).max() for s in songs for t in s.tracks) == 0


def test_drums_are_heard_when_they_are_struck(songs):
    for seed, song in zip(GOOD, songs, strict=True):
        if "drums" not in song.track_names:
            continue
        track = song.tracks[song.track_names.index("drums")].mean(axis=0)
        notes = next(p for p in data.write_score(seed, 4.0).parts if p.role == "drums").notes
        kicks = [round(n.start * RATE) for n in notes if n.pitch == styles.KICK and n.start > 0.1 and n.velocity > 70]
        rises = [rms_db(track[k : k + 1000]) - rms_db(track[k - 1000 : k]) for k in kicks]
        assert not rises or np.median(rises) > 3, (seed, rises)


def test_a_seed_is_a_song(songs):
    assert len({digest(s) for s in songs}) == len(songs)
    assert digest(data.compose(5, 4.0)) == digest(songs[5])
    assert digest(data.compose(np.int64(5), 4)) == digest(songs[5])


def test_a_seed_is_the_same_song_in_another_process(songs):
    code = (
        "import hashlib, sys\n"
        "from blackbox_fx import data\n"
        "for seed in (9, 2):\n"
        "    song = data.compose(seed, 4.0)\n"
        "    h = hashlib.sha256(repr((song.name, song.track_names)).encode())\n"
        "    [h.update(t.tobytes()) for t in song.tracks]\n"
        "    print(h.hexdigest())\n"
        "print(sorted({'torch', 'pretty_midi', 'scipy', 'pkg_resources'} & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert out.split("\n")[:3] == [digest(songs[9]), digest(songs[2]), "[]"]


@pytest.mark.parametrize("rate", [16000, 48000])
def test_other_sample_rates_sound_alike(songs, rate):
    other = data.compose(4, 4.0, rate)
    assert other.sample_rate == rate and other.length == 4 * rate
    for a, b in zip(songs[4].tracks, other.tracks, strict=True):
        low = audio.resample(a, RATE, 16000), audio.resample(b, rate, 16000)
        envelope = [np.sqrt(np.add.reduceat(np.square(x).sum(axis=0), np.arange(0, 64000, 1600))) for x in low]
        assert np.corrcoef(envelope)[0, 1] > 0.9


# Song


def ramp(channels, length, scale=1.0):
    return (scale * np.arange(channels * length, dtype=np.float32)).reshape(channels, length)


def test_stack_fills_and_mixes_channels():
    song = data.Song("s", RATE, ("a", "b", "c"), (ramp(1, 4), ramp(2, 3), ramp(3, 4)))
    mono, stereo = song.stack(1), song.stack(2)
    assert song.length == 4 and mono.shape == (3, 1, 4) and stereo.shape == (3, 2, 4)
    assert np.array_equal(stereo[0], [[0, 1, 2, 3]] * 2) and np.array_equal(mono[0], [[0, 1, 2, 3]])
    assert np.array_equal(stereo[1], [[0, 1, 2, 0], [3, 4, 5, 0]]) and np.array_equal(mono[1], [[1.5, 2.5, 3.5, 0]])
    assert np.array_equal(stereo[2], [[4, 5, 6, 7]] * 2) and np.array_equal(mono[2], [[4, 5, 6, 7]])


@pytest.mark.parametrize("channels", [0, 3, True, "2", None])
def test_stack_refuses_other_channels(channels):
    with pytest.raises(DataError, match="channels"):
        data.Song("s", RATE, ("a",), (ramp(1, 4),)).stack(channels)


def test_song_refuses_what_is_not_a_song():
    with pytest.raises(DataError, match="1 tracks and 2 names"):
        data.Song("s", RATE, ("a", "b"), (ramp(1, 4),))
    with pytest.raises(DataError, match="0 tracks"):
        data.Song("s", RATE, (), ())
    with pytest.raises(AudioError, match="s/a contains NaN"):
        data.Song("s", RATE, ("a",), (np.full((1, 4), np.nan),))


def test_excerpt_of_a_song():
    song = data.Song("s", RATE, ("a", "b"), (ramp(1, 9), ramp(2, 5)))
    cut = song.excerpt(3, 4)
    assert np.array_equal(cut.tracks[0], [[3, 4, 5, 6]]) and np.array_equal(cut.tracks[1], [[3, 4, 0, 0], [8, 9, 0, 0]])


# folders


def tone(rate, seconds, channels=1, hz=330.0):
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)
    return np.stack([wave * (1 - 0.3 * c) for c in range(channels)], axis=1)


@pytest.fixture
def folder(tmp_path):
    """Two songs of good files and one of every kind of trouble."""
    root = tmp_path / "stems"
    for name in ("b song", "a song", "troubled", "empty"):
        (root / name).mkdir(parents=True)
    soundfile.write(root / "a song/Bass.WAV", tone(44100, 1.0), 44100, subtype="PCM_24")
    soundfile.write(root / "a song/drums.flac", tone(48000, 1.5, 2), 48000)
    soundfile.write(root / "a song/keys.ogg", tone(22050, 0.7, 2), 22050)
    soundfile.write(root / "a song/vox.mp3", tone(44100, 3.0), 44100)
    soundfile.write(root / "a song/room.wav", tone(96000, 0.5, 4), 96000, subtype="FLOAT")
    soundfile.write(root / "b song/x.wav", tone(8000, 0.25), 8000)
    soundfile.write(root / "b song/x.flac", tone(8000, 0.25), 8000)
    (root / "a song/notes.txt").write_text("mix it loud")
    (root / "a song/session.json").write_text("{}")
    (root / "a song/.DS_Store").write_bytes(b"\0")
    (root / "a song/._Bass.wav").write_bytes(b"\0\5\x16\7")
    soundfile.write(root / "troubled/good.wav", tone(44100, 0.5), 44100)
    (root / "troubled/zero.wav").write_bytes(b"")
    (root / "troubled/text.WAV").write_text("not audio")
    (root / "troubled/phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    soundfile.write(root / "troubled/blip.wav", np.zeros(20), 44100)
    (root / "troubled/stems").mkdir()
    soundfile.write(root / "troubled/stems/deep.wav", tone(44100, 0.5), 44100)
    soundfile.write(root / "loose.wav", tone(44100, 0.5), 44100)
    (root / ".cache").mkdir()
    (root / "readme.md").write_text("songs")
    return root


def test_folder_finds_songs_and_names_what_it_skips(folder):
    found = data.read_songs(folder)
    assert [s.name for s in found.songs] == ["a song", "b song", "troubled"]
    assert found.songs[0].track_names == ("Bass", "drums", "keys", "room", "vox")
    assert found.songs[1].track_names == ("x.flac", "x.wav")
    assert [str(p.relative_to(folder)) for p, _ in found.skipped] == [
        "empty",
        "loose.wav",
        "troubled/blip.wav",
        "troubled/phone.m4a",
        "troubled/stems",
        "troubled/text.WAV",
        "troubled/zero.wav",
    ]
    assert all(reason.endswith(".") and len(reason) > 20 for _, reason in found.skipped)
    assert "plain: 3 songs, 0 of them with a mix, 8 tracks, 7 skipped" in repr(found)
    again = data.read_songs(str(folder))
    assert [s.files for s in again.songs] == [s.files for s in found.songs] and again.skipped == found.skipped


@pytest.mark.parametrize("rate", [44100, 22050, 48000])
def test_songs_of_a_folder_are_resampled(folder, rate):
    files = data.read_songs(folder, rate).songs[0]
    song = files.load()
    assert song.sample_rate == files.sample_rate == rate and song.track_names == files.track_names
    assert [t.shape[0] for t in song.tracks] == [1, 2, 2, 4, 1]
    assert abs(song.length - 3 * rate) <= 2 and abs(files.length - song.length) <= 2
    for seconds, track in zip((1.0, 1.5, 0.7, 0.5, 3.0), song.tracks, strict=True):
        assert abs(track.shape[1] - seconds * rate) <= 2
        middle = track[0, int(0.2 * rate) : int(0.4 * rate)]
        assert np.abs(middle).max() == pytest.approx(0.3, abs=0.03)
    assert song.stack(1).shape == (5, 1, song.length)


@pytest.mark.parametrize("rate", [44100, 48000, 16000])
def test_an_excerpt_from_disk_is_the_same_part_of_the_song(folder, rate):
    files = data.read_songs(folder, rate).songs[0]
    whole = files.load()
    for start in (0, 1, 777, int(0.3 * rate) + 5, int(0.45 * rate), int(1.4 * rate), int(2.7 * rate)):
        length = int(0.2 * rate)
        cut, expected = files.excerpt(start, length), whole.excerpt(start, length)
        for name, a, b in zip(cut.track_names, cut.tracks, expected.tracks, strict=True):
            assert a.shape == b.shape and np.abs(a - b).max() < 2e-4, (name, start)


def test_an_excerpt_decodes_little_more_than_it_needs(folder, monkeypatch):
    asked = []
    whole = audio.read
    monkeypatch.setattr(audio, "read", lambda *args: asked.append(args[3]) or whole(*args))
    data.read_songs(folder).songs[0].excerpt(40000, 1000)
    assert asked and max(asked) < 30_000


@pytest.mark.parametrize("damage", ["cut", "gone", "nan"])
def test_a_file_that_breaks_later_is_left_out_and_named(folder, damage):
    files = data.read_songs(folder)
    song, bad = files.songs[0], folder / "a song/drums.flac"
    before = len(files.skipped)
    if damage == "cut":
        bad.write_bytes(bad.read_bytes()[:9000])
    elif damage == "gone":
        bad.unlink()
    else:
        bad = folder / "a song/room.wav"
        soundfile.write(bad, np.full((48000, 4), np.nan), 96000, subtype="FLOAT")
    for _ in range(2):
        assert bad.stem not in song.load().track_names and len(song.load().tracks) == 4
    assert [p for p, _ in files.skipped[before:]] == [bad] and f"{before + 1} skipped" in repr(files)


def test_a_song_whose_files_all_break_says_so(folder):
    found = data.read_songs(folder)
    for file in found.songs[1].files:
        file.write_bytes(b"")
    with pytest.raises(DataError, match="b song can be read any more"):
        found.songs[1].load()
    assert {p for p, _ in found.skipped} >= set(found.songs[1].files)


def test_folders_without_songs_say_what_to_do(tmp_path, folder):
    with pytest.raises(DataError, match="No such folder"):
        data.read_songs(tmp_path / "missing")
    with pytest.raises(DataError, match="No such folder"):
        data.read_songs(folder / "loose.wav")
    with pytest.raises(DataError, match="2 audio files but no sub-folder"):
        data.read_songs(folder / "b song")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no sub-folder with readable audio"):
        data.read_songs(tmp_path / "none")
    (tmp_path / "none/one").mkdir()
    (tmp_path / "none/one/bad.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 skipped, the first: bad\.wav"):
        data.read_songs(tmp_path / "none")


@pytest.mark.parametrize("rate", [0, 44100.5, "44100"])
def test_folder_refuses_a_bad_sample_rate(folder, rate):
    with pytest.raises(AudioError, match="sample_rate"):
        data.read_songs(folder, rate)


# clips


def test_a_clip_depends_on_seed_and_index_alone(songs):
    clips = data.Clips(songs, 1.0, channels=2, seed=7)
    forwards = [clips.clip(i) for i in range(12)]
    for i in reversed(range(12)):
        again = data.Clips(songs, 1.0, channels=2, seed=7).clip(i)
        assert np.array_equal(again.tracks, forwards[i].tracks) and again[1:] == forwards[i][1:]
    other = [data.Clips(songs, 1.0, channels=2, seed=8).clip(i)[2:] for i in range(12)]
    assert len({c[2:] for c in forwards}) == 12 and not {c[2:] for c in forwards} & set(other)
    assert len({c.song for c in forwards}) > 4 and len({len(c.tracks) for c in forwards}) > 1


def test_a_clip_is_a_part_of_its_song(songs):
    clips = data.Clips(songs, 0.5, channels=1, seed=1)
    for i in range(6):
        clip = clips.clip(i)
        song = next(s for s in songs if s.name == clip.song)
        expected = song.stack(1)[:, :, clip.start : clip.start + RATE // 2]
        assert np.array_equal(clip.tracks, expected) and clip.track_names == song.track_names
        assert clip.tracks.dtype == np.float32


def test_clips_reach_both_ends_of_a_song():
    x = np.ones((1, 500), np.float32)
    clips = data.Clips([data.Song("s", 1000, ("a",), (x,))], 0.49)
    assert {clips.clip(i).start for i in range(200)} == set(range(11))


def test_clips_avoid_silence():
    x = np.zeros((1, 20_000), np.float32)
    x[0, 15_000:15_100] = 0.5
    hum = np.full((1, 20_000), 5e-4, np.float32)
    song = data.Song("s", 1000, ("a", "hum"), (x, hum))
    clips = data.Clips([song], 2.0)
    assert all(np.abs(clips.clip(i).tracks).max() == 0.5 for i in range(40))
    with pytest.raises(DataError, match="silent"):
        data.Clips([data.Song("s", 1000, ("hum",), (hum,))], 2.0).clip(0)


def test_short_songs_are_filled_with_zeros():
    clip = data.Clips([data.Song("s", 1000, ("a",), (np.ones((1, 300), np.float32),))], 1.0, channels=2).clip(3)
    assert clip.tracks.shape == (1, 2, 1000) and clip.start == 0 and clip.tracks.sum() == 600


def test_clips_of_a_folder_go_on_without_a_broken_song(folder):
    found = data.read_songs(folder)
    clips = data.Clips(found.songs, 0.2, seed=3)
    assert {clips.clip(i).song for i in range(20)} == {"a song", "b song", "troubled"}
    for file in found.songs[1].files:
        file.unlink()
    assert {clips.clip(i).song for i in range(20)} == {"a song", "troubled"}
    assert {p for p, _ in found.skipped} >= set(found.songs[1].files)


def test_clips_refuse_what_they_cannot_cut(songs):
    other = data.Song("s", 48000, ("a",), (np.ones((1, 300), np.float32),))
    for bad in ([], [songs[0], other]):
        with pytest.raises(DataError, match="one sample rate"):
            data.Clips(bad, 1.0)
    for seconds in (0, -1, float("nan"), "1", True, 4000):
        with pytest.raises(DataError, match="seconds"):
            data.Clips(songs, seconds)
    for seed in (-1, 1.5, None):
        with pytest.raises(DataError, match="seed"):
            data.Clips(songs, 1.0, seed=seed)
    with pytest.raises(DataError, match="channels"):
        data.Clips(songs, 1.0, channels=3)
    with pytest.raises(DataError, match="index"):
        data.Clips(songs, 1.0).clip(-1)
    for how in ({"jitter_db": -1}, {"speed": 0.6}, {"speed": float("nan")}, {"most_tracks": 0}, {"most_tracks": True}):
        with pytest.raises(DataError, match=next(iter(how))):
            data.Clips(songs, 1.0, **how)


def test_clips_vary_in_level_and_speed_and_the_mix_goes_with_them():
    rate, seconds = 8000, 4.0
    t = np.arange(round(rate * seconds)) / rate
    tones = [np.sin(2 * np.pi * f * t)[None].astype(np.float32) for f in (200.0, 300.0)]
    song = data.Song("s", rate, ("a", "b"), tuple(0.2 * x for x in tones), mix=np.repeat(sum(tones), 2, 0))

    def pitch(x):
        return np.abs(np.fft.rfft(x * np.hanning(len(x)), 1 << 17)).argmax() * rate / (1 << 17)

    clips = data.Clips([song], 1.0, seed=1, jitter_db=6.0, speed=0.1)
    drawn = [clips.clip(k) for k in range(40)]
    assert all(np.array_equal(clips.clip(k).tracks, drawn[k].tracks) for k in range(3))
    ratios = np.array([pitch(c.tracks[0, 0]) / 200 for c in drawn])
    assert 0.9 < ratios.min() < 0.94 and 1.06 < ratios.max() < 1.11
    for clip, ratio in zip(drawn, ratios, strict=True):
        assert clip.tracks.shape == (2, 1, rate) and clip.mix.shape == (2, rate)
        assert pitch(clip.tracks[1, 0]) == pytest.approx(300 * ratio, rel=2e-3)
        assert min(abs(pitch(clip.mix[0]) / ratio - f) for f in (200, 300)) < 1
    gains_db = 20 * np.log10([np.abs(c.tracks[:, 0, 2000:6000]).max(1) / 0.2 for c in drawn])
    assert 4 < gains_db.std() < 8 and abs(np.corrcoef(gains_db.T)[0, 1]) < 0.5


def test_excerpts_with_too_many_tracks_are_drawn_again():
    x = np.ones((1, 1000), np.float32)
    late = np.concatenate([0 * x, x], 1)
    song = data.Song("s", 1000, ("a", "b"), (np.concatenate([x, x], 1), late))
    starts = [data.Clips([song], 0.5, most_tracks=1).clip(k).start for k in range(20)]
    assert max(starts) <= 500
    with pytest.raises(DataError, match="of 2 tracks that sound"):
        data.Clips([data.Song("s", 1000, ("a", "b"), (x, x))], 0.5, most_tracks=1).clip(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
def test_a_folder_that_cannot_be_read_is_among_the_skipped(folder):
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0)
    unprivileged = os.geteuid() == 0
    if unprivileged:  # the superuser reads every folder
        for path in (folder, *folder.parents[:-1]):
            path.chmod(path.stat().st_mode | 0o055)
        os.seteuid(65534)
    try:
        found = data.read_songs(folder)
        assert (closed, "cannot be read (Permission denied); check its permissions.") in found.skipped
        with pytest.raises(DataError, match=r"Cannot read the folder .*closed \(Permission denied\)"):
            data.read_songs(closed)
    finally:
        if unprivileged:
            os.seteuid(0)
        closed.chmod(0o700)
