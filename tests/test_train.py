import contextlib
import dataclasses
import json

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.data.composer import compose
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.tasks.mixing.engineer import HiddenEngineer, demo_console
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.tasks.mixing.page import write_mix_page
from blackbox_fx.tasks.mixing.study import MixStudy
from blackbox_fx.tasks.mixing.training import MixRecipe, draw_excerpts, fit, is_finished, open_run
from blackbox_fx.training import checkpoint
from blackbox_fx.training.board import Board
from tests.cases import RATE

RECIPE = MixRecipe(steps=6, batch=2, seconds=0.4, excerpts=4, unseen=2, save_every=2)


@pytest.fixture(scope="module")
def songs():
    return [compose(seed, seconds=3.0) for seed in range(4)]


def trained(network, console, train, recipe, folder, *progress):
    with open_run(folder, recipe) as run:
        return fit(network, console, train, recipe, run, *progress)


def start(songs, seed=0):
    console = demo_console(bfx.Inline(), RATE, seed)
    torch.manual_seed(seed)
    network = MixNet(console.track_width, console.bus_width, size=8)
    return network, console, draw_excerpts(songs[:3], HiddenEngineer(console), RECIPE.excerpts, RECIPE)


def test_a_board_has_every_loss_once_though_the_run_was_interrupted(songs, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def interrupt(done, total, words):
        if done == 5:
            raise Stop

    for progress in (interrupt, lambda *_: None):
        network, console, train = start(songs)
        board = Board(tmp_path)
        with contextlib.suppress(Stop), open_run(tmp_path, RECIPE) as run:
            losses = fit(network, console, train, RECIPE, run, progress, board=board)
        board.close()
    found = events.EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [each.step for each in found] == [1, 2, 3, 4, 5, 6]
    assert np.allclose([each.value for each in found], losses)


class Stop(Exception):
    pass


def test_resuming_gives_the_same_losses_as_never_stopping(songs, tmp_path):
    whole = trained(*start(songs), RECIPE, tmp_path / "whole")
    assert len(whole) == 6 and all(np.isfinite(whole))

    def interrupt(done, total, words):
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        trained(*start(songs), RECIPE, tmp_path / "cut", interrupt)
    assert json.loads((tmp_path / "cut/checkpoint.json").read_text())["step"] == 4
    network, console, train = start(songs)
    assert trained(network, console, train, RECIPE, tmp_path / "cut") == whole
    other, *_ = start(songs)
    optimizer = torch.optim.Adam(other.parameters())
    model = torch.nn.ModuleDict({"network": other, "console": demo_console(bfx.Inline(), RATE, 0)})
    assert checkpoint.load(tmp_path / "whole", model, optimizer)["losses"] == whole
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), network.parameters(), strict=True))
    curve = (tmp_path / "cut/curve.csv").read_text().splitlines()
    assert curve[0] == "step,loss" and [float(line.split(",")[1]) for line in curve[1:]] == whole
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == [
        "checkpoint-6.safetensors",
        "checkpoint.json",
        "curve.csv",
        "effects.json",
        "recipe.toml",
    ]
    assert MixRecipe.read(tmp_path / "cut/recipe.toml") == RECIPE
    assert trained(*start(songs), RECIPE, tmp_path / "cut") == whole  # nothing left to do


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(songs, tmp_path):
    trained(*start(songs), RECIPE, tmp_path)
    with pytest.raises(DataError, match=r"other settings \(steps is 6 there, and 7 here\)"):
        trained(*start(songs), dataclasses.replace(RECIPE, steps=7), tmp_path)
    network, console, train = start(songs)
    with pytest.raises(DataError, match="other songs"):
        trained(network, console, train[::-1], RECIPE, tmp_path)
    tensors = tmp_path / "checkpoint-6.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(DataError, match="Cannot resume"):
        trained(*start(songs), RECIPE, tmp_path)
    for text in ("{", '{"version": 1}', '{"version": 2}'):
        (tmp_path / "checkpoint.json").write_text(text)
        with pytest.raises(DataError) as caught:
            trained(*start(songs), RECIPE, tmp_path)
        assert "\n" not in str(caught.value)


def test_a_study_scores_and_writes_its_page(songs, tmp_path):
    study = MixStudy(songs[:3], songs[3:], RECIPE, HiddenEngineer(demo_console(bfx.Inline(), RATE, 0)))
    seen = []
    study.prepare(lambda done, total, words: seen.append((done, total)))
    with open_run(tmp_path, RECIPE) as run:
        study.train(run, lambda done, total, words: None)
    assert seen[-1] == (6, 6)
    assert list(study.scores) == [
        "plain sum",
        "best-scaled sum",
        "random console",
        "untrained network",
        "trained network",
    ]
    assert study.scores["best-scaled sum"] <= study.scores["plain sum"]
    assert study.scores["trained network"] != study.scores["untrained network"]
    with open_run(tmp_path, RECIPE) as run:
        assert not is_finished(run)
    page = write_mix_page(tmp_path, study, [], "end")
    with open_run(tmp_path, RECIPE) as run:
        assert is_finished(run)
    text = page.read_text()
    for name in ("raw-sum.flac", "networks-mix.flac", "target.flac", "sounds.png", "tracks.svg", "bus.svg", "loss.svg"):
        assert name in text and (tmp_path / name).stat().st_size > 1000
    assert f"{study.scores['trained network']:.3f}" in text and not list(tmp_path.glob(".*"))


def test_the_hidden_engineer_scores_zero(songs):
    """The task has an answer: the hidden settings themselves give the targets."""
    study = MixStudy(songs[:3], songs[3:], RECIPE, HiddenEngineer(demo_console(bfx.Inline(), RATE, 0)))
    study.prepare(lambda *_: None)
    console, engineer = study.teacher.console, study.teacher
    mixes = []
    for e in study.unseen:
        song = torch.zeros(len(e.tracks), dtype=torch.long)
        mixes.append(console(e.tracks, song, *engineer.decide(e.tracks, song, 1))[0])
    assert study.score(mixes) < 1e-6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: MixRecipe(steps=0), "steps"),
        (lambda p: MixRecipe(batch=1.5), "whole number"),
        (lambda p: MixRecipe(seconds=-1), "positive number"),
        (lambda p: MixRecipe(seed=-1), "seed"),
        (lambda p: MixRecipe(learning_rate=float("nan")), "learning_rate"),
        (lambda p: MixRecipe.make({"step": 3}), "'step'; known are steps"),
        (lambda p: MixRecipe.read(p / "none.toml"), "Cannot read"),
    ],
)
def test_recipe_mistakes(make, words, tmp_path):
    with pytest.raises(ParameterError, match=words):
        make(tmp_path)
