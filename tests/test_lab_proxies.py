"""The ways to use a proxy, on a task so small that the order of the ways says nothing."""

import csv

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import blackbox_fx as bfx
from blackbox_fx.cli.__main__ import app
from blackbox_fx.lab.proxies import WAYS, Proxies
from blackbox_fx.lab.tasks import clip_tasks, network_tasks, train_here
from blackbox_fx.report.proxies import proxies_table, refresh_line, write_proxies_page
from blackbox_fx.testing import RecordingPool
from tests.cases import RATE
from tests.test_hybrid import imitation

COMP = bfx.load("pedalboard:Compressor").only("threshold_db", "ratio")


@pytest.fixture(scope="module")
def study():
    found = Proxies(imitation(COMP), renders=6)
    found.run(clip_tasks(COMP, 2, seconds=0.06))
    return found


def test_all_ways_get_the_same_renders_and_plain_and_half_the_steps_of_full(study):
    assert [a.way for a in study.attempts] == 2 * list(WAYS)
    for attempt in study.attempts:
        free = attempt.way in ("plain proxy", "half")
        assert attempt.renders == (0 if free else 6)
        assert attempt.steps == (2 if attempt.way in ("control variate", "SPSA") else 6)
        assert attempt.losses[0] == 1 and len(attempt.places) == len(attempt.losses) and attempt.places[-1] == 6
        assert len(attempt.visited) == (4 if attempt.way == "full, refreshed" else 0)
    plain, half = study.of("plain proxy"), study.of("half")
    assert all(
        np.array_equal(a.losses, b.losses) and a.delivered != b.delivered for a, b in zip(plain, half, strict=True)
    )
    assert np.array_equal([a.delivered for a in half], study.ends("half"))


def test_what_is_judged_is_the_real_effect():
    (task,) = clip_tasks(COMP, 1, seconds=0.06)
    learner, pool = task.learner(0), RecordingPool()
    real = bfx.BlackBox(COMP, pool=pool, sample_rate=RATE)
    found = Proxies(imitation(COMP)).judge(real, learner, task.unseen)
    wet = COMP.render(task.train.audio[0].numpy(), COMP.space.decode([0.5, 0.5]), RATE)
    assert len(pool.jobs) == 1
    assert found == pytest.approx(float(Proxies(imitation(COMP)).loss(torch.from_numpy(wet)[None], task.train.target)))


def test_the_study_leaves_the_proxy_as_it_was(study):
    assert all(map(torch.equal, study.proxy.state_dict().values(), imitation(COMP).state_dict().values()))


def test_what_a_network_hears_decides_its_settings():
    (task,) = network_tasks(COMP, 1, seconds=0.06)
    learner = task.learner(0)
    assert learner(task.unseen.features).shape == (16, 2) and (learner(task.unseen.features) == 0.5).all()
    features = task.train.features
    assert len(task.train.audio) == 48 and torch.isfinite(features).all() and features.std(0).min() > 0
    attempt = Proxies(imitation(COMP), renders=8).attempt("full", task, seed=0)
    assert attempt.steps == 2 and attempt.renders == 8 and np.isfinite(attempt.losses).all()


def test_page_and_files_have_what_the_study_has(study, tmp_path):
    table = proxies_table(study)
    assert [row[0] for row in table[1:]] == list(WAYS) and table[2][4:7] == ("1.000", "1 - 1", "0/2")
    assert "refreshing took" in refresh_line(study)
    page = write_proxies_page(tmp_path / "made", "title", study, "footer").read_text()
    rows = list(csv.DictReader((tmp_path / "made/attempts.csv").read_text().splitlines()))
    assert len(rows) == 12 and float(rows[2]["loss_ratio"]) == study.of("full")[0].losses[-1]
    assert all(way in page for way in WAYS) and (tmp_path / "made/loss.svg").exists()


def test_the_command_trains_a_proxy_where_none_is_named(tmp_path):
    options = ["--tasks", "1", "--renders", "3", "--seconds", "0.1", "--training", "1"]
    shown = CliRunner().invoke(app, ["bench", "proxies", "pedalboard:Compressor", *options], catch_exceptions=False)
    assert shown.exit_code == 0 and "SPSA" in shown.stdout and "refreshed" in shown.stdout
    with pytest.raises(bfx.ParameterError, match="known are clip, network"):
        CliRunner().invoke(app, ["bench", "proxies", "pedalboard:Gain", "--task", "x"], catch_exceptions=False)


def test_an_effect_without_settings_has_nothing_to_find():
    with pytest.raises(bfx.EffectError, match="nothing to find"):
        train_here(bfx.load("pedalboard:Gain").fix(gain_db=0), 1)
