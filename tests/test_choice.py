"""A layer chooses between renders and proxies, by what it measures of both."""

import copy
import dataclasses
import logging
import pickle

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import function
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.autodiff import surrogate_gradient, surrogate_vjp
from blackbox_fx.estimators.call import Call
from blackbox_fx.estimators.comparison import compare
from blackbox_fx.estimators.decision import Candidate, decide
from blackbox_fx.lab import choice as lab
from blackbox_fx.space import Choice, Continuous, Space, Toggle
from tests.cases import RATE, music

EQ = TWINS["parametric_eq"]


def wrong(audio, params, sample_rate):
    """Differentiable, and the equaliser's opposite."""
    return EQ(audio, 1 - params, sample_rate)


def flat(audio, params, sample_rate):
    return audio * (1 + 0 * params.sum())


def broken(audio, params, sample_rate):
    return audio * params.sum() / (params.sum() * 0)


def clips(batch=4, seconds=0.2, seed=0):
    audio = np.stack([music(seconds, 1, seed + k) for k in range(batch)])
    return torch.from_numpy(audio)


def settings(batch, width, seed=0):
    return 0.2 + 0.6 * torch.rand(batch, width, generator=torch.Generator().manual_seed(seed))


def layer_of(effect, surrogates, **options):
    generator = torch.Generator().manual_seed(0)
    return bfx.BlackBox(
        effect,
        bfx.Auto(options.pop("renders", 4), generator, **options),
        audio_rule=bfx.Identity(),
        pool=bfx.Inline(),
        surrogates=surrogates,
    )


def gradient(layer, audio, params, seed=1):
    p = params.clone().requires_grad_()
    wet = layer(audio, p)
    wet.backward(torch.randn(wet.shape, generator=torch.Generator().manual_seed(seed)))
    return p.grad


def test_an_exact_surrogate_is_chosen_and_its_gradient_used():
    layer, audio = layer_of(EQ.effect(), [EQ]), clips()
    params = settings(4, layer.width)
    found = gradient(layer, audio, params)
    exact = gradient(bfx.BlackBox(EQ.effect(), bfx.Autodiff(EQ)), audio, params)
    torch.testing.assert_close(found, exact)
    assert isinstance(layer.estimator.chosen, bfx.Autodiff)
    assert layer.estimator.decision.best.error < 1e-3 and layer.estimator.decision.best.cosine > 0.999


def wiggly(audio, params, sample_rate):
    """A level that depends on the sum of the settings so strongly that steps of several at once miss it."""
    return audio * (1 + 0.5 * torch.sin(100 * params.sum(1)))[:, None, None]


def test_what_follows_the_settings_fast_is_compared_column_by_column():
    def numbers(audio, sample_rate, **settings):
        return (audio * (1 + 0.5 * np.sin(100 * sum(settings.values())))).astype(np.float32)

    space = Space({f"delay_{k}": Continuous(0, 1, 0.5) for k in range(6)})
    layer = layer_of(function(numbers, space, name="wiggly"), [wiggly])
    gradient(layer, clips(), settings(4, 6))
    assert layer.estimator.decision.best.kind == "surrogate"
    assert layer.estimator.decision.best.error < 0.01


@pytest.mark.parametrize("surrogate", [wrong, flat, broken])
def test_a_wrong_surrogate_is_not_used(surrogate):
    layer, audio = layer_of(EQ.effect(), [surrogate]), clips()
    gradient(layer, audio, settings(4, layer.width))
    assert layer.estimator.decision.best.kind != "surrogate"
    alone = next(one for one in layer.estimator.decision.candidates if one.kind == "surrogate")
    assert alone.error > 0.9


def test_a_half_right_surrogate_is_corrected_by_renders_where_that_pays():
    def half(audio, params, sample_rate):
        return EQ(audio, 0.5 * params + 0.5 * params.detach(), sample_rate)

    layer, audio = layer_of(EQ.effect(), [half], choice="control variate"), clips()
    gradient(layer, audio, settings(4, layer.width))
    assert isinstance(layer.estimator.chosen, bfx.ControlVariate)
    plain = layer_of(EQ.effect(), [half])
    gradient(plain, audio, settings(4, layer.width))
    spsa, alone, corrected = (one.error for one in plain.estimator.decision.candidates)
    assert alone == pytest.approx(0.25, abs=0.02) and corrected == pytest.approx(spsa * alone, rel=0.1)


@pytest.mark.parametrize(("surrogate", "expected"), [(EQ, 0.0), (flat, 1.0), (wrong, None)])
def test_the_measured_error_is_that_of_the_gradient(surrogate, expected):
    effect, audio = EQ.effect(), clips(6)
    params = settings(6, effect.space.width)
    wet = bfx.BlackBox(effect)(audio, params)
    v = torch.randn(wet.shape, generator=torch.Generator().manual_seed(3))
    call = Call(effect, bfx.Inline(), RATE, audio, params, wet)
    truth, own = (surrogate_vjp(s, call, v).double() for s in (EQ, surrogate))
    true = float((own - truth).square().sum() / truth.square().sum())
    if expected is not None:
        assert true == pytest.approx(expected, abs=1e-6)
    found = [compare(call, v, (surrogate,), torch.Generator().manual_seed(seed)) for seed in range(24)]
    errors = np.array([(f.fine_off[0] + f.coarse_off[0]) / (f.fine + f.coarse) for f in found])
    assert abs(errors.mean() - true) < 4 * errors.std() / np.sqrt(len(errors)) + 2e-3


def _switched(audio, sample_rate, gain, on, kind):
    return (audio * gain * (2.0 if on else 1.0) * {"a": 1.0, "b": 0.5, "c": 0.25}[kind]).astype(np.float32)


SWITCHED = function(
    _switched, Space({"gain": Continuous(0.1, 1, 0.5), "on": Toggle(False), "kind": Choice(("a", "b", "c"), "a")}), "s"
)


def switched(audio, params, sample_rate):
    """The same, at the columns of `SWITCHED`."""
    gain = 0.1 + 0.9 * params[:, :1]
    factor = gain * (1 + params[:, 1:2]) * (params[:, 2:] * torch.tensor([1.0, 0.5, 0.25])).sum(1, keepdim=True)
    return audio * factor[:, None]


def test_switches_and_choices_get_what_moving_there_would_change():
    audio, params = clips(3), torch.tensor([[0.5, 0, 1, 0, 0], [0.2, 1, 0, 1, 0], [0.8, 0, 0, 0, 1.0]])
    wet = bfx.BlackBox(SWITCHED)(audio, params)
    v = torch.randn(wet.shape, generator=torch.Generator().manual_seed(3))
    call = Call(SWITCHED, bfx.Inline(), RATE, audio, params, wet)
    true = bfx.FiniteDifference().vjp(call, v).double()
    torch.testing.assert_close(surrogate_gradient(switched, call, v).double(), true, rtol=2e-3, atol=2e-3)
    found = compare(call, v, (switched,), torch.Generator().manual_seed(0))
    assert found.coarse > 0 and found.coarse_off[0] < 1e-4 * found.coarse


def test_one_pass_of_a_surrogate_serves_params_and_audio():
    calls = []

    def counted(audio, params, sample_rate):
        calls.append((audio.requires_grad, params.requires_grad))
        return EQ(audio, params, sample_rate)

    layer = bfx.BlackBox(EQ.effect(), bfx.Autodiff(counted), audio_rule=bfx.Surrogate(counted))
    audio, params = clips(2).requires_grad_(), settings(2, layer.width).requires_grad_()
    layer(audio, params).square().sum().backward()
    assert calls == [(True, True)]
    alone = bfx.BlackBox(EQ.effect(), bfx.Autodiff(EQ), audio_rule=bfx.Surrogate(EQ))
    x, p = audio.detach().requires_grad_(), params.detach().requires_grad_()
    alone(x, p).square().sum().backward()
    torch.testing.assert_close(audio.grad, x.grad)
    torch.testing.assert_close(params.grad, p.grad)


def test_a_surrogate_that_fails_later_is_left_out_for_that_call(caplog):
    sick = [False]

    def moody(audio, params, sample_rate):
        return EQ(audio, params, sample_rate) / (0.0 if sick[0] else 1.0)

    layer, audio = layer_of(EQ.effect(), [moody]), clips()
    params = settings(4, layer.width)
    gradient(layer, audio, params)
    sick[0] = True
    with caplog.at_level(logging.WARNING, logger="blackbox_fx"):
        assert bool(torch.isfinite(gradient(layer, audio, params)).all())
    assert "Renders alone are used for this call" in caplog.text
    fixed = layer_of(EQ.effect(), [moody], choice="surrogate")
    with pytest.raises(AudioError):
        sick[0] = False
        gradient(fixed, audio, params)
        sick[0] = True
        gradient(fixed, audio, params)


@pytest.mark.parametrize(("choice", "kind"), [("renders", "renders"), ("surrogate", "surrogate")])
def test_a_choice_can_be_fixed(choice, kind):
    layer, audio = layer_of(EQ.effect(), [wrong, EQ], choice=choice), clips()
    gradient(layer, audio, settings(4, layer.width))
    if kind == "renders":
        assert layer.estimator.decision is None and not isinstance(layer.estimator.chosen, bfx.Autodiff)
    else:
        assert layer.estimator.decision.best.kind == kind and layer.estimator.decision.best.name == "parametric_eq"


def test_a_resumed_run_goes_on_with_what_was_chosen():
    audio = clips()
    layer = layer_of(EQ.effect(), [EQ])
    params = settings(4, layer.width)
    gradient(layer, audio, params)
    other = layer_of(EQ.effect(), [EQ])
    other.load_state_dict(layer.state_dict())
    assert other.estimator.decision == layer.estimator.decision
    torch.testing.assert_close(gradient(other, audio, params), gradient(layer, audio, params))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.estimator.decision == layer.estimator.decision


def test_a_run_that_goes_on_without_its_proxy_measures_again():
    audio = clips()
    layer = bfx.BlackBox(EQ.effect(), pool=bfx.Inline(), surrogates=[EQ])
    params = settings(4, layer.width)

    def both(layer):
        x, p = audio.clone().requires_grad_(), params.clone().requires_grad_()
        layer(x, p).square().sum().backward()
        return x.grad, p.grad

    exact = both(layer)
    for surrogates in ((), (wrong,)):
        other = bfx.BlackBox(EQ.effect(), pool=bfx.Inline(), surrogates=surrogates)
        other.load_state_dict(layer.state_dict())
        found = both(other)
        assert torch.nn.functional.cosine_similarity(found[0].flatten(), exact[0].flatten(), dim=0) > 0.99
        assert not other.audio_rule.certificate.surrogate and not isinstance(other.estimator.chosen, bfx.Autodiff)


def test_a_surrogate_whose_audio_gradient_fails_later_is_replaced_by_rules(caplog):
    sick = [False]

    def moody(audio, params, sample_rate):
        return EQ(audio, params, sample_rate) / (0.0 if sick[0] else 1.0)

    layer, audio = verified(EQ.effect(), [moody]), clips(2)
    params = settings(2, layer.width)
    exact = audio_gradient(layer, audio, params)
    sick[0] = True
    with caplog.at_level(logging.WARNING, logger="blackbox_fx"):
        found = audio_gradient(layer, audio, params)
    assert "Rules take its place" in caplog.text
    assert torch.nn.functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.99
    with pytest.raises(AudioError):
        sick[0] = False
        fixed = verified(EQ.effect(), [moody], choice="surrogate")
        audio_gradient(fixed, audio, params)
        sick[0] = True
        audio_gradient(fixed, audio, params)


def test_a_fixed_choice_without_a_surrogate_is_said():
    audio = clips(2, 0.05)
    with pytest.raises(ParameterError, match="there is none"):
        gradient(layer_of(EQ.effect(), (), choice="surrogate"), audio, settings(2, EQ.space.width))
    with pytest.raises(ParameterError, match="there is none"):
        audio_gradient(verified(EQ.effect(), (), choice="surrogate"), audio, settings(2, EQ.space.width))


def test_a_fixed_choice_is_not_undone_by_a_saved_one():
    audio, params = clips(4, 0.1), settings(4, EQ.space.width)
    free = layer_of(EQ.effect(), [EQ])
    gradient(free, audio, params)
    assert free.estimator.in_use == "parametric_eq"
    for choice, used in (("renders", "renders"), ("control variate", "control variate"), ("error", "surrogate")):
        fixed = layer_of(EQ.effect(), [EQ], choice=choice)
        fixed.load_state_dict(free.state_dict())
        gradient(fixed, audio, params)
        decision = fixed.estimator.decision
        assert ("renders" if decision is None else decision.best.kind) == used
    heard = verified(EQ.effect(), [EQ])
    audio_gradient(heard, audio, params)
    by_rules = verified(EQ.effect(), [EQ], choice="rules")
    by_rules.load_state_dict(heard.state_dict())
    audio_gradient(by_rules, audio, params)
    assert by_rules.audio_rule.certificate.rules and not by_rules.audio_rule.certificate.surrogate


def test_what_was_chosen_and_is_not_there_is_said():
    audio, params = clips(4, 0.1), settings(4, EQ.space.width)
    layer = layer_of(EQ.effect(), [EQ])
    gradient(layer, audio, params)
    bare = layer_of(EQ.effect(), ())
    bare.load_state_dict(layer.state_dict())
    gradient(bare, audio, params)
    assert bare.estimator.in_use == bare.estimator.chosen.in_use
    assert "parametric_eq is not among the surrogates" in bare.explain()


def test_comparisons_come_again_after_a_number_of_calls_that_follows_from_their_renders():
    layer, audio = layer_of(EQ.effect(), [EQ]), clips(2, 0.05)
    params, checked = settings(2, layer.width), []
    for k in range(65):
        before = layer.estimator.decision
        gradient(layer, audio, params, seed=k)
        if layer.estimator.decision is not before:
            checked.append(k)
    assert checked == [0, 60]


def test_explain_is_a_table_of_what_was_compared():
    layer, audio = layer_of(EQ.effect(), [EQ]), clips()
    assert "nothing was rendered yet" in layer.explain()
    gradient(layer, audio, settings(4, layer.width))
    text = layer.explain()
    assert "chosen" in text and "squared error" in text and "parametric_eq" in text and "Identity" in text
    chain = bfx.Chain({"a": layer, "b": layer_of(EQ.effect(), [])})
    assert chain.explain().count("twin:parametric_eq") == 2


def test_the_least_error_at_equal_time_wins_and_the_quicker_of_equals():
    slow = Candidate("slow", "surrogate", 0.0005, cosine=1.0, seconds=1.0)
    quick = Candidate("quick", "surrogate", 0.003, cosine=1.0, seconds=0.1)
    rough = Candidate("rough", "renders", 2.0, seconds=0.1)
    assert decide([slow, quick, rough], 2.0, 1).best is quick
    assert decide([slow, rough], 0.5, 1).best is slow
    late = Candidate("late", "surrogate", 0.5, cosine=0.7, seconds=10.0)
    assert decide([late, rough], 0.5, 1).best is rough
    backwards = Candidate("backwards", "surrogate", 1.2, cosine=-0.2, seconds=0.1)
    assert decide([backwards, rough], 0.5, 1).best is rough


def test_without_times_the_least_error_wins_and_of_equals_the_least_renders():
    renders = Candidate("renders", "renders", 0.0, renders=4, seconds=0.1)
    close = Candidate("close", "surrogate", 0.003, cosine=1.0, seconds=10.0)
    astray = Candidate("astray", "surrogate", 0.2, cosine=0.9, seconds=0.01)
    assert decide([renders, close, astray], 0.5, 1, timed=False).best is close
    assert decide([renders, astray], 0.5, 1, timed=False).best is renders


class Improves:
    """A surrogate that is wrong at first."""

    name = "improves"

    def __init__(self):
        self.right = False

    def __call__(self, audio, params, sample_rate):
        return EQ(audio, params if self.right else 1 - params, sample_rate)


def training(steps, state=None, since=0):
    """A run whose surrogate gets right at step 30; what was used at each step, its gradients, and its state there."""
    surrogate, audio = Improves(), clips()
    layer = bfx.BlackBox(
        EQ.effect(),
        bfx.Auto(choice="error", generator=torch.Generator().manual_seed(3)),
        audio_rule=bfx.Verified(recheck=50, choice="error"),
        pool=bfx.Inline(),
        surrogates=[surrogate],
    )
    if state is not None:
        layer.load_state_dict(state)
    used, grads = [], []
    for k in range(since, since + steps):
        surrogate.right = k >= 30
        x = audio.clone().requires_grad_()
        p = settings(4, layer.width, seed=k).requires_grad_()
        layer(x, p).square().sum().backward()
        used.append((layer.estimator.in_use, layer.audio_rule.in_use))
        grads.append(p.grad)
    return used, grads, {name: value.clone() for name, value in layer.state_dict().items()}


def test_a_surrogate_that_gets_right_takes_over_at_the_same_step_in_a_resumed_run():
    used, grads, _ = training(64)
    assert [params for params, _ in used].index("improves") == 60
    assert [audio for _, audio in used].index("Surrogate(improves)") == 50
    _, _, state = training(56)
    again, resumed, _ = training(8, state, since=56)
    assert again == used[56:] and all(map(torch.equal, resumed[:4], grads[56:60]))


def test_what_is_no_surrogate_is_said():
    for wrong_ones in ([3], [bfx.Proxy], ["pedalboard-eq"]):
        with pytest.raises(ParameterError, match="function of"):
            bfx.BlackBox(EQ.effect(), surrogates=wrong_ones)
    for wrong_ones in (3, EQ, "pedalboard-eq"):
        with pytest.raises(ParameterError, match="must be a list"):
            bfx.BlackBox(EQ.effect(), surrogates=wrong_ones)
    proxy = bfx.load_proxy("pedalboard-eq")
    with pytest.raises(ParameterError, match="is for 44100 Hz, and the layer for 48000 Hz"):
        bfx.BlackBox(proxy.effect(), surrogates=[proxy], sample_rate=48000)
    with pytest.raises(ParameterError, match="choice"):
        bfx.Auto(choice="proxy")
    with pytest.raises(ParameterError, match="choice"):
        bfx.Verified(choice="renders")


# ---- audio ----


def verified(effect, surrogates, **options):
    return bfx.BlackBox(
        effect, bfx.SPSA(), audio_rule=bfx.Verified(**options), pool=bfx.Inline(), surrogates=surrogates
    )


def audio_gradient(layer, audio, params):
    x = audio.clone().requires_grad_()
    layer(x, params).square().sum().backward()
    return x.grad


def test_a_right_surrogate_gives_the_audio_gradient_and_no_rule_is_tried(caplog):
    comp = TWINS["compressor"]
    layer, audio = verified(comp.effect(), [comp]), clips(2)
    params = settings(2, layer.width)
    with caplog.at_level(logging.WARNING, logger="blackbox_fx"):
        found = audio_gradient(layer, audio, params)
    assert "are tried" not in caplog.text
    assert layer.audio_rule.certificate.surrogate == "compressor" and layer.audio_rule.certificate.cosine > 0.98
    exact = audio_gradient(bfx.BlackBox(comp.effect(), bfx.SPSA(), audio_rule=bfx.Surrogate(comp)), audio, params)
    torch.testing.assert_close(found, exact)
    assert "Surrogate(compressor)" in layer.explain()


def test_a_wrong_surrogate_leaves_the_audio_to_rules():
    layer, audio = verified(EQ.effect(), [wrong]), clips(2)
    audio_gradient(layer, audio, settings(2, layer.width))
    found = layer.audio_rule.certificate
    assert not found.surrogate and found.cosine > 0.99 and found.scores["wrong"] < 0.9


@pytest.mark.parametrize("choice", ["surrogate", "rules"])
def test_the_audio_choice_can_be_fixed(choice):
    layer, audio = verified(EQ.effect(), [EQ], choice=choice), clips(2)
    audio_gradient(layer, audio, settings(2, layer.width))
    assert bool(layer.audio_rule.certificate.surrogate) == (choice == "surrogate")


def test_a_resumed_run_keeps_its_certificate():
    layer, audio = verified(EQ.effect(), [EQ]), clips(2)
    audio_gradient(layer, audio, settings(2, layer.width))
    other = verified(EQ.effect(), [EQ])
    other.load_state_dict(layer.state_dict())
    assert other.audio_rule.certificate == layer.audio_rule.certificate


def test_members_of_a_chain_find_their_own_proxies():
    first, second = EQ.effect(), TWINS["compressor"].effect()
    chain = bfx.Chain(
        {
            "eq": bfx.BlackBox(first, surrogates=[EQ], pool=bfx.Inline()),
            "comp": bfx.BlackBox(second, surrogates=[TWINS["compressor"]], pool=bfx.Inline()),
        }
    )
    audio, params = clips(2).requires_grad_(), settings(2, chain.width).requires_grad_()
    chain(audio, params).square().sum().backward()
    x, p = audio.detach().requires_grad_(), params.detach().requires_grad_()
    a, b = p.split([first.space.width, second.space.width], 1)
    TWINS["compressor"](EQ(x, a, RATE), b, RATE).square().sum().backward()
    assert torch.nn.functional.cosine_similarity(audio.grad.flatten(), x.grad.flatten(), dim=0) > 0.999
    assert torch.nn.functional.cosine_similarity(params.grad.flatten(), p.grad.flatten(), dim=0) > 0.999


def test_auto_is_compared_with_spsa_at_equal_time():
    found = list(lab.compare([bfx.load("pedalboard:PeakFilter")], 3, 0))
    assert [c.loss for c in found] == ["spectral", "waveform"] and all(c.by == "FiniteDifference" for c in found)
    assert all(c.auto < 0.1 < c.spsa for c in found)
    even = dataclasses.replace(found[0], spsa=2.0, auto=2.0, known=0.01, doubt=0.01, spsa_ms=1.0, auto_ms=1.0)
    assert even.ratio == 1 and dataclasses.replace(even, auto_ms=2.0).is_worse
    assert not dataclasses.replace(even, auto_ms=2.0, by="SPSA").is_worse
    assert not dataclasses.replace(even, auto=0.005, spsa=0.001).is_worse


def test_checks_are_blended_only_with_earlier_ones_of_the_same():
    audio, params = clips(3), settings(3, EQ.space.width)
    wet = bfx.BlackBox(EQ.effect())(audio, params)
    call = Call(EQ.effect(), bfx.Inline(), RATE, audio, params, wet)
    v = torch.randn(wet.shape, generator=torch.Generator().manual_seed(3))
    wrongly, rightly = (compare(call, v, (s,), torch.Generator().manual_seed(0)) for s in (wrong, EQ))
    assert wrongly.blended(None) is wrongly and wrongly.blended(wrongly).fine == pytest.approx(1.5 * wrongly.fine)
    others = dataclasses.replace(wrongly, names=("other",)), dataclasses.replace(wrongly, base_off=1.0)
    assert all(wrongly.blended(other) is wrongly for other in others)
    trained = dataclasses.replace(rightly, names=wrongly.names)
    assert trained.blended(wrongly) is trained and wrongly.blended(trained) is not wrongly


def bent(audio, params, sample_rate):
    """A level with a kink at .5."""
    return audio * (params[:, 0] - 0.5).abs()[:, None, None]


def reversed_gradient(audio, params, sample_rate):
    """The same level, with a gradient of the wrong sign."""
    return bent(audio, 2 * params.detach() - params, sample_rate)


def partly_without_gradient(audio, params, sample_rate):
    return bent(audio, torch.where(params < 0.7, params.detach(), params), sample_rate)


@pytest.mark.parametrize(
    ("surrogate", "right"), [(bent, True), (reversed_gradient, False), (partly_without_gradient, False)]
)
def test_a_surrogate_is_not_blamed_for_a_kink_of_the_effect(surrogate, right):
    space = Space({"level": Continuous(0, 1, 0.2)})
    effect = function(lambda audio, sample_rate, level: audio * abs(level - 0.5), space, name="bent")
    layer = layer_of(effect, [surrogate])
    gradient(layer, clips(), torch.tensor([[0.501], [0.2], [0.8], [0.4989]]))
    named = {one.name: one for one in layer.estimator.decision.candidates}
    assert (named[surrogate.__name__].error < 1e-3) == right
    assert isinstance(layer.estimator.chosen, bfx.Autodiff) == right
