"""The score function and guided evolution strategies, by their means, their variances and what they do at bounds."""

import numpy as np
import pytest
import torch

from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import function
from blackbox_fx.estimators import FiniteDifference, GuidedES, ScoreFunction
from blackbox_fx.space import Choice, Continuous, Integer, Space, Toggle
from blackbox_fx.testing import RecordingPool
from tests.calls import assert_unbiased, call, linear, many
from tests.cases import RATE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(one, g):
    return float((one.audio[0] * g[0]).sum())


WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0])


@pytest.mark.parametrize("samples", [2, 6])
def test_the_score_functions_mean_and_variance_are_as_predicted(samples):
    """On linear slopes a over K pairs: mean a, variance (|a|^2 + a_j^2) / K."""
    one, g = call(linear(WEIGHTS), np.full((1, 4), 0.5))
    slope = WEIGHTS * unit(one, g)
    estimates = many(linear(WEIGHTS), np.full(4, 0.5), ScoreFunction(samples, generator=seeded(1)), draws=1600)
    assert_unbiased(estimates, slope)
    predicted = (np.square(slope).sum() + np.square(slope)) / (samples / 2)
    assert np.abs(estimates.var(axis=0) / predicted - 1).max() < 0.2


def test_the_score_function_agrees_with_autograd_in_the_mean():
    twin = TWINS["waveshaper"]
    row = 0.2 + 0.6 * twin.space.sample(1, 0)
    one, g = call(twin.effect(), row)
    params = one.params.double().requires_grad_()
    (twin(one.audio.double(), params, RATE) * g).sum().backward()
    estimates = many(twin.effect(), row, ScoreFunction(2, sigma=3e-3, generator=seeded()), draws=400)
    assert_unbiased(estimates, params.grad.numpy()[0])


def switches(x, sr, a, n, t, c):
    return x * (2 * a + n / 2 + (3 if t else 0) + {"u": 0, "v": 1, "w": 5}[c])


SWITCHES = Space(
    {
        "a": Continuous(0, 1, 0.5),
        "n": Integer(0, 40, 20),
        "t": Toggle(False),
        "c": Choice(("u", "v", "w"), "v"),
    }
)


@pytest.mark.parametrize("samples", [2, 4, 8, 26])
@pytest.mark.parametrize("toggle", [0.0, 0.3, 1.0])
def test_discrete_columns_hold_what_moving_there_changes(samples, toggle):
    row = [0.5, 0.5, toggle, 0.2, 0.5, 0.0]  # the option without weight is drawn too
    effect = function(switches, SWITCHES)
    one, g = call(effect, [row])
    scale = unit(one, g)
    estimates = many(effect, row, ScoreFunction(samples, generator=seeded()), draws=1600) / scale
    options = estimates[:, 3:] - estimates[:, 3:4]  # up to a constant that all options share
    assert_unbiased(np.column_stack([estimates[:, :3], options[:, 1:]]), np.array([2, 20, 3, 1, 5]))


@pytest.mark.parametrize(("samples", "renders"), [(12, 12), (22, 12), (24, 24)])
def test_switches_have_no_noise_where_every_combination_is_rendered(samples, renders):
    held = function(switches, SWITCHES).fix(a=0.5, n=20)
    estimator, pool = ScoreFunction(samples, generator=seeded()), RecordingPool()
    one, g = call(held, [[0.3, 0.2, 0.5, 0.0]], pool=pool)
    first, again = estimator.vjp(one, g), estimator.vjp(one, g)
    assert len(pool.jobs[0]) == renders == estimator.cost(held.space)
    assert torch.allclose(first, again, atol=1e-6)
    assert np.allclose([first[0, 0], first[0, 2] - first[0, 1]], np.array([3.0, 1.0]) * unit(one, g), rtol=1e-4)


def test_a_baseline_takes_the_level_out():
    """Leave-one-out: adding a constant to every score changes nothing but rounding."""
    effect = function(switches, SWITCHES)
    one, g = call(effect, np.tile(SWITCHES.encode(), (5, 1)))
    plan = ScoreFunction(8, generator=seeded()).plan(one)
    scores, here = one.project(plan, g), one.here(g)
    assert np.allclose(plan.combine(scores, here), plan.combine(scores + 100, here + 100), atol=1e-9)
    alone = ScoreFunction(2, generator=seeded()).plan(one)
    scores = one.project(alone, g)
    assert np.allclose(alone.combine(scores, here), alone.combine(scores + 100, here + 100), atol=1e-9)


@pytest.mark.parametrize("u", [0.0, 1.0, 0.03])
@pytest.mark.parametrize(
    "estimator",
    [ScoreFunction(4, sigma=0.1, generator=seeded()), GuidedES(2, step=0.1, generator=seeded())],
    ids=["ScoreFunction", "GuidedES"],
)
def test_the_gradient_is_whole_at_a_bound(u, estimator):
    effect, pool = linear([2.0, 1.0]), RecordingPool()
    one, g = call(effect, np.full((800, 2), u), pool=pool)
    estimates = estimator.vjp(one, g).numpy()
    assert_unbiased(estimates, np.array([2.0, 1.0]) * unit(one, g))
    points = pool.jobs[0].points
    assert points.min() >= 0 and points.max() <= 1
    plus, minus = np.split(points, 2)
    assert len(np.unique((plus - minus).round(12), axis=0)) == 1600  # every item and pair moves on its own


def test_guided_probes_have_the_mean_and_variance_of_their_covariance():
    """Mean C g; variance (C_jj g'Cg + (Cg)_j^2) / pairs."""
    one, g = call(linear(WEIGHTS), np.full((1, 4), 0.5))
    slope = WEIGHTS * unit(one, g)
    guided = GuidedES(2, generator=seeded(), share=0.7)
    guided.past = [np.array([1.0, 0, 0, 1.0]), np.array([0, 1.0, 0, 0])]
    covariance = guided.covariance(np.array(guided.past), np.full(4, 0.02))
    values = np.linalg.eigvalsh(covariance)
    assert np.allclose(values, [0.3 * 2 / (0.3 * 2 + 0.7 * 4)] * 2 + [1, 1])  # what lies outside shrinks as stated
    assert np.allclose(covariance @ [1, 0, 0, 1], [1, 0, 0, 1])
    estimates = many(linear(WEIGHTS), np.full(4, 0.5), guided, draws=1600)
    assert_unbiased(estimates, covariance @ slope)
    predicted = (np.diag(covariance) * (slope @ covariance @ slope) + np.square(covariance @ slope)) / 2
    assert np.abs(estimates.var(axis=0) / predicted - 1).max() < 0.2


def test_without_a_guide_probes_are_isotropic_and_unbiased():
    one, g = call(linear(WEIGHTS), np.full((1, 4), 0.5))
    estimates = many(linear(WEIGHTS), np.full(4, 0.5), GuidedES(generator=seeded()), draws=2000)
    assert_unbiased(estimates, WEIGHTS * unit(one, g))


def test_history_guides_the_next_calls_and_travels_with_the_state():
    one, g = call(linear(WEIGHTS), np.full((1, 4), 0.5))
    guided = GuidedES(2, history=3, generator=seeded())
    for _ in range(5):
        last = guided.vjp(one, g)
    assert len(guided.past) == 3 and np.allclose(guided.past[-1], last.mean(dim=0))
    other = GuidedES(2, history=3, generator=seeded(9))
    other.load_state_dict(guided.state_dict())
    assert torch.equal(other.vjp(one, g), guided.vjp(one, g))


def test_a_surrogate_that_is_right_makes_guided_probes_quiet_and_whole():
    twin = TWINS["waveshaper"]
    row = 0.2 + 0.6 * twin.space.sample(1, 0)
    one, g = call(twin.effect(), row, seconds=0.1)
    truth = FiniteDifference(3e-4).vjp(one, g).numpy()[0]
    guided = many(twin.effect(), row, GuidedES(step=2e-3, guide=twin, share=0.9, generator=seeded()), draws=200)
    blind = many(twin.effect(), row, GuidedES(step=2e-3, generator=seeded()), draws=200)
    one, g = call(twin.effect(), row)
    truth = FiniteDifference(3e-4).vjp(one, g).numpy()[0]
    assert_unbiased(guided, truth)
    assert np.square(guided - truth).sum() < 0.8 * np.square(blind - truth).sum()


def test_coarse_columns_move_singly_beside_guided_probes():
    effect = function(switches, SWITCHES)
    row = SWITCHES.encode()
    one, g = call(effect, [row])
    estimates = many(effect, row, GuidedES(generator=seeded(), step=0.02), draws=800) / unit(one, g)
    assert_unbiased(estimates[:, 2:], np.array([3, -1, 0, 4]))
