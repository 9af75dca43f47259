"""The net of compressors, gates and limiters whose numbers are measured, and how these are identified."""

import math

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.data.composer import compose
from blackbox_fx.effects import load
from blackbox_fx.errors import ParameterError
from blackbox_fx.identification.identify import identify
from blackbox_fx.learning.choose import choose_net
from blackbox_fx.profiling import Profile
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.nets import Ballistics, Measured
from blackbox_fx.proxy.nets.ballistics import ABOVE, BELOW, FALL, MAKEUP, NUMBERS, RISE, START, THRESHOLD
from blackbox_fx.proxy.nets.laws import Law
from blackbox_fx.runtime import Inline
from blackbox_fx.space import Continuous, Space
from tests.cases import music

RATE = 44100
DYNAMIC = Profile("x", linear=0.1, memoryless=1.0, tail_seconds=0.0)


def seconds(ms):
    return ms / 2000 / math.pi  # JUCE's times are those of a cycle


def stage(**numbers):
    return list((dict(zip(NUMBERS, START, strict=True)) | numbers).values())


CASES = {
    "pedalboard:Compressor": (
        {"threshold_db": -30, "ratio": 8, "attack_ms": 2, "release_ms": 90},
        {},
        [stage(fall=seconds(90), rise=seconds(2), threshold=-1.5, above=1 / 8)],
    ),
    "pedalboard:NoiseGate": (
        {"threshold_db": -25, "ratio": 6, "attack_ms": 3, "release_ms": 60},
        {"power": True},
        [stage(power_fall=seconds(50), power_rise=1e-6, fall=seconds(60), rise=seconds(3), threshold=-1.25, below=6)],
    ),
    "vst3:ZamComp": (
        {"threshold_db": -20, "ratio": 4, "attack_ms": 5, "release_ms": 80, "makeup_db": 6},
        {"after": True},
        [stage(fall=0.08, rise=0.005, threshold=-1.0, above=0.25, makeup=0.3, knee=5e-4)],
    ),
    "pedalboard:Limiter": (
        {"threshold_db": -20, "release_ms": 80},
        {"stages": 2, "clip": True},
        [
            stage(fall=seconds(200), rise=seconds(2), threshold=-0.5, above=0.25),
            stage(fall=seconds(80), rise=1e-6, threshold=-1.0, above=1e-3, makeup=1.1875),
        ],
    ),
}


@pytest.mark.parametrize("address", CASES)
def test_a_net_with_the_right_numbers_is_the_effect(address):
    settings, config, stages = CASES[address]
    effect = load(address)
    dry = music(1.0, 1, 0)
    wet = effect.render(dry, effect.space.defaults | settings, RATE)
    net = Ballistics(1, RATE, **config)
    found = net.render(torch.from_numpy(dry), torch.tensor(stages).double().reshape(1, -1)).numpy()
    assert np.square(found - wet).sum() < 1e-9 * np.square(wet).sum()


def laws(width, **columns):
    """Laws of one stage: constants, or (constant, {column: slope})."""
    found = []
    for name, start in zip(NUMBERS, START, strict=True):
        constant, slopes = columns.get(name, (start, {}))
        base = np.zeros(1 + width)
        base[0] = constant
        for column, slope in slopes.items():
            base[1 + column] = slope
        found.append(Law(base, 1.0, np.zeros(1 + width)))
    return tuple(found)


def test_gradients_are_those_of_central_differences():
    torch.manual_seed(0)
    net = Ballistics(3, RATE)
    known = laws(3, threshold=(-2.5, {0: 2.0}), above=(0.1, {1: 0.6}), fall=(0.01, {2: 0.2}))
    net.start_from(Measured(torch.zeros(1), known))
    audio = torch.from_numpy(music(0.5, 1, 1))[None]
    params = torch.tensor([[0.4, 0.3, 0.6]], requires_grad=True)
    cotangent = torch.randn(audio.shape)
    (net(audio, params, RATE) * cotangent).sum().backward()
    for column in range(3):
        ends = params.detach().repeat(2, 1)
        ends[:, column] += torch.tensor([-2e-3, 2e-3])
        wet = net(audio.expand(2, -1, -1), ends, RATE).detach().double()
        slope = float(((wet[1] - wet[0]) * cotangent[0]).sum()) / 4e-3
        assert float(params.grad[0, column]) == pytest.approx(slope, rel=0.02)


def test_a_net_that_cannot_be_made():
    with pytest.raises(ParameterError, match="1 to 3 stages, got 4"):
        Ballistics(1, RATE, stages=4)


def stream(effect):
    return ClipStream(effect, [compose(0, 3.0, RATE)], Inline(), 0.75, 8, 0)


def test_a_compressor_is_identified():
    effect = load("pedalboard:Compressor").only("threshold_db", "ratio").within(threshold_db=(-50, -5))
    found = identify(stream(effect))
    assert found is not None and found.residual < 1e-8
    assert choose_net(DYNAMIC, found) == {"kind": "ballistics", "clip": False}
    ends = np.array([[0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(found.laws[THRESHOLD].at(ends), [-2.5, -0.25], atol=1e-5)
    ratio = effect.space.parameters["ratio"]
    np.testing.assert_allclose(found.laws[ABOVE].at(ends), [1 / ratio.low, 1 / ratio.high], rtol=1e-3)
    defaults = effect.space.defaults
    np.testing.assert_allclose(found.laws[FALL].at(ends), seconds(defaults["release_ms"]), rtol=1e-3)
    np.testing.assert_allclose(found.laws[RISE].at(ends), seconds(defaults["attack_ms"]), rtol=1e-3)
    assert [law.at(ends).tolist() for law in (found.laws[BELOW], found.laws[MAKEUP])] == [[1, 1], [0, 0]]


def test_what_is_no_compressor_is_left_to_other_nets():
    def turned(audio, sample_rate, amount):
        return audio * (1 + amount * np.sign(np.roll(audio, 50)))

    effect = bfx.function(turned, Space({"amount": Continuous(0.5, 0.9, 0.5)}))
    assert identify(stream(effect)) is None


def test_a_proxy_that_is_started_is_the_compressor_before_any_training():
    effect = load("pedalboard:Compressor").only("threshold_db", "ratio").within(threshold_db=(-50, -5))
    proxy = bfx.start_proxy(effect)
    assert isinstance(proxy.net, Ballistics)
    dry, params = music(0.5, 1, 3), torch.tensor([[0.3, 0.8]])
    wet = effect.render(dry, effect.space.defaults | effect.space.decode(params[0].double().numpy()), RATE)
    found = proxy(torch.from_numpy(dry)[None], params, RATE)[0].detach().numpy()
    assert np.square(found - wet).sum() < 1e-8 * np.square(wet).sum()
