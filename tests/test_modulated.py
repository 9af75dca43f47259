"""Nets of delays, choruses and phasers: their loops, their laws, and how both are identified."""

import math

import numpy as np
import pytest
import scipy.signal
import torch

from blackbox_fx.data.composer import compose
from blackbox_fx.dsp.loops import allpass_chain, delay_line, oscillate
from blackbox_fx.effects import load
from blackbox_fx.errors import DataError
from blackbox_fx.identification.identify import identify
from blackbox_fx.identification.laws import find_law, in_units
from blackbox_fx.identification.numbers import fit_numbers
from blackbox_fx.learning.choose import choose_net
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy import weights
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.nets import Measured, Modulated, make_net
from blackbox_fx.proxy.nets.laws import Law
from blackbox_fx.proxy.nets.modulated import CENTRE, DEPTH, NUMBERS, RATE
from blackbox_fx.runtime import Inline
from blackbox_fx.space import Continuous, Space
from tests.cases import music

RATE_HZ = 44100


def doubles(*shape, low=-1.0, high=1.0, seed=0):
    values = torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (low + (high - low) * values).requires_grad_()


@pytest.mark.parametrize("lag", [0, 1])
def test_gradients_of_a_delay_line(lag):
    loop = torch.tensor([[0.5, 0.3], [-0.4, 0.0]], dtype=torch.float64, requires_grad=True)
    inputs = doubles(2, 30), doubles(2, 30, low=1.1, high=8.0, seed=1), loop
    assert torch.autograd.gradcheck(lambda x, delay, loop: delay_line(x, delay, loop, lag), inputs)


def test_gradients_of_a_chain_of_all_passes():
    inputs = doubles(2, 30), doubles(2, 30, low=0.1, high=0.6, seed=1), doubles(2, seed=2)
    assert torch.autograd.gradcheck(lambda x, gain, back: allpass_chain(x, gain, back, 3), inputs)


def test_gradients_of_an_oscillator():
    inputs = doubles(2, low=0.001, high=0.1), doubles(2, low=0.0, high=1.0, seed=1)
    # its table is straight between knots
    assert torch.autograd.gradcheck(lambda step, start: oscillate(step, start, 20), inputs, eps=1e-3, rtol=0.01)


@pytest.mark.parametrize("single", [False, True])
def test_an_oscillator_is_a_sine(single):
    time = np.arange(20000)
    found = oscillate(torch.tensor([1e-4, 0.03]), torch.tensor([0.25, 0.9]), len(time), single).numpy()
    for wave, step, start in zip(found, (1e-4, 0.03), (0.25, 0.9), strict=True):
        true = np.sin(2 * np.pi * (np.float32(step).astype(np.float64) * time + np.float32(start)))
        np.testing.assert_allclose(wave, true, rtol=0, atol=0.02 if single else 1e-6)


def test_an_angle_in_single_precision_runs_as_the_sum_of_its_steps():
    step, angle, angles = 0.05 / RATE_HZ, np.float32(0), []
    for _ in range(30000):
        angles.append(angle)
        angle = np.float32(angle + np.float32(2 * np.pi * step))
    exact, found = (
        oscillate(torch.tensor([step]).double(), torch.zeros(1).double(), 30000, single)[0].numpy()
        for single in (False, True)
    )
    np.testing.assert_allclose(found, np.sin(np.array(angles, np.float64)), rtol=0, atol=1e-6)
    assert np.abs(found - exact).max() > 1e-5


@pytest.mark.parametrize("lag", [0, 1])
def test_echoes_come_at_the_delay_and_fade_by_the_feedback(lag):
    x = torch.zeros(1, 400)
    x[0, 3] = 1
    y = delay_line(x, torch.full((1, 400), 100.25), torch.tensor([[0.5, 0.0]]), lag)[0]
    assert y[103:105].tolist() == pytest.approx([0.75, 0.25])
    second = 203 + lag
    assert y[second : second + 3].tolist() == pytest.approx([0.5 * 0.75**2, 0.5 * 2 * 0.75 * 0.25, 0.5 * 0.25**2])


def test_delays_that_cannot_be_do_no_harm():
    x, loop = torch.randn(1, 60, generator=torch.Generator().manual_seed(0)), torch.tensor([[0.5, 0.0]])
    delay = torch.tensor([[math.nan, -1e30, 1e30, math.inf, -math.inf, 0.5] * 10], requires_grad=True)
    possible = torch.tensor([[1.0, 1.0, 1e6, 1e6, 1.0, 1.0] * 10])
    found = delay_line(x, delay, loop, 1)
    torch.testing.assert_close(found, delay_line(x, possible, loop, 1))
    found.sum().backward()
    assert delay.grad is not None and bool(torch.isfinite(delay.grad).all())
    assert oscillate(torch.tensor([math.nan]), torch.tensor([math.inf]), 20).shape == (1, 20)


def test_a_still_chain_is_a_filter():
    hz, sections, x = 900.0, 4, music(0.2, 1)
    g = math.tan(math.pi * hz / RATE_HZ)
    c = (g - 1) / (g + 1)
    sections_of_second_order = np.tile([-c, -1.0, 0.0, 1.0, c, 0.0], (sections, 1))
    true = scipy.signal.sosfilt(sections_of_second_order, x.astype(np.float64))
    gain = torch.full(x.shape, g / (1 + g))
    found = allpass_chain(torch.from_numpy(x).float(), gain, torch.zeros(1), sections).numpy()
    np.testing.assert_allclose(found, true, atol=1e-4)


def test_single_and_double_precision_agree():
    x, delay, loop = doubles(1, 4000), doubles(1, 4000, low=50.0, high=90.0, seed=1), torch.tensor([[0.7, 0.2]])
    for lag in (0, 1):
        double = delay_line(x, delay, loop.double(), lag)
        torch.testing.assert_close(delay_line(x.float(), delay.float(), loop, lag).double(), double, rtol=0, atol=1e-3)


def constant(value, width=2):
    return Law(np.eye(1, 1 + width)[0] * value, 1.0, np.zeros(1 + width))


def line(start, *slopes):
    return Law(np.array([start, *slopes], np.float64), 1.0, np.zeros(1 + len(slopes)))


def started(config, **laws):
    """A net of two parameters with known laws."""
    net = make_net({"kind": "modulated", **config}, 2, RATE_HZ)
    usual = {"dry": 0.5, "wet": 0.5, "feedback": 0.3, "rate": 2.0, "low": 1.0, "high": 1e9}
    found = [laws.get(name, constant(usual.get(name, 0.0))) for name in NUMBERS]
    net.start_from(Measured(torch.zeros(1), tuple(found)))
    return net.eval()


@pytest.mark.parametrize(
    ("config", "laws"),
    [
        ({"lag": 1}, {"centre": line(300, 200, 0), "depth": line(0, 0, 90)}),
        ({"sections": 4, "hold": 4}, {"centre": line(6, 2, 0), "depth": line(0, 0, 1), "high": constant(9.0)}),
        ({"moves": False, "whole": True}, {"centre": line(300, 900, 0), "feedback": line(0, 0, 0.9)}),
    ],
)
def test_gradients_of_params_are_those_of_steps(config, laws):
    net = started(config, **laws)
    audio = torch.from_numpy(music(0.3, 1)).float()[None]
    params = torch.tensor([[0.4, 0.6]], requires_grad=True)
    cotangent = torch.from_numpy(music(0.3, 1, seed=1)).float()[None]
    net(audio, params, RATE_HZ).backward(cotangent)
    assert params.grad is not None
    for column in range(2):
        step = torch.zeros(1, 2)
        step[0, column] = 0.005
        above, below = (net(audio, params.detach() + way * step, RATE_HZ) for way in (1, -1))
        true = float(((above - below) * cotangent).sum().detach()) / 0.01
        assert float(params.grad[0, column]) == pytest.approx(true, rel=0.02, abs=1e-3)


def test_gradients_of_audio_are_the_transpose():
    net = started({"lag": 1}, centre=line(300, 200, 0), depth=line(0, 0, 90))
    audio, other = (torch.from_numpy(music(0.3, 1, seed)).float()[None] for seed in (0, 1))
    audio.requires_grad_()
    params = torch.tensor([[0.4, 0.6]])
    net(audio, params, RATE_HZ).backward(other)
    pushed = net(torch.flip(other, [2]), params, RATE_HZ)
    true = float((pushed * other).sum().detach())
    assert audio.grad is not None
    assert float((audio.grad * torch.flip(other, [2])).sum()) == pytest.approx(true, rel=1e-3)


def test_delays_are_cut_off_to_whole_samples():
    net = started({"moves": False, "whole": True}, centre=line(10.2, 1.0, 0), dry=constant(0.0), wet=constant(1.0))
    x = torch.zeros(1, 1, 50)
    x[..., 0] = 1
    for place, delay in ((0.0, 10), (0.7, 10), (0.9, 11)):
        assert int(net(x, torch.tensor([[place, 0.5]]), RATE_HZ).argmax()) == delay


LAWS = {
    "line": line(0.95, 0, -1.9, 0),
    "exponential": Law(np.array([1.0, 0, 0, 0]), 1.0, np.array([-3.0, 6.0, 0, 0])),
    "reciprocal": Law(np.array([0.001, 0.014, 0, 0]), -1.0, np.zeros(4)),
    "line at many levels": Law(np.array([1.0, 0, -0.5, 0]), 1.0, np.array([-8.0, 0, 0, 10.4])),
    "product": Law(np.array([0.0, 1.0, 0, 0]), 1.0, np.array([-1.0, 0, 2.0, 0])),
}


@pytest.mark.parametrize("kind", LAWS)
def test_laws_are_found_in_spite_of_outliers(kind):
    rng, law = np.random.default_rng(0), LAWS[kind]
    points = rng.random((30, 3))
    values = law.at(points) * (1 + 1e-6 * rng.standard_normal(30))
    values[:4] *= 1 + rng.random(4)
    found = find_law(points, values, 1e-4 * (1e-3 + np.abs(values)))
    fresh = rng.random((20, 3))
    assert found.spread < 0.01 * np.abs(law.at(points)).max()
    np.testing.assert_allclose(found.at(fresh), law.at(fresh), rtol=0.03, atol=0.01 * np.abs(law.at(fresh)).max())


def test_what_no_law_explains_is_left_to_be_learned():
    points = np.random.default_rng(0).random((40, 2))
    values = np.sin(9 * points[:, 0]) * np.cos(7 * points[:, 1])
    assert find_law(points, values, np.full(40, 1e-3)).spread > 0.05


def test_a_law_near_a_physical_value_becomes_that():
    space = Space({"rate_hz": Continuous(0.05, 20, 1, log=True), "delay_ms": Continuous(1, 50, 7)})
    nearly = Law(np.array([1.0, 0, 0]), 1.0, np.array([math.log(0.0501), math.log(400.2), 0]))
    ends = np.array([[0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(in_units(nearly, space, [1.0]).at(ends), [0.05, 20])
    np.testing.assert_allclose(in_units(line(44.2, 0, 2160.5), space, [1.0, 44.1]).at(ends), [44.1, 2205])
    other = line(60.0, 0, 2160.5)
    assert in_units(other, space, [1.0, 44.1]) == other


def test_numbers_of_a_twin_are_found():
    net = Modulated(1, RATE_HZ, lag=1)
    true = np.array([0.6, 0.4, -0.5, 0.0, 400.0, 60.0, 3.0, 0.5, 1.0, 1e9])
    x = np.random.default_rng(0).choice((-0.25, 0.25), 20000)
    y = net.render(torch.from_numpy(x).float()[None], torch.from_numpy(true)[None])[0].double().numpy()
    near = true + np.array([-0.1, 0.1, 0.1, 0, 0.3, 0.2, 0.01, 0.001, 0, 0])
    fit = fit_numbers(net, x, y, near, (0, 1, 2, 4, 5, 6, 7))
    assert fit.residual < 1e-8
    np.testing.assert_allclose(fit.numbers, true, rtol=1e-4, atol=1e-4)
    assert np.isinf(fit.errors[[3, 8, 9]]).all() and fit.errors[RATE] < 1e-3


def stream(effect):
    return ClipStream(effect, [compose(0, 3.0, RATE_HZ)], Inline(), 0.75, 8, 0)


def measured(**numbers):
    return Profile("x", linear=1e-7, memoryless=1.0, tail_seconds=1.0, **numbers)


def test_an_echo_is_identified():
    found = identify(stream(load("pedalboard:Delay")))
    assert found is not None and found.residual < 1e-9
    assert choose_net(measured(), found) == {"kind": "modulated", "moves": False, "lag": 0, "whole": True}
    ends = np.array([[0.0, 0.5, 0.5], [1.0, 0.5, 0.5]])
    np.testing.assert_allclose(found.laws[CENTRE].at(ends), [0.001 * RATE_HZ, 2 * RATE_HZ])


def test_a_chorus_is_identified():
    chorus = load("pedalboard:Chorus").fix(feedback=0.0, mix=0.5, centre_delay_ms=20.0)
    found = identify(stream(chorus))
    assert found is not None and found.residual < 1e-3 and found.config["single"]
    ends = np.array([[0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(found.laws[RATE].at(ends), [0.05, 20])
    np.testing.assert_allclose(found.laws[DEPTH].at(ends), [0, 0.01 * RATE_HZ], atol=0.1)


def test_a_tremolo_is_identified():
    found = identify(stream(load("ladspa:tap_tremolo")))
    assert found is not None and found.residual < 2e-3 and found.config["gain"]
    depths = np.array([[0.5, 0.0, 0.8], [0.5, 1.0, 0.8]])
    level = 10 ** ((-70 + 0.8 * 90) / 20)
    np.testing.assert_allclose(found.laws[CENTRE].at(depths), [level, 0.5 * level], rtol=1e-3)
    np.testing.assert_allclose(found.laws[DEPTH].at(depths), [0, 0.5 * level], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["Gain", "Distortion", "Bitcrush"])
def test_effects_of_other_kinds_are_not_even_tried(name, monkeypatch):
    monkeypatch.setattr("blackbox_fx.identification.identify.identify_delays", None)
    monkeypatch.setattr("blackbox_fx.identification.identify.identify_ballistics", None)
    assert identify(stream(load(f"pedalboard:{name}"))) is None


def test_laws_are_stored_exactly():
    net = started({}, rate=constant(1 / 3))
    stored = weights.write_weights(net.state_dict())
    again = weights.read_weights(stored, net.state_dict(), weights.checksum(stored), "it")
    assert float(again["laws.base"][NUMBERS.index("rate"), 0]) == 1 / 3
    halved = {name: tensor.float() for name, tensor in net.state_dict().items()}
    stored = weights.write_weights(halved)
    with pytest.raises(DataError, match="float64"):
        weights.read_weights(stored, net.state_dict(), weights.checksum(stored), "it")
