"""What nets are taught: responses of linear effects say more than clips, and are the effect's own."""

import dataclasses

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.data import compose
from blackbox_fx.errors import EffectError
from blackbox_fx.learning import objectives as objective
from blackbox_fx.learning.choose import choose_objective
from blackbox_fx.learning.fit import fit
from blackbox_fx.learning.objectives import ClipObjective, ResponseObjective
from blackbox_fx.losses.error import esr
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.nets import make_net
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.runtime import Inline, Processes
from tests.trouble import fails_above

RATE = 44100
FILTER = {"kind": "structured", "filters": 1, "gain": False, "curve": False}
SHELF = ProxyRecipe(
    "pedalboard:LowShelfFilter",
    within={"gain_db": (-12, 12)},
    fix={"q": 0.7},
    net=FILTER,
    seconds=0.2,
    minutes=1000,
    steps=150,
)


@pytest.fixture(scope="module")
def songs():
    return [compose(seed, 2.0) for seed in range(2)]


def material(songs, pool=None, effect=None, seed=0):
    return ClipStream(effect or SHELF.load_effect(), songs, pool or Inline(), SHELF.seconds, SHELF.batch, seed)


@torch.no_grad()
def error(net, batch):
    return float(esr(net(batch.audio, batch.params, RATE), batch.wet).mean())


def shelf():
    torch.manual_seed(0)
    return make_net(SHELF.net, SHELF.load_effect().space.width, RATE)


def test_a_filter_learns_more_from_responses_than_from_clips(songs, tmp_path):
    held_out, scores = material(songs, seed=9).batch(0), {}
    for lesson in (ClipObjective, ResponseObjective):
        net = shelf()
        recipe = dataclasses.replace(SHELF, steps=30 if lesson is ClipObjective else 180)
        log = fit(net, lesson(material(songs)), held_out, recipe, tmp_path / lesson.__name__)
        scores[lesson] = error(net, held_out)
        assert log.skipped == log.unstable == 0
    assert scores[ResponseObjective] < min(0.1 * scores[ClipObjective], 0.01), scores


def test_responses_are_the_effect_s_own_and_fixed_by_their_number(songs):
    some = material(songs)
    one, two = ResponseObjective(some), ResponseObjective(material(songs))
    batches = [one.batch(n) for n in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(batches[19], two.batch(19), strict=True))
    assert len(batches[0].params) == 4 * SHELF.batch and not torch.equal(batches[0].params, batches[1].params)
    rows = {tuple(row.tolist()) for batch in batches for row in batch.params}
    assert 2 * 32 < len(rows) <= 3 * 32  # in rounds of 32, each at first seen eight times
    row, response = batches[19].params[0], batches[19].response[0]
    impulse = np.zeros((1, 8192), np.float32)
    impulse[0, 0] = 0.1
    true = np.fft.rfft(some.effect.render(impulse, some.effect.space.decode(row.double().numpy()), RATE)[0] / 0.1)
    bins = one.bins.numpy()
    assert bins[0] == 4 and bins[-1] == 3686
    np.testing.assert_allclose(response.numpy(), true[bins], atol=2e-3)


def test_taken_up_late_a_training_renders_only_the_last_responses_again(songs):
    whole, soon, late = (ResponseObjective(material(songs)) for _ in range(3))
    for n in range(17):
        batch = whole.batch(n)
    assert all(torch.equal(a, b) for a, b in zip(batch, soon.batch(16), strict=True))
    late.batch(10**6)
    assert late.count == 64 * 32
    late.batch(10**6 + 8)
    assert late.count == 65 * 32


def test_no_more_responses_are_kept_than_there_is_room_for(songs, monkeypatch):
    monkeypatch.setattr(objective, "_KEPT", 70)
    some = ResponseObjective(material(songs))
    assert len(some.batch(100).params) == 32 and some.count == 64


def test_no_bin_is_that_of_constants_at_any_rate():
    songs = [compose(0, 2.0, 384000)]
    some = ClipStream(SHELF.load_effect(), songs, Inline(), 0.1, 2, 0)
    bins = ResponseObjective(some).bins
    assert int(bins.min()) == 1 and bool((bins.diff() > 0).all())


def test_the_spectrum_of_a_filter_is_that_of_its_sound():
    net = shelf()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    params, impulse = torch.rand(3, net.width), torch.zeros(3, 1, 8192)
    impulse[..., 0] = 1
    bins = torch.tensor([4, 50, 400, 3000])
    true = torch.fft.rfft(net(impulse, params, RATE)[:, 0])[:, bins]
    torch.testing.assert_close(net.spectrum(params, bins), true, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("found", "changes", "learnt"),
    [
        ({}, {}, ResponseObjective),
        ({"linear": 0.1}, {}, ClipObjective),
        ({"time_invariant": 0.1}, {}, ClipObjective),
        ({"linear": float("nan")}, {}, ClipObjective),
        ({}, {"impulses": False}, ClipObjective),
        ({}, {"net": FILTER | {"filters": 2}}, ClipObjective),
        ({}, {"net": FILTER | {"curve": True}}, ClipObjective),
        ({}, {"net": FILTER | {"capacitor": True}}, ClipObjective),
        ({}, {"net": FILTER | {"tail_seconds": 0.1}}, ClipObjective),
        ({}, {"net": {"kind": "tcn", "channels": 4, "blocks": 2}}, ClipObjective),
    ],
)
def test_only_a_filter_of_a_linear_effect_learns_from_responses(found, changes, learnt, songs):
    recipe = dataclasses.replace(SHELF, **changes)
    measured = dataclasses.replace(Profile("x", linear=1e-6, time_invariant=1e-6), **found)
    net = make_net(recipe.net, 2, RATE)
    assert type(choose_objective(recipe, measured, net, material(songs))) is learnt


def test_responses_that_fail_are_left_out_and_counted(songs):
    space = bfx.Space({"gain": bfx.Continuous(0, 1, 0.5)}).within(gain=(0.1, 0.6))
    with Processes(1, on_failure="skip") as pool:
        some = ResponseObjective(material(songs, pool, bfx.function(fails_above, space)))
        batches = [some.batch(n) for n in range(9)]
        assert some.stream.skipped > 0 and all(len(b.params) == 32 for b in batches)
        assert all(float(b.params.max()) <= 0.8 for b in batches)
        none = ResponseObjective(material(songs, pool, bfx.function(fails_above, space.within(gain=(0.55, 0.6)))))
        with pytest.raises(EffectError, match="all 32 settings"):
            none.batch(0)
