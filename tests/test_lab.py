"""The lab: the truth it holds estimators against, what it says about them, and what it counts."""

import csv
import inspect

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.effects import Rack
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.estimators import SPSA, Estimator, FiniteDifference, TimeReversal
from blackbox_fx.lab import truth as truths
from blackbox_fx.lab.audio import Comparison, subjects
from blackbox_fx.lab.case import Case, load_effect, make_case, make_cases
from blackbox_fx.lab.chain import by_effect, channel_strip, jointly
from blackbox_fx.lab.counting import count, effects_in
from blackbox_fx.lab.discrete import WAYS, attempt
from blackbox_fx.lab.gradients import Study
from blackbox_fx.lab.methods import LINES, methods
from blackbox_fx.lab.multiplexed import Multiplexing, every_subject
from blackbox_fx.lab.optimise import Race, by_gradient, by_search
from blackbox_fx.lab.sample import Method
from blackbox_fx.lab.truth import Truth, true_gradient
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import Chain
from blackbox_fx.report.gradients import write_gradient_page
from blackbox_fx.runtime import Job
from tests.cases import RATE


def boxed(label, estimator):
    return Method(label, label, lambda case, draw: BlackBox(case.effect, estimator(draw), sample_rate=RATE))


def linear_case(slopes):
    """A case whose output is a sum of its parameters, so that the gradient is known: the slopes."""
    width, length = len(slopes), 64
    basis = np.zeros((width, length), np.float32)
    basis[np.arange(width), np.arange(width)] = slopes

    def weigh(audio, sample_rate, **values):
        return audio + np.array(list(values.values())) @ basis

    space = bfx.Space({f"p{k}": bfx.Continuous(0, 1, default=0.5) for k in range(width)})
    audio = torch.zeros(1, length)
    ones = torch.ones(1, length)
    return Case("linear", bfx.function(weigh, space), audio, audio, torch.full((width,), 0.5), ones, 1.0)


class Halved(Estimator):
    """Right in its direction, wrong in its length: what clipping at a bound does."""

    def vjp(self, call, g):
        return 0.5 * FiniteDifference().vjp(call, g)

    def cost(self, space):
        return FiniteDifference().cost(space)


@pytest.mark.parametrize("effect", ["twin:waveshaper", "twin:gain_pan"])
def test_differences_agree_with_autograd_and_know_their_own_error(effect, monkeypatch):
    case = make_case(load_effect(effect), seed=1, seconds=0.3, channels=2)
    exact = true_gradient(case)
    assert (exact.how, exact.error) == ("autograd", 0.0)
    monkeypatch.setattr(truths, "differentiable", lambda effect: None)
    found = true_gradient(case)
    real = np.linalg.norm(found.gradient - exact.gradient) / exact.norm
    assert real < 0.01
    assert real < 3 * found.error + 1e-4


def test_a_rack_of_twins_is_differentiated_as_one():
    rack = Rack([load_effect("twin:gain_pan"), load_effect("twin:waveshaper").only("drive_db")])
    case = make_case(rack, seconds=0.2, channels=2)
    exact = true_gradient(case)
    call_truth = Study([boxed("fd", lambda draw: FiniteDifference(1e-3))], draws=1)
    call_truth.run([case])
    assert exact.how == "autograd"
    assert np.allclose(call_truth.samples[0].draws[0], exact.gradient, rtol=0.02, atol=0.02 * exact.norm)


def test_one_column_that_holds_all_proves_nothing():
    columns = ("a", "b")
    assert not Truth(np.array([1.0, 0.1]), 0.0, "", columns).proves
    assert not Truth(np.array([1.0, 0.9]), 0.5, "", columns).proves
    assert not Truth(np.array([0.0, 0.0]), 0.0, "", columns).proves
    assert Truth(np.array([1.0, 0.9]), 0.01, "", columns).proves
    assert Truth(np.array([1.0]), 0.0, "", ("a",)).proves


def test_spsa_has_the_variance_that_theory_gives_it():
    slopes = np.array([3.0, -2.0, 1.0, 0.5])
    study = Study([boxed("SPSA", lambda draw: SPSA(1, generator=draw))], draws=600)
    study.run([linear_case(slopes)])
    (found,) = study.summaries()
    assert found.variance == pytest.approx(len(slopes) - 1, rel=0.15)
    assert found.error.low < len(slopes) - 1 < found.error.high
    assert found.bias < 3 * found.chance
    assert found.renders == 2


def test_a_biased_estimator_is_shown_biased():
    study = Study([boxed("halved", lambda draw: Halved()), boxed("right", lambda draw: FiniteDifference())], draws=3)
    study.run([linear_case(np.array([1.0, 2.0]))])
    halved, right = study.summaries()
    assert halved.bias == pytest.approx(0.5, abs=1e-4) and halved.chance == 0
    assert halved.cosine.value == pytest.approx(1, abs=1e-6)
    assert halved.error.value == pytest.approx(0.25, abs=1e-4)
    assert right.bias < 1e-4


def test_same_seed_same_numbers_and_another_seed_others():
    case = linear_case(np.array([1.0, 2.0, 3.0]))
    draws = []
    for seed in (0, 0, 1):
        study = Study([boxed("SPSA", lambda draw: SPSA(generator=draw))], draws=8, seed=seed)
        study.run([case])
        draws.append(study.samples[0].draws)
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])


def test_what_was_measured_stays_after_an_interruption():
    def stop(done, total, words):
        if done == 5:
            raise KeyboardInterrupt

    study = Study([boxed("SPSA", lambda draw: SPSA(generator=draw))], draws=50)
    with pytest.raises(KeyboardInterrupt):
        study.run([linear_case(np.array([1.0, 2.0]))], stop)
    assert len(study.samples[0].draws) == 5


def test_a_method_that_does_not_suit_is_left_out_with_its_reason():
    study = Study(methods(["Autodiff", "FiniteDifference"], most=2), draws=2)
    study.run([linear_case(np.array([1.0, 2.0]))])
    assert {s.method.line for s in study.samples} == {"FiniteDifference"}
    assert any("Autodiff was left out" in doubt for doubt in study.doubts())


def test_every_estimator_is_compared():
    from blackbox_fx import estimators

    kinds = {n: kind for n, kind in vars(estimators).items() if isinstance(kind, type) and issubclass(kind, Estimator)}
    known = {n for n, kind in kinds.items() if not inspect.isabstract(kind)}
    assert set(LINES) == known
    study = Study(methods(most=4), draws=1)
    study.run([make_case(load_effect("twin:gain_pan"), seconds=0.2, channels=2)])
    assert {s.method.line for s in study.samples} == set(LINES) and not study.unsuited
    with pytest.raises(ParameterError, match="known are FiniteDifference"):
        methods(["Finite"])


def test_renders_are_counted_by_what_they_are_for():
    rack = Rack([bfx.load("pedalboard:Gain"), bfx.load("pedalboard:PeakFilter").only("gain_db")])
    assert effects_in(rack) == 2
    case = make_case(rack, seconds=0.5)
    chain = Chain(rack.members, SPSA(1), audio_rule=TimeReversal())
    tally = count(chain, case.audio.shape[-1])
    params = case.params[None].clone().requires_grad_()
    chain(case.audio[None], params).square().sum().backward()
    assert tally.renders["forward"] == 2 and tally.renders["params"] == 4
    assert tally.renders["audio"] >= 2 and tally.total == 6 + tally.renders["audio"]
    joint = BlackBox(rack, SPSA(1))
    tally = count(joint, case.audio.shape[-1])
    joint(case.audio[None], params).square().sum().backward()
    assert tally.renders["params"] == 4 and tally.total == 6
    twice = np.zeros((1, 1, 2 * case.audio.shape[-1]), np.float32)
    tally.map(Job(rack, twice, rack.space.encode()[None], np.zeros(1, np.int64), RATE))
    assert tally.total == 6 + 2 * 2


def test_a_chain_and_a_rack_of_the_same_have_the_same_truth():
    assert channel_strip().space.width == 15
    rack = Rack({k: channel_strip().members[k] for k in ("low", "peak", "gain")})
    study = Study([*by_effect()[:1], *jointly(3, 12)], draws=2)
    study.run([make_case(rack, seed=1, seconds=0.5)])
    chain, *joint = study.samples
    assert chain.cosines[0] > 0.999 and chain.errors[0] < 0.01
    assert sorted(s.renders for s in joint) == [6, 6, 12, 12] and chain.renders == 2 * 6


def test_a_search_and_a_gradient_get_the_same_renders():
    case = make_case(load_effect("pedalboard:Gain"), seed=1, seconds=0.2)
    made = 0
    original = bfx.Inline.map_into

    def counted(self, job, out):
        nonlocal made
        made += len(job)
        return original(self, job, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bfx.Inline, "map_into", counted)
        search = by_search(case, "OnePlusOne", budget=30)
    assert made == len(search.losses) == 30 and search.renders[-1] == 30
    gradient = by_gradient(case, boxed("fd", lambda draw: FiniteDifference()), budget=30)
    assert 27 < gradient.renders[-1] <= 30 and len(gradient.losses) == 10
    assert gradient.best(np.array([0, 1, 30]))[:2] == pytest.approx([1, 1], abs=1e-5)
    assert gradient.best(np.array([30]))[0] < 0.5 and search.best(np.array([30]))[0] < 1
    with pytest.raises(ParameterError, match="knows no optimiser 'Magic'"):
        by_search(case, "Magic", budget=3)


def test_a_race_keeps_every_run_and_ranks_by_the_end():
    race = Race([boxed("fd", lambda draw: FiniteDifference())], ["OnePlusOne"], budget=20)
    race.run(make_cases(load_effect("pedalboard:Gain"), 2, seconds=0.2))
    at, curves = race.curves()
    assert at[-1] == 20 and len(race.runs) == 4 and set(curves) == {"fd", "OnePlusOne"}
    assert all((np.diff(quartiles, axis=1) <= 1e-12).all() for quartiles in curves.values())
    ends = [quartiles[1, -1] for quartiles in curves.values()]
    assert ends == sorted(ends)


def test_multiplexed_is_compared_at_equal_renders():
    study = Multiplexing({"strip": (channel_strip(), 1)}, lengths=[1.0], windows=[2048], cases=2, draws=3)
    study.run()
    (ratio,) = study.ratios
    assert ratio.width == 15 and ratio.ratio.value == pytest.approx(ratio.multiplexed / ratio.plain, rel=1e-6)
    assert ratio.ratio.value < 1


def test_switches_are_found_from_a_wrong_start():
    way = next(name for name in WAYS if name.startswith("expected_loss, Finite"))
    found = attempt(way, seed=0, steps=40, seconds=0.5)
    assert found.found and found.end < 0.5 * found.start
    assert not attempt(way, seed=0, steps=1, seconds=0.5).found


def test_the_csv_has_what_the_study_has(tmp_path):
    study = Study(methods(["FiniteDifference", "SPSA"], most=4), draws=3)
    study.run(make_cases(load_effect("twin:gain_pan"), 2, seconds=0.1, channels=2))
    page = write_gradient_page(tmp_path / "made", "title", study, "footer")
    rows = list(csv.DictReader((tmp_path / "made/gradients.csv").read_text().splitlines()))
    assert len(rows) == len(study.samples) == 8
    assert list(rows[0]) == list(study.samples[0].row())
    assert float(rows[0]["relative_squared_error"]) == float(study.samples[0].errors.mean())
    assert "SPSA(2)" in page.read_text() and (tmp_path / "made/error.svg").exists()


def test_nothing_to_compare_is_a_mistake():
    with pytest.raises(EffectError, match="no free parameters"):
        make_case(load_effect("pedalboard:Gain").fix(gain_db=0))
    with pytest.raises(EffectError, match="Unknown twin 'reverb'"):
        load_effect("twin:reverb")


def test_every_effect_with_two_numbers_is_a_subject():
    found = every_subject()
    assert {"pedalboard:Compressor", "pedalboard:Reverb", "vst3:ZamCompX2", "vst3:ZamEQ2"} <= set(found)
    assert not {"pedalboard:Gain", "pedalboard:Convolution", "vst3:ZamAutoSat"} & set(found)  # one number, or none
    assert found["vst3:ZamCompX2"][1] == 2 and found["vst3:ZamEQ2"][1] == 1
    for effect, _ in found.values():
        assert effect.space.width == len(effect.space.free) > 1  # numbers alone: a column each


def test_audio_gradients_are_compared_by_effect_and_setting():
    comparison = Comparison(("single",), settings=2, directions=30, seconds=0.3)
    (peak,) = [n for n, (_, name, _) in enumerate(subjects(("single",), 1, 0)) if name == "PeakFilter"]
    for score in comparison.scores(peak):
        assert (score.kind, score.name, score.rule, score.renders) == ("single", "PeakFilter", "TimeReversal", 1)
        assert score.cosine > 0.999 and score.truth > 0.999 and score.spsa < 0.1
    kinds = [(kind, name) for kind, name, _ in subjects(("chain", "rack"), 2, 0)]
    assert [n for k, n in kinds if k == "chain"] == [n for k, n in kinds if k == "rack"]  # the same for both
