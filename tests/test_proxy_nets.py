"""Nets that imitate effects: every kind, and every stage against what it stands for."""

import itertools
import math

import numpy as np
import pytest
import scipy.signal
import torch

from blackbox_fx.dsp.dynamics import compressor
from blackbox_fx.effects import load
from blackbox_fx.errors import ParameterError
from blackbox_fx.learning.choose import choose_net
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy.nets import NETS, Measured, make_net
from blackbox_fx.proxy.nets.gains import Gain
from blackbox_fx.proxy.nets.stages import Capacitor, Curve, Filter
from blackbox_fx.proxy.nets.structured import Split
from blackbox_fx.proxy.nets.tails import Tail
from tests.cases import music

RATE = 44100
SMALL = {
    "structured": {"bands": 2, "capacitor": True, "tail_seconds": 0.05},
    "dynamics": {"stages": 2, "gate": True},
    "modulated": {"lag": 1},
    "ballistics": {"power": True, "after": True, "stages": 2, "clip": True},
    "tcn": {"channels": 4, "blocks": 2},
    "recurrent": {"hidden": 4},
}


def mono(n=8000, items=2):
    return torch.from_numpy(np.stack([music(n / RATE, 1, seed)[:, :n] for seed in range(items)])).float()[:, 0]


def start(stage, **numbers):
    """Puts a stage where its parameters do not matter."""
    with torch.no_grad():
        for name, values in numbers.items():
            steer = getattr(stage, name)
            if isinstance(steer, torch.nn.Parameter):
                steer.fill_(values)
                continue
            steer.start.copy_(torch.as_tensor(values))
            for weight in steer.parameters():
                weight.zero_()


@pytest.mark.parametrize(("kind", "channels"), [*itertools.product(NETS, (1, 2))])
def test_every_net_takes_any_batch_and_gives_gradients(kind, channels):
    torch.manual_seed(0)
    net = make_net({"kind": kind, **SMALL[kind]}, 3, RATE)
    audio = mono(6000, 2 * channels).reshape(2, channels, -1).requires_grad_()
    params = torch.rand(2, 3, requires_grad=True)
    wet = net(audio, params, RATE)
    assert wet.shape == audio.shape and bool(torch.isfinite(wet).all())
    wet.square().sum().backward()
    for grad in (audio.grad, params.grad):
        assert bool(torch.isfinite(grad).all()) and bool((grad != 0).any(dim=-1).all())
    alone = net(audio[1:, :1], params[1:], RATE)
    torch.testing.assert_close(wet[1:, :1], alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ParameterError, match="44100 Hz"):
        net(audio, params, 48000)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "kind None"),
        ({"kind": "wavenet"}, "structured"),
        ({"kind": "tcn", "depth": 2}, "'depth'"),
        ({"kind": "tcn", "blocks": 2.0}, "blocks"),
        ({"kind": "structured", "gain": 1}, "gain"),
        ({"kind": "structured", "filters": 3}, "filters"),
        ({"kind": "modulated", "sections": 65}, "sections"),
        ({"kind": "modulated", "hold": 0}, "hold"),
        ({"kind": "modulated", "lag": 2}, "lag"),
        ({"kind": "structured", "smooths": "both"}, "level, gain, either"),
        ({"kind": "structured", "filters": 0, "gain": False, "curve": False}, "one stage"),
    ],
)
def test_nets_that_cannot_be_made(config, message):
    with pytest.raises(ParameterError, match=message):
        make_net(config, 2, RATE)


@pytest.mark.parametrize("kind", ["low", "high", "band", "allpass"])
def test_a_section_is_the_filter_of_second_order_that_its_numbers_say(kind):
    hz, damping = 1500.0, 0.4
    mixed = {"low": (0, -40, 0), "high": (-40, 0, 0), "band": (-40, -40, 1), "allpass": (0, 0, -1)}[kind]
    stage = Filter(1, RATE, sections=1)
    start(stage, section=[math.log(hz), math.log(damping), *map(float, mixed)], magnitude=[0.0] * 24)
    numerator = {"low": [0, 0, 1], "high": [1, 0, 0], "band": [0, 2 * damping, 0], "allpass": [1, -2 * damping, 1]}
    warped = 2 * RATE * math.tan(math.pi * hz / RATE)
    scale = np.array([1 / warped**2, 1 / warped, 1])
    b, a = scipy.signal.bilinear(np.array(numerator[kind]) * scale, np.array([1, 2 * damping, 1]) * scale, RATE)
    x = mono()
    np.testing.assert_allclose(stage(x, torch.zeros(2, 1)).detach(), scipy.signal.lfilter(b, a, x.numpy()), atol=2e-5)


def test_a_magnitude_is_reached_with_minimum_phase():
    stage = Filter(1, RATE, sections=1, knots=24)
    level = np.interp(np.arange(24), [0, 12, 23], [0.5, -1.0, 1.0])
    start(stage, magnitude=level, section=[7.0, 0, 0, 0, 1])
    response = stage.response(torch.zeros(1, 1))[0].detach().numpy()
    found = np.log(np.abs(np.fft.rfft(response)))
    np.testing.assert_allclose(found, level @ stage.grid.numpy(), atol=1e-3)
    assert np.square(response[:2000]).sum() > 0.999 * np.square(response).sum()


AT_ONCE = [1e-7, 1e-7]  # seconds


def test_a_gain_that_smooths_the_level_is_a_compressor_at_the_numbers_of_one():
    stage = Gain(1, RATE, bends=1)
    threshold, ratio, attack, release = -30.0, 4.0, 5.0, 80.0
    # one of 99.8 % of a step in so many ms, one of 63 % in so many s; a bend without a curve
    seconds = [attack / 2000 / math.pi, release / 2000 / math.pi, *AT_ONCE]
    start(stage, order=1.0, times=np.log(seconds), curve=[threshold / 20, 1 - 1 / ratio, 0.0, -5.0, 0.0])
    x = mono(20000)
    true = compressor(
        x[:, None],
        RATE,
        threshold_db=torch.full((2,), threshold),
        ratio=torch.full((2,), ratio),
        attack_ms=torch.full((2,), attack),
        release_ms=torch.full((2,), release),
        makeup_db=torch.zeros(2),
    )[:, 0]
    torch.testing.assert_close(stage(x, torch.zeros(2, 1)), true, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("address", ["vst3:ZamCompX2"])
def test_a_gain_that_smooths_decibels_is_zam_comp(address: str):
    zam_comp = load(address)
    attack, release, threshold, ratio, knee = 2.0, 30.0, -35.0, 6.0, 2.0
    settings = {"attack_ms": attack, "release_ms": release, "threshold_db": threshold, "ratio": ratio, "knee_db": knee}
    stage, slope = Gain(1, RATE, bends=1), 1 - 1 / ratio
    # its knee begins 3 dB lower for each of its dB, with a jump to where the line above the threshold would be by then
    begins, jump = (threshold - 3 * knee) / 20, -3 * knee * slope / 20
    seconds = [*AT_ONCE, release / 1000, attack / 1000]
    start(stage, order=-1.0, times=np.log(seconds), curve=[begins, slope, jump, -9.0, 0.0])
    x = mono(20000)
    true = np.concatenate([zam_comp.fix(settings).render(part, {}, RATE) for part in x[:, None].numpy()])
    found = stage(x, torch.zeros(2, 1)).detach().numpy()
    assert np.square(found - true).sum() < 1e-5 * np.square(true).sum()
    assert np.square(x.numpy() - true).sum() > 0.1 * np.square(true).sum()


def test_a_gain_may_jump_and_begins_in_silence():
    stage = Gain(1, RATE, bends=1)
    # 12 dB less above -20 dB, reached in 10 ms; 6 dB more everywhere
    start(stage, order=-1.0, times=np.log([*AT_ONCE, 0.01, 0.01]), curve=[-1.0, 0.0, 0.6, -5.0, 0.3])
    x = torch.cat([torch.full((2, 4000), 0.2), torch.full((2, 4000), 0.05)], 1)
    gain = 20 * (stage(x, torch.zeros(2, 1)).detach() / x).log10()[0].numpy()
    time = np.arange(1, 4001) / RATE
    np.testing.assert_allclose(gain[:4000], 6 - 12 * (1 - np.exp(-100 * time)), atol=0.01)
    np.testing.assert_allclose(gain[4000:], 6 - 12 * np.exp(-100 * time), atol=0.01)


@pytest.mark.parametrize("true", [1.0, -1.0])
def test_a_gain_learns_what_it_smooths(true: float):
    imitated, stage = Gain(1, RATE, bends=1), Gain(1, RATE, bends=1)
    numbers = {"times": np.log([0.002, 0.05, 0.05, 0.002]), "curve": [-1.5, 0.8, 0.0, -2.0, 0.1]}
    start(imitated, order=true, **numbers)
    start(stage, **numbers)
    x, p = mono(), torch.zeros(2, 1)
    target = imitated(x, p).detach()
    optimizer = torch.optim.Adam([stage.order], lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        (stage(x, p) - target).square().sum().backward()
        optimizer.step()
    assert stage.before.item() == imitated.before.item() == (1 + true) / 2
    torch.testing.assert_close(stage(x, p), target)


@pytest.mark.parametrize("place", [0.0, 0.1, 1.0])
def test_times_of_a_gain_are_powers_of_a_place_on_an_axis(place: float):
    curve, seconds = [-1.5, 0.8, 0.0, -2.0, 0.1], np.array([*AT_ONCE, 0.05, 0.2])
    steered, fixed = Gain(1, RATE, bends=1), Gain(1, RATE, bends=1)
    start(steered, order=-1.0, times=np.log(seconds), curve=curve)
    with torch.no_grad():
        steered.power.weight.fill_(1.0)
    start(fixed, order=-1.0, times=np.log(seconds * (place + 0.003)), curve=curve)
    x, p = mono(), torch.full((2, 1), 2 * place - 1)
    torch.testing.assert_close(steered(x, p), fixed(x, p), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("params", [0.0, 1.0, -0.1, 1.1])
def test_a_gain_is_finite_at_the_ends_of_the_axes_and_beyond(params: float):
    torch.manual_seed(0)
    stage, p = Gain(1, RATE), torch.full((2, 1), 2 * params - 1, requires_grad=True)
    wet = stage(mono(), p)
    wet.square().sum().backward()
    assert p.grad is not None and bool(torch.isfinite(wet).all() and torch.isfinite(p.grad).all())


def test_behind_a_capacitor_constants_fade_and_sound_does_not():
    stage, seconds, constant = Capacitor(1, RATE), 0.05, 0.2
    start(stage, predict=[math.log(seconds), constant])
    silence = stage(torch.zeros(2, 8000), torch.zeros(2, 1)).detach()[0].numpy()
    np.testing.assert_allclose(silence, constant * np.exp(-np.arange(1, 8001) / RATE / seconds), atol=1e-5)
    pole, x = math.exp(-1 / RATE / seconds), mono()
    true = scipy.signal.lfilter([pole, -pole], [1, -pole], x.numpy() + constant)
    np.testing.assert_allclose(stage(x, torch.zeros(2, 1)).detach(), true, atol=1e-4)


def test_bands_add_up_to_the_whole():
    x = mono()
    parts = Split(2, RATE, 3)(x, torch.rand(2, 2))
    assert len(parts) == 3 and all(float(part.detach().square().sum()) > 0 for part in parts)
    torch.testing.assert_close(sum(parts), x, rtol=0, atol=1e-5)


def test_a_crossover_is_that_of_linkwitz_and_riley_at_its_numbers():
    stage = Split(1, RATE, 2)
    hz, root = 700.0, math.sqrt(0.5)
    start(stage, place=[math.log(hz)])
    with torch.no_grad():
        stage.damping.fill_(math.log(root))
        stage.low.zero_()
        stage.high.zero_()
    x = mono()
    for part, kind in zip(stage(x, torch.zeros(2, 1)), ("low", "high"), strict=True):
        b, a = scipy.signal.butter(2, hz, kind, fs=RATE)
        true = scipy.signal.lfilter(b, a, scipy.signal.lfilter(b, a, x.numpy()))
        np.testing.assert_allclose(part.detach(), true, atol=2e-5)


def test_a_curve_keeps_silence_silent():
    torch.manual_seed(0)
    stage = Curve(2)
    p = torch.randn(2, 2)
    assert float(stage(torch.zeros(2, 50), p).detach().abs().max()) == 0
    loud = stage(torch.linspace(-1, 1, 50).expand(2, 50), p).detach()
    assert float(loud.diff(dim=1).abs().max()) > 0


@pytest.mark.parametrize("device", ["compiled", "torch"])
def test_a_curve_with_levels_bends_elsewhere(device):
    """Twice as much before it and half of it after: what the curve does at 1 happens at .5."""
    torch.manual_seed(0)
    stage, x = Curve(1, scaled=True), torch.linspace(-0.5, 0.5, 101)[None]
    x = x if device == "compiled" else x.double()
    p = torch.randn(1, 1).to(x)
    stage.to(x.dtype)
    plain = Curve(1).to(x.dtype)
    plain.load_state_dict(stage.state_dict(), strict=False)
    stage.levels.start = torch.tensor([2.0, 0.5]).log().to(x)
    stage.levels.bend[-1].weight.data.zero_()
    stage.levels.bend[-1].bias.data.zero_()
    torch.testing.assert_close(stage(x, p), plain(2 * x, p) / 2)


def test_a_reverberation_starts_from_the_response_it_met():
    torch.manual_seed(0)
    net = make_net({"kind": "structured", "filters": 0, "gain": False, "curve": False, "tail_seconds": 0.1}, 1, RATE)
    response = torch.randn(9000) * torch.exp(-torch.arange(9000) / 2000)
    net.start_from(Measured(response))
    assert isinstance(net.tail, Tail)
    start(net.tail, predict=[0.0] * 13)
    x = torch.zeros(1, 1, 6000)
    x[..., 0] = 1
    wet = net(x, torch.zeros(1, 1), RATE)[0, 0].detach()
    torch.testing.assert_close(wet[1:4000], response[1:4000], rtol=0, atol=1e-4)
    assert float(wet[0]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("measured", "stages"),
    [
        ({"linear": 1.0, "memoryless": 1e-6, "tail_seconds": 0.0}, {"filters": 0, "gain": False, "scaled": True}),
        ({"linear": 1e-6, "memoryless": 1.0, "tail_seconds": 0.01}, {"filters": 1, "gain": False, "curve": False}),
        (
            {"linear": 1e-6, "memoryless": 1.0, "tail_seconds": 1.2},
            {"filters": 1, "gain": False, "curve": False, "tail_seconds": 1.2},
        ),
        ({"linear": 1.0, "memoryless": 1.0, "tail_seconds": math.inf}, {}),
    ],
)
def test_the_net_follows_from_the_profile(measured, stages):
    config = choose_net(Profile("x", **measured))
    assert config == {"kind": "structured", **stages}
    make_net(config, 2, RATE)
