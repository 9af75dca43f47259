"""Proxies that go on learning from renders that are made anyway."""

import copy

import numpy as np
import pytest
import safetensors.torch
import torch

import blackbox_fx as bfx
from blackbox_fx.errors import AudioError, DataError, ParameterError
from blackbox_fx.losses.error import esr
from blackbox_fx.testing import RecordingPool
from tests.cases import RATE, music
from tests.test_hybrid import effect, imitation, inputs


def made(**options):
    pool, proxy = RecordingPool(), imitation(effect())
    refresh = bfx.Refresh(proxy, **options)
    layer = bfx.Hybrid(effect(), proxy, pool=pool, refresh=refresh)
    return layer, refresh, pool


def test_the_renders_of_training_are_kept_as_they_were():
    layer, refresh, _ = made(seconds=0.06, capacity=5)
    audio, params = inputs(layer, 2, 2, seconds=0.08)
    wet = layer(audio, params).detach()
    assert len(refresh) == refresh.kept == 4
    length = round(0.06 * RATE)
    for k, clip in enumerate(refresh.clips):
        item, channel = divmod(k, 2)
        assert torch.equal(clip.audio, audio[item, channel, :length]) and torch.equal(clip.params, params[item])
        assert torch.equal(clip.wet, wet[item, channel, :length])
    audio.data.zero_()
    assert refresh.clips[0].audio.any()  # a copy
    layer(audio=inputs(layer, 2, 2, seconds=0.07)[0], params=params)
    assert len(refresh) == 5 and refresh.kept == 8  # the oldest went


def test_what_is_not_kept():
    layer, refresh, _ = made()
    audio, params = inputs(layer, seconds=0.06)
    layer.eval()(audio, params)
    assert not refresh.kept and not refresh.skipped
    layer.train()(torch.zeros_like(audio), params)
    layer(audio[..., :1000], params)
    assert not refresh.kept and refresh.skipped == 8
    refresh.keep(audio, params, audio, np.array([True, False]))
    assert refresh.kept == 2 and torch.equal(refresh.clips[0].params, params[1])


def test_it_learns_where_renders_are_made_and_makes_none():
    layer, refresh, pool = made(learning_rate=5e-3)
    audio, params = inputs(layer, 4, 1, seconds=0.1)
    wet = layer(audio, params).detach()
    rendered = len(pool.jobs)
    before = esr(layer.proxy(audio, params, RATE), wet).mean()
    losses = [refresh.step() for _ in range(15)]
    after = esr(layer.proxy(audio, params, RATE), wet).mean()
    assert after < 0.5 * before and min(losses[-3:]) < losses[0] and refresh.steps == 15
    assert len(pool.jobs) == rendered == 1
    assert all(w.grad is None for w in layer.proxy.parameters())


def test_nothing_kept_is_no_step():
    _, refresh, _ = made()
    assert refresh.step() is None and refresh.steps == 0


def test_any_layer_can_be_watched_until_it_is_not():
    own = effect()
    refresh = bfx.Refresh(imitation(own))
    black_box = bfx.BlackBox(own, bfx.ControlVariate(bfx.SPSA(), refresh.proxy), sample_rate=RATE)
    handle = refresh.watch(black_box)
    audio, params = inputs(black_box, 2, 1, seconds=0.06)
    black_box(audio.detach(), params).square().sum().backward()
    assert refresh.kept == 2  # the renders of the backward pass stay where they are
    handle.remove()
    black_box(audio, params)
    assert refresh.kept == 2


def test_between_forward_and_backward_it_may_not_step():
    layer, refresh, _ = made()
    audio, params = inputs(layer, 2, 1, seconds=0.06)
    wet = layer(audio, params)
    refresh.step()
    with pytest.raises(RuntimeError, match="inplace"):
        wet.sum().backward()


def test_it_goes_on_as_if_it_had_never_stopped():
    layer, refresh, _ = made()
    audio, params = inputs(layer, 2, 1, seconds=0.06)
    layer(audio, params)
    layer(audio[..., :2100], params)
    refresh.step()
    state = safetensors.torch.load(safetensors.torch.save(refresh.state_dict()))
    other, resumed, _ = made()
    other.load_state_dict(layer.state_dict())
    resumed.load_state_dict(state)
    twin = copy.deepcopy(layer)
    for _ in range(2):
        refresh.step(), resumed.step(), twin.refresh.step()
    for weights in (other.state_dict(), twin.state_dict()):
        assert all(map(torch.equal, weights.values(), layer.state_dict().values()))
    assert (resumed.kept, resumed.skipped, resumed.steps) == (refresh.kept, refresh.skipped, refresh.steps) == (4, 0, 3)
    twin(audio, params)
    assert len(twin.refresh) == 6 and len(refresh) == 4  # each its own


def test_the_same_seed_draws_the_same():
    draws = []
    for seed in (0, 0, 1):
        layer, refresh, _ = made(seed=seed, batch=1)
        layer(*inputs(layer, 4, 1, seconds=0.06))
        draws.append([refresh.step() for _ in range(2)])
    assert draws[0] == draws[1] != draws[2]


def test_what_does_not_fit_is_said():
    own = effect()
    proxy = imitation(own)
    for options in ({"learning_rate": 0}, {"batch": 0}, {"capacity": 1.5}, {"seconds": -1}, {"seed": -1}):
        with pytest.raises(ParameterError, match=next(iter(options))):
            bfx.Refresh(proxy, **options)
    with pytest.raises(ParameterError, match="frozen"):
        bfx.Refresh(imitation(own).requires_grad_(False))
    refresh = bfx.Refresh(proxy)
    with pytest.raises(ParameterError, match="44100 Hz"):
        refresh.watch(bfx.BlackBox(own, sample_rate=48000))
    with pytest.raises(ParameterError, match="same parameters"):
        refresh.watch(bfx.BlackBox(bfx.load("pedalboard:Gain"), sample_rate=RATE))
    for mode, of in (("half", proxy), ("full", imitation(own))):
        with pytest.raises(ParameterError, match="same proxy"):
            bfx.Hybrid(own, of, mode, refresh=refresh)
    audio = torch.from_numpy(music(0.06, 1))[None]
    refresh.keep(audio, torch.full((1, 3), 0.5), audio, np.zeros(1, bool))
    next(proxy.parameters()).data.fill_(float("nan"))
    with pytest.raises(AudioError, match="NaN"):
        refresh.step()


def test_what_is_no_state_changes_nothing():
    layer, refresh, _ = made()
    layer(*inputs(layer, 1, 1, seconds=0.08))
    refresh.step()
    state = refresh.state_dict()
    other = {**state, "adam.0.exp_avg": torch.zeros(3)}
    for wrong in ({}, other, {**state, "adam.999.exp_avg": torch.zeros(3)}, {**state, "params": torch.zeros(1, 9)}, 3):
        with pytest.raises(DataError, match=r"^[^\n]*no state of a refresh[^\n]*\.$"):
            refresh.load_state_dict(wrong)
    assert all(torch.equal(state[name], value) for name, value in refresh.state_dict().items())
    assert repr(refresh) == "Refresh(pedalboard:Compressor, clips=1, kept=1, skipped=0, steps=1)"
    with pytest.raises(ParameterError, match="proxy must be a Proxy"):
        bfx.Refresh("zam-tube")


def trained(since, until, state=None, keep=None):
    """Steps of a run that prepares its effect: what gave the gradients at each, and the state before step `keep`."""
    target = bfx.load("pedalboard:LowShelfFilter").within(cutoff_frequency_hz=(200, 2000)).fix(q=0.7)
    proxy = bfx.start_proxy(target, seed=1)
    refresh = bfx.Refresh(proxy, learning_rate=4e-3)
    estimator = bfx.Auto(choice="error", generator=torch.Generator().manual_seed(0))
    rule = bfx.Verified(choice="error", recheck=40)
    layer = bfx.BlackBox(target, estimator, audio_rule=rule, pool=bfx.Inline(), surrogates=[proxy])
    refresh.watch(layer)
    if state is not None:
        layer.load_state_dict(state[0])
        proxy.load_state_dict(state[1])
        refresh.load_state_dict(state[2])
    audio, used = torch.from_numpy(np.stack([music(0.4, 1, k) for k in range(4)])), []
    kept = None
    for k in range(since, until):
        if k == keep:
            kept = [copy.deepcopy(part.state_dict()) for part in (layer, proxy, refresh)]
        p = torch.from_numpy(target.space.sample(4, k)).float().requires_grad_()
        layer(audio.clone().requires_grad_(), p).square().sum().backward()
        used.append((estimator.in_use, rule.in_use))
        for _ in range(4):
            refresh.step()
    return used, kept


def test_a_run_prepares_its_effect_and_takes_over_where_seed_and_data_say():
    used, state = trained(0, 82, keep=30)
    assert used[0] == ("FiniteDifference", "TimeReversal()")
    assert used[80] == ("pedalboard:LowShelfFilter", "Surrogate(pedalboard:LowShelfFilter)")
    resumed, _ = trained(30, 82, state)
    assert resumed == used[30:]
