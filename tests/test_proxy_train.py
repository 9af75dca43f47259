"""Training of proxies: it learns, resumes as if never stopped, and nothing in it is silent."""

import dataclasses
import functools
import time

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.data import compose
from blackbox_fx.errors import BlackBoxError, DataError, EffectError, ParameterError
from blackbox_fx.learning import fit as fitting
from blackbox_fx.learning import train
from blackbox_fx.learning.fit import fit, flushed
from blackbox_fx.learning.loss import Loss
from blackbox_fx.learning.objectives import ClipObjective, Feed
from blackbox_fx.learning.scoring.scores import render_held_out
from blackbox_fx.losses.error import esr
from blackbox_fx.profiling import profile
from blackbox_fx.proxy.clips import Batch, ClipStream
from blackbox_fx.proxy.nets import make_net
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.runtime import Inline, Processes
from blackbox_fx.training import checkpoint
from blackbox_fx.training.run import Run
from tests.trouble import fails_above

RATE = 44100
RECIPE = ProxyRecipe(
    "pedalboard:Gain",
    within={"gain_db": (-12, 12)},
    net={"kind": "structured", "filters": 0, "curve": False},
    seconds=0.1,
    batch=4,
    minutes=1000,
    steps=60,
    learning_rate=5e-3,
)


@pytest.fixture(scope="module")
def songs():
    return [compose(seed, 2.0) for seed in range(2)]


def material(songs, recipe=RECIPE, pool=None, effect=None, seed=0):
    effect = recipe.load_effect() if effect is None else effect
    return ClipStream(effect, songs, pool or Inline(), recipe.seconds, recipe.batch, seed, paired=recipe.slopes > 0)


def objective(songs, recipe=RECIPE):
    return ClipObjective(material(songs, recipe), recipe.slopes)


def start(recipe=RECIPE):
    torch.manual_seed(recipe.seed)
    return make_net(recipe.net, 1, RATE)


@torch.no_grad()
def error(net, batch):
    return float(esr(net(batch.audio, batch.params, RATE), batch.wet).mean())


def weights(net):
    return torch.cat([p.detach().ravel() for p in net.parameters()])


@pytest.mark.parametrize("slopes", [0.0, 0.3])
def test_a_net_learns_its_effect(slopes, songs, tmp_path):
    recipe = dataclasses.replace(RECIPE, slopes=slopes)
    held_out, net = material(songs, seed=9).batch(0), start()
    before = error(net, held_out)
    log = fit(net, objective(songs, recipe), held_out, recipe, tmp_path)
    after = error(net, held_out)
    assert after < 0.2 * before
    assert 40 < log.steps <= 60 and 0 <= log.waited < log.seconds and log.skipped == log.unstable == 0
    assert after == pytest.approx(min(log.evaluations, key=lambda k: k.esr + 0.5 * k.stft).esr, rel=1e-3)
    evaluations, losses = ((tmp_path / f"{name}.csv").read_text().splitlines() for name in ("evaluations", "losses"))
    assert evaluations[0] == "step,seconds,esr,stft" and len(evaluations) == 1 + len(log.evaluations) >= 15
    assert len(losses) == 1 + log.steps


def test_an_interrupted_training_goes_on_as_if_it_had_never_stopped(songs, tmp_path):
    recipe, held_out = dataclasses.replace(RECIPE, steps=8), material(songs, seed=9).batch(0)
    whole, parts = start(), start()
    fit(whole, objective(songs), held_out, recipe, tmp_path / "whole")

    def interrupt(done, total, words):
        if "step 3" in words:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(parts, objective(songs), held_out, recipe, tmp_path / "parts", interrupt)
    again = make_net(recipe.net, 1, RATE)
    log = fit(again, objective(songs), held_out, recipe, tmp_path / "parts")
    assert log.steps == 8 and torch.equal(weights(again), weights(whole))
    with pytest.raises(DataError, match="another recipe"):
        fit(start(), objective(songs), held_out, dataclasses.replace(recipe, seed=9), tmp_path / "parts")
    longer = dataclasses.replace(recipe, steps=11)
    assert fit(start(), objective(songs), held_out, longer, tmp_path / "parts").steps == 11


def test_a_step_that_hangs_ends_the_training_with_what_it_has(songs, tmp_path):
    held_out, net = material(songs, seed=9).batch(0), start()
    fit(start(), objective(songs), held_out, dataclasses.replace(RECIPE, steps=1), tmp_path / "first")  # compiles
    slow = net.register_forward_pre_hook(
        lambda *_: time.sleep(600) if net.training and torch.is_grad_enabled() else None
    )
    with pytest.raises(BlackBoxError, match="took more than"):
        fit(net, objective(songs), held_out, RECIPE, tmp_path, stalled=0.4)
    slow.remove()
    assert (tmp_path / "checkpoint.json").exists()


def test_an_interrupt_that_is_lost_comes_again(songs, tmp_path):
    held_out, net, lost = material(songs, seed=9).batch(0), start(), []
    fit(start(), objective(songs), held_out, dataclasses.replace(RECIPE, steps=1), tmp_path / "first")  # compiles

    def hang(*_):
        if net.training and torch.is_grad_enabled():
            try:
                time.sleep(600)
            except KeyboardInterrupt:  # as Python does in a finalizer
                lost.append(True)
                time.sleep(600)

    slow = net.register_forward_pre_hook(hang)
    with pytest.raises(BlackBoxError, match="took more than"):
        fit(net, objective(songs), held_out, RECIPE, tmp_path, stalled=0.4)
    slow.remove()
    assert lost


def test_a_training_ends_when_it_no_longer_improves(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_PATIENCE", 3)
    recipe = dataclasses.replace(RECIPE, learning_rate=1e-30, steps=60)
    log = fit(start(), objective(songs), material(songs, seed=9).batch(0), recipe, tmp_path)
    assert log.steps < 60


def test_steps_without_a_finite_gradient_are_left_out_and_counted(songs, tmp_path):
    net, calls = start(), iter(range(10**6))
    held_out, before = material(songs, seed=9).batch(0), weights(net)

    def poison(grad):
        return grad * float("nan") if next(calls) < 5 else grad

    next(net.parameters()).register_hook(poison)
    log = fit(net, objective(songs), held_out, dataclasses.replace(RECIPE, steps=6), tmp_path)
    assert log.unstable == 5 and bool(torch.isfinite(weights(net)).all()) and not torch.equal(weights(net), before)


def test_time_ends_a_training(songs, tmp_path):
    recipe = dataclasses.replace(RECIPE, minutes=0.02, steps=0)
    log = fit(start(), objective(songs), material(songs, seed=9).batch(0), recipe, tmp_path)
    assert log.seconds < 30 and log.steps > 0


def test_subnormal_numbers_are_zero_meanwhile_and_only_then():
    tiny = torch.tensor(1e-40)
    with flushed():
        assert float(tiny * 1) == 0
    assert float(tiny * 1) != 0


def test_batches_are_fixed_by_their_number_and_reach_the_ends(songs):
    one, two = material(songs).batch(3), material(songs).batch(3)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.audio, material(songs).batch(4).audio)
    rows = material(songs).settings(400, np.random.default_rng(0))
    assert 0.02 < np.mean(rows == 0) < 0.1 and 0.02 < np.mean(rows == 1) < 0.1
    effect = RECIPE.load_effect()
    expected = effect.render(one.audio[1].numpy(), effect.space.decode(one.params[1].double().numpy()), RATE)
    np.testing.assert_allclose(one.wet[1], expected, atol=1e-6)


def test_pairs_are_one_clip_at_settings_nearby(songs):
    batch = material(songs, dataclasses.replace(RECIPE, slopes=1.0)).batch(0)
    assert torch.equal(batch.audio[:2], batch.audio[2:])
    np.testing.assert_allclose((batch.params[2:] - batch.params[:2]).abs().numpy(), 0.08, atol=1e-6)


def test_slopes_are_right_where_the_change_of_the_spectrum_is():
    torch.manual_seed(0)
    audio = torch.randn(4, 1, 6000)
    wet = torch.cat([audio[:2], 2 * audio[:2]])
    batch, draw = Batch(audio, torch.rand(4, 1), wet), functools.partial(np.random.default_rng, 0)
    plain, sloped = Loss(0.0), Loss(1.0)
    assert float(sloped(wet, batch, draw()) - plain(wet, batch, draw())) == pytest.approx(0, abs=1e-6)
    still = torch.cat([audio[:2], audio[:2]])
    assert float(sloped(still, batch, draw()) - plain(still, batch, draw())) == pytest.approx(1, abs=1e-3)


def slowly(audio, sample_rate, gain):
    time.sleep(0.1)
    return gain * audio


def test_a_training_by_time_does_not_wait_for_a_slow_effect(songs, tmp_path):
    effect = bfx.function(slowly, bfx.Space({"gain": bfx.Continuous(0, 1, 0.5)}))
    for budget, repeats in (({"steps": 6}, False), ({"steps": 0, "minutes": 0.1}, True)):
        recipe = dataclasses.replace(RECIPE, **budget)
        stream = material(songs, recipe, effect=effect)
        log = fit(start(), ClipObjective(stream), stream.batch(0), recipe, tmp_path / str(repeats))
        assert (log.repeated > 0) == repeats
    assert log.repeated > log.steps / 2


def test_renders_that_fail_are_left_out_and_counted(songs):
    space = bfx.Space({"gain": bfx.Continuous(0, 1, 0.5)}).within(gain=(0.1, 0.6))
    with Processes(1, on_failure="skip") as pool:
        some = material(songs, pool=pool, effect=bfx.function(fails_above, space))
        batches = [some.batch(k) for k in range(4)]
        assert 0 < some.skipped == 16 - sum(len(b.audio) for b in batches)
        assert all(float(b.params.max()) <= 0.8 for b in batches)
        none = material(songs, pool=pool, effect=bfx.function(fails_above, space.within(gain=(0.55, 0.6))))
        with Feed(ClipObjective(none)) as feed, pytest.raises(EffectError, match="all 4 settings"):
            feed.get()


def test_from_a_recipe_to_a_proxy_that_loads_by_its_folder(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "profile", functools.partial(profile, budget=0.2))
    monkeypatch.setattr(train, "render_held_out", functools.partial(render_held_out, seconds=0.5, items=6))
    recipe = dataclasses.replace(RECIPE, net={}, steps=50, seconds=0.2)
    words = []
    trained = bfx.train_proxy(recipe, tmp_path, songs, progress=lambda done, total, said: words.append(said))
    linear = {"kind": "structured", "filters": 1, "gain": False, "curve": False}  # as was measured
    assert trained.card.net == linear
    assert ProxyRecipe.read(tmp_path / "recipe.toml").net == trained.card.net
    proxy = bfx.load_proxy(tmp_path)
    audio, params = torch.randn(1, 2, 3000), torch.rand(1, 1)
    assert torch.equal(proxy(audio, params, RATE), trained.proxy(audio, params, RATE))
    assert trained.card.scores.sound.esr < trained.card.baselines["dry"].esr
    assert trained.card.training.steps == trained.log.steps == 50 and any("scoring" in said for said in words)
    with pytest.raises(ParameterError, match="no free parameters"):
        bfx.train_proxy(dataclasses.replace(recipe, within={}, fix={"gain_db": 0}), tmp_path / "x", songs)


def test_a_folder_is_looked_at_before_anything_is_measured(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_train", lambda *_: pytest.fail("it began"))
    held_out, recipe = material(songs, seed=9).batch(0), dataclasses.replace(RECIPE, steps=1)
    fit(start(), objective(songs), held_out, recipe, tmp_path / "begun")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "card.json").touch()
    (tmp_path / "file").touch()
    with Run(tmp_path / "busy"):
        for name, words in {
            "begun": r"another recipe \(its seed differ\)",
            "whole": "holds a trained proxy",
            "file": "Cannot write",
            "busy": "Another process uses",
        }.items():
            with pytest.raises(DataError, match=rf"^[^\n]*{words}[^\n]*\.$"):
                bfx.train_proxy(dataclasses.replace(recipe, net={}, minutes=7, seed=1), tmp_path / name)
    with pytest.raises(ParameterError, match="44100 Hz, the recipe is for 8000 Hz"):
        bfx.train_proxy(dataclasses.replace(recipe, sample_rate=8000), tmp_path / "new", songs)
    with pytest.raises(ParameterError, match="must be a ProxyRecipe"):
        bfx.train_proxy("pedalboard:Gain", tmp_path / "new")
    with pytest.raises(ParameterError, match="an address goes into the recipe"):
        bfx.train_proxy(recipe, tmp_path / "new", effect="pedalboard:Gain")
    assert not (tmp_path / "new").exists()


def test_the_same_training_goes_on_and_effects_without_an_address_train(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_train", lambda *given: given)
    recipe = dataclasses.replace(RECIPE, steps=1)
    fit(start(), objective(songs), material(songs, seed=9).batch(0), recipe, tmp_path)
    assert bfx.train_proxy(dataclasses.replace(recipe, net={}), str(tmp_path))[2] == tmp_path
    own = bfx.function(fails_above, bfx.Space({"gain": bfx.Continuous(0, 1, 0.5)}))
    recipe = ProxyRecipe("mine", within={"gain": (0.1, 0.6)})
    effect = bfx.train_proxy(recipe, tmp_path / "own", effect=own)[1]
    assert effect.name == own.name and effect.space.parameters["gain"].high == 0.6


def test_a_full_disk_is_said_and_leaves_no_parts(tmp_path, monkeypatch):
    def full(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    monkeypatch.setattr(train, "_train", lambda *_: checkpoint.write_text(tmp_path / "a", "b"))
    with pytest.raises(DataError, match=r"^[^\n]*No space left[^\n]*go on\.$"):
        bfx.train_proxy(RECIPE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_what_the_folder_does_is_said_of_the_folder(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(train, "_train", lambda *_: denied(tmp_path / "card.json"))
    with pytest.raises(DataError, match="Permission denied"):
        bfx.train_proxy(RECIPE, tmp_path)
    monkeypatch.setattr(train, "_train", lambda *_: denied("/elsewhere/plugin.so"))
    with pytest.raises(PermissionError, match="elsewhere"):
        bfx.train_proxy(RECIPE, tmp_path)
