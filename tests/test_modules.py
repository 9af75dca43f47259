"""Tracker modules as songs: tracks that sum to the mix, whatever is done to the files and to the cache."""

import logging
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from blackbox_fx import data
from blackbox_fx.audio.loudness import loudness
from blackbox_fx.cli.__main__ import app
from blackbox_fx.core import paths
from blackbox_fx.data import modules
from blackbox_fx.errors import AudioError, DataError
from tests.programs import write_module

RATE = 8000
EXACT = 1e-5
MUSIC = {"pingus": "/usr/share/games/pingus/data/music", "biniax2": "/usr/share/games/biniax2/music"}
KICK, BASS = 1, 2
SECONDS = 64 * 6 * 0.02  # of a pattern: rows, ticks, and seconds of a tick
FADE = 0.1  # seconds in which libopenmpt fades out at the end


def note(sample, period=428, effect=0, value=0):
    return bytes([sample & 0xF0 | period >> 8, period & 255, (sample & 15) << 4 | effect, value])


def module(volumes=(64, 32), notes=(), orders=(0,)):
    """A module of four channels: a kick on the first, which is left, and a bass on the second, which is right.

    Args:
        volumes: of kick and bass, to 64.
        notes: further ones, (row, channel, note).
        orders: which pattern is played when; there is one.
    """
    draw = np.random.default_rng(1)
    sounds = [
        (draw.uniform(-100, 100, 1200) * np.exp(-np.arange(1200) / 300)).astype(np.int8).tobytes(),
        (90 * np.sin(2 * np.pi * np.arange(64) / 64)).astype(np.int8).tobytes(),
    ]
    head = b"a song".ljust(20, b"\0")
    for k in range(31):
        name = (b"kick drum", b"bass")[k] if k < 2 else b"made by a test"
        words = len(sounds[k]) // 2 if k < 2 else 0
        volume = volumes[k] if k < 2 else 0
        head += struct.pack(">22sHBBHH", name, words, 0, volume, 0, words if k == 1 else 1)
    head += bytes([len(orders), 127]) + bytes(orders).ljust(128, b"\0") + b"M.K."
    cells = [[b"\0" * 4] * 4 for _ in range(64)]
    for row in range(0, 64, 8):
        cells[row][0] = note(KICK)
        cells[row][1] = note(BASS, 856 - 8 * row)
    for row, channel, cell in notes:
        cells[row][channel] = cell
    return head + b"".join(b"".join(row) for row in cells) + b"".join(sounds)


def put(path, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(module(**how))
    return path


@pytest.fixture
def path(tmp_path):
    return put(tmp_path / "songs/tune.mod")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder that stems are kept in, a new one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return paths.cache() / "modules"


def off(song):
    return float(np.abs(sum(track.astype(np.float64) for track in song.tracks) - song.mix).max())


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 192000])
def test_each_instrument_is_a_track_and_tracks_sum_to_the_mix(path, rate):
    found = data.read_module(path, rate)
    assert found.name == "tune" and found.sample_rate == rate and found.kind == "sample" and not found.random
    assert found.track_names == ("01 kick drum", "02 bass") and found.roles == ("kick", "bass")
    assert found.layout == "module" and found.has_mix and "tune" in repr(found)
    song = found.load()
    assert song.track_names == found.track_names and song.roles == found.roles
    assert song.length == found.length == pytest.approx((SECONDS + FADE) * rate, rel=0.01)
    assert off(song) <= EXACT and np.abs(song.mix).max() > 0.05
    kick, bass = (np.square(track).sum(1) for track in song.tracks)
    assert kick[0] > 2 * kick[1] and bass[1] > 2 * bass[0]


def test_an_excerpt_is_the_same_part_of_the_song(path):
    found = data.read_module(path, RATE)
    whole = found.load()
    for start, length in ((0, 1), (777, 4000), (whole.length - 100, 300), (whole.length + 10, 50)):
        cut, expected = found.excerpt(start, length), whole.excerpt(min(start, whole.length), length)
        for a, b in zip((*cut.tracks, cut.mix), (*expected.tracks, expected.mix), strict=True):
            assert a.shape == (2, length) and np.array_equal(a, b)
    again = pickle.loads(pickle.dumps(found)).excerpt(777, 4000)
    assert np.array_equal(again.mix, whole.mix[:, 777:4777])
    clip = data.Clips([found], 0.5, channels=2).clip(0)
    assert np.abs(clip.tracks.sum(0) - clip.mix).max() <= EXACT and clip.roles == ("kick", "bass")


def test_raw_tracks_have_neither_place_nor_level(tmp_path):
    loud, soft = (
        data.read_module(put(tmp_path / f"{bass}.mod", volumes=(64, bass)), 44100, raw=True).load() for bass in (64, 8)
    )
    for song in (loud, soft):
        assert [track.shape[0] for track in song.tracks] == [1, 1] and song.mix.shape[0] == 2
        assert [loudness(track, 44100) for track in song.tracks] == pytest.approx([-23, -23], abs=0.01)
    assert loudness(loud.mix, 44100) > loudness(soft.mix, 44100) + 3
    np.testing.assert_allclose(loud.tracks[1], soft.tracks[1], atol=2e-3)
    stem = data.read_module(tmp_path / "64.mod", 44100).load().tracks[1]
    gain = np.abs(stem.mean(0)).max() / np.abs(loud.tracks[1]).max()
    np.testing.assert_allclose(loud.tracks[1][0] * gain, stem.mean(0), atol=1e-5)


def test_what_is_in_surround_does_not_cancel():
    x = np.ones(5, np.float32)
    assert np.array_equal(modules.dry(np.stack([x, -x]), True)[0], x)
    assert np.array_equal(modules.dry(np.stack([x, x]), False)[0], x)


def test_where_instruments_do_not_sum_channels_are_the_tracks(tmp_path):
    # instruments that take over without a new note
    notes = [(2, 1, note(KICK, 0)), (4, 1, note(BASS, 0))]
    found = data.read_module(put(tmp_path / "a.mod", notes=notes), RATE)
    assert found.kind == "channel" and found.track_names == ("01 channel", "02 channel")
    assert found.roles == ("other", "other")
    assert off(found.load()) <= EXACT


def test_a_module_that_goes_on_for_ever_ends_where_it_repeats(tmp_path):
    found = data.read_module(put(tmp_path / "a.mod", notes=[(63, 3, note(0, 0, 0xB, 0))]), RATE)
    assert found.length == pytest.approx((SECONDS + FADE) * RATE, rel=0.01) and off(found.load()) <= EXACT


def test_a_long_module_ends_after_fifteen_minutes(tmp_path, kept):
    slow = [(0, 2, note(0, 0, 0xF, 31)), (0, 3, note(0, 0, 0xF, 32))]
    found = data.read_module(put(tmp_path / "a.mod", notes=slow, orders=(0,) * 30), RATE)
    assert found.length == 900 * RATE
    end = found.excerpt(found.length - 80 * RATE, 80 * RATE)
    assert np.abs(end.mix).max() > 0.05 and off(end) <= EXACT


@pytest.mark.parametrize("rate", [0, 44100.5, "44100", 4000, 384_000])
def test_other_sample_rates_are_refused(path, rate):
    with pytest.raises(AudioError, match="sample_rate"):
        data.read_module(path, rate)


# folders


def test_modules_are_songs_of_a_folder(path):
    root = path.parent
    put(root / "artist/second.MOD")
    put(root / "train/third.mod")
    (root / "both").mkdir()
    put(root / "both/fourth.mod")
    soundfile.write(root / "both/drums.wav", np.full((RATE, 1), 0.1), RATE)
    (root / "readme.txt").write_text("songs")
    found = data.read_songs(root, RATE)
    assert "module, plain: 5 songs, 4 of them with a mix" in repr(found) and not found.skipped
    assert [song.name for song in found.songs] == ["both", "fourth", "second", "third", "tune"]
    assert [song.split for song in found.songs] == ["", "", "", "train", ""]
    train, unseen = found.split()
    assert not {song.name for song in train} & {song.name for song in unseen} and len(train) + len(unseen) == 5
    raw = data.read_songs(root, RATE, raw=True).songs[1].excerpt(0, RATE)
    assert raw.tracks[0].shape == (1, RATE)


def test_a_rate_at_which_modules_do_not_play_leaves_them_out(path):
    soundfile.write(put(path.parent / "song/x.mod").with_suffix(".wav"), np.full((RATE, 1), 0.1), RATE)
    found = data.read_songs(path.parent, 4000)
    assert [song.name for song in found.songs] == ["song"] and len(found.skipped) == 2
    assert all("8000, 192000" in reason for _, reason in found.skipped)


def test_train_mix_learns_the_mixes_of_modules(tmp_path):
    for k in range(3):
        put(tmp_path / f"songs/{k}.mod", volumes=(64, 16 * k + 8))
    (tmp_path / "recipe.toml").write_text("seconds = 0.3\nbatch = 1\nexcerpts = 2\nunseen = 1\n")
    arguments = ["train", "mix", "--songs", tmp_path / "songs", "--out", tmp_path / "run", "--steps", 2, "--raw"]
    arguments += ["--recipe", tmp_path / "recipe.toml"]
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    assert "Targets are the real mixes of 3 songs." in done.output.replace("\n", " ")


# what goes wrong


def test_without_the_library_one_sentence_says_what_to_install(path, monkeypatch):
    (path.parent / "song").mkdir()
    soundfile.write(path.parent / "song/x.wav", np.full((RATE, 1), 0.1), RATE)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(DataError, match=r"libopenmpt0.*elsewhere libopenmpt\.$"):
        data.read_module(path)
    found = data.read_songs(path.parent, RATE)
    assert [song.name for song in found.songs] == ["song"] and "libopenmpt0" in found.skipped[0][1]
    shutil.rmtree(path.parent / "song")
    with pytest.raises(DataError, match=r"no module that can be read.*libopenmpt0"):
        data.read_songs(path.parent, RATE)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: "libopenmpt-none.so")
    with pytest.raises(DataError, match=r"Cannot use the library libopenmpt-none"):
        data.read_module(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 3000, b"RIFF" * 100, module()[:500], module(volumes=(0, 0))])
def test_what_is_no_module_or_silent_is_one_sentence(content, tmp_path):
    (tmp_path / "a.xm").write_bytes(content)
    with pytest.raises(DataError, match=r"^Cannot use .*a\.xm as a module \([^()]+\); remove it or write it again\.$"):
        data.read_module(tmp_path / "a.xm", RATE)
    with pytest.raises(DataError, match="No such module"):
        data.read_module(tmp_path / "b.xm", RATE)


@settings(max_examples=4)
@given(st.integers(0, 2**32 - 1))
def test_damaged_modules_are_songs_or_named(tmp_path_factory, seed):
    draw = np.random.default_rng(seed)
    root = tmp_path_factory.mktemp("damaged")
    real = [path for folder in MUSIC.values() for path in sorted(Path(folder).glob("*")) if path.stat().st_size < 9e4]
    for k in range(12):
        whole = module() if k % 2 or not real else draw.choice(real).read_bytes()
        content = np.frombuffer(whole, np.uint8).copy()
        if k % 3 == 0:
            content = content[: draw.integers(len(content))]
        reach = len(content) if k % 4 < 2 else min(len(content), 1200)
        for place in draw.integers(max(reach, 1), size=draw.integers(1, 60)):
            content[place : place + 1] = draw.integers(256)
        (root / f"{k}.{draw.choice(['mod', 'it', 'xm'])}").write_bytes(content.tobytes())
    try:
        found = data.read_songs(root, RATE)
    except DataError:
        return
    assert len(found.songs) + len(found.skipped) == 12
    assert all(reason.endswith(".") and reason.startswith("Cannot use") for _, reason in found.skipped)
    for song in found.songs[:1]:
        excerpt = song.excerpt(0, RATE)
        assert np.isfinite(excerpt.mix).all() and off(excerpt) <= EXACT
    shutil.rmtree(root)


def test_a_module_that_crashes_the_player_leaves_the_others(tmp_path, kept, monkeypatch):
    body = """
for path in question["paths"]:
    if path.endswith("bad.mod"):
        os.kill(os.getpid(), signal.SIGSEGV)
    report(None)
    report({"kind": "channel", "tracks": [[0, "bass"]], "random": False, "frames": 100})
"""
    for name in ("a", "bad", "c"):
        put(tmp_path / f"songs/{name}.mod")
    monkeypatch.setattr(modules, "_READER", write_module(tmp_path, monkeypatch, body))
    found = data.read_songs(tmp_path / "songs", RATE)
    assert [song.name for song in found.songs] == ["a", "c"] and found.songs[0].length == 100
    ((path, reason),) = found.skipped
    assert path.name == "bad.mod" and "crashes with SIGSEGV" in reason
    monkeypatch.setattr(modules, "_READER", write_module(tmp_path, monkeypatch, "os.kill(os.getpid(), signal.SIGSEGV)"))
    with pytest.raises(DataError, match=r"Cannot render .*a\.mod \(it crashes with SIGSEGV\)"):
        found.songs[0].load()


def test_a_module_that_has_changed_is_not_played(path, kept):
    found = data.read_module(path, RATE)
    put(path, volumes=(1, 64))
    with pytest.raises(DataError, match="has changed since it was read"):
        found.load()
    path.unlink()
    with pytest.raises(DataError, match=r"Cannot read .*tune\.mod \(No such file"):
        found.load()


# the cache


@pytest.mark.parametrize("damage", ["all", "one", "cut", "no json", "text", "short"])
def test_what_is_kept_may_be_deleted_at_any_time(path, kept, damage):
    found = data.read_module(path, RATE, raw=True)
    before = found.load()
    folder = kept / found.key
    assert sorted(file.name for file in folder.glob("*.*")) == [
        *("0000.wav", "0001.wav", "index.json", "mix.wav", "raw.json")
    ]
    if damage == "all":
        shutil.rmtree(kept)
    elif damage == "one":
        (folder / "0001.wav").unlink()
    elif damage == "cut":
        (folder / "mix.wav").write_bytes((folder / "mix.wav").read_bytes()[:-1000])
    else:
        (folder / "raw.json").write_text({"no json": "[[", "text": "[1, 2]", "short": "[]"}[damage])
    after = found.load()
    for a, b in zip((*before.tracks, before.mix), (*after.tracks, after.mix), strict=True):
        assert np.array_equal(a, b)


def test_a_module_is_rendered_once(path, kept, monkeypatch):
    found = data.read_module(path, RATE)
    found.load()
    monkeypatch.setattr("blackbox_fx.isolation.call", None)
    assert off(data.read_module(path, RATE).load()) <= EXACT
    assert data.read_module(path, RATE, raw=True).excerpt(0, 100).tracks[0].shape == (1, 100)
    stem, _ = soundfile.read(kept / found.key / "0001.wav", dtype="float32")
    assert np.array_equal(stem.T, found.load().tracks[1])


def test_a_cache_that_cannot_be_written_is_one_sentence(path, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.ERROR):
        found = data.read_module(path, RATE)
    with pytest.raises(DataError, match=r"^Cannot keep .*XDG_CACHE_HOME\.$"):
        found.load()


# modules of Debian packages


@pytest.mark.parametrize("package", MUSIC)
def test_real_modules_sum_to_their_mixes(package, tmp_path, kept):
    files = sorted(path for path in Path(MUSIC[package]).iterdir() if path.suffix in (".it", ".s3m"))[1::6]
    for file in files:
        (tmp_path / file.name).symlink_to(file)
    found = data.read_songs(tmp_path, RATE)
    assert len(found.songs) == len(files) and not found.skipped
    for song in found.songs:
        whole = song.load()
        assert off(whole) <= EXACT and np.abs(whole.mix).max() > 0.05, song.name
        cut = song.excerpt(RATE, 100)
        assert np.array_equal(cut.mix, whole.mix[:, RATE : RATE + 100])
        assert all(np.abs(track).max() > 1e-6 for track in whole.tracks)


def test_pingus_has_modules_that_draw_random_numbers(kept):
    found = data.read_module(Path(MUSIC["pingus"]) / "pingus-3.it", RATE)
    assert found.random and found.kind == "channel"
    song = found.load()
    assert off(song) <= EXACT
    shutil.rmtree(kept)
    assert not np.array_equal(found.load().mix, song.mix)
