"""Multiplexed SPSA: what its blocks and segments estimate, what it chooses, and when it leaves SPSA alone."""

import dataclasses

import numpy as np
import pytest
import torch

from blackbox_fx.effects import Rack, function, load
from blackbox_fx.effects.base import Effect
from blackbox_fx.estimators import SPSA, Call, FiniteDifference, MultiplexedSPSA
from blackbox_fx.estimators.blocks import automatable, block_plan, segments, windows
from blackbox_fx.estimators.call import carry_out
from blackbox_fx.estimators.moves import reaches
from blackbox_fx.estimators.slopes import at_items
from blackbox_fx.runtime import Inline
from blackbox_fx.space import Continuous, Integer, Space, Toggle
from blackbox_fx.testing import RecordingPool
from tests.calls import assert_unbiased, call, linear
from tests.cases import RATE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Gains(Effect):
    """A gain linear in all parameters, that follows automation; what it does may come late."""

    automatable = True

    def __init__(self, weights, late=0, space=None):
        super().__init__("gains", space or Space({f"p{k}": Continuous(0, 1, 0.5) for k in range(len(weights))}))
        self.weights, self.late = weights, late

    def process(self, request):
        audio, blocks, hop = request.audio, request.blocks, request.hop
        each = [sum(w * float(v) for w, v in zip(self.weights, b.values(), strict=True)) for b in blocks]
        gain = np.repeat(each, hop)[: audio.shape[1]]
        return audio * np.concatenate([np.full(self.late, gain[0]), gain])[: audio.shape[1]].astype(np.float32)


class LateAtTheTop(Gains):
    """Gains whose effect comes late above a setting of .8."""

    def process(self, request):
        self.late = 3 * 4096 * (float(request.blocks[0]["p0"]) > 0.8)
        return super().process(request)


def flat(effect, rows, time=8192):
    """A call on audio and a cotangent of ones: every stretch of time says the same."""
    rows = torch.as_tensor(np.atleast_2d(rows)).float()
    audio = torch.ones(len(rows), 1, time)
    values = [effect.space.decode(row) for row in rows.double().numpy()]
    output = torch.stack([torch.from_numpy(effect.render(np.ones((1, time)), v, RATE)) for v in values])
    return Call(effect, Inline(), RATE, audio, rows, output), torch.ones(len(rows), 1, time)


def estimate(effect, row, central, draws, length=512, pairs=1, seed=0):
    one, g = flat(effect, np.repeat(np.atleast_2d(row), draws, axis=0))
    reach = reaches(effect.space, 0.02)
    plan = block_plan(one, length, pairs, central, reach, [[]] * draws, seeded(seed))
    return carry_out(plan, one, g).numpy() / 8192


@pytest.mark.parametrize(("time", "length"), [(8192, 1024), (8000, 1024), (5000, 512), (700, 512)])
def test_windows_share_all_time_among_blocks(time, length):
    share = windows(time, length, length // 16)
    assert share.shape == (-(-time // length), -(-time // (length // 16)))
    assert np.allclose(share.sum(axis=0), 1) and share.min() >= 0


WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0, 0.1])


@pytest.mark.parametrize("central", [True, False])
@pytest.mark.parametrize("u", [0.5, 0.0, 1.0])
def test_blocks_are_unbiased_whole_at_bounds_and_quieter_than_spsa(central, u):
    estimates = estimate(Gains(WEIGHTS), np.full(5, u), central, draws=400)
    assert_unbiased(estimates, WEIGHTS)
    error = np.square(estimates - WEIGHTS).sum(axis=1).mean() / np.square(WEIGHTS).sum()
    # 16 blocks of one pair each; at a bound a one-sided render has the mean of its two ends as noise
    assert error < SPSA().error(5) / (8 if not central and u != 0.5 else 15)


def test_one_sided_renders_halve_the_error():
    """Cross-talk alone: an independent sign vector for each render, against one for each pair."""
    errors = []
    for central in (True, False):
        estimates = estimate(Gains(WEIGHTS), np.full(5, 0.5), central, draws=600, length=4096)
        errors.append(np.square(estimates - WEIGHTS).sum(axis=1).mean())
    assert 0.3 < errors[1] / errors[0] < 0.65


@pytest.mark.parametrize("central", [True, False])
def test_every_item_render_and_block_moves_on_its_own(central):
    pool = RecordingPool()
    one, g = flat(Gains(np.ones(12)), np.full((6, 12), 0.5))
    one = dataclasses.replace(one, pool=pool)
    plan = block_plan(one, 1024, 2, central, reaches(one.effect.space, 0.02), [[]] * 6, seeded())
    carry_out(plan, one, g)
    (job,) = pool.jobs
    assert job.points.shape == (24, 8, 12) and job.hop == 1024
    assert len(np.unique(job.points.reshape(24, -1), axis=0)) == 24
    if central:
        assert np.allclose(job.points[:12] + job.points[12:], 1)


def test_steps_of_its_own_and_switches_beside_blocks():
    space = Space(
        {"a": Continuous(0, 1, 0.5), "n": Integer(0, 20, 10), "b": Continuous(0, 1, 0.5, step=0.25), "t": Toggle()}
    )
    effect = Gains([1.0, 0.1, 4.0, 8.0], space=space)
    one, g = flat(effect, np.repeat(space.encode()[None], 300, axis=0), time=4 * 4096)
    multiplexed = MultiplexedSPSA(generator=seeded())
    estimates = multiplexed.vjp(one, g).numpy() / (4 * 4096)
    assert multiplexed.chosen.startswith("blocks of 4096")
    assert_unbiased(estimates, np.array([1.0, 2.0, 4.0, 8.0]))


def real():
    members = {
        "low": load("pedalboard:LowShelfFilter").within(cutoff_frequency_hz=(40, 400), gain_db=(-18, 18)).fix(q=0.7),
        "mid": load("pedalboard:PeakFilter").within(cutoff_frequency_hz=(200, 4000), gain_db=(-18, 18), q=(0.3, 4)),
        "comp": load("pedalboard:Compressor").within(threshold_db=(-50, 0), ratio=(1, 10)).fix(attack_ms=5),
        "gain": load("pedalboard:Gain").within(gain_db=(-12, 12)),
    }
    rack = Rack(members)
    row = 0.3 + 0.4 * np.random.default_rng(0).random(rack.space.width)
    one, _ = call(rack, row, seconds=2)
    target, _ = call(rack, 0.3 + 0.4 * np.random.default_rng(1).random(rack.space.width), seconds=2)
    return one, one.output - target.output  # as the mean squared error has it


def repeated(one, g, draws):
    audio, params, output, weight = (x.expand(draws, *x.shape[1:]) for x in (one.audio, one.params, one.output, g))
    return dataclasses.replace(one, audio=audio, params=params, output=output), weight


def test_on_a_rack_its_error_is_an_eighth_of_spsas_and_its_bias_small():
    one, g = real()
    truth = FiniteDifference(2e-3).vjp(one, g).numpy()[0]
    energy = np.square(truth).sum()
    multiplexed = MultiplexedSPSA(generator=seeded())
    multiplexed.vjp(one, g)
    estimates = multiplexed.vjp(*repeated(one, g, 24)).numpy()
    error = np.square(estimates - truth).sum(axis=1).mean() / energy
    assert multiplexed.chosen.startswith("blocks")
    assert 8 * error < SPSA().error(one.effect.space.width)
    noise = estimates.var(axis=0, ddof=1).sum() / 24
    assert np.square(estimates.mean(axis=0) - truth).sum() < 4 * noise + 0.05**2 * energy


def test_a_check_costs_what_it_says_comes_every_400th_call_and_is_remembered():
    one, g = flat(Gains(WEIGHTS), np.full((8, 5), 0.5), time=4 * 4096)
    pool = RecordingPool()
    one = dataclasses.replace(one, pool=pool)
    multiplexed = MultiplexedSPSA(generator=seeded())
    assert "nothing" in multiplexed.reason
    multiplexed.vjp(one, g)
    renders = sum(map(len, pool.jobs))
    assert 16 < renders - 16 <= 8 * (24 + 2 * 5)
    assert "blocks of 4096" in repr(multiplexed) and "relative squared error" in multiplexed.reason
    pool.jobs.clear()
    other = MultiplexedSPSA(generator=seeded(7))
    other.load_state_dict(multiplexed.state_dict())
    later = multiplexed.vjp(one, g)
    assert [len(job) for job in pool.jobs] == [16]
    assert torch.equal(other.vjp(one, g), later) and other.chosen == multiplexed.chosen
    for _ in range(398):
        multiplexed.vjp(one, g)
    assert {len(job) for job in pool.jobs} == {16}
    multiplexed.vjp(one, g)
    assert len(pool.jobs) == 400 - 1 + 5 + 1


def test_a_check_stands_for_the_whole_batch():
    """Blocks are right for five quiet items of eight, and miss most of the gradient of three loud ones."""
    one, g = flat(LateAtTheTop(WEIGHTS), np.repeat([[0.5] * 5, [0.9] * 5], [5, 3], axis=0), time=8 * 4096)
    g[:5] *= 1e-3
    for seed in range(4):
        loud, quiet = MultiplexedSPSA(generator=seeded(seed)), MultiplexedSPSA(generator=seeded(seed))
        loud.vjp(one, g)
        quiet.vjp(*at_items(one, g, torch.arange(5)))
        assert loud.chosen == "SPSA" and quiet.chosen.startswith("blocks")


def test_small_batches_are_checked_more_rarely():
    one, g = flat(Gains(WEIGHTS), np.full((1, 5), 0.5), time=4 * 4096)
    multiplexed = MultiplexedSPSA(generator=seeded())
    multiplexed.vjp(one, g)
    assert multiplexed.ahead(one) is not None
    multiplexed.recall(np.concatenate([[400], multiplexed.memory()[1:]]))
    assert multiplexed.ahead(one) is not None
    multiplexed.recall(np.concatenate([[3200], multiplexed.memory()[1:]]))
    assert multiplexed.ahead(one) is None


def test_what_comes_too_late_for_blocks_is_left_to_spsa():
    one, g = flat(Gains(WEIGHTS, late=3 * 4096), np.full((1, 5), 0.5), time=8 * 4096)
    multiplexed = MultiplexedSPSA(generator=seeded())
    multiplexed.vjp(one, g)
    assert multiplexed.chosen == "SPSA" and "half of the gradient" in multiplexed.reason
    a, b = MultiplexedSPSA(generator=seeded()), SPSA(generator=seeded())
    a.load_state_dict(multiplexed.state_dict())
    b.generator.set_state(multiplexed.generator.get_state())
    assert torch.equal(a.vjp(one, g), b.vjp(one, g))


@pytest.mark.parametrize("effect", [Gains([1.0, 2.0]), linear([1.0, 2.0])], ids=["automatable", "function"])
def test_short_clips_are_left_to_spsa(effect):
    one, g = flat(effect, np.full((1, 2), 0.5), time=4 * 4096 - 1)
    multiplexed = MultiplexedSPSA(generator=seeded())
    assert torch.equal(multiplexed.vjp(one, g), SPSA(generator=seeded()).vjp(one, g))
    assert multiplexed.chosen == "SPSA" and "too small" in multiplexed.reason


def test_a_longer_window_asks_for_longer_blocks():
    one, g = flat(Gains(WEIGHTS), np.full((1, 5), 0.5), time=4 * 8192)
    multiplexed = MultiplexedSPSA(window=5000, generator=seeded())
    multiplexed.vjp(one, g)
    assert "8192" in multiplexed.chosen
    multiplexed = MultiplexedSPSA(block=2048, generator=seeded())
    multiplexed.vjp(one, g)
    assert "2048" in multiplexed.chosen


@pytest.mark.parametrize("time", [4 * 4096, 5 * 4096 + 77])
def test_effects_that_cannot_change_in_mid_clip_are_cut_into_segments(time):
    space = Space({f"p{k}": Continuous(0, 1, 0.5) for k in range(5)} | {"t": Toggle()})
    effect = function(
        lambda x, sr, t, **p: x * (sum(w * v for w, v in zip(WEIGHTS, p.values(), strict=True)) + 7 * t), space
    )
    one, g = flat(effect, np.repeat(space.encode()[None], 40, axis=0), time=time)
    pool = RecordingPool()
    one = dataclasses.replace(one, pool=pool)
    multiplexed = MultiplexedSPSA(generator=seeded())
    multiplexed.vjp(one, g)
    assert multiplexed.chosen == "segments of 4096 samples, central"
    pool.jobs.clear()
    estimates = multiplexed.vjp(one, g).numpy() / time
    assert_unbiased(estimates[:, :5], WEIGHTS)
    assert np.allclose(estimates[:, 5], 7, rtol=1e-4)
    error = np.square(estimates[:, :5] - WEIGHTS).sum(axis=1).mean() / np.square(WEIGHTS).sum()
    assert error < 0.5 * SPSA().error(5)
    rendered = sum(len(job) * job.audio.shape[-1] for job in pool.jobs) / (40 * time)
    assert rendered < 2 * 1.26 + 1  # a quarter more for running in, and one switch


def test_segments_sum_to_the_clip():
    one, g = call(linear([1.0, 2.0]), [[0.3, 0.6], [0.1, 0.9]], seconds=0.3)
    parts, weight = segments(one, g, 3000)
    assert len(parts.audio) == 2 * 4 and parts.params[:4].unique(dim=0).shape == (1, 2)
    assert np.allclose(parts.here(weight).reshape(2, 4).sum(axis=1), one.here(g), rtol=1e-5)


def test_a_rack_is_automatable_where_all_that_moves_is():
    rack = Rack({"gain": load("pedalboard:Gain"), "limit": load("pedalboard:BrickwallLimiter")})
    assert not automatable(rack) and automatable(rack.only("gain.gain_db"))
    one, g = call(rack.only("gain.gain_db", "limit.ceiling_db"), [[0.5, 0.5]], seconds=0.4)
    multiplexed = MultiplexedSPSA(generator=seeded())
    assert torch.isfinite(multiplexed.vjp(one, g)).all()


def test_its_plan_is_what_vjp_renders():
    one, g = flat(Gains(WEIGHTS), np.full((1, 5), 0.5), time=4 * 4096)
    multiplexed = MultiplexedSPSA(generator=seeded())
    assert multiplexed.plan(one).stretch is None  # nothing was measured yet
    multiplexed.vjp(one, g)
    state = multiplexed.state_dict()
    plan = multiplexed.plan(one)
    assert plan.hop == 4096 and plan.stretch == 256
    multiplexed.load_state_dict(state)
    assert torch.equal(carry_out(plan, one, g), multiplexed.vjp(one, g))
