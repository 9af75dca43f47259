"""Settings that move: gradients of break points, and sweeps that are recovered from sound alone."""

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.testing import RecordingPool
from tests.cases import RATE, music


def sweeping(name):
    if name == "vst3:ZamEQ2":
        return (
            bfx.load(name)
            .fix(boost_cut_1_db=18, bandwidth_1=1)
            .within(frequency_1_hz=(100, 8000))
            .only("frequency_1_hz")
        )
    return bfx.load(name).within(cutoff_frequency_hz=(100, 8000)).only("cutoff_frequency_hz")


EFFECTS = {name: lambda name=name: sweeping(name) for name in ("pedalboard:LowpassFilter", "vst3:ZamEQ2")}


@pytest.mark.parametrize("name", EFFECTS)
def test_every_break_point_has_the_gradient_of_central_differences_for_two_renders(name):
    pool = RecordingPool()
    layer = bfx.Automated(EFFECTS[name](), pool=pool, step=0.005, generator=torch.Generator().manual_seed(0))
    audio = torch.from_numpy(np.stack([music(1.5, 2, seed=k) for k in range(2)]))
    g = torch.from_numpy(np.stack([music(1.5, 2, seed=k + 5) for k in range(2)]))
    points = torch.rand(2, 4, 1, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    points.requires_grad_()
    (layer(audio, points, 2) * g).sum().backward()
    assert [len(job) for job in pool.jobs] == [2, 4]  # whatever the number of points
    truth = torch.zeros_like(points)
    for item in range(2):
        for k in range(4):
            ends = []
            for step in (-0.005, 0.005):
                moved = points.detach().clone()
                moved[item, k] += step
                ends.append(float((layer(audio, moved, 2) * g).double().sum()))
            truth[item, k] = (ends[1] - ends[0]) / 0.01
    assert torch.nn.functional.cosine_similarity(points.grad.flatten(), truth.flatten(), 0) > 0.98
    assert float((points.grad - truth).norm() / truth.norm()) < 0.2


def test_several_columns_are_right_in_the_mean():
    effect = bfx.load("pedalboard:PeakFilter").within(cutoff_frequency_hz=(200, 4000), gain_db=(-12, 12), q=(0.5, 3))
    layer = bfx.Automated(effect, pairs=4, step=0.01, pool=bfx.Inline(), generator=torch.Generator().manual_seed(0))
    audio, g = (torch.from_numpy(music(0.6, 1, seed=k))[None] for k in (0, 5))
    points = torch.tensor([[[0.4, 0.7, 0.5], [0.6, 0.3, 0.4]]])
    found = []
    for _ in range(40):
        row = points.clone().requires_grad_()
        (layer(audio, row, 2) * g).sum().backward()
        found.append(row.grad[0].numpy().ravel())
    truth = np.zeros(6)
    for k in range(6):
        moved = [points.clone().flatten() for _ in range(2)]
        moved[0][k] -= 0.01
        moved[1][k] += 0.01
        low, high = (float((layer(audio, m.view(1, 2, 3), 2) * g).double().sum()) for m in moved)
        truth[k] = (high - low) / 0.02
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - truth) <= 4 * error + 0.1 * np.abs(truth).max()).all()


@pytest.mark.parametrize("name", EFFECTS)
def test_a_filter_sweep_is_recovered_from_sound_alone(name):
    layer = bfx.Automated(EFFECTS[name](), pool=bfx.Inline(), generator=torch.Generator().manual_seed(0))
    noise = 0.2 * torch.randn(1, 1, 20 * RATE, generator=torch.Generator().manual_seed(0))
    hidden = torch.from_numpy(np.random.default_rng(3).uniform(0.2, 0.8, (1, 11, 1))).float()
    target = layer(noise, hidden, 0.5)
    free = torch.zeros(1, 11, 1, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.15)
    for step in range(60):
        for group in optimizer.param_groups:
            group["lr"] = 0.15 * (1 - step / 60)
        loss = (layer(noise, free.sigmoid(), 0.5) - target).square().mean() / target.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((free.sigmoid() - hidden).detach().abs().max()) < 0.03


def test_settings_move_straight_between_points_and_failed_items_have_no_gradient():
    effect = bfx.load("pedalboard:Gain")
    layer = bfx.Automated(effect, hop=512, pool=bfx.Inline())
    points = layer.encode([{"gain_db": -20}, {"gain_db": 0}])[None]
    wet = layer(torch.full((1, 1, 8192), 0.5), points, RATE / 8192)
    middles = -20 + 20 * (np.arange(16) + 0.5) / 16
    np.testing.assert_allclose(wet[0, 0, 511::512], 0.5 * 10 ** (middles / 20), rtol=1e-3)
    assert layer.decode(points[0])[1]["gain_db"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: bfx.Automated(bfx.load("pedalboard:PitchShift")), EffectError, "cannot change settings during a clip"),
        (lambda: bfx.Automated("pedalboard:Gain"), EffectError, "must be an Effect"),
        (lambda: bfx.Automated(bfx.load("pedalboard:Gain"), hop=0), ParameterError, "hop must be"),
        (lambda: bfx.Automated(bfx.load("pedalboard:Gain"), pairs=0), ParameterError, "pairs must be"),
    ],
)
def test_mistakes_are_one_sentence(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("audio", "points", "rate", "error", "words"),
    [
        (torch.zeros(1, 1, 9), torch.zeros(1, 3), 2, ParameterError, r"points must be \(batch, points, 1\)"),
        (torch.zeros(1, 1, 9), torch.zeros(1, 0, 1), 2, ParameterError, "with a point or more"),
        (torch.zeros(1, 1, 9), torch.ones(1, 2, 1) + 1, 2, ParameterError, "is 2"),
        (torch.zeros(1, 1, 9), torch.zeros(1, 2, 1), 0, ParameterError, "rate_hz must be"),
        (torch.zeros(1, 1, 9).requires_grad_(), torch.zeros(1, 2, 1), 2, AudioError, "Audio gets no gradient"),
        (torch.zeros(1, 9), torch.zeros(1, 2, 1), 2, AudioError, "batch, channel, time"),
    ],
)
def test_mistakes_in_calls_are_one_sentence(audio, points, rate, error, words):
    layer = bfx.Automated(bfx.load("pedalboard:Gain"), pool=bfx.Inline())
    with pytest.raises(error, match=words):
        layer(audio, points, rate)
