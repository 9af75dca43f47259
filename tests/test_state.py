"""What a layer's state carries, and where it goes: files, other estimators, other processes."""

import multiprocessing
import pickle
import warnings

import pytest
import safetensors.torch
import torch

import blackbox_fx as bfx
from blackbox_fx.errors import ParameterError
from tests.cases import AUDIO_RULES, ESTIMATORS, RATE


def layer(effect=None, estimator=None, **options):
    effect = effect or bfx.load("pedalboard:Compressor").only("threshold_db", "ratio")
    return bfx.BlackBox(effect, estimator or bfx.SPSA(), sample_rate=RATE, **options)


def test_another_order_of_columns_is_one_clear_error():
    saved = layer(bfx.load("pedalboard:Compressor").only("ratio", "threshold_db")).state_dict()
    with pytest.raises(ParameterError, match=r"with the columns ratio, threshold_db; this .* has threshold_db, ratio"):
        layer().load_state_dict(saved)


def test_other_ranges_are_one_clear_error():
    saved = layer(bfx.load("pedalboard:Compressor").only("threshold_db", "ratio").within(ratio=(1, 8))).state_dict()
    with pytest.raises(ParameterError, match=r"^[^\n]*'high': 8\.0[^\n]*'high': 20\.0[^\n]*\.$"):
        layer().load_state_dict(saved)


def test_another_version_is_a_warning():
    effect = bfx.load("pedalboard:Compressor")
    saved = layer(effect.fix(attack_ms=5).only("threshold_db", "ratio")).state_dict()
    with pytest.warns(UserWarning, match="another version"):
        layer(effect.fix(attack_ms=50).only("threshold_db", "ratio")).load_state_dict(saved)


def test_the_same_effect_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer().load_state_dict(layer().state_dict())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_another_estimator_loads_without_missing_keys(name):
    learnt = layer(estimator=ESTIMATORS[name](), audio_rule=bfx.Identity())
    other = layer(estimator=bfx.FiniteDifference(), audio_rule=bfx.TimeReversal())
    assert other.load_state_dict(learnt.state_dict()) == learnt.load_state_dict(other.state_dict())
    network = torch.nn.ModuleDict({"head": torch.nn.Linear(2, 2), "layer": learnt})
    again = torch.nn.ModuleDict({"head": torch.nn.Linear(2, 2), "layer": other})
    again.load_state_dict(network.state_dict())
    assert torch.equal(again["head"].weight, network["head"].weight)


def test_the_same_estimator_goes_on_where_it_was():
    first, second = layer(), layer()
    audio, params = torch.randn(2, 1, 2000), torch.full((2, 2), 0.4)

    def gradient(box):
        own = params.clone().requires_grad_()
        box(audio, own).square().sum().backward()
        return own.grad

    gradient(first)
    second.load_state_dict(first.state_dict())
    assert torch.equal(gradient(first), gradient(second))


def test_a_state_without_the_effect_loads_as_before():
    saved = {key: value for key, value in layer().state_dict().items() if key != "_extra_state"}
    layer().load_state_dict(saved)


def test_a_state_goes_through_safetensors(tmp_path):
    box = bfx.Chain([bfx.load("pedalboard:PeakFilter"), bfx.load("pedalboard:Compressor")], bfx.SPSA())
    safetensors.torch.save_file(box.state_dict(), tmp_path / "state.safetensors")
    box.load_state_dict(safetensors.torch.load_file(tmp_path / "state.safetensors"))


def gradient_of(box):
    torch.manual_seed(0)
    audio = 0.3 * torch.randn(1, 1, 8192)
    params = torch.full((1, box.width), 0.4, requires_grad=True)
    box(audio, params).square().sum().backward()
    return params.grad


def serve(box, pipe):
    pipe.send(gradient_of(box).tolist())


@pytest.mark.parametrize("rule", AUDIO_RULES)
def test_layers_pickle_with_every_audio_rule(rule):
    if rule != "Surrogate":  # of a lambda here
        pickle.loads(pickle.dumps(layer(audio_rule=AUDIO_RULES[rule]())))


def test_layers_reach_spawned_processes_with_every_estimator():
    boxes = [layer(estimator=make(), audio_rule=bfx.Identity(), pool=bfx.Inline()) for make in ESTIMATORS.values()]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_all, args=(boxes, theirs))
    process.start()
    for name, box in zip(ESTIMATORS, boxes, strict=True):
        assert ours.poll(120), name
        assert torch.allclose(torch.tensor(ours.recv()), gradient_of(box), rtol=1e-5), name
    process.join(60)
    assert process.exitcode == 0


def serve_all(boxes, pipe):
    torch.set_num_threads(1)
    for box in boxes:
        serve(box, pipe)


def test_the_state_of_another_effect_with_the_same_columns_is_a_warning_that_says_so():
    state = bfx.BlackBox(bfx.load("pedalboard:Phaser").only("mix")).state_dict()
    with pytest.warns(UserWarning, match="saved for pedalboard:Phaser, and pedalboard:Chorus here is another effect;"):
        bfx.BlackBox(bfx.load("pedalboard:Chorus").only("mix")).load_state_dict(state)
