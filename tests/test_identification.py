"""What layers identify by themselves: effects without a proxy, at the first backward pass, once."""

import json
import logging
import os

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.core import paths
from blackbox_fx.data.composer import compose
from blackbox_fx.effects import load
from blackbox_fx.errors import EffectError
from blackbox_fx.identification.known import NAME, identified_proxy
from blackbox_fx.identification.laws import physical_law
from blackbox_fx.identification.nature import find_nature
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.runtime import Inline, Job, Processes
from blackbox_fx.space import Continuous, Space
from tests.cases import RATE, music

ECHO = Space({"delay_ms": Continuous(5, 60, 20, "ms"), "wet": Continuous(0.1, 0.9, 0.5)})


def echo(audio, sample_rate, delay_ms, wet):
    shift = round(delay_ms * sample_rate / 1000)
    return audio + wet * np.pad(audio, ((0, 0), (shift, 0)))[:, : audio.shape[1]]


def failing(audio, sample_rate, delay_ms, wet):
    raise ValueError("no licence")


def gate(audio, sample_rate, delay_ms, wet):
    return audio * (np.abs(audio) > 10 ** (-wet))


def effect_of(function, name):
    return bfx.function(function, ECHO, name=name)


def kept():
    folder = paths.cache() / "identified"
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(scope="module")
def echo_as_kept(tmp_path_factory):
    """The name and the content of the file that is kept of the echo."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        assert identified_proxy(effect_of(echo, "echo"), RATE) is not None
        (file,) = kept()
        return file.name, file.read_text()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def stepped(effect):
    """A layer of the effect after a backward pass, and the gradient of params beside that of differences."""
    layer = bfx.BlackBox(effect, pool=Inline())
    audio = torch.from_numpy(np.stack([music(0.5, 1, k) for k in range(4)]))
    found = []
    for each in (layer, bfx.BlackBox(effect, bfx.FiniteDifference(), audio_rule=bfx.Identity(), surrogates=())):
        x, p = audio.clone().requires_grad_(), (0.2 + 0.6 * torch.rand(4, 2, generator=torch.manual_seed(3)))
        p.requires_grad_()
        wet = each(x, p)
        wet.backward(torch.randn(wet.shape, generator=torch.manual_seed(4)))
        found.append(p.grad)
    return layer, *found


def test_a_layer_identifies_an_effect_without_a_proxy_once(caplog, monkeypatch):
    effect = effect_of(echo, "echo")
    with caplog.at_level(logging.WARNING, "blackbox_fx"):
        layer, found, _ = stepped(effect)
    assert "echo is identified: the error" in caplog.text and "Audio rules are tried" not in caplog.text
    assert NAME in layer.estimator.in_use and NAME in layer.audio_rule.in_use
    true = layer.surrogates[0](torch.from_numpy(music(0.5, 1))[None], torch.tensor([[0.4, 0.7]]), RATE)
    settings = effect.space.decode(np.array([0.4, 0.7]))
    np.testing.assert_allclose(true[0].detach(), effect.render(music(0.5, 1), settings, RATE), atol=1e-5)
    monkeypatch.setattr("blackbox_fx.identification.known.identify", None)
    torch.testing.assert_close(stepped(effect)[1], found)


def test_gradients_of_what_was_identified_are_those_of_differences():
    effect = load("pedalboard:Compressor").only("threshold_db", "ratio").within(threshold_db=(-50, -5))
    proxy = identified_proxy(effect, RATE)
    audio = torch.from_numpy(np.stack([music(0.5, 1, k) for k in range(4)]))
    params = (0.2 + 0.6 * torch.rand(4, 2, generator=torch.manual_seed(3))).requires_grad_()
    v = torch.randn(audio.shape, generator=torch.manual_seed(4))
    proxy(audio, params, RATE).backward(v)
    true = torch.zeros_like(params)
    for column in range(2):
        ends = params.detach().double().numpy()[None].repeat(2, 0)
        ends[:, :, column] += np.array([[-2e-3], [2e-3]])
        wet = [Inline().map(Job(effect, audio.numpy(), end, np.arange(4), RATE)) for end in ends]
        true[:, column] = torch.from_numpy(((wet[1] - wet[0]).astype(np.float64) * v.numpy()).sum((1, 2)) / 4e-3)
    cosines = torch.nn.functional.cosine_similarity(params.grad, true)
    assert cosines.min() > 0.99


def test_what_failed_is_tried_again(caplog):
    effect = effect_of(failing, "failing")
    with caplog.at_level(logging.WARNING, "blackbox_fx"):
        assert identified_proxy(effect, RATE) is None
    assert "could not be identified" in caplog.text and "no licence" in caplog.text and not kept()


def test_an_effect_that_fails_everywhere_is_not_taken_for_one_of_no_kind():
    with Processes(1, on_failure="skip") as pool, pytest.raises(EffectError, match="failed at all 8 settings"):
        find_nature(ClipStream(effect_of(failing, "failing"), [compose(0, 3.0, RATE)], pool, 0.75, 8, 0))


def test_what_is_of_no_known_kind_is_kept_too(monkeypatch):
    effect = effect_of(gate, "gate")
    assert identified_proxy(effect, RATE) is None
    (file,) = kept()
    assert json.loads(file.read_text())["answer"] == {}
    monkeypatch.setattr("blackbox_fx.identification.known.identify", None)
    assert identified_proxy(effect, RATE) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda answer: answer.pop("laws"),
        lambda answer: answer["laws"].pop(),
        lambda answer: answer["laws"][0][0].append(0.0),
        lambda answer: answer["laws"][0].__setitem__(0, "text"),
        lambda answer: answer["laws"][0][0].__setitem__(0, float("nan")),
        lambda answer: answer["net"].update(sections=10**9),
        lambda answer: answer.update(net={"kind": "nothing"}),
    ],
)
def test_what_was_kept_and_is_damaged_is_found_again(damage, caplog, echo_as_kept):
    name, text = echo_as_kept
    content = json.loads(text)
    damage(content["answer"])
    file = paths.cache() / "identified" / name
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, "blackbox_fx"):
        assert identified_proxy(effect_of(echo, "echo"), RATE) is not None
    assert "identified again" in caplog.text and json.loads(file.read_text()) == json.loads(text)


def test_an_effect_that_has_become_another_is_identified_again(caplog, monkeypatch):
    def changing(audio, sample_rate, delay_ms, wet):
        return echo(audio, sample_rate, delay_ms, float(os.environ["SIGN_OF_THE_ECHO"]) * wet)

    monkeypatch.setenv("SIGN_OF_THE_ECHO", "1")
    effect = effect_of(changing, "changing")
    before = identified_proxy(effect, RATE)
    monkeypatch.setenv("SIGN_OF_THE_ECHO", "-1")
    with caplog.at_level(logging.WARNING, "blackbox_fx"):
        after = identified_proxy(effect, RATE)
    assert "not what it was" in caplog.text
    x, params = torch.from_numpy(music(0.5, 1))[None], torch.tensor([[0.4, 0.7]])
    torch.testing.assert_close(before(x, params, RATE) + after(x, params, RATE), 2 * x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels_out", [1, 2])
def test_effects_that_change_channels_are_left_to_renders(channels_out):
    def spread(audio, sample_rate, delay_ms, wet):
        return np.repeat(echo(audio, sample_rate, delay_ms, wet).mean(axis=0, keepdims=True), channels_out, 0)

    effect = bfx.function(spread, ECHO, name="spread", channels_out=channels_out)
    layer = bfx.BlackBox(effect, pool=Inline())
    params = torch.full((2, 2), 0.4, requires_grad=True)
    layer(torch.randn(2, 3 - channels_out, 4000), params).square().mean().backward()
    assert layer.surrogates == () and bool((params.grad != 0).any())


def test_the_modes_of_the_caller_do_not_reach_the_net():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            layer = bfx.BlackBox(effect_of(echo, "echo"), pool=Inline())
            assert layer.surrogates
    finally:
        torch.set_default_dtype(torch.float32)
    x, params = torch.randn(2, 1, 8000).requires_grad_(), torch.full((2, 2), 0.4, requires_grad=True)
    layer(x, params).square().mean().backward()
    assert bool((params.grad != 0).any()) and bool((x.grad != 0).any())
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.surrogates[0](x, params, RATE).dtype == torch.float32


def test_the_default_device_of_the_caller_does_not_reach_the_net():
    with torch.device("meta"):
        proxy = identified_proxy(effect_of(echo, "echo"), RATE)
    assert proxy is not None
    x, params = torch.from_numpy(music(0.1, 1))[None], torch.tensor([[0.4, 0.7]])
    assert proxy(x, params, RATE).device.type == "cpu"


def test_a_mode_in_which_an_echo_is_off_is_not_overheard():
    def switched(audio, sample_rate, delay_ms, wet):
        return echo(audio, sample_rate, delay_ms, wet if delay_ms > 40 else 0.0)

    assert identified_proxy(effect_of(switched, "switched"), RATE) is None


def test_the_nature_of_effects():
    def nature(name):
        effect = load(f"pedalboard:{name}")
        return find_nature(ClipStream(effect, [compose(0, 3.0, RATE)], Inline(), 0.75, 8, 0))._asdict()

    names = ("Gain", "Chorus", "Reverb", "Distortion", "Compressor", "NoiseGate")
    found = {name: {key for key, value in nature(name).items() if value} for name in names}
    assert found["Gain"] == {"linear"} and found["Chorus"] >= {"linear", "moves"}
    assert found["Reverb"] == {"linear", "rings"} and found["Distortion"] == set()
    assert found["Compressor"] == found["NoiseGate"] == {"follows"}


@pytest.mark.parametrize(
    "number",
    [
        lambda hz, db, ms: 44.1 * ms,
        lambda hz, db, ms: 1 / ms,
        lambda hz, db, ms: np.log(hz),
        lambda hz, db, ms: 10 ** (db / 20),
        lambda hz, db, ms: -hz,
    ],
)
def test_physical_values_are_found_at_few_settings_in_spite_of_outliers(number):
    space = Space(
        {"hz": Continuous(20, 2e4, 100, log=True), "db": Continuous(-60, 0, 0, "dB"), "ms": Continuous(1, 9, 2)}
    )
    rng = np.random.default_rng(0)
    points = rng.random((7, 3))
    rows = [space.decode(point) for point in points]
    values = np.array([number(*row.values()) for row in rows]) * (1 + 1e-4 * rng.standard_normal(7))
    values[[1, 4, 5]] *= [3.0, 0.2, 1.4]
    law = physical_law(space, (1.0, 44.1), points, values, 1e-6 * np.abs(values))
    ends = np.zeros((2, 3))
    ends[1] = 1
    low, high = (number(*space.decode(end).values()) for end in ends)
    np.testing.assert_allclose(law.at(ends), [low, high], rtol=1e-9)
    assert np.count_nonzero((np.abs(law.base) + np.abs(law.exponent))[1:]) == 1
    assert physical_law(space, (1.0, 44.1), points[:3], values[:3], np.full(3, 1e-6)) is None
    assert physical_law(space, (1.0,), points, rng.random(7), np.full(7, 1e-6)) is None
