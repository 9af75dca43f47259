"""Mixing networks that learn from the mixes that songs come with."""

import dataclasses
import os
import signal

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import blackbox_fx as bfx
from blackbox_fx import data
from blackbox_fx.cli.__main__ import app
from blackbox_fx.data.composer import compose
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.layers.console import join
from blackbox_fx.tasks.mixing import evaluation
from blackbox_fx.tasks.mixing.measures import DISTANCES, MixLoss
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.tasks.mixing.page import relative
from blackbox_fx.tasks.mixing.study import MixStudy
from blackbox_fx.tasks.mixing.teacher import InventedEngineer, RealMixes
from blackbox_fx.tasks.mixing.training import Excerpts, MixRecipe, fit, open_run
from tests.cases import RATE

RECIPE = MixRecipe(steps=4, batch=2, seconds=0.4, unseen=2, save_every=2)


def console():
    eq = bfx.load("pedalboard:HighShelfFilter").fix(cutoff_frequency_hz=4000, q=0.7).within(gain_db=(-12, 12))
    drums = bfx.load("pedalboard:Gain").within(gain_db=(-6, 6))
    return bfx.Console(eq, strips={"drums": drums}, gain_db=(-12, 12), pool=bfx.Inline(), sample_rate=RATE)


@pytest.fixture(scope="module")
def songs():
    """Composed songs with mixes by another console: loud drums, dark everything else, and much louder in all."""
    found = []
    for seed in range(4):
        song = compose(seed, seconds=3.0)
        engineer = console()
        tracks, index = join([torch.from_numpy(song.stack(2))])
        rows = torch.full((len(tracks), engineer.track_width), 0.5)
        rows[:, engineer.track_columns.index("strip.gain_db")] = 0.2
        loud = [0.9 if role == "drums" else 0.5 for role in song.roles]
        rows[:, engineer.track_columns.index("gain_db")] = torch.tensor(loud)
        with torch.no_grad():
            mix = 4 * engineer(tracks, index, rows, torch.zeros(1, 0), role=song.roles)[0]
        found.append(dataclasses.replace(song, mix=mix.numpy()))
    return found


def test_targets_are_the_mixes_and_there_are_always_new_excerpts(songs):
    excerpts = Excerpts(songs, RealMixes(console()), 1 << 30, RECIPE)
    assert len(excerpts) == 1 << 30
    far = excerpts[(1 << 30) - 1]
    clip = data.Clips(songs, RECIPE.seconds, channels=2, seed=0).clip((1 << 30) - 1)
    assert np.array_equal(far.target, clip.mix) and np.array_equal(far.tracks, clip.tracks) and far.roles == clip.roles
    assert excerpts[5].name != excerpts[6].name or not torch.equal(excerpts[5].target, excerpts[6].target)
    song = next(song for song in songs if song.name == clip.song)
    assert np.array_equal(clip.mix, song.mix[:, clip.start : clip.start + clip.mix.shape[1]])


def test_levels_are_matched(songs):
    distance = MixLoss(RATE)
    x = torch.from_numpy(songs[0].mix)[None, :, :RATE]
    assert float(distance(0.1 * x, x)) < 0.02 < float(distance.stft(0.1 * x, x))
    assert torch.isfinite(distance(torch.zeros_like(x), x)) and torch.isfinite(distance(x, torch.zeros_like(x)))


def test_a_network_comes_nearer_to_real_mixes_of_songs_it_never_heard(songs, tmp_path):
    recipe = dataclasses.replace(RECIPE, steps=60, batch=3, unseen=4, warm_up=5, learning_rate=4e-3)
    study = MixStudy(songs[:3], songs[3:], recipe, RealMixes(console()))
    study.prepare(lambda *_: None)
    with open_run(tmp_path, recipe) as run:
        study.train(run, lambda *_: None)
    assert study.scores["trained network"] < 0.8 * min(study.scores["plain sum"], study.scores["untrained network"])
    assert "best-scaled sum" not in study.scores


def test_a_mix_that_is_the_sum_of_its_tracks_is_no_mistake(songs, tmp_path):
    write_songs([dataclasses.replace(song, mix=song.stack(2).sum(0)) for song in songs], tmp_path / "songs", True)
    (tmp_path / "recipe.toml").write_text("seconds = 0.3\nbatch = 1\nunseen = 1\n")
    arguments = ["train", "mix", "--songs", tmp_path / "songs", "--out", tmp_path / "run", "--steps", 1]
    done = CliRunner().invoke(app, [str(each) for each in (*arguments, "--recipe", tmp_path / "recipe.toml")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "index.html").exists()
    assert (relative(0.5, 0.25), relative(0.5, 0.0)) == ("2.00", "-")


def test_excerpts_longer_than_all_songs_are_refused(songs, tmp_path):
    write_songs(songs, tmp_path / "songs", True)
    (tmp_path / "recipe.toml").write_text("seconds = 100.0\n")
    arguments = ["train", "mix", "--songs", tmp_path / "songs", "--out", tmp_path / "run"]
    done = CliRunner().invoke(app, [str(each) for each in (*arguments, "--recipe", tmp_path / "recipe.toml")])
    assert isinstance(done.exception, ParameterError) and "the longest song has 3.0" in str(done.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("styles", [1, 2])
def test_interrupted_and_resumed_it_gives_the_same_numbers(songs, styles, tmp_path):
    recipe = dataclasses.replace(RECIPE, styles=styles)

    def start():
        teacher = RealMixes(console())
        torch.manual_seed(0)
        network = MixNet(teacher.console.track_width, teacher.console.bus_width, size=8, styles=styles)
        return network, teacher.console, Excerpts(songs[:3], teacher, 1 << 30, recipe)

    def interrupt(done, total, words):
        if done == 3:
            raise KeyboardInterrupt

    with open_run(tmp_path / "whole", recipe) as run:
        whole = fit(*start(), recipe, run)
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "cut", recipe) as run:
        fit(*start(), recipe, run, interrupt)
    with open_run(tmp_path / "cut", recipe) as run:
        assert fit(*start(), recipe, run) == whole


def test_workers_that_die_change_no_number(songs, tmp_path):
    recipe = dataclasses.replace(RECIPE, steps=5)

    def learn(folder, pool, progress):
        eq = bfx.load("pedalboard:HighShelfFilter").fix(cutoff_frequency_hz=4000, q=0.7).within(gain_db=(-12, 12))
        desk = bfx.Console({"eq": eq}, pool=pool, sample_rate=RATE)
        torch.manual_seed(0)
        network = MixNet(desk.track_width, desk.bus_width, size=8)
        with open_run(folder, recipe) as run:
            return fit(network, desk, Excerpts(songs[:3], RealMixes(desk), 1 << 30, recipe), recipe, run, progress)

    whole = learn(tmp_path / "whole", bfx.Inline(), lambda *_: None)
    with bfx.Processes(2) as pool:
        killed = set()

        def kill(done, total, words):
            killed.add(pool.worker_pids[done % 2])
            os.kill(pool.worker_pids[done % 2], signal.SIGKILL)

        assert learn(tmp_path / "killed", pool, kill) == whole
        assert len(killed) == 5


def test_an_invented_engineer_sets_any_console_by_what_it_hears(songs):
    teacher = InventedEngineer(console())
    excerpt = Excerpts(songs, teacher, 2, RECIPE)[0]
    tracks, index = join([excerpt.tracks])
    rows, buses = teacher.decide(tracks, index, 1)
    assert ((rows >= 0.15) & (rows <= 0.85)).all() and float(rows.std(0).max()) > 0.05
    wet = teacher.console(tracks, index, rows, buses, role=excerpt.roles)[0]
    torch.testing.assert_close(wet, excerpt.target)


CONSOLE = """
[strip]
eq = {effect = "pedalboard:HighShelfFilter", free = ["gain_db"], within = {gain_db = [-9, 9]}}
[strips.drums]
comp = {effect = "pedalboard:Compressor", free = ["threshold_db"]}
[sends.room]
chain.reverb = {effect = "pedalboard:Reverb", free = ["room_size"], fix = {dry_level = 0.0}}
"""


def write_songs(songs, root, mixes):
    for song in songs:
        for name, track in zip(song.track_names, song.tracks, strict=True):
            (root / song.name).mkdir(parents=True, exist_ok=True)
            soundfile.write(root / song.name / f"{name}.wav", track.T, RATE)
        if mixes:
            soundfile.write(root / song.name / "mix.wav", song.mix.T, RATE, subtype="FLOAT")


@pytest.mark.parametrize("mixes", [True, False])
def test_train_mix_says_whose_mixes_it_learns(songs, mixes, tmp_path):
    write_songs(songs, tmp_path / "songs", mixes)
    (tmp_path / "console.toml").write_text(CONSOLE)
    (tmp_path / "recipe.toml").write_text("seconds = 0.3\nbatch = 1\nexcerpts = 2\nunseen = 1\n")
    arguments = ["train", "mix", "--songs", tmp_path / "songs", "--out", tmp_path / "run", "--steps", 2]
    arguments += ["--console", tmp_path / "console.toml", "--recipe", tmp_path / "recipe.toml"]
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    words = "Targets are the real mixes of 4 songs." if mixes else "an invented engineer mixes them"
    assert words in done.output.replace("\n", " ")
    page = (tmp_path / "run" / "index.html").read_text()
    assert ("the real mix" if mixes else "invented engineer") in page


def test_bench_mixes_compares_seeds_in_every_distance_and_goes_on(songs, tmp_path):
    write_songs(songs, tmp_path / "songs", True)
    (tmp_path / "console.toml").write_text(CONSOLE)
    (tmp_path / "recipe.toml").write_text("seconds = 0.3\nbatch = 1\nunseen = 1\nstyles = 2\n")
    arguments = ["bench", "mixes", "--songs", tmp_path / "songs", "--out", tmp_path / "out", "--steps", 1]
    arguments += ["--console", tmp_path / "console.toml", "--recipe", tmp_path / "recipe.toml", "--unseen", 2]
    for seeds in (1, 2):
        done = CliRunner().invoke(app, [str(each) for each in (*arguments, "--seeds", seeds)])
        assert done.exit_code == 0, done.output
        assert done.output.count("Loss") == 0 and "2 songs to train on, 2 unseen" in done.output
    scores = evaluation.read_scores(tmp_path / "out" / "distances.csv")
    assert {s.seed for s in scores} == {0, 1} and len({s.song for s in scores}) == 2
    ways = {"plain sum", "equal loudness", "rules of thumb", "untrained network", "nearest training track"}
    assert ways | {"random console", "trained network", "best of 3 draws"} == {s.way for s in scores}
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(name in page for name in (*ways, *DISTANCES, "distances.svg"))
    assert (tmp_path / "out" / "seed-1" / "checkpoint.json").exists()
    write_songs([dataclasses.replace(song, name=f"x{song.name}", mix=None) for song in songs], tmp_path / "dry", False)
    arguments[3] = tmp_path / "dry"
    refused = CliRunner().invoke(app, [str(each) for each in (*arguments, "--seeds", 1)])
    assert isinstance(refused.exception, DataError) and "comes with its mix" in str(refused.exception)


def run_mix(folder, run, out, *more):
    return CliRunner().invoke(app, ["mix", str(folder), "--model", str(run), "--out", str(out), *more])


def test_a_trained_network_mixes_a_folder_and_its_settings_give_the_mix_again(songs, tmp_path):
    write_songs(songs, tmp_path / "songs", True)
    (tmp_path / "console.toml").write_text(CONSOLE)
    (tmp_path / "recipe.toml").write_text("seconds = 0.3\nbatch = 1\nunseen = 1\n")
    arguments = ["train", "mix", "--songs", tmp_path / "songs", "--out", tmp_path / "run", "--steps", 2]
    arguments += ["--console", tmp_path / "console.toml", "--recipe", tmp_path / "recipe.toml"]
    assert CliRunner().invoke(app, [str(each) for each in arguments]).exit_code == 0
    (tmp_path / "console.toml").unlink()  # the run has a copy
    song, out = tmp_path / "new song", tmp_path / "out"
    song.mkdir()
    for name, track in zip(songs[0].track_names, songs[0].tracks, strict=True):
        soundfile.write(song / f"{name}.wav", track.mean(0), RATE)
    (song / "broken.wav").write_bytes(b"")
    done = run_mix(song, tmp_path / "run", out)
    assert done.exit_code == 0, done.output
    assert "broken.wav" in done.output and all(role in done.output for role in songs[0].roles)
    for name in ("mix.wav", "settings.json", "settings.csv", "presets", "index.html", "tracks.svg", "song.dawproject"):
        assert (out / name).exists(), name
    assert run_mix(song, tmp_path / "run", tmp_path / "ardour", "--session", "ardour").exit_code == 0
    in_ardour = [track.name for track in bfx.read_session(tmp_path / "ardour/song").of_kind("track") if track.role]
    assert sorted(in_ardour) == sorted(songs[0].track_names)
    desk = bfx.load_console(tmp_path / "run" / "console.toml", pool=bfx.Inline())
    again = bfx.load_settings(desk, out)
    files = sorted(path for path in song.iterdir() if path.name != "broken.wav")
    mix = bfx.mixdown(desk, files, again.track_params, again.bus_params, role=again.role, channels=2)
    kept, rate = soundfile.read(out / "mix.wav", dtype="float32")
    assert rate == RATE and mix.shape == kept.T.shape
    for taken in (song, tmp_path / "run"):
        refused = run_mix(song, tmp_path / "run", taken)
        assert isinstance(refused.exception, DataError) and "whose files it would replace" in str(refused.exception)
    (out / "settings.json").unlink()
    assert "did not write" in str(run_mix(song, tmp_path / "run", out).exception)
    assert np.array_equal(mix, kept.T)  # to the bit
    assert np.abs(mix).max() > 0.01


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no folder", "No such folder"),
        ("no audio", "holds no song"),
        ("folder of songs", "holds 2 songs and is none; give the folder of one, such as a."),
        ("no run", "name the folder of a run"),
        ("damaged run", "name the folder of a run"),
        ("no checkpoint", "holds no checkpoint"),
        ("absurd run", "name the folder of a run"),
    ],
)
def test_mistakes_of_mix_are_one_sentence(what, words, tmp_path):
    song, run = tmp_path / "song", tmp_path / "run"
    run.mkdir()
    about = '{"sample_rate": 44100, "channels": 1, "seconds": 1, "console": "demo"}'
    if what in ("no folder", "no audio", "no checkpoint"):
        (run / "mixer.json").write_text(about)
    if what == "damaged run":
        (run / "mixer.json").write_text("{}")
    if what == "absurd run":
        (run / "mixer.json").write_text(about.replace('"seconds": 1', '"seconds": 1e9'))
    if what != "no folder":
        song.mkdir()
    for name in "ab" if what == "folder of songs" else "":
        (song / name).mkdir()
        soundfile.write(song / name / "bass.wav", np.zeros((9000, 1)), RATE)
    if what in ("no checkpoint", "no run", "damaged run", "absurd run"):
        soundfile.write(song / "bass.wav", np.zeros((9000, 1)), RATE)
    done = run_mix(song, run, tmp_path / "out")
    assert isinstance(done.exception, DataError) and words in str(done.exception)
    assert not (tmp_path / "out").exists()
