"""Prepared effects: proxies where their effect occurs, and trainings that fail."""

import dataclasses

import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.errors import ParameterError
from blackbox_fx.lab.step import measure, ways
from blackbox_fx.proxy.adapt import AdaptedProxy
from blackbox_fx.proxy.find import find_proxies
from blackbox_fx.proxy.records import ParameterGradient
from blackbox_fx.proxy.store import find_proxy, read_card
from blackbox_fx.report.prepared import write_prepared_page
from blackbox_fx.report.step import step_table
from tests.cases import RATE, music

NAME = "pedalboard-compressor"


def both(effect, proxy, params):
    audio = torch.from_numpy(music(0.3, 2))[None].repeat(len(params), 1, 1)
    return bfx.BlackBox(effect, surrogates=())(audio, params), proxy(audio, params, RATE)


def esr(found, true):
    return float((found - true).square().sum() / true.square().sum())


def test_a_proxy_loads_the_effect_it_was_trained_on():
    proxy = bfx.load_proxy(NAME)
    effect = proxy.effect()
    assert effect.space == proxy.space and effect.fingerprint == proxy.fingerprint
    with pytest.raises(ParameterError, match="does not know"):
        bfx.Proxy(proxy.net, proxy.space, "mine", "v2-0").effect()


def test_a_proxy_is_found_in_a_narrower_space_and_another_order():
    effect = bfx.load_proxy(NAME).effect()
    narrow = effect.within(ratio=(2, 8)).fix(attack_ms=5).only("ratio", "release_ms", "threshold_db")
    proxy = next(found for found in find_proxies(narrow, RATE) if found.name == NAME)
    true, found = both(narrow, proxy, torch.rand(3, 3, generator=torch.Generator().manual_seed(0)))
    assert esr(found, true) < 1e-3
    shuffled = proxy.matrix.flip(0)
    proxy.matrix.copy_(shuffled)
    assert esr(both(narrow, proxy, torch.tensor([[0.1, 0.5, 0.9]]))[1], true[:1]) > 1e-2


@pytest.mark.parametrize(
    "other",
    [
        lambda effect: bfx.load("pedalboard:Bitcrush"),
        lambda effect: bfx.load("pedalboard:LadderFilter"),
    ],
)
def test_a_proxy_that_does_not_cover_an_effect_is_not_found(other):
    effect = other(bfx.load_proxy(NAME).effect())
    found = find_proxies(effect, RATE)
    assert not found
    assert not find_proxies(bfx.load_proxy(NAME).effect(), 48000)


def test_what_does_not_fit_is_said():
    proxy = bfx.load_proxy(NAME)
    with pytest.raises(ParameterError, match="does not cover"):
        AdaptedProxy(proxy, bfx.load("pedalboard:Compressor").space)
    with pytest.raises(ParameterError, match="other parameters"):
        AdaptedProxy(proxy, bfx.load("pedalboard:Limiter").space)
    adapted = AdaptedProxy(proxy, proxy.effect().only("ratio").space)
    with pytest.raises(ParameterError, match="adapt it again"):
        bfx.BlackBox(proxy.effect(), surrogates=[adapted])


def test_a_layer_uses_a_shipped_proxy_and_renders_nothing_backward():
    effect = bfx.load_proxy("pedalboard-eq").effect()
    layer = bfx.BlackBox(effect, bfx.Auto(choice="surrogate"), pool=bfx.Inline())
    audio = torch.from_numpy(music(0.5, 1))[None].repeat(2, 1, 1)
    for _ in range(2):
        layer.pool.reset_counters()
        x, p = audio.clone().requires_grad_(), torch.full((2, layer.width), 0.4, requires_grad=True)
        layer(x, p).square().sum().backward()
    assert layer.pool.counters.renders == 2
    assert "Surrogate(pedalboard-eq)" in layer.explain()


def test_a_proxy_that_does_not_fit_is_named_by_the_layer():
    layer = bfx.BlackBox(bfx.load("pedalboard:Reverb"))
    assert not layer.surrogates
    assert "The proxy pedalboard-reverb is not used: The proxy was trained with width held at 1.0" in layer.explain()
    assert "it is for 44100 Hz" in bfx.BlackBox(bfx.load("pedalboard:Delay"), sample_rate=48000).explain()


def test_an_effect_may_be_named_by_its_address_and_nothing_else():
    for make in (bfx.start_proxy, bfx.prepare):
        with pytest.raises(ParameterError, match="an Effect or its address"):
            make(None)
        with pytest.raises(ParameterError, match="no free parameters"):
            make("pedalboard:Invert")


def test_a_training_that_failed_is_a_sentence_and_is_refused():
    card = read_card(find_proxy(NAME))
    assert not card.failure
    sound = dataclasses.replace(card.scores.sound, esr=2.0)
    loud = dataclasses.replace(card, scores=dataclasses.replace(card.scores, sound=sound))
    assert "worse" in loud.failure and loud.failure.endswith(".")
    wrong = ParameterGradient(0.2, 0.1, 0.2, 0.0, 8, 8, 0)
    astray = dataclasses.replace(card, scores=dataclasses.replace(card.scores, parameters=wrong))
    assert "cosine 0.20" in astray.failure
    proxy = bfx.load_proxy(NAME)
    proxy.failure = astray.failure
    for refuse in (bfx.Surrogate, bfx.Autodiff, lambda given: bfx.Hybrid(given.effect(), given)):
        with pytest.raises(ParameterError, match="has cosine"):
            refuse(proxy)
    proxy.failure = ""
    bfx.Surrogate(proxy)


def test_a_proxy_that_is_given_is_adapted():
    proxy = bfx.load_proxy(NAME)
    narrow = proxy.effect().only("ratio", "threshold_db")
    layer = bfx.BlackBox(narrow, bfx.Auto(choice="surrogate"), surrogates=[proxy])
    p = torch.full((2, 2), 0.5, requires_grad=True)
    layer(torch.from_numpy(music(0.3, 1))[None].repeat(2, 1, 1), p).square().sum().backward()
    assert layer.estimator.in_use == "pedalboard:Compressor" and bool((p.grad != 0).all())


def test_a_prepared_effect_has_cheap_gradients_in_every_layer(tmp_path):
    effect = bfx.load("pedalboard:PeakFilter").within(q=(0.5, 2))
    found = bfx.prepare(effect, minutes=0.05)
    assert not found.failure and found.card.scores.sound.esr < 0.05 and found.certificate.surrogate
    trained = (found.folder / "weights.safetensors").read_bytes()
    assert bfx.prepare(effect, minutes=0.05).card == found.card  # it is kept
    (proxy,) = find_proxies(effect.fix(q=1).only("gain_db"), RATE)
    assert proxy.name.startswith("prepared-")
    layer = bfx.BlackBox(effect.fix(q=1), bfx.Auto(choice="surrogate"))
    x = torch.randn(2, 1, 8000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    p = torch.full((2, 2), 0.7, requires_grad=True)
    layer(x, p).square().sum().backward()
    assert "chosen" in layer.explain() and bool((p.grad != 0).all())
    more = bfx.prepare(effect, minutes=found.card.training.seconds / 60 + 0.05)
    assert more.card.training.steps > found.card.training.steps
    assert (more.folder / "weights.safetensors").read_bytes() != trained
    write_prepared_page(tmp_path / "index.html", [more])
    page = (tmp_path / "index.html").read_text()
    assert "PeakFilter" in page and "times the forward" in page and more.certificate.what in page


def test_a_step_is_timed_beside_the_accuracy_of_its_gradients():
    found = {s.way: s for s in measure([*ways(["pedalboard:PeakFilter"]), ways(())[-1]], 2, 0.4)}
    (bare,) = measure(ways(["pedalboard:Delay"], unprepared=True), 2, 0.4)
    assert bare.way == "unprepared" and "audio Surrogate(identified)" in bare.by and bare.audio_cosine > 0.99
    layer, twins = found["default"], found["autodiff"]
    assert layer.audio_cosine > 0.99 and twins.params_cosine > 0.98 and twins.audio_cosine > 0.99
    assert all(s.forward > 0 and s.both > 0 and s.first > 0 for s in found.values())
    assert len(step_table([layer, twins])[1]) == len(step_table([])[0])
    assert "params" in layer.by and not twins.by


def test_an_effect_without_free_parameters_cannot_be_prepared():
    with pytest.raises(ParameterError, match="nothing to prepare"):
        bfx.prepare(bfx.load("pedalboard:Gain").only())
