"""Surrogates: exact gradients of them, and estimates made quiet by them."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import function
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators import (
    SPSA,
    Auto,
    Autodiff,
    ControlVariate,
    FiniteDifference,
    MultiplexedSPSA,
    ScoreFunction,
)
from blackbox_fx.space import Choice, Continuous, Space, Toggle
from blackbox_fx.testing import RecordingPool
from tests.calls import assert_unbiased, call, linear, many
from tests.cases import EFFECTS, RATE, SPACE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def exact(twin, one, g):
    params = one.params.double().requires_grad_()
    (twin(one.audio.double(), params, RATE) * g).sum().backward()
    return params.grad.numpy()


@pytest.mark.parametrize("name", TWINS)
def test_autodiff_is_the_gradient_of_the_function(name):
    twin, pool = TWINS[name], RecordingPool()
    one, g = call(twin.effect(), 0.1 + 0.8 * twin.space.sample(2, 0), pool=pool)
    estimate = Autodiff(twin).vjp(one, g)
    assert not pool.jobs
    assert np.allclose(estimate, exact(twin, one, g), rtol=2e-3, atol=2e-3 * float(estimate.abs().max()))


def imperfect(audio, params, rate):
    """The compressor, with every setting a tenth of the way off and three quarters as loud."""
    return 0.75 * TWINS["compressor"](audio, 0.05 + 0.9 * params, rate)


def test_a_deliberately_imperfect_surrogate_leaves_the_mean_and_takes_nine_tenths_of_the_variance():
    twin = TWINS["compressor"]
    row = 0.3 + 0.4 * twin.space.sample(1, 0)
    one, g = call(twin.effect(), row)
    truth = exact(twin, one, g)[0]
    spsa = many(twin.effect(), row, SPSA(step=2e-3, generator=seeded()), draws=100)
    control = ControlVariate(SPSA(step=2e-3, generator=seeded()), imperfect)
    first = many(twin.effect(), row, control, draws=40)  # with c = 1
    later = many(twin.effect(), row, control, draws=60)
    assert_unbiased(first, truth)
    assert_unbiased(later, truth)
    assert 1.05 < control.c < 1.7
    assert 10 * later.var(axis=0).sum() < spsa.var(axis=0).sum()


def test_a_surrogate_that_is_right_leaves_no_noise():
    """Against the exact gradient and not only in the mean: a change of sign or of c would be seen."""
    weights = torch.tensor([1.0, -2.0, 0.5])

    def surrogate(audio, params, rate):
        return audio * (params @ weights)[:, None, None]

    one, g = call(linear(weights.tolist()), np.full((2, 3), 0.4))
    truth = weights.numpy() * float((one.audio[0] * g[0]).sum())
    assert np.allclose(ControlVariate(SPSA(generator=seeded()), surrogate).vjp(one, g), truth, rtol=1e-3, atol=1e-4)


def test_c_comes_from_past_calls_only_and_travels_with_the_state():
    def surrogate(audio, params, rate):
        return audio * params.sum(dim=1)[:, None, None]  # half of the slopes

    one, g = call(linear([2.0, 2.0, 2.0]), np.full((4, 3), 0.4))
    base = SPSA(generator=seeded())
    control = ControlVariate(base, surrogate)
    assert control.c == 1
    plan = SPSA(generator=seeded()).plan(one)
    plain = plan.combine(one.project(plan, g), one.here(g))
    slope = float((one.audio[0] * g[0]).sum())
    assert np.allclose(control.vjp(one, g), plain - (plain / 2 - slope), atol=1e-4)  # c = 1, whatever was just learnt
    for _ in range(30):
        control.vjp(one, g)
    assert control.c == pytest.approx(2, abs=0.1)
    other = ControlVariate(SPSA(generator=seeded(8)), surrogate)
    other.load_state_dict(control.state_dict())
    assert other.c == control.c and torch.equal(other.vjp(one, g), control.vjp(one, g))


def test_switches_stay_as_the_base_has_them():
    """A surrogate's slope for a switch is not what switching changes."""
    effect = EFFECTS["function"]()

    def surrogate(audio, params, rate):
        return audio * (1 + params.sum(dim=1))[:, None, None] ** 3

    row = SPACE.encode({"gain_db": -3, "freq_hz": 500, "drive": 3})
    truth = FiniteDifference().vjp(*call(effect, row)).numpy()[0]
    coarse = SPACE.unit_steps > 0.1
    one, g = call(effect, row)
    estimate = ControlVariate(FiniteDifference(), surrogate).vjp(one, g).numpy()[0]
    assert np.array_equal(estimate[coarse], truth[coarse])
    assert not np.array_equal(estimate[~coarse], truth[~coarse])


def test_what_a_surrogate_cannot_do():
    one, g = call(linear([1.0, 2.0]), np.full((1, 2), 0.4))
    with pytest.raises(AudioError, match="shape"):
        Autodiff(lambda audio, params, rate: audio[..., :-1] * params.sum()).vjp(one, g)
    with pytest.raises(AudioError, match="returned NaN"):
        ControlVariate(SPSA(), lambda audio, params, rate: audio * (params.sum() - 9).sqrt()).vjp(one, g)
    with pytest.raises(AudioError, match="gradient of the function is NaN"):
        Autodiff(lambda audio, params, rate: audio * (0 * params.sum()).sqrt()).vjp(one, g)
    with pytest.raises(ParameterError, match="no gradient"):
        Autodiff(lambda audio, params, rate: audio).vjp(one, g)
    multiplexed = MultiplexedSPSA()
    moving = dataclasses.replace(SPSA(generator=seeded()).plan(one), hop=16, points=np.zeros((2, 1, 2)))
    multiplexed.plan = lambda call: moving
    with pytest.raises(ParameterError, match="MultiplexedSPSA"):
        ControlVariate(multiplexed, lambda audio, params, rate: audio * params.sum()).vjp(one, g)


@pytest.mark.parametrize(
    ("renders", "weights", "seconds", "kind", "words"),
    [
        (8, [1.0] * 4, 0.05, FiniteDifference, "central differences take 8 of 8"),
        (4, [1.0] * 4, 0.05, FiniteDifference, "one-sided differences take 4 of 4"),
        (4, [1.0] * 5, 0.05, SPSA, "too short"),
        (4, [1.0] * 5, 0.5, MultiplexedSPSA, "long enough"),
    ],
)
def test_auto_chooses_by_renders_and_clip_and_says_why(renders, weights, seconds, kind, words, caplog):
    effect, pool = linear(weights), RecordingPool()
    one, g = call(effect, np.full((1, len(weights)), 0.5), seconds=seconds, pool=pool)
    auto = Auto(renders, generator=seeded())
    assert auto.chosen is None
    with caplog.at_level(logging.INFO, "blackbox_fx"):
        auto.vjp(one, g)
        auto.vjp(one, g)
    assert isinstance(auto.chosen, kind) and words in auto.reason and words in repr(auto)
    assert len(caplog.records) == 1 and words in caplog.text and kind.__name__ in caplog.text
    if kind is SPSA:
        assert auto.chosen.pairs == 2
    assert len(pool.jobs[-1]) <= renders * (1 if kind is not MultiplexedSPSA else 5)  # segments are short renders


def test_auto_takes_switches_into_account():
    space = Space({"a": Continuous(0, 1, 0.5), "t": Toggle(), "c": Choice(tuple("uvwxyz"), "u")})
    effect = function(lambda x, sr, a, t, c: x * a, space)
    one, g = call(effect, [space.encode()])
    auto = Auto(5, generator=seeded())
    auto.vjp(one, g)
    assert isinstance(auto.chosen, SPSA) and auto.chosen.pairs == 1 and auto.cost(space) == 3


def test_score_function_as_base():
    one, g = call(linear([1.0, 2.0]), np.full((200, 2), 0.4))
    control = ControlVariate(ScoreFunction(2, generator=seeded()), lambda a, p, r: a * p.sum(dim=1)[:, None, None])
    assert_unbiased(control.vjp(one, g).numpy(), np.array([1.0, 2.0]) * float((one.audio[0] * g[0]).sum()))
