"""What audio rules remember from one call to the next, and what the trial of all rules may cost."""

import copy
import pickle

import numpy as np
import pytest
import torch

from blackbox_fx.effects import Rack, function, load
from blackbox_fx.estimators import Call, Dynamics, ModulatedDelay, MovingFilter, Verified
from blackbox_fx.estimators.audio_rules import base, certificate, choosing, trial, verified
from blackbox_fx.estimators.audio_rules.ballistics import EXACT, Clip
from blackbox_fx.estimators.audio_rules.curves import Hinge
from blackbox_fx.estimators.audio_rules.levels import Times
from blackbox_fx.estimators.audio_rules.memory import Memory, Outcome
from blackbox_fx.estimators.audio_rules.modulated_delay import _filters, _Line, _products, _shift
from blackbox_fx.runtime import Inline
from blackbox_fx.space import Continuous, Space
from blackbox_fx.testing import RecordingPool
from tests.cases import RATE, music
from tests.test_audio_rules import cosine

RNG = np.random.default_rng(0)


def call_at(effect, points, pool=None, seconds=0.5, seed=0):
    """A forward pass with a clip of its own for each setting, and a cotangent."""
    audio = np.stack([music(seconds, 1, seed=seed + k) for k in range(len(points))])
    wet = np.stack([effect.render(x, effect.space.decode(p), RATE) for x, p in zip(audio, points, strict=True)])
    params = torch.from_numpy(points).float()
    call = Call(effect, pool or Inline(), RATE, torch.from_numpy(audio), params, torch.from_numpy(wet))
    noise = np.random.default_rng(seed).standard_normal(audio.shape)
    return call, torch.from_numpy(noise).float()


def distance(a, b):
    return float(torch.linalg.norm(a - b) / torch.linalg.norm(b))


def outcomes(points, kind="hinge"):
    """A number that is constant, one that is linear, one that is curved, and one that nobody knows."""
    for p in points:
        vector = np.array([4.0, 1 - 3 * p[0], np.exp(p[1]), RNG.standard_normal()])
        yield Outcome(p, kind, vector, np.array([1.0, 1.0, 1.0, 0.0]))


def test_a_memory_expects_what_the_settings_make_likely():
    memory, points = Memory(), RNG.random((40, 2))
    assert memory.expected(points[0]) is None
    for outcome in outcomes(points):
        memory.add(outcome)
    wrong = RNG.random(2)
    memory.add(Outcome(wrong, "hinge", np.array([9.0, 9.0, 9.0, 9.0]), np.ones(4)))
    for p in RNG.random((5, 2)):
        if np.abs(p - wrong).max() > 0.1:
            found = memory.expected(p)
            assert found.kind == "hinge" and found.free.tolist() == [False, True, True, True]
            assert np.allclose(found.vector[:3], [4.0, 1 - 3 * p[0], np.exp(p[1])], atol=0.05)
    assert np.allclose(memory.expected(points[3]).vector[1], 1 - 3 * points[3][0], atol=1e-6)


def test_a_memory_belongs_to_one_effect_and_is_not_copied():
    memory = Memory()
    assert memory.claim("effect", 44100)
    for outcome in outcomes(RNG.random((3, 2))):
        memory.add(outcome)
    assert not memory.claim("effect", 44100) and memory.nearest(np.zeros(2)) is not None
    for other in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert other.nearest(np.zeros(2)) is None
    assert memory.claim("effect", 48000) and memory.nearest(np.zeros(2)) is None


@pytest.mark.parametrize(("name", "most"), [("Compressor", 1), ("NoiseGate", 3)])
def test_dynamics_at_new_settings_need_no_search_from_nothing(name, most, monkeypatch):
    effect, rng = load(f"pedalboard:{name}"), np.random.default_rng(1)
    rule = Dynamics()
    for k in range(6):
        rule.vjp(*call_at(effect, effect.space.sample(6, rng), seed=10 * k, seconds=1.0))
    searches, whole = [], Clip.anywhere
    monkeypatch.setattr(Clip, "anywhere", lambda self: searches.append(self) or whole(self))
    call, g = call_at(effect, effect.space.sample(8, rng), seed=90, seconds=1.0)
    warm = rule.vjp(call, g)
    assert len(searches) <= most
    cold = torch.cat([Dynamics().vjp(*call_item(call, g, k)) for k in range(8)])
    close = [distance(warm[k], cold[k]) < 0.05 for k in range(8)]
    assert sum(close) >= 7  # both are right, or the search from nothing was not


def test_the_chosen_rules_begin_with_what_the_trial_found(monkeypatch):
    monkeypatch.setattr(certificate, "load", lambda key: None)
    searches, in_trial, whole, choose = [], [], Clip.anywhere, choosing.choose
    monkeypatch.setattr(Clip, "anywhere", lambda self: searches.append(self) or whole(self))
    monkeypatch.setattr(verified, "choose", lambda *a, **k: (choose(*a, **k), in_trial.extend(searches))[0])
    effect, rule = load("pedalboard:Compressor"), Verified()
    call, g = call_at(effect, 0.3 + 0.4 * effect.space.sample(4, 5), seconds=1.0)
    rule.vjp(call, g)
    assert rule.certificate.rules[0].startswith("Dynamics")
    assert len(searches) == len(in_trial) > 0
    restored = Verified()
    restored.set_extra_state(rule.get_extra_state())
    restored.vjp(call, g)
    assert len(searches) > len(in_trial)  # what was found is no part of the state


def call_item(call, g, k):
    one = slice(k, k + 1)
    return Call(call.effect, call.pool, RATE, call.audio[one], call.params[one], call.output[one]), g[one]


def test_a_steep_gate_is_identified():
    x = music(1.5, 1).astype(np.float64)
    times = Times(1.0, 4.0, window=8.0)
    envelope, _ = times.follow(times.level(x, RATE), RATE)
    y = x * np.exp(60 * np.minimum(np.log(envelope) - np.log(0.15), 0))
    found = Clip(x, y, RATE).anywhere()
    assert isinstance(found.curve, Hinge) and found.curve.low == pytest.approx(60, rel=0.01)
    assert found.residual < EXACT * np.sqrt(np.mean(np.square(y)))


@pytest.mark.parametrize("make", [Dynamics, ModulatedDelay, MovingFilter])
def test_the_same_calls_give_the_same_gradients_and_a_copy_searches_anew(make):
    name = {Dynamics: "Compressor", ModulatedDelay: "Chorus", MovingFilter: "Phaser"}[make]
    effect, rng = load(f"pedalboard:{name}"), np.random.default_rng(2)
    calls = [call_at(effect, 0.3 + 0.4 * effect.space.sample(2, rng), seed=k, seconds=0.8) for k in range(3)]
    first, second = make(), make()
    for call, g in calls:
        assert torch.equal(warm := first.vjp(call, g), second.vjp(call, g))
    for other in (copy.deepcopy(first), first.replicate(), pickle.loads(pickle.dumps(first))):
        assert distance(other.vjp(call, g), warm) < 0.02


@pytest.mark.parametrize(("name", "rule"), [("Chorus", ModulatedDelay()), ("Phaser", MovingFilter())])
def test_a_moving_operator_needs_no_probes_where_it_was_proved(name, rule):
    effect = load(f"pedalboard:{name}")
    pool, point = RecordingPool(), effect.space.encode({})[None]
    counts = []
    for seed in range(3):
        call, g = call_at(effect, point, pool, seed=seed, seconds=1.0)
        pool.jobs.clear()
        grad = rule.vjp(call, g)
        counts.append(sum(len(job) for job in pool.jobs))
    assert counts == [rule.cost(1), rule.cost(1), 0]  # a second clip proves that it does not depend on the clip
    assert distance(grad, type(rule)().vjp(call, g)) < 0.03
    call, g = call_at(effect, point + 0.01, pool, seed=seed, seconds=1.0)
    pool.jobs.clear()
    rule.vjp(call, g)
    assert sum(len(job) for job in pool.jobs) == rule.cost(1)


def test_an_operator_that_depends_on_the_clip_is_never_recalled():
    rack = Rack({"clip": load("pedalboard:Clipping").fix(threshold_db=-25), "chorus": load("pedalboard:Chorus")})
    pool, rule, point = RecordingPool(), MovingFilter(), rack.space.encode({})[None]
    for seed in range(3):
        call, g = call_at(rack, point, pool, seed=seed, seconds=1.0)
        pool.jobs.clear()
        rule.vjp(call, g)
        assert sum(len(job) for job in pool.jobs) == rule.cost(1)


def test_products_of_shifts_are_those_of_shifted_signals():
    a, b, lags = RNG.standard_normal((2, 60)), RNG.standard_normal((2, 60)), range(-3, 6)
    room = ((0, 0), (6, 6))
    naive = [[np.vdot(_shift(a, i), _shift(b, j)) for j in lags] for i in lags]
    assert np.allclose(_products(np.pad(a, room), np.pad(b, room), lags), naive)


def test_filters_of_both_paths_are_found():
    u = RNG.choice((-1.0, 1.0), (1, 4000))
    line = _Line(60 + 20 * np.sin(np.arange(4000) / 300), 0.4)
    ju = 0.5 * u + 0.7 * _shift(line.push(u), 2)
    left, dry, wet = _filters(line, u, ju, range(-1, 4))
    assert left < 1e-9 and np.allclose(dry, [0, 0.5, 0, 0, 0]) and np.allclose(wet, [0, 0, 0, 0.7, 0])


def _rounded(audio, sample_rate, mix):
    """A reverb that computes in steps of 2^-9."""
    impulse = np.random.default_rng(0).standard_normal(3000) * np.exp(-np.arange(3000) / 900) * 0.05
    wet = np.stack([np.convolve(x, impulse)[: len(x)] for x in audio])
    return np.round(((1 - mix) * audio + mix * wet) * 512) / 512


def test_a_linear_effect_that_rounds_is_measured_by_high_impulses():
    effect = function(_rounded, Space({"mix": Continuous(0.5, 1, 0.9)}))
    rule = Verified()
    assert cosine(effect, rule, {"mix": 0.9}, size=0.3) > 0.98
    assert rule.certificate.rules == ("TimeReversal(height=0.5)",)


@pytest.mark.parametrize("name", ["Limiter", "Chorus"])
def test_the_trial_is_bounded_and_says_how_far_it_is(name):
    effect, pool, steps = load(f"pedalboard:{name}"), RecordingPool(), []
    call, g = call_at(effect, effect.space.sample(4, 3), pool, seconds=1.0)
    choosing.choose(*trial.make_trial(call, g, random=True), progress=lambda *step: steps.append(step))
    assert sum(len(job) for job in pool.jobs) <= 400
    assert len(steps) > 3 and [done for done, _, _ in steps] == list(range(1, len(steps) + 1))
    assert all(total >= len(steps) and words for _, total, words in steps)


def test_an_item_with_a_failed_render_keeps_its_mark_among_the_recalled():
    effect, rule = load("pedalboard:Chorus"), ModulatedDelay()
    points = np.stack([effect.space.encode({}), effect.space.encode({"rate_hz": 2})])
    for seed in range(2):
        rule.vjp(*call_at(effect, points[:1], seed=seed, seconds=1.0))
    pool = RecordingPool()
    call, g = call_at(effect, points, pool, seconds=1.0)
    call.failed[1] = True
    assert rule.vjp(call, g).shape == call.audio.shape and call.failed.tolist() == [False, True]
    assert pool.jobs and all(job.failed.all() for job in pool.jobs)


def test_renders_that_fail_beside_recalled_items_are_marked(monkeypatch):
    effect, rule, whole = load("pedalboard:Chorus"), ModulatedDelay(), base.visit
    points = np.stack([effect.space.encode({}), effect.space.encode({"rate_hz": 2})])
    for seed in range(2):
        rule.vjp(*call_at(effect, points[:1], seed=seed, seconds=1.0))
    call, g = call_at(effect, points, seconds=1.0)

    def failing(part, probes):
        part.failed[:] = True
        return whole(part, probes)

    monkeypatch.setattr(base, "visit", failing)
    rule.vjp(call, g)
    assert call.failed.tolist() == [False, True]
