"""Layers under torch.func: reverse mode gives what backward gives, and what cannot be is one sentence."""

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import blackbox_fx as bfx
from blackbox_fx.errors import AudioError, EffectError, ParameterError

AUDIO = 0.1 * torch.randn(3, 2, 1000, generator=torch.Generator().manual_seed(0))
DISTORTION = bfx.load("pedalboard:Distortion")
LAYERS = {
    "layer": lambda: bfx.BlackBox(
        bfx.load("pedalboard:Distortion"), bfx.FiniteDifference(), audio_rule=bfx.Pointwise()
    ),
    "chain": lambda: bfx.Chain(
        [bfx.load("pedalboard:Distortion"), bfx.load("pedalboard:Gain")],
        bfx.FiniteDifference(),
        audio_rule=bfx.Pointwise(),
    ),
    "processes": lambda: bfx.BlackBox(
        bfx.load("pedalboard:Distortion"), bfx.FiniteDifference(), pool=bfx.Processes(1), lookahead=True
    ),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]()


def params(layer):
    return torch.linspace(0.2, 0.7, 3 * layer.width).view(3, layer.width)


def levels(layer):
    return lambda p: layer(AUDIO, p).square().mean(dim=(1, 2))


def backward(layer, p):
    p = p.clone().requires_grad_()
    levels(layer)(p).sum().backward()
    return p.grad


def test_grad_and_vjp_are_those_of_backward(layer):
    p = params(layer)
    expected = backward(layer, p)
    assert torch.equal(grad(lambda p: levels(layer)(p).sum())(p), expected)
    assert torch.equal(vjp(levels(layer), p)[1](torch.ones(3))[0], expected)
    assert torch.equal(grad(lambda p: functional_call(layer, {}, (AUDIO, p)).square().mean((1, 2)).sum())(p), expected)


def test_jacobians_and_maps_are_stacks_of_gradients(layer):
    p = params(layer)
    expected = backward(layer, p)
    jacobian = jacrev(levels(layer))(p)
    torch.testing.assert_close(torch.stack([jacobian[k, k] for k in range(3)]), expected)
    assert all(not jacobian[k, j].any() for k in range(3) for j in range(3) if j != k)

    def level(audio, p):
        return layer(audio[None], p[None]).square().mean()

    torch.testing.assert_close(vmap(grad(level, argnums=1))(AUDIO, p), expected)
    torch.testing.assert_close(vmap(level)(AUDIO, p), levels(layer)(p))
    several = vmap(lambda p: layer(AUDIO, p))(torch.stack([p, 1 - p], dim=1).movedim(1, 0))
    torch.testing.assert_close(several[1], layer(AUDIO, 1 - p))


def test_gradients_of_audio_pass_through():
    layer = LAYERS["layer"]()
    audio, p = AUDIO.clone().requires_grad_(), params(layer)
    layer(audio, p).square().sum().backward()
    assert torch.equal(grad(lambda x: layer(x, p).square().sum())(AUDIO), audio.grad)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # of torch itself
@pytest.mark.parametrize("transform", [jacfwd, hessian, lambda f: lambda p: jvp(f, (p,), (p,))])
def test_forward_mode_is_refused_in_one_sentence(transform):
    layer = LAYERS["layer"]()
    with pytest.raises(EffectError, match=r"Distortion has no derivative in forward mode; use torch.func.vjp"):
        transform(levels(layer))(params(layer))


def test_second_derivatives_and_batched_gradients_are_refused_in_one_sentence():
    layer = LAYERS["layer"]()
    p = params(layer).requires_grad_()
    (first,) = torch.autograd.grad(levels(layer)(p).sum(), p, create_graph=True)
    with pytest.raises(EffectError, match="Distortion has no second derivatives"):
        first.sum().backward()
    with pytest.raises(EffectError, match=r"cannot pull batched gradients back; use torch.func.jacrev"):
        torch.autograd.functional.jacobian(levels(layer), params(layer), vectorize=True)


def test_mistakes_are_named_under_vmap():
    layer = LAYERS["layer"]()
    with pytest.raises(ParameterError, match="allowed is"):
        vmap(lambda p: layer(AUDIO[:1], p))(torch.full((2, 1, 1), 1.5))
    with pytest.raises(AudioError, match="audio contains NaN"):
        vmap(lambda x: layer(x, params(layer)))(AUDIO[None] * torch.nan)
