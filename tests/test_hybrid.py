"""An effect and its proxy as one layer: whose output, whose gradient, and at whose output."""

import copy
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import blackbox_fx as bfx
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.estimators import Call
from blackbox_fx.layers.black_box import report_failures
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.nets import Structured
from blackbox_fx.testing import RecordingPool
from tests.calls import assert_unbiased
from tests.cases import RATE, music
from tests.trouble import fussy

MODES = ("full", "half", "plain")


def effect():
    return bfx.load("pedalboard:Compressor").only("threshold_db", "ratio", "attack_ms")


def imitation(of, seed=0):
    """A proxy that was never trained: another function of audio and params, and of the right kind."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Structured(of.space.width, RATE, filters=1)
        for weight in net.parameters():  # nets begin near a wire; this one shall do something
            weight.data += 0.05 * torch.randn_like(weight)
    return Proxy(net, of.space, of.name, of.fingerprint)


def hybrid(mode="full", **options):
    return bfx.Hybrid(effect(), imitation(effect()), mode, **options)


def inputs(layer, batch=2, channels=2, seconds=0.05, dtype=torch.float32):
    audio = torch.stack([torch.from_numpy(music(seconds, channels, seed=k)) for k in range(batch)])
    params = torch.from_numpy(0.2 + 0.6 * layer.effect.space.sample(batch, 0))
    return audio.to(dtype).requires_grad_(), params.to(dtype).requires_grad_()


def loss_of(wet):
    """Its gradient depends on where it is taken."""
    return (wet * torch.linspace(0, 1, wet.shape[-1])).square().sum()


def grads(layer, audio, params):
    wet = layer(audio, params)
    return wet.detach(), *torch.autograd.grad(loss_of(wet), (audio, params))


def pulled_back(layer, audio, params, at):
    """The gradients of the proxy, for the gradient of the loss at some output."""
    at = at.detach().requires_grad_()
    (g,) = torch.autograd.grad(loss_of(at), at)
    return torch.autograd.grad(layer.proxy(audio, params, RATE), (audio, params), g)


def close(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def rendered(layer, audio, params):
    with torch.no_grad():
        return bfx.BlackBox(layer.effect, sample_rate=RATE)(audio, params)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_full_is_the_effect_forward_and_the_proxy_backward_at_the_real_output(batch, channels):
    layer = hybrid()
    audio, params = inputs(layer, batch, channels)
    real, imitated = rendered(layer, audio, params), layer.proxy(audio, params, RATE)
    wet, *found = grads(layer, audio, params)
    assert torch.equal(wet, real) and not torch.allclose(imitated, real, rtol=0.1)
    for own, right, wrong in zip(
        found, pulled_back(layer, audio, params, real), pulled_back(layer, audio, params, imitated), strict=True
    ):
        assert close(own, right) and not torch.allclose(own, wrong, rtol=0.05)


def test_full_is_what_an_estimator_and_a_rule_give():
    layer = hybrid()
    proxy = layer.proxy
    black_box = bfx.BlackBox(layer.effect, bfx.Autodiff(proxy), audio_rule=bfx.Surrogate(proxy), sample_rate=RATE)
    audio, params = inputs(layer)
    for other in (black_box, layer.real):
        assert all(map(close, grads(other, audio, params), grads(layer, audio, params)))


def test_full_does_not_train_as_plain_does():
    """What the published code of the full hybrid did."""
    full, plain = hybrid(), hybrid("plain")
    audio, params = inputs(full)
    for own, other in zip(grads(full, audio, params), grads(plain, audio, params), strict=True):
        assert not torch.allclose(own, other, rtol=0.05)


def test_half_is_the_proxy_in_training_and_the_effect_in_evaluation():
    layer = hybrid("half")
    audio, params = inputs(layer)
    real, imitated = rendered(layer, audio, params), layer.proxy(audio, params, RATE).detach()
    wet, *found = grads(layer, audio, params)
    assert torch.equal(wet, imitated)
    assert all(map(close, found, pulled_back(layer, audio, params, imitated)))
    wet, *found = grads(layer.eval(), audio, params)
    assert torch.equal(wet, real)
    assert all(map(close, found, pulled_back(layer, audio, params, real)))  # asked for, it is that of full
    assert torch.equal(layer.train()(audio, params), imitated)


def test_plain_is_the_proxy_always_and_renders_nothing():
    pool = RecordingPool()
    layer = hybrid("plain", pool=pool)
    audio, params = inputs(layer)
    imitated = layer.proxy(audio, params, RATE).detach()
    for training in (True, False):
        wet, *found = grads(layer.train(training), audio, params)
        assert torch.equal(wet, imitated)
        assert all(map(close, found, pulled_back(layer, audio, params, imitated)))
    assert not pool.jobs


@pytest.mark.parametrize(("mode", "renders"), [("full", 2), ("half", 0), ("plain", 0)])
def test_a_gradient_costs_no_render(mode, renders):
    pool = RecordingPool()
    layer = hybrid(mode, pool=pool)
    grads(layer, *inputs(layer))
    assert sum(map(len, pool.jobs)) == renders


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_training_leaves_the_weights_of_the_proxy_alone(mode, asks):
    layer = hybrid(mode)
    layer.proxy.requires_grad_(asks)
    before = copy.deepcopy(layer.proxy.state_dict())
    audio, params = inputs(layer)
    optimizer = torch.optim.AdamW([params, *layer.parameters()], 0.1, weight_decay=0.1)
    loss_of(layer(audio, params)).backward()
    optimizer.step()
    assert (params.grad != 0).any() and (audio.grad != 0).any()
    assert all(w.grad is None and w.requires_grad == asks for w in layer.proxy.parameters())
    assert all(torch.equal(before[name], w) for name, w in layer.proxy.state_dict().items())


@pytest.mark.parametrize("mode", MODES)
def test_only_what_is_asked_for(mode):
    layer = hybrid(mode)
    audio, params = inputs(layer)
    loss_of(layer(audio.detach(), params)).backward()
    assert audio.grad is None and (params.grad != 0).any()
    params.grad = None
    loss_of(layer(audio, params.detach())).backward()
    assert params.grad is None and (audio.grad != 0).any()
    with torch.no_grad():
        assert not layer(audio, params).requires_grad
    with torch.inference_mode():
        layer(audio, params)
    assert not layer(audio.detach(), params.detach()).requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_a_copy_a_pickle_and_a_state_are_the_same_layer(mode):
    layer = hybrid(mode)
    audio, params = inputs(layer)
    expected = grads(layer, audio, params)
    other = bfx.Hybrid(effect(), imitation(effect(), seed=5), mode)
    other.load_state_dict(layer.state_dict())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
        assert all(map(torch.equal, grads(twin, audio, params), expected))
    assert all(name.startswith("proxy.") or name.endswith("_extra_state") for name in layer.state_dict())


def test_a_file_of_weights_holds_it():
    """Tensors that two modules share could not be written."""
    layer = hybrid()
    other = bfx.Hybrid(effect(), imitation(effect(), seed=5))
    other.load_state_dict(safetensors.torch.load(safetensors.torch.save(layer.state_dict())))
    assert all(map(torch.equal, layer.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_floating_types_and_autocast(mode, dtype):
    layer = hybrid(mode)
    audio, params = inputs(layer, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        wet = layer(audio, params)
    wet.square().mean().backward()
    assert wet.dtype == torch.float32 and audio.grad.dtype == params.grad.dtype == dtype
    assert (params.grad != 0).any()


def test_gradients_in_evaluation_on_any_device():
    """A recurrent network of cuDNN has none in evaluation: the proxy has to stay in training."""
    layer = hybrid().eval()
    assert all(module.training for module in layer.proxy.modules()) and not layer.training


FUSSY = bfx.function(fussy, bfx.Space({name: bfx.Continuous(0, 1, 0.5) for name in "abc"}))


def test_failed_items_are_dry_and_without_gradient():
    with bfx.Processes(1, deadline=30, on_failure="skip") as pool:
        layer = bfx.Hybrid(FUSSY, imitation(FUSSY), pool=pool)
        audio, _ = inputs(layer)
        audio.data[1, :, 0] = 2
        params = torch.full((2, 3), 0.5, requires_grad=True)
        wet = layer(audio, params)
        loss_of(wet).backward()
        assert (
            layer.failed.tolist() == [False, True] and pool.counters.skipped == 1 and len(report_failures(layer)) == 1
        )
    assert torch.equal(wet[1], audio[1]) and not torch.equal(wet[0], audio[0])
    assert not params.grad[1].any() and not audio.grad[1].any() and params.grad[0].all() and audio.grad[0].any()


def test_names_are_the_same_wherever_they_come_from():
    read = "".join(list("threshold_db")), "ratio"  # as from a file: another object than the literal
    own = bfx.load("pedalboard:Compressor")
    assert own.only(*read).fingerprint == own.only("threshold_db", "ratio").fingerprint
    assert own.only(*read).fingerprint == own.only(*own.space.columns[:2]).fingerprint
    assert own.only("ratio").fingerprint != own.only("threshold_db").fingerprint


@pytest.mark.parametrize("mode", MODES)
def test_no_clips_give_no_sound_and_no_gradient(mode):
    layer = hybrid(mode)
    audio, params = (x[:0].detach().requires_grad_() for x in inputs(layer))
    wet = layer(audio, params)
    wet.sum().backward()
    assert wet.shape == audio.shape == audio.grad.shape and params.grad.shape == (0, 3)


def test_failures_are_raised():
    layer = bfx.Hybrid(FUSSY, imitation(FUSSY), pool=bfx.Inline())
    with pytest.raises(EffectError, match="on purpose"):
        layer(torch.full((1, 1, 100), 2.0), torch.full((1, 3), 0.5))


def test_hybrids_go_into_chains():
    comp, gain = hybrid(), bfx.load("pedalboard:Gain")
    chain = bfx.Chain({"comp": comp, "gain": gain}, estimator=bfx.FiniteDifference(), audio_rule=bfx.TimeReversal())
    assert chain.columns[0] == "comp.threshold_db" and chain.sample_rate == RATE
    audio, params = inputs(comp)
    params = torch.cat([params, params[:, :1]], 1).detach().requires_grad_()
    wet = chain(audio, params)
    loss_of(wet).backward()
    assert torch.equal(wet.detach(), rendered(bfx.BlackBox(gain), rendered(comp, audio, params[:, :3]), params[:, 3:]))
    assert (params.grad != 0).all() and (audio.grad != 0).any()
    with pytest.raises(EffectError, match="Hybrid"):
        bfx.Chain([nn.Linear(2, 2)])


def test_what_does_not_fit_is_said():
    own, other = effect(), bfx.load("pedalboard:Gain")
    with pytest.raises(ParameterError, match=r"threshold_db.*gain_db"):
        bfx.Hybrid(other, imitation(own))
    with pytest.warns(UserWarning, match="another version"):
        bfx.Hybrid(own.within(threshold_db=(-40, 0)), imitation(own))
    for use in (
        {"estimator": bfx.ControlVariate(bfx.SPSA(), imitation(own))},
        {"estimator": bfx.GuidedES(guide=imitation(own))},
        {"audio_rule": bfx.Surrogate(imitation(own))},
    ):
        with pytest.warns(UserWarning, match="another version"):
            bfx.BlackBox(own.within(threshold_db=(-40, 0)), **use)
    with pytest.raises(ParameterError, match="guide must be a function"):
        bfx.GuidedES(guide="x")
    with pytest.raises(ParameterError, match="full, half, plain, got 'fulll'"):
        bfx.Hybrid(own, imitation(own), "fulll")
    with pytest.raises(ParameterError, match=r"bfx\.load_proxy"):
        bfx.Hybrid(own, lambda audio, params, rate: audio)
    with pytest.raises(ParameterError, match=r"refresh must be a Refresh.*got True"):
        bfx.Hybrid(own, imitation(own), refresh=True)
    layer = hybrid("plain")
    with pytest.raises(ParameterError, match="full, half, plain, got 'fulll'"):
        layer.mode = "fulll"
    audio, params = inputs(layer)
    for wrong in ((audio.detach().numpy(), params), (audio, params.tolist())):
        with pytest.raises(ParameterError, match="must be a tensor"):
            layer(*wrong)
    with pytest.raises(AudioError, match="sample_rate must be a number"):
        layer.proxy(audio, params, "44100")
    with pytest.raises(ParameterError, match=r"allowed is \[0, 1\]"):
        layer(audio, params + 1)
    next(layer.proxy.parameters()).data.fill_(float("nan"))
    with pytest.raises(AudioError, match="NaN"):
        layer(audio, params)


@pytest.fixture(scope="module")
def trained():
    """A proxy that is roughly right."""
    own = bfx.load("pedalboard:Compressor").only("threshold_db", "ratio")
    proxy = imitation(own)
    refresh = bfx.Refresh(proxy, learning_rate=1e-2, batch=4, capacity=4)
    black_box = bfx.BlackBox(own, bfx.SPSA(), sample_rate=RATE)
    refresh.watch(black_box)
    audio, params = inputs(black_box, 4, 1)
    black_box(audio, params)
    for _ in range(8):
        refresh.step()
    return own, proxy, black_box


def test_a_proxy_goes_wherever_a_surrogate_does(trained):
    own, proxy, black_box = trained
    audio, params = inputs(black_box, 2, 1)
    for estimator in (bfx.ControlVariate(bfx.SPSA(), proxy), bfx.GuidedES(guide=proxy), bfx.Autodiff(proxy)):
        layer = bfx.BlackBox(own, estimator, audio_rule=bfx.Surrogate(proxy), sample_rate=RATE)
        wet, *found = grads(layer, audio, params)
        assert torch.equal(wet, rendered(layer, audio, params))
        assert all((g != 0).any() and torch.isfinite(g).all() for g in found)
    assert all(w.grad is None for w in proxy.parameters())


def test_as_control_variate_an_imperfect_proxy_leaves_no_bias(trained):
    own, proxy, _ = trained
    draws = 40
    audio = torch.from_numpy(music(0.05, 1))[None].expand(draws, -1, -1)
    params = torch.tensor([[0.35, 0.4]]).expand(draws, -1)
    g = torch.from_numpy(music(0.05, 1, seed=1)).expand_as(audio)
    output = rendered(bfx.BlackBox(own), audio[:1], params[:1]).expand_as(audio)
    call = Call(own, bfx.Inline(), RATE, audio, params, output)
    one = Call(own, bfx.Inline(), RATE, audio[:1], params[:1], output[:1])
    truth = bfx.FiniteDifference(0.01).vjp(one, g[:1]).numpy()[0]
    wrong = bfx.Autodiff(proxy).vjp(one, g[:1]).numpy()[0]
    estimate = bfx.ControlVariate(bfx.SPSA(step=0.01, generator=torch.Generator().manual_seed(0)), proxy)
    found = estimate.vjp(call, g).numpy()
    assert np.linalg.norm(wrong - truth) > 0.05 * np.linalg.norm(truth)
    assert_unbiased(found, truth)
