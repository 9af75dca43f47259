"""Normalised stems: spreads fall to a third, what is normal is left alone, no clicks, true peaks kept, odd stems."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from blackbox_fx import audio, data
from blackbox_fx.audio.loudness import loudness, true_peak
from blackbox_fx.cli.__main__ import app
from blackbox_fx.errors import AudioError, DataError, ParameterError

RATE = 22050
SONGS, SECONDS = 3, 4.0
THIRD = 1 / 3
CLICK = 4.0  # times that the largest second difference, relative to their RMS level, may grow
PINGUS = Path("/usr/share/games/pingus/data/music/pingus-1.it")


def clicks(x):
    found = np.diff(x.astype(np.float64), 2, axis=1)
    return np.abs(found).max() / np.sqrt((found**2).mean())


def wet_stems(songs, seed=0):
    found = [(role, track) for song in songs for role, track in zip(song.roles, song.tracks, strict=True)]
    loud = [(role, track) for role, track in found if loudness(track, RATE) > -50]
    return [(role, data.random_effects(track, RATE, seed + k).audio) for k, (role, track) in enumerate(loud)]


def averages_of(stems):
    averages = data.EffectAverages()
    for role, stem in stems:
        averages.add(role, data.measure_effects(stem, RATE))
    return averages


@pytest.fixture(scope="module")
def wet():
    return wet_stems([data.compose(seed, SECONDS, RATE) for seed in range(20, 20 + SONGS)])


@pytest.fixture(scope="module")
def averages(wet):
    return averages_of(wet)


@pytest.fixture(scope="module")
def normal(wet, averages):
    return [data.normalise_effects(stem, RATE, averages.of(role)) for role, stem in wet]


def show(found):
    for s in found:
        print(f"{s.feature:20} {s.before:6.2f} {s.after:6.2f} {s.ratio:5.2f} [{s.low:.2f}, {s.high:.2f}]")


def test_spreads_over_random_wet_stems_fall_to_a_third(wet, normal):
    found = data.spreads([r for r, _ in wet], [n.before for n in normal], [n.after for n in normal])
    show(found)
    assert len(found) == 7
    missed = {s.feature: s.ratio for s in found if s.ratio > THIRD}
    assert not missed


def test_no_clicks_are_added_and_true_peaks_are_kept(wet, normal):
    for (_, stem), found in zip(wet, normal, strict=True):
        assert found.audio.shape == stem.shape and found.audio.dtype == np.float32
        assert true_peak(found.audio) <= -1 or not found.changes
        assert clicks(found.audio) < CLICK * clicks(stem)


def test_what_is_reported_is_what_is_there(wet, averages, normal):
    for (role, _), found in zip(wet, normal, strict=True):
        assert loudness(found.audio, RATE) == pytest.approx(averages.of(role).loudness, abs=0.5)
        np.testing.assert_allclose(data.measure_effects(found.audio, RATE).vector(), found.after.vector(), atol=1e-4)


def test_what_was_normalised_is_left_alone_bit_for_bit(wet, averages, normal):
    for (role, _), found in list(zip(wet, normal, strict=True))[:5]:
        again = data.normalise_effects(found.audio, RATE, averages.of(role))
        assert len(found.changes) == 3 or (not again.changes and np.array_equal(again.audio, found.audio))
    assert any(0 < len(found.changes) < 3 for found in normal[:5])


def test_a_stem_that_is_normal_is_left_alone_bit_for_bit(wet):
    for _, stem in wet[:4]:
        found = data.normalise_effects(stem, RATE, data.measure_effects(stem, RATE))
        assert not found.changes and np.array_equal(found.audio, stem)


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        (lambda x: 0.1 * x, "loudness"),
        (lambda x: x * np.array([[1.0], [0.3]], np.float32), "pan"),
        (lambda x: np.tanh(8 * x / np.abs(x).max()).astype(np.float32), "crest"),
    ],
)
def test_one_effect_is_undone(wet, change, feature):
    stem = wet[1][1]
    normal = data.measure_effects(stem, RATE)
    found = data.normalise_effects(change(stem), RATE, normal)
    off = [np.nanmean(np.abs(np.subtract(getattr(f, feature), getattr(normal, feature)))) for f in found[1:3]]
    assert off[0] > 1 and off[1] < THIRD * off[0]


def test_a_one_sided_stem_comes_to_the_middle(wet):
    normal = data.measure_effects(wet[0][1], RATE)
    one = wet[0][1].copy()
    one[1] = 0
    found = data.normalise_effects(one, RATE, normal)
    assert np.nanmean(found.before.pan) == 30 and found.changes[0].turned == pytest.approx(45, abs=1)
    assert abs(np.nanmean(found.after.pan) - np.nanmean(normal.pan)) < 1
    assert found.after.loudness == pytest.approx(normal.loudness, abs=0.3)


def odd_stems():
    draw = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    noise = draw.uniform(-0.3, 0.3, (2, 2 * RATE)).astype(np.float32)
    sparse = np.zeros((2, 4 * RATE), np.float32)
    sparse[:, 2 * RATE : 2 * RATE + 300] = noise[:, :300]
    return {
        "silence": np.zeros((2, RATE), np.float32),
        "one sample": np.full((2, 1), 0.5, np.float32),
        "ten samples": noise[:, :10],
        "short": noise[:, : RATE // 3],
        "mono": noise[:1],
        "constant": np.full((2, RATE), 0.3, np.float32),
        "offset": noise + np.float32(0.2),
        "clipped": np.clip(10 * noise, -1, 1),
        "loud": 100 * noise,
        "sparse": sparse,
        "sine": np.stack([np.sin(2000 * time)] * 2).astype(np.float32),
        "opposite": np.stack([noise[0], -noise[0]]),
        "float64": noise.astype(np.float64),
    }


@pytest.mark.parametrize("kind", odd_stems())
def test_odd_stems_are_taken(kind, averages):
    stem = odd_stems()[kind]
    found = data.normalise_effects(stem, RATE, averages.of("drums"))
    assert found.audio.shape == stem.shape and np.isfinite(found.audio).all()
    assert not found.changes or true_peak(found.audio) <= -1
    if kind in ("silence", "one sample", "constant"):
        assert not found.changes and np.array_equal(found.audio, stem)
    if kind == "offset":
        assert np.abs(found.audio.mean()) < 0.01 * found.audio.std()


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_features_hardly_depend_on_the_sample_rate(rate, wet):
    stem = wet[0][1]
    found = data.measure_effects(audio.resample(stem, RATE, rate), rate)
    known = data.measure_effects(stem, RATE)
    assert found.loudness == pytest.approx(known.loudness, abs=0.5)
    assert found.spectrum[2:6] == pytest.approx(known.spectrum[2:6], abs=1)
    assert found.decay == pytest.approx(known.decay, rel=0.3)


def test_what_cannot_be_used_is_one_sentence(averages):
    bad = np.full((2, 100), np.nan, np.float32)
    with pytest.raises(AudioError, match="NaN"):
        data.normalise_effects(bad, RATE, averages.of("drums"))
    with pytest.raises(AudioError, match="3 channels"):
        data.measure_effects(np.zeros((3, 100), np.float32), RATE)
    with pytest.raises(DataError, match="no role"):
        averages.add("nothing", averages.of("drums"))
    with pytest.raises(DataError, match="no stem"):
        data.EffectAverages().of("drums")
    with pytest.raises(ParameterError, match="seed"):
        data.random_effects(np.zeros((2, 100), np.float32), RATE, -1)
    lacking = dataclasses.replace(averages.of("drums"), loudness=float("nan"))
    with pytest.raises(DataError, match="loudness"):
        data.normalise_effects(np.ones((2, 9), np.float32), RATE, lacking)


def test_averages_are_means_and_are_read_back(wet, averages, tmp_path):
    averages.save(tmp_path / "averages.json")
    read = data.EffectAverages.load(tmp_path / "averages.json")
    assert read.roles == averages.roles and read.count("bass") == averages.count("bass")
    for role in read.roles:
        assert np.array_equal(read.of(role).vector(), averages.of(role).vector(), equal_nan=True)
    own = [data.measure_effects(stem, RATE).loudness for role, stem in wet if role == "synth"]
    assert read.of("synth").loudness == pytest.approx(np.mean(own))
    assert read.spread("synth").loudness == pytest.approx(np.std(own))
    assert read.count("synth") == len(own)
    assert "other" not in read.roles and min(own) - 30 < read.of("other").loudness < 0  # all stand for it


@pytest.mark.parametrize(
    "spoil",
    [
        lambda said: [],
        lambda said: {**said, "format": 2},
        lambda said: {**said, "more": 1},
        lambda said: {**said, "roles": {"x": said["roles"]["synth"]}},
        lambda said: {**said, "roles": {"synth": {**said["roles"]["synth"], "means": [1.0]}}},
        lambda said: {**said, "roles": {"synth": {**said["roles"]["synth"], "counts": [1.5] * 34}}},
        lambda said: {**said, "roles": {"synth": {**said["roles"]["synth"], "means": [None] * 34}}},
    ],
)
def test_averages_that_are_damaged_are_refused(spoil, averages, tmp_path):
    path = tmp_path / "averages.json"
    averages.save(path)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    with pytest.raises(DataError, match="save"):
        data.EffectAverages.load(path)


def test_random_effects_depend_on_their_seed_alone():
    stem = data.compose(1, 2.0, RATE).tracks[0]
    first, again, other = (data.random_effects(stem, RATE, seed) for seed in (3, 3, 4))
    assert np.array_equal(first.audio, again.audio) and first.settings == again.settings
    assert first.settings != other.settings and np.abs(other.audio).max() <= 1


@pytest.fixture
def folder(tmp_path):
    for seed in (1, 20):
        song = data.compose(seed, 2.0, RATE)
        (tmp_path / "songs" / song.name).mkdir(parents=True)
        for name, track in zip(song.track_names, song.tracks, strict=True):
            audio.write(tmp_path / "songs" / song.name / f"{name}.wav", track, RATE)
        audio.write(tmp_path / "songs" / song.name / "mix.wav", song.stack().sum(axis=0), RATE)
    audio.write(tmp_path / "songs" / song.name / "quiet guitar.wav", np.zeros((1, RATE), np.float32), RATE)
    return tmp_path


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_writes_songs_and_goes_on(folder):
    songs, out = folder / "songs", folder / "out"
    shown = call("normalise", songs, "--out", out)
    assert shown.exit_code == 0, shown.output
    assert "2 songs written" in shown.output and "is silent" in shown.output and "crest factor" in shown.output
    read = data.read_songs(out)
    before = data.read_songs(songs)
    assert [s.name for s in read.songs] == [s.name for s in before.songs] and all(s.has_mix for s in read.songs)
    assert [sorted(s.roles) for s in read.songs] == [sorted(s.roles) for s in before.songs]
    assert np.array_equal(read.songs[0].load().mix, before.songs[0].load().mix)
    assert not list(out.rglob(".*"))
    (out / read.songs[0].name / "normalised.json").unlink()
    again = call("normalise", songs, "--out", out)
    assert "1 songs written, 1 there before" in again.output
    (out / read.songs[0].name / "normalised.json").write_text("{")
    assert isinstance(call("normalise", songs, "--out", out).exception, DataError)


def test_mistakes_of_the_command_are_errors(folder):
    songs = folder / "songs"
    for words in ((songs, "--out", songs / "x"), (songs, "--out", songs), (folder / "none", "--out", folder / "o")):
        assert isinstance(call("normalise", *words).exception, DataError)
    (folder / "full").mkdir()
    (folder / "full" / "file").write_text("mine")
    assert "did not write" in str(call("normalise", songs, "--out", folder / "full").exception)


def test_stems_of_pingus_get_closer():
    song = data.read_module(PINGUS, RATE).excerpt(5 * RATE, 6 * RATE)
    stems = [("other", stem) for _, stem in wet_stems([song], seed=50)]
    averages = averages_of(stems)
    normal = [data.normalise_effects(stem, RATE, averages.of(role)) for role, stem in stems]
    found = data.spreads([role for role, _ in stems], [n.before for n in normal], [n.after for n in normal])
    show(found)
    ratios = {s.feature.split(",")[0]: s.ratio for s in found}
    # width and crest factor are decided by one stem that is cut on, and by one of a constant level
    assert max(ratios[name] for name in ("loudness", "spectrum", "place", "range", "decay")) < THIRD
