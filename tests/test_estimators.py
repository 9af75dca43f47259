"""Estimators against autograd on the twins, against central differences on real effects, and by their statistics."""

import dataclasses
import inspect

import numpy as np
import pytest
import torch

import blackbox_fx.estimators as estimators
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import function, load
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators import (
    SPSA,
    AudioRule,
    Auto,
    Autodiff,
    ControlVariate,
    Estimator,
    FiniteDifference,
    GuidedES,
    MultiplexedSPSA,
    ScoreFunction,
)
from blackbox_fx.estimators.stochastic import signs
from blackbox_fx.space import Choice, Continuous, Integer, Space, Toggle
from blackbox_fx.testing import RecordingPool
from tests.calls import assert_unbiased, call, linear, many
from tests.cases import AUDIO_RULES, EFFECTS, ESTIMATORS, RATE, SPACE, mixed, scaled


def test_nothing_is_listed_and_untested():
    classes = [c for c in vars(estimators).values() if inspect.isclass(c)]
    concrete = {c for c in classes if not inspect.isabstract(c)}
    made = {type(make()) for make in ESTIMATORS.values()}
    assert {c for c in concrete if issubclass(c, Estimator)} == made
    assert {c.__name__ for c in concrete if issubclass(c, AudioRule)} == set(AUDIO_RULES)


# ranges in which a step moves a delay by a small part of a sample, or few samples to where the limiter cuts them off
NARROW = {
    "feedback_delay": {"delay_s": (0.01, 0.0101)},
    "chorus": {"rate_hz": (2, 2.01), "depth": (0.3, 0.301), "centre_delay_ms": (10, 10.01)},
    "limiter": {"threshold_db": (-8, -7.5)},
}


def narrow(name):
    return dataclasses.replace(TWINS[name], space=TWINS[name].space.within(NARROW.get(name, {})))


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("seed", range(3))
def test_finite_differences_agree_with_autograd(name, seed):
    twin = narrow(name)
    row = 0.1 + 0.8 * twin.space.sample(1, seed)
    one, g = call(twin.effect(), row, seconds=0.2)
    g = one.audio if name == "limiter" else g  # with the other music, what it cuts off cancels almost everything
    params = one.params.double().requires_grad_()
    (twin(one.audio.double(), params, RATE) * g).sum().backward()
    estimate = FiniteDifference(step=3e-4).vjp(one, g)
    assert torch.linalg.norm(estimate - params.grad) <= 1e-3 * torch.linalg.norm(params.grad)


@pytest.mark.parametrize("name", TWINS)
def test_spsa_agrees_with_autograd_in_the_mean(name):
    twin = narrow(name)
    row = 0.1 + 0.8 * twin.space.sample(1, 0)
    one, g = call(twin.effect(), row)
    params = one.params.double().requires_grad_()
    (twin(one.audio.double(), params, RATE) * g).sum().backward()
    estimates = many(twin.effect(), row, SPSA(step=2e-3, generator=torch.Generator().manual_seed(0)), draws=400)
    assert_unbiased(estimates, params.grad.numpy()[0])


@pytest.mark.parametrize("name", ["pedalboard:Compressor", "pedalboard:LadderFilter", "vst3:ZamCompX2", "function"])
def test_spsa_agrees_with_finite_differences_on_real_effects(name):
    """Choices, toggles and steps included."""
    effect = EFFECTS[name]()
    row = effect.space.snap(0.2 + 0.6 * np.random.default_rng(0).random((1, effect.space.width)))
    truth = FiniteDifference(step=2e-3).vjp(*call(effect, row)).numpy()[0]
    assert np.abs(truth).max() > 0
    generator = torch.Generator().manual_seed(0)
    assert_unbiased(many(effect, row, SPSA(step=2e-3, generator=generator), draws=600), truth)


@pytest.mark.parametrize("pairs", [1, 3, 4, 5, 8])
def test_spsa_variance_is_as_predicted(pairs):
    """With K pairs and m = 4 columns: sum of the other squared slopes * r (m - r) / ((m - 1) K^2), r = K mod m."""
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    one, g = call(linear(weights), np.full((1, 4), 0.5))
    slope = weights * float((one.audio * g).sum())
    spsa = SPSA(pairs, generator=torch.Generator().manual_seed(2))
    estimates = many(linear(weights), np.full(4, 0.5), spsa, draws=1000)
    over = pairs % 4
    predicted = (np.square(slope).sum() - np.square(slope)) * over * (4 - over) / (3 * pairs**2)
    if over:
        assert_unbiased(estimates, slope)
        assert np.abs(estimates.var(axis=0) / predicted - 1).max() < 0.2
        error = np.square(estimates - slope).sum(axis=1).mean() / np.square(slope).sum()
        assert spsa.error(4) == pytest.approx(error, rel=0.1)
    else:
        assert np.allclose(estimates, slope, rtol=1e-4)
        assert spsa.error(4) == 0


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_signs_are_orthogonal_over_a_cycle_and_uniform_alone(width):
    drawn = signs(400, 11, width, torch.Generator().manual_seed(0))
    order = 1 << (width - 1).bit_length()
    assert drawn.shape == (400, 11, width) and set(np.unique(drawn)) == {-1.0, 1.0}
    for start in range(0, 11 - order + 1, order):
        cycle = drawn[:, start : start + order]
        assert np.array_equal(cycle.swapaxes(1, 2) @ cycle, np.broadcast_to(order * np.eye(width), (400, width, width)))
    assert np.abs(drawn.mean(axis=0)).max() < 4 / np.sqrt(400)


def test_a_parameters_own_step_widens_that_of_the_estimator():
    """A step of its own up to a tenth of the range joins the others; a larger one moves alone."""
    space = Space(
        {"a": Continuous(0, 1, 0.5), "b": Continuous(0, 1, 0.5, step=0.05), "c": Continuous(0, 1, 0.5, step=0.25)}
    )
    effect = function(lambda x, sr, a, b, c: x * (a + 2 * b + 4 * c), space)
    pool = RecordingPool()
    one, g = call(effect, [[0.5, 0.5, 0.5]], pool=pool)
    SPSA(step=0.01, generator=torch.Generator().manual_seed(0)).vjp(one, g)
    moved = np.abs(pool.jobs[0].points - 0.5)
    assert np.allclose(moved[:2], [0.01, 0.05, 0]) and np.allclose(moved[2], [0, 0, 0.25])
    slope = np.array([1, 2, 4]) * float((one.audio * g).sum())
    for estimator in (FiniteDifference(1e-3), FiniteDifference(1e-3, central=False)):
        assert np.allclose(estimator.vjp(one, g), slope, rtol=1e-3)


def test_one_sided_differences_are_off_by_the_curvature_times_half_a_step():
    space = Space({"p": Continuous(0, 1, 0.5)})
    effect = function(lambda x, sr, p: x * p**2, space)
    for u, sign in ((0.5, 1), (1.0, -1)):  # down where up would leave the range
        one, g = call(effect, [[u]])
        unit = float((one.audio * g).sum())
        error = float(FiniteDifference(0.1, central=False).vjp(one, g)) / unit - 2 * u
        assert error == pytest.approx(sign * 2 * 0.1 / 2, rel=1e-3)
        assert float(FiniteDifference(0.1).vjp(one, g)) / unit == pytest.approx(2 * u if u < 1 else 1.9, rel=1e-4)


@pytest.mark.parametrize("u", [0.0, 1.0, 0.005, 0.995])
@pytest.mark.parametrize(
    "estimator",
    [FiniteDifference(), FiniteDifference(central=False), SPSA(step=0.1)],
    ids=["FiniteDifference", "OneSided", "SPSA"],
)
def test_the_gradient_is_whole_at_a_bound(u, estimator):
    one, g = call(linear([2.0]), [[u]])
    truth = 2.0 * float((one.audio * g).sum())
    assert float(estimator.vjp(one, g)) == pytest.approx(truth, rel=2e-3)


def test_every_item_and_pair_moves_on_its_own():
    pool = RecordingPool()
    one, g = call(linear(np.ones(12)), np.full((8, 12), 0.5), pool=pool)
    SPSA(pairs=4, generator=torch.Generator().manual_seed(0)).vjp(one, g)
    (job,) = pool.jobs
    plus = job.points[: len(job) // 2]
    assert len(np.unique(plus, axis=0)) == 8 * 4
    assert np.array_equal(job.points[len(job) // 2 :] + plus, np.ones_like(plus))


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize(
    "effect_name", ["function", "pedalboard:LadderFilter", "pedalboard:Compressor", "pedalboard:Invert"]
)
def test_cost_is_kept_in_one_call(name, effect_name):
    effect, pool, estimator = EFFECTS[effect_name](), RecordingPool(), ESTIMATORS[name]()
    rows = effect.space.sample(3, 0)
    one, g = call(effect, rows, pool=pool)
    grad = estimator.vjp(one, g)
    assert grad.shape == (3, effect.space.width) and torch.isfinite(grad).all()
    if estimator.cost(effect.space) == 0:
        assert not pool.jobs and (name == "Autodiff" or not effect.space.width)
        return
    (job,) = pool.jobs
    assert job.sample_rate == RATE
    spare = (
        3 if effect_name == "function" and name in ("FiniteDifference", "OneSided") else 0
    )  # of an integer at its bound
    assert 3 * estimator.cost(effect.space) - spare <= len(job) <= 3 * estimator.cost(effect.space)


def test_discrete_columns_hold_what_moving_there_changes():
    effect = function(mixed, SPACE)
    values = {"gain_db": -3, "freq_hz": 500, "drive": 3, "order": 1, "on": True, "kind": "band"}
    one, g = call(effect, effect.space.encode(values))
    grad = dict(zip(SPACE.columns, FiniteDifference().vjp(one, g)[0].tolist(), strict=True))

    def score(**changes):
        wet = effect.render(one.audio[0].numpy(), {**values, **changes}, RATE)
        return float((torch.from_numpy(wet).double() * g[0].double()).sum())

    assert grad["on"] == pytest.approx(score(on=True) - score(on=False), rel=1e-5)
    assert grad["kind=low"] == pytest.approx(score(kind="low") - score(), rel=1e-5)
    assert grad["kind=high"] == pytest.approx(score(kind="high") - score(), rel=1e-5)
    assert grad["kind=band"] == 0
    assert grad["order"] == pytest.approx((score(order=2) - score(order=0)) * 7 / 2, rel=1e-5)
    assert grad["drive"] == pytest.approx((score(drive=3.5) - score(drive=2.5)) * 8 / 1, rel=1e-5)


@pytest.mark.parametrize("kind", [Continuous(0, 10, 5, step=2.5), Integer(0, 4, 2)])
@pytest.mark.parametrize("u", np.linspace(0, 1, 11))
def test_steps_smaller_than_the_parameters_own_still_see_a_slope(kind, u):
    effect = function(lambda x, sr, p: x * p, Space({"p": kind}))
    one, g = call(effect, [[u]])
    slope = float((one.audio * g).sum()) * (10 if kind.kind == "continuous" else 4)
    for estimator in (FiniteDifference(1e-4), SPSA(step=1e-4)):
        assert float(estimator.vjp(one, g)) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("make", [SPSA, MultiplexedSPSA, ScoreFunction, GuidedES, Auto])
def test_random_estimators_repeat_from_their_generator_and_their_state(make):
    one, g = call(linear(np.ones(6)), np.full((2, 6), 0.5))
    a, b = (make(generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a.vjp(one, g), b.vjp(one, g))
    state = a.state_dict()
    later = a.vjp(one, g)
    c = make(generator=torch.Generator().manual_seed(6))
    c.load_state_dict(state)
    assert torch.equal(c.vjp(one, g), later)
    assert all(value.numel() for value in state.values())
    torch.manual_seed(3)
    d, e = make(), make()
    torch.manual_seed(3)
    assert torch.equal(d.vjp(one, g), make().vjp(one, g)) and not torch.equal(d.vjp(one, g), e.vjp(one, g))


@pytest.mark.parametrize("seed", range(3))
def test_finite_differences_on_real_plugins_settle(seed):
    """Two step sizes agree where the effect is smooth: what the estimator sees is a derivative, not noise."""
    for effect in (load("pedalboard:Compressor"), load("vst3:ZamCompX2").only("threshold_db", "ratio", "makeup_db")):
        row = 0.3 + 0.4 * effect.space.sample(1, seed)
        one, g = call(effect, row, seconds=0.3)
        coarse, fine = (FiniteDifference(h).vjp(one, g) for h in (4e-3, 2e-3))
        assert torch.linalg.norm(coarse - fine) < 0.05 * torch.linalg.norm(fine)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SPSA(0),
        lambda: SPSA(1.5),
        lambda: SPSA(step=0),
        lambda: SPSA(step=0.6),
        lambda: FiniteDifference(-1),
        lambda: FiniteDifference(float("nan")),
        lambda: MultiplexedSPSA(pairs=0),
        lambda: MultiplexedSPSA(block=100),
        lambda: MultiplexedSPSA(window=0),
        lambda: ScoreFunction(3),
        lambda: ScoreFunction(sigma=0.5),
        lambda: GuidedES(share=1),
        lambda: GuidedES(history=0),
        lambda: ControlVariate(Autodiff(scaled), scaled),
        lambda: ControlVariate(SPSA(), 3),
        lambda: Autodiff("twin"),
        lambda: Auto(2),
    ],
)
def test_mistakes(make):
    with pytest.raises(ParameterError, match="got"):
        make()


def test_choices_without_other_parameters():
    effect = function(
        lambda x, sr, c, t: x * {"a": 1, "b": 2, "c": 5}[c] * (2 if t else 1),
        Space({"c": Choice(("a", "b", "c"), "a"), "t": Toggle(False)}),
    )
    one, g = call(effect, [[0, 1, 0, 0.2]])
    unit = float((one.audio * g).sum())
    assert np.allclose(FiniteDifference().vjp(one, g)[0] / unit, [-1, 0, 3, 2], rtol=1e-4)
    spsa = SPSA(generator=torch.Generator().manual_seed(0))
    assert_unbiased(many(effect, [0, 1, 0, 0.2], spsa, 500) / unit, np.array([-1, 0, 3, 2]))
