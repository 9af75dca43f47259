"""Losses that are no torch functions."""

import dataclasses

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators import Probing
from blackbox_fx.testing import RecordingPool
from tests.calls import assert_unbiased
from tests.cases import RATE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gain(batch, value=0.5, pool=None):
    effect = bfx.function(lambda x, sr, g, b: x * g + b, bfx.Space({n: bfx.Continuous(0, 1, 0.5) for n in "gb"}))
    layer = bfx.BlackBox(effect, pool=pool, sample_rate=RATE)
    return layer, torch.ones(batch, 2, 8), torch.full((batch, 2), value, requires_grad=True)


def peak(wet):
    assert wet.shape == (2, 8) and wet.dtype == np.float32
    return 3 * wet.max() + np.round(wet.mean())


@pytest.mark.parametrize(
    "estimator",
    [None, bfx.ScoreFunction(generator=seeded()), bfx.SPSA(generator=seeded()), bfx.GuidedES(generator=seeded())],
    ids=["default", "ScoreFunction", "SPSA", "GuidedES"],
)
def test_params_get_the_gradient_of_the_mean_loss(estimator):
    torch.manual_seed(0)
    layer, audio, params = gain(400, 0.2)
    loss = bfx.expected_loss(layer, audio, params, peak, estimator)
    assert loss.shape == () and loss.item() == pytest.approx(3 * 0.4)
    (2 * loss).backward()
    # the step of `round` at 0.5 is seen by what reaches it: its density under the two Gaussians' sum, around 0.4
    blurred = estimator is None or isinstance(estimator, bfx.ScoreFunction)
    spread = 0.05 * np.sqrt(2)
    step = np.exp(-((0.1 / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi)) if blurred else 0
    assert_unbiased(params.grad.numpy() * 400 / 2, np.array([3.0, 3.0]) + step)


def test_finite_differences_are_exact_and_the_layers_own_estimator_stays_out():
    pool = RecordingPool()
    layer, audio, params = gain(3, pool=pool)
    bfx.expected_loss(layer, audio, params, lambda wet: float(wet.sum()), bfx.FiniteDifference()).backward()
    assert np.allclose(params.grad, 16 / 3, rtol=1e-3)
    assert [len(job) for job in pool.jobs] == [3, 3 * 4] and all(job.sample_rate == RATE for job in pool.jobs)


def test_training_on_a_step_finds_its_edge():
    """A loss that is flat wherever it has a derivative."""
    layer, audio, _ = gain(4)
    level = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([level], 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        params = level.sigmoid().expand(4, 2)
        estimator = bfx.ScoreFunction(generator=seeded(len(optimizer.state)))
        bfx.expected_loss(layer, audio, params, lambda wet: round(20 * abs(wet.mean() - 1.6)), estimator).backward()
        optimizer.step()
    assert level.sigmoid().sum().item() == pytest.approx(1.6, abs=0.1)


def test_no_gradient_is_asked_for_and_none_is_paid():
    pool = RecordingPool()
    layer, audio, params = gain(2, pool=pool)
    assert not bfx.expected_loss(layer, audio, params.detach(), peak).requires_grad
    with torch.no_grad():
        bfx.expected_loss(layer, audio, params, peak)
    assert len(pool.jobs) == 2
    listening = audio.clone().requires_grad_()
    bfx.expected_loss(layer, listening, params, peak).backward()
    assert listening.grad is None and params.grad is not None


class Stretched(Probing):
    """Asks for scores for stretches of time."""

    def plan(self, call):
        return dataclasses.replace(bfx.SPSA(generator=seeded()).plan(call), stretch=4)

    def cost(self, space):
        return 2


@pytest.mark.parametrize(
    ("loss_fn", "estimator", "words"),
    [
        (lambda wet: float("nan"), None, "finite"),
        (lambda wet: 1.0 if wet.max() == 1 else float("inf"), bfx.ScoreFunction(generator=seeded()), "returned inf"),
        (lambda wet: "loud", None, "must return a number, got str"),
        (lambda wet: "3", None, "must return a number, got str"),
        (lambda wet: wet, None, "must return a number, got ndarray"),
        (peak, bfx.Autodiff(lambda a, p, r: a), "got Autodiff"),
        (peak, Stretched(), "stretches of time"),
    ],
)
def test_mistakes_get_one_clear_sentence(loss_fn, estimator, words):
    layer, audio, params = gain(2)
    with pytest.raises(ParameterError, match=words):
        bfx.expected_loss(layer, audio, params, loss_fn, estimator)


def test_what_cannot_have_an_expected_loss():
    layer = bfx.BlackBox(bfx.load("pedalboard:Gain"))
    audio, params = torch.ones(1, 1, 100), torch.full((1, 1), 0.5)
    for arguments, words in (
        ((bfx.Chain([bfx.load("pedalboard:Gain")]), audio, params, np.max), "of a Rack"),
        ((layer, audio, params, 3), "function of audio"),
        ((layer, audio[:0], params[:0], np.max), "empty batch"),
    ):
        with pytest.raises(ParameterError, match=words):
            bfx.expected_loss(*arguments)
