"""Everything that takes tensors takes them from a GPU; effects render on CPUs all the same."""

import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.data.composer import compose
from blackbox_fx.dsp import TWINS
from blackbox_fx.estimators import Identity
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.tasks.mixing.engineer import HiddenEngineer, demo_console
from blackbox_fx.tasks.mixing.study import MixStudy
from blackbox_fx.tasks.mixing.training import MixRecipe, open_run
from tests.cases import AUDIO_RULES, ESTIMATORS, RATE, music

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def gradients(module, device, channels=1, seconds=0.2):
    torch.manual_seed(0)
    module = module.to(device)
    audio = torch.stack([torch.from_numpy(music(seconds, channels, seed=k)) for k in range(2)]).to(device)
    params = torch.linspace(0.2, 0.8, 2 * module.width).reshape(2, -1).to(device)
    audio.requires_grad_(), params.requires_grad_()
    wet = module(audio, params)
    assert wet.device.type == device
    (wet * torch.linspace(0, 1, wet.shape[-1], device=device)).square().sum().backward()
    assert audio.grad.device.type == params.grad.device.type == device
    return wet.detach().cpu(), audio.grad.cpu(), params.grad.cpu()


def assert_same(make, **options):
    for here, there in zip(gradients(make(), "cpu", **options), gradients(make(), "cuda", **options), strict=True):
        assert torch.allclose(here, there, rtol=1e-3, atol=1e-4 * float(here.abs().max()))


@pytest.mark.parametrize("pool", ["Inline", "Processes"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators(name, pool, pools):
    assert_same(
        lambda: bfx.BlackBox(
            bfx.load("pedalboard:Compressor"), ESTIMATORS[name](), audio_rule=Identity(), pool=pools[pool]
        )
    )


@pytest.mark.parametrize("name", AUDIO_RULES)
def test_audio_rules(name):
    assert_same(lambda: bfx.BlackBox(bfx.load("pedalboard:Compressor"), audio_rule=AUDIO_RULES[name]()))


def test_a_proxy_pulls_back_on_the_device_of_the_audio():
    effect = bfx.load_proxy("pedalboard-eq").effect()

    def layer():
        return bfx.BlackBox(
            effect, bfx.Auto(choice="surrogate"), audio_rule=bfx.Verified(choice="surrogate"), pool=bfx.Inline()
        )

    assert_same(layer)


def test_graphs():
    def graph():
        room = bfx.Mix({"dry": None, "room": bfx.load("pedalboard:Reverb").only("room_size")}, level_db=(-40, 0))
        return bfx.Chain({"eq": bfx.load("pedalboard:PeakFilter"), "space": room}, audio_rule=bfx.TimeReversal())

    assert_same(graph)


@pytest.mark.parametrize("name", TWINS)
def test_twins(name):
    twin = TWINS[name]
    audio = torch.from_numpy(music(0.1, 2))[None]
    params = torch.full((1, twin.space.width), 0.4)
    here, there = (twin(audio.to(d), params.to(d), RATE).cpu() for d in ("cpu", "cuda"))
    assert torch.allclose(here, there, atol=1e-4)


def test_expected_loss():
    layer = bfx.BlackBox(bfx.load("pedalboard:Gain"), bfx.ScoreFunction())
    params = torch.full((1, 1), 0.5, device="cuda", requires_grad=True)
    audio = torch.from_numpy(music(0.2))[None].cuda()
    loss = bfx.expected_loss(layer, audio, params, lambda wet: float((wet**2).mean()))
    loss.backward()
    assert loss.device.type == params.grad.device.type == "cuda" and params.grad.abs().min() > 0


def test_loss():
    wet, target = torch.from_numpy(music(0.3))[None], torch.from_numpy(music(0.3, seed=1))[None]
    here, there = (float(MultiResolutionSTFT().to(d)(wet.to(d), target.to(d))) for d in ("cpu", "cuda"))
    assert here == pytest.approx(there, rel=1e-3)


def test_training_a_mixing_network(tmp_path):
    songs = [compose(seed, seconds=3.0) for seed in range(3)]
    recipe = MixRecipe(steps=6, batch=2, seconds=0.4, excerpts=4, unseen=2, save_every=2)
    losses = []
    for device in ("cpu", "cuda"):
        study = MixStudy(songs[:2], songs[2:], recipe, HiddenEngineer(demo_console(bfx.Inline(), 44100, 0)), device)
        study.prepare(lambda *_: None)
        with open_run(tmp_path / device, recipe) as run:
            study.train(run, lambda *_: None)
        losses.append(study.losses)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
