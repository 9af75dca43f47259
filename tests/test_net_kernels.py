"""Compiled kernels of nets, and their gradients, against the same in plain torch in float64."""

import math

import pytest
import torch
import torchcomp.core

from blackbox_fx.dsp.kernels import follow
from blackbox_fx.proxy.nets.convolution import convolve
from blackbox_fx.proxy.nets.kernels import KNOTS, LEVELS, look_up
from blackbox_fx.proxy.nets.stages import Curve
from blackbox_fx.proxy.nets.tails import mix_bands


def agree(function, *inputs, rtol=1e-3, plain=None):
    """The values and all gradients of a function in float32 are those in float64, to a part of their size."""
    found = []
    for dtype in (torch.float32, torch.float64):
        own = [x.detach().to(dtype).requires_grad_() for x in inputs]
        out = (plain or function)(*own) if dtype == torch.float64 else function(*own)
        cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        found.append([out.detach(), *torch.autograd.grad(out, own, cotangent)])
    for single, double in zip(*found, strict=True):
        assert float((single.double() - double).norm()) < rtol * float(double.norm())


@pytest.mark.parametrize(("fall", "rise"), [(0.002, 0.1), (0.1, 0.002)])
def test_a_follower(fall, rise):
    torch.manual_seed(0)
    x, start = torch.randn(2, 900), torch.tensor([0.3, -0.2])
    plain = torchcomp.core.compressor_core
    agree(follow, x, start, torch.full((2,), fall), torch.full((2,), rise), plain=plain)
    inputs = [v.double().requires_grad_() for v in (x[:, :50], start, torch.full((2,), fall), torch.full((2,), rise))]
    assert torch.autograd.gradcheck(follow, inputs)


def test_a_table_over_the_level():
    torch.manual_seed(0)
    level = 10 ** (torch.rand(2, 900) * 12 - 9)  # also beyond both ends
    agree(look_up, level, torch.randn(2, KNOTS).cumsum(1))
    knots = torch.from_numpy(LEVELS).log10()[None]
    true = level.clamp(float(LEVELS[0]), float(LEVELS[-1])).log10()
    torch.testing.assert_close(look_up(level, knots.repeat(2, 1)), true, rtol=0, atol=1e-5)


def test_a_curve_by_splines():
    torch.manual_seed(0)
    stage, doubled = Curve(1), Curve(1).double()
    numbers = torch.cat(
        [torch.ones(2, 1), torch.randn(2, 8), torch.linspace(0, math.log(300), 8).repeat(2, 1), torch.randn(2, 8)], 1
    )
    x = torch.randn(2, 900) * 10 ** (3 * torch.rand(2, 900) - 2.5)

    def curve(x, numbers):
        own = stage if x.dtype == torch.float32 else doubled
        own.predict.forward = lambda p: numbers
        return own(x, numbers)

    agree(curve, x, numbers, rtol=5e-4)


def test_a_convolution():
    torch.manual_seed(0)

    def plain(x, response):
        padded = torch.nn.functional.pad(x, (response.shape[1] - 1, 0))
        return torch.stack(
            [torch.conv1d(a[None, None], b.flip(0)[None, None])[0, 0] for a, b in zip(padded, response, strict=True)]
        )

    agree(convolve, torch.randn(2, 500), torch.randn(2, 90), plain=plain, rtol=1e-5)
    agree(convolve, torch.randn(2, 50), torch.randn(2, 90), plain=plain, rtol=1e-5)


def test_bands_with_envelopes():
    torch.manual_seed(0)
    agree(mix_bands, torch.randn(3, 700), torch.rand(2, 3, 3), torch.rand(2, 3, 256), rtol=1e-5)
