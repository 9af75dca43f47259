"""The net for dynamics: each part against what it stands for, and the trial of nets."""

import math

import numpy as np
import pytest
import torch

from blackbox_fx.data import compose
from blackbox_fx.effects import load
from blackbox_fx.errors import ParameterError
from blackbox_fx.learning.audition import audition, follows_level
from blackbox_fx.learning.choose import choose_among, choose_objective
from blackbox_fx.learning.levels import Bursts, LevelObjective, level_distance
from blackbox_fx.learning.loss import Loss
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy.clips import Batch, ClipStream
from blackbox_fx.proxy.nets import make_net
from blackbox_fx.proxy.nets.dynamics import Dynamics, Gate, Knee
from blackbox_fx.proxy.nets.gates import ramp
from blackbox_fx.proxy.nets.windows import coming_max, moving_mean
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.runtime import Inline
from tests.test_proxy_nets import RATE, mono, start

SECONDS = 0.375


def stream(effect, batch=8):
    return ClipStream(effect, [compose(seed, 2.0) for seed in range(2)], Inline(), SECONDS, batch, 0)


def settle(stage, **numbers):
    """Puts a stage and its times where its parameters do not matter."""
    start(stage, curve=numbers["curve"])
    start(stage.times, logs=np.log(numbers["times"]))


def test_a_gate_opens_and_closes_in_ramps_with_hysteresis_and_hold():
    level = torch.tensor([[*[-3.0] * 5, *[-0.9] * 5, *[-1.1] * 10, *[-3.0] * 30]])
    numbers = torch.tensor([[-1.0, -1.2, 0.0, 0.25, 0.1, 0.0]])
    plain = ramp(level, numbers, False)[0]
    assert plain[:5].tolist() == [0] * 5 and plain[5:9].tolist() == [0.25, 0.5, 0.75, 1]
    assert plain[9:20].tolist() == [1] * 11  # -1.1 does not close it
    torch.testing.assert_close(plain[20:31], torch.linspace(0.9, -0.1, 11).clamp_min(0))
    held = ramp(level, torch.tensor([[-1.0, -1.0, 8.0, 0.25, 0.1, 0.0]]), True)[0]
    shut = int((held[9:] < 1).nonzero()[0]) + 9
    assert shut == 9 + 8  # open at 8, and for 8 samples after that
    late = ramp(level, torch.tensor([[-1.0, -1.0, 0.0, 0.05, 0.1, 0.0]]), True)[0]
    assert float(late.max()) == pytest.approx(1.0)  # opens completely, though the level falls before


@pytest.mark.parametrize(("hold", "latched", "gap"), [(0.0, False, 0.2), (300.0, True, 0.2), (0.0, False, 0.0)])
def test_a_gate_s_derivatives_are_differences_over_its_times(hold, latched, gap):
    time = np.arange(20000)
    level = torch.from_numpy(np.sin(time / 600 + np.arange(3)[:, None]) + 0.3 * np.sin(time / 150)).float()
    weight = torch.randn(3, 20000, generator=torch.Generator().manual_seed(0)).cumsum(1)
    numbers = torch.tensor([[0.1, 0.1 - gap, hold, 0.004, 0.002, 0.3]]).repeat(3, 1).requires_grad_()
    (weight * ramp(level, numbers, latched)).sum().backward()
    assert numbers.grad is not None

    def difference(change):
        both = [numbers.detach() + sign * torch.tensor(change) for sign in (1, -1)]
        high, low = ((weight * ramp(level, moved, latched)).sum(1) for moved in both)
        return (high - low) / 2

    for k, step in ((2, 8.0), (3, 2e-4), (4, 1e-4)):
        true = difference([step * (n == k) for n in range(6)])
        torch.testing.assert_close(numbers.grad[:, k] * step, true, rtol=0.03, atol=1.0)
    true = difference([0.03, 0.03, 0.0, 0.0, 0.0, 0.0])  # both thresholds
    # without hysteresis, samples near the threshold count one by one
    torch.testing.assert_close(numbers.grad[:, :2].sum(1) * 0.03, true, rtol=0.05 if gap else 0.25, atol=20.0)


def test_windows():
    torch.manual_seed(0)
    x = torch.randn(2, 60).requires_grad_()
    ahead = coming_max(x, 7)
    plain = torch.nn.functional.pad(x, (0, 7), value=-math.inf).unfold(1, 8, 1).amax(2)
    torch.testing.assert_close(ahead, plain)
    cotangent = torch.randn(2, 60)
    for found, true in zip(
        torch.autograd.grad(ahead, x, cotangent), torch.autograd.grad(plain, x, cotangent), strict=True
    ):
        torch.testing.assert_close(found, true)
    mean = moving_mean(x, torch.tensor(3.5))
    torch.testing.assert_close(mean[:, 10], (x[:, 8:11].sum(1) + 0.5 * x[:, 7]) / 3.5)


def test_an_expander_is_that_of_juce_at_its_numbers():
    threshold, ratio, attack, release = -30.0, 3.0, 5.0, 80.0
    stage = Knee(1, RATE, "power", 0)
    # JUCE's times are of 99.8 %; its level rises at once and falls in 50 ms
    settle(
        stage,
        curve=[threshold / 20, 0.0, math.log(ratio), -9.0, 0.0],
        times=np.array([release / 2000 / math.pi, attack / 2000 / math.pi, 1e-7, 1e-7]),
    )
    assert stage.level.times is not None
    with torch.no_grad():
        stage.level.times.copy_(torch.tensor([0.05 / 2 / math.pi, 1e-7]).log() / 4)
    settings = {"threshold_db": threshold, "ratio": ratio, "attack_ms": attack, "release_ms": release}
    gate, x = load("pedalboard:NoiseGate"), 0.1 * mono(20000)
    true = np.concatenate([gate.render(part, settings, RATE) for part in x[:, None].numpy()])
    found = stage(x, torch.zeros(2, 1)).detach().numpy()
    assert np.square(found - true).sum() < 1e-4 * np.square(true).sum()
    assert np.square(x.numpy() - true).sum() > 0.01 * np.square(true).sum()


@pytest.mark.parametrize("address", ["vst3:ZamGate"])
def test_a_gate_is_zam_gate_at_its_numbers(address: str):
    zam_gate = load(address)
    attack, release, threshold, closed = 12.0, 60.0, -20.0, -26.0
    settings = {"attack_ms": attack, "release_ms": release, "threshold_db": threshold, "max_gate_close_db": closed}
    stage, span = Gate(1, RATE, "window", False), 1 - 10 ** (closed / 20)
    times = np.array([span * attack / 1000, span * release / 1000, 1e-3])
    settle(stage, curve=[threshold / 20, 0.0, 0.0, -closed / 20, -1.0], times=times)
    assert stage.level.times is not None
    with torch.no_grad():
        stage.level.times.fill_(math.log(400 / RATE) / 4)
        stage.first.fill_(-20.0)
    x = mono(20000)
    true = np.concatenate([zam_gate.fix(settings).render(part, {}, RATE) for part in x[:, None].numpy()])
    found = stage(x, torch.zeros(2, 1)).detach().numpy()
    assert np.square(found - true).sum() < 1e-3 * np.square(true).sum()
    assert np.square(x.numpy() - true).sum() > 0.01 * np.square(true).sum()


@pytest.mark.parametrize(
    "config",
    [
        {"stages": 2, "clip": True},
        {"detector": "power", "ahead": 100},
        {"detector": "window", "gate": True},
        {"gate": True, "hold": True, "stages": 2},
    ],
)
def test_nets_of_dynamics_have_gradients_everywhere(config):
    torch.manual_seed(0)
    net = make_net({"kind": "dynamics", **config}, 2, RATE)
    audio, params = mono(6000)[:, None].requires_grad_(), torch.tensor([[0.0, 1.0], [0.3, 0.6]]).requires_grad_()
    wet = net(audio, params, RATE)
    wet.square().sum().backward()
    for grad in (audio.grad, params.grad):
        assert grad is not None and bool(torch.isfinite(grad).all()) and bool((grad != 0).any(dim=-1).all())
    assert bool(torch.isfinite(wet).all())


@pytest.mark.parametrize("wrong", [{"detector": "loudness"}, {"stages": 0}, {"stages": 9}, {"ahead": 10**6}])
def test_nets_of_dynamics_that_cannot_be_made(wrong):
    with pytest.raises(ParameterError, match="net of dynamics"):
        make_net({"kind": "dynamics", **wrong}, 2, RATE)


def test_bursts_are_fixed_by_their_number_and_cover_all_levels():
    some = stream(load("pedalboard:Compressor"))
    one, two = some.bursts(3), stream(load("pedalboard:Compressor")).bursts(3)
    assert torch.equal(one.audio, two.audio) and torch.equal(one.wet, two.wet)
    assert not torch.equal(one.audio, some.bursts(4).audio)
    levels = 10 * one.audio.unfold(2, 400, 400).square().mean(3).log10()
    assert float(levels.min()) < -70 and float(levels.max()) > -12


def test_levels_are_learnt_from_bursts_first():
    effect = load("pedalboard:NoiseGate")
    net, some = make_net({"kind": "dynamics"}, effect.space.width, RATE), stream(effect)
    objective = choose_objective(ProxyRecipe("x"), Profile("x", linear=1.0), net, some)
    assert isinstance(objective, LevelObjective)
    early, later = objective.batch(0), objective.batch(401)
    assert isinstance(early, Bursts) and not isinstance(later, Bursts)
    draw = np.random.default_rng(0)
    distance = level_distance(net(early.audio, early.params, RATE), early.wet)
    torch.testing.assert_close(objective.loss(net, early, draw), distance)
    assert float(objective.loss(net, later, draw).detach()) > 0
    silent = torch.zeros(1, 1, 100)
    assert float(level_distance(silent, silent)) == 0


def test_the_net_that_learns_an_effect_best_is_chosen():
    gate = load("pedalboard:NoiseGate").within({"threshold_db": (-50, -20)}).only("threshold_db")
    some = stream(gate, 4)
    nets = [{"kind": "dynamics", "detector": "power"}, {"kind": "structured", "gain": False}]
    assert follows_level(some) and audition(some, nets, (25,)) == nets[0] == audition(some, nets[::-1], (25,))


def test_linear_and_memoryless_effects_keep_their_usual_nets():
    usual = {"kind": "structured"}
    some = stream(load("pedalboard:LowShelfFilter"))
    assert not follows_level(some)
    assert choose_among(Profile("x", linear=1.0, memoryless=1.0), usual, some) is usual
    assert choose_among(Profile("x", linear=1.0, memoryless=0.0), usual, stream(load("pedalboard:Distortion"))) is usual


def test_a_net_of_dynamics_has_the_stages_of_its_recipe():
    net = make_net({"kind": "dynamics", "stages": 3, "gate": True, "clip": True}, 2, RATE)
    assert isinstance(net, Dynamics) and len(net.gains) == 2 and net.gate is not None and net.ceiling is not None


def test_limiters_with_latency_look_ahead(monkeypatch):
    monkeypatch.setattr("blackbox_fx.learning.choose.audition", lambda stream, nets: nets[-1])
    some, usual = stream(load("pedalboard:Limiter")), {"kind": "structured"}
    profile = Profile("x", linear=1.0, memoryless=1.0, latency_reported=220)
    assert choose_among(profile, usual, some)["ahead"] == 220
    assert "ahead" not in choose_among(Profile("x", linear=1.0, memoryless=1.0), usual, some)
    assert choose_among(profile, usual | {"tail_seconds": 1.0}, some) == usual | {"tail_seconds": 1.0}


def test_silent_outputs_do_not_outweigh_others_in_a_robust_loss():
    audio = mono(8000)[:, None]
    silent, near = (Batch(audio, torch.zeros(2, 1), wet) for wet in (1e-4 * audio, 1.02 * audio))

    def distance(batch, robust):
        return float(Loss(0.0, robust)(audio, batch, np.random.default_rng(0)))

    assert distance(silent, True) < 0.05 * distance(silent, False)
    assert distance(near, True) == pytest.approx(distance(near, False), rel=0.1)
