import dataclasses
import functools
import inspect
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pedalboard
import pytest
import torch
from scipy.signal import butter, lfilter, sosfilt

from blackbox_fx import dsp
from blackbox_fx.dsp import TWINS, Twin, compressor, filters, gain_pan, modulation, parametric_eq, sections, waveshaper
from blackbox_fx.dsp.sections import cascade
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.space import Choice, Continuous, Integer, Space, Toggle

RATE = 44100
SET = ("gain_db", "freq_hz", "q")
# the rate and the samples at which every parameter acts within the clip; else 8 kHz and 12
GRADCHECKED = {
    "graphic_eq": (RATE, 12),
    "soft_knee_compressor": (2000, 80),
    "sidechain_compressor": (2000, 80),
    "expander": (2000, 80),
    "noise_gate": (2000, 160),
    "feedback_delay": (1000, 60),
    "chorus": (2000, 40),
    "convolution": (500, 12),
}
SWELLING = ("soft_knee_compressor", "sidechain_compressor", "expander", "noise_gate")  # heard at all levels
every_twin = pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS.keys())


def noise(*shape, scale=0.3, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * scale


def rows(twin, n, seed=0, dtype=torch.float64):
    return torch.from_numpy(twin.space.sample(n, seed)).to(dtype)


def values(**named):
    return {name: torch.as_tensor(v, dtype=torch.float64).reshape(-1) for name, v in named.items()}


def bursts(scale=0.3):
    loud = torch.arange(RATE) // 8000 % 2 == 0
    return noise(1, 1, RATE, scale=scale) * torch.where(loud, 1.0, 0.05)


def apply(twin, audio, params, rate=RATE):
    """A twin's output; further inputs hear the audio backwards."""
    return twin(audio, params, rate, {name: audio.flip(-1) for name in twin.inputs})


def further(twin, audio):
    return {name: audio[:, ::-1] for name in twin.inputs}


def gradients(twin, audio, params, rate=RATE):
    x, p = audio.clone().requires_grad_(), params.clone().requires_grad_()
    wet = apply(twin, x, p, rate)
    return torch.autograd.grad((wet * noise(*wet.shape, seed=9)).sum(), (x, p))


def test_every_function_is_a_twin_with_the_same_parameters():
    assert set(TWINS) == {name for name in dsp.__all__ if name.islower()}
    for name, twin in TWINS.items():
        assert twin.name == name
        assert twin.function is getattr(dsp, name)
        takes = inspect.signature(twin.function).parameters.values()
        if all(p.kind != p.VAR_KEYWORD for p in takes):
            assert list(twin.space.parameters) == [p.name for p in takes if p.kind == p.KEYWORD_ONLY]


@every_twin
@pytest.mark.parametrize("channels", [1, 2])
def test_gradcheck_of_audio_and_every_parameter(twin, channels):
    # a low rate and settings in the lower third: every parameter acts within a few samples
    rate, samples = GRADCHECKED.get(twin.name, (8000, 12))
    low = 0.4 if twin.name == "expander" else 0.2  # where its range is reached
    audio, params = noise(2, channels, samples), low + 0.2 * rows(twin, 2, seed=1)
    eps = 1e-8 if twin.name in SWELLING else 1e-6
    if twin.name in SWELLING:
        audio = 0.1 * audio * 10 ** (-2 * torch.linspace(-1, 1, samples, dtype=audio.dtype).abs())
    inputs = audio.clone().requires_grad_(), params.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, p: apply(twin, x, p, rate), inputs, eps=eps, atol=1e-7, rtol=1e-4)
    acts = gradients(twin, audio, params, rate)[1].abs() > 1e-6
    expected = [twin.name != "mid_side" or name != "side_db" or channels == 2 for name in twin.columns]
    assert acts.tolist() == [expected] * 2


@every_twin
@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_gradient_at_a_bound_is_that_just_inside(twin, bound):
    audio, middle = noise(1, 2, 2000, scale=2.0), torch.full((1, twin.space.width), 0.5, dtype=torch.float64)
    for column in range(twin.space.width):
        edge, inside = middle.clone(), middle.clone()
        edge[0, column], inside[0, column] = bound, (bound - 0.5) * (1 - 1e-12) + 0.5
        for at, near in zip(gradients(twin, audio, edge), gradients(twin, audio, inside), strict=True):
            torch.testing.assert_close(at, near, rtol=1e-4, atol=1e-6)
    assert all(g.isfinite().all() for g in gradients(twin, audio, torch.full_like(middle, bound)))


@every_twin
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_silence_and_impulses_have_finite_gradients(twin, dtype):
    audio = torch.zeros(4, 2, 500, dtype=dtype)
    audio[1:, :, 100] = 1.0
    for params in (rows(twin, 4, dtype=dtype), torch.full((4, twin.space.width), 0.5, dtype=dtype)):
        assert all(g.isfinite().all() for g in gradients(twin, audio, params))


@pytest.mark.parametrize("channels", [1, 2])
def test_panning_has_its_exact_gradient_at_both_edges_and_the_centre(channels):
    pan = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    y = gain_pan(torch.ones(3, channels, 1), RATE, gain_db=torch.zeros(3), pan=pan)
    slopes = [torch.autograd.grad(y[:, side].sum(), pan, retain_graph=True)[0] for side in (0, 1)]
    angle = (pan.detach() + 1) * math.pi / 4
    scale = math.pi / 4 * math.sqrt(channels)
    torch.testing.assert_close(slopes[0], -angle.sin() * scale)
    torch.testing.assert_close(slopes[1], angle.cos() * scale)


def test_attack_and_release_each_have_a_gradient_where_they_act():
    params = values(threshold_db=-30, ratio=4, attack_ms=5, release_ms=50, makeup_db=0)
    times = [params[name].requires_grad_() for name in ("attack_ms", "release_ms")]

    def slopes(audio, part):
        y = compressor(audio, RATE, **params)[..., part]
        return torch.autograd.grad(y.square().mean().log(), times)

    step = torch.ones(1, 1, 4000, dtype=torch.float64)
    rising, falling = slopes(step, slice(None)), slopes(step * (torch.arange(4000) < 2000), slice(None))
    assert rising[0] > 1e-3  # a slower attack lets more through
    assert rising[1] == 0
    assert falling[0] > 1e-3
    after = slopes(step * torch.where(torch.arange(4000) < 2000, 1.0, 0.1), slice(2000, None))
    assert after[1] < -1e-3  # a slower release holds the gain down longer


def cookbook(kind, gain_db, freq_hz, q, rate=RATE):
    """The textbook's own formulas, b and a, written out one by one."""
    A, w = 10 ** (gain_db / 40), 2 * math.pi * freq_hz / rate
    c, alpha = math.cos(w), math.sin(w) / (2 * q)
    root = 2 * math.sqrt(A) * alpha
    if kind == "peak":
        return [1 + alpha * A, -2 * c, 1 - alpha * A], [1 + alpha / A, -2 * c, 1 - alpha / A]
    if kind == "low_shelf":
        return (
            [A * (A + 1 - (A - 1) * c + root), 2 * A * (A - 1 - (A + 1) * c), A * (A + 1 - (A - 1) * c - root)],
            [A + 1 + (A - 1) * c + root, -2 * (A - 1 + (A + 1) * c), A + 1 + (A - 1) * c - root],
        )
    return (
        [A * (A + 1 + (A - 1) * c + root), -2 * A * (A - 1 + (A + 1) * c), A * (A + 1 + (A - 1) * c - root)],
        [A + 1 - (A - 1) * c + root, 2 * (A - 1 - (A + 1) * c), A + 1 - (A - 1) * c - root],
    )


def equaliser(**bands):
    flat = {"low_shelf": (0, 100, 0.7), "peak": (0, 1000, 0.7), "high_shelf": (0, 6000, 0.7)} | bands
    return values(
        **{f"{b}_{k}": v for b, s in flat.items() for k, v in zip(("gain_db", "freq_hz", "q"), s, strict=True)}
    )


def test_equaliser_equals_scipy():
    bands = {"low_shelf": (12, 80, 0.5), "peak": (-9, 700, 4), "high_shelf": (6, 9000, 1.2)}
    audio = noise(1, 3, RATE)
    expected = audio.numpy()
    for kind, setting in bands.items():
        expected = lfilter(*cookbook(kind, *setting), expected)
    np.testing.assert_allclose(parametric_eq(audio, RATE, **equaliser(**bands)), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("band", "plugin", "freq_hz", "atol"),
    [
        ("low_shelf", "LowShelfFilter", 100, 2e-4),  # pedalboard's own float32 is off by as much at low frequencies
        ("peak", "PeakFilter", 1000, 2e-5),
        ("high_shelf", "HighShelfFilter", 6000, 2e-6),
    ],
)
@pytest.mark.parametrize(("gain_db", "q"), [(12, 0.71), (-9, 2)])
def test_each_band_equals_pedalboard(band, plugin, freq_hz, atol, gain_db, q):
    audio = noise(2, RATE, dtype=torch.float32)
    expected = getattr(pedalboard, plugin)(cutoff_frequency_hz=freq_hz, gain_db=gain_db, q=q)(audio.numpy(), RATE)
    wet = parametric_eq(audio[None], RATE, **equaliser(**{band: (gain_db, freq_hz, q)}))
    np.testing.assert_allclose(wet[0], expected, rtol=0, atol=atol)


def test_a_frequency_above_nyquist_counts_as_049_of_the_rate():
    audio = noise(1, 1, 2000)
    above, below = (parametric_eq(audio, 16000, **equaliser(high_shelf=(9, f, 0.7))) for f in (16000, 0.49 * 16000))
    torch.testing.assert_close(above, below)
    assert above.abs().max() < 10


@pytest.mark.parametrize("setting", [(-24, 4, 10, 100), (-40, 10, 0.5, 30), (-12, 1.5, 50, 500)])
def test_compressor_equals_pedalboard(setting):
    audio = bursts().float()
    params = values(**dict(zip(("threshold_db", "ratio", "attack_ms", "release_ms"), setting, strict=True)))
    wet = compressor(audio, RATE, **params, makeup_db=torch.zeros(1))
    expected = pedalboard.Compressor(*setting)(audio[0].numpy(), RATE)
    np.testing.assert_allclose(wet[0], expected, rtol=0, atol=5e-6)
    assert np.abs(expected - audio[0].numpy()).max() > 0.1


def test_compressor_links_channels():
    mono = bursts()
    params = values(threshold_db=-30, ratio=4, attack_ms=5, release_ms=50, makeup_db=6)
    once = compressor(mono, RATE, **params)
    torch.testing.assert_close(compressor(mono.expand(1, 2, -1), RATE, **params), once.expand(1, 2, -1), rtol=0, atol=0)
    beside = compressor(torch.cat([mono, 0.5 * mono], 1), RATE, **params)
    torch.testing.assert_close(beside, torch.cat([once, 0.5 * once], 1))  # the louder one decides for both


@pytest.mark.parametrize("setting", [(-20, 10, 1, 100), (-30, 3, 5, 30)])
def test_gate_equals_pedalboard(setting):
    audio = bursts().float()
    names = ("threshold_db", "ratio", "attack_ms", "release_ms")
    wet = dsp.noise_gate(audio, RATE, **values(**dict(zip(names, setting, strict=True))))
    expected = pedalboard.NoiseGate(*setting)(audio[0].numpy(), RATE)
    np.testing.assert_allclose(wet[0], expected, rtol=0, atol=2e-5)
    assert np.abs(expected - audio[0].numpy()).max() > 0.01


@pytest.mark.parametrize("setting", [(-10, 100), (-25, 10)])
def test_limiter_equals_pedalboard(setting):
    audio = bursts().float()
    wet = dsp.limiter(audio, RATE, **values(threshold_db=setting[0], release_ms=setting[1]))
    expected = pedalboard.Limiter(*setting)(audio[0].numpy(), RATE)
    np.testing.assert_allclose(wet[0], expected, rtol=0, atol=5e-5)
    assert np.abs(expected).max() == 1


@pytest.mark.parametrize("name", ["soft_knee_compressor", "expander"])
def test_a_knee_leads_smoothly_from_one_slope_to_the_other(name):
    level_db = torch.linspace(-48, 0, 400, dtype=torch.float64)
    steady = 10 ** (level_db / 20)[:, None, None].expand(-1, 1, 200)  # long after all attacks
    rest = {"attack_ms": 1e-3, "release_ms": 1e-3, "knee_db": 20}
    rest |= {"makeup_db": 0, "mix": 1} if name == "soft_knee_compressor" else {"range_db": 80}
    settings = values(threshold_db=-30, ratio=4, **rest)
    wet = getattr(dsp, name)(steady, RATE, **{k: v.expand(400) for k, v in settings.items()})[:, 0, -1]
    slopes = torch.diff(20 * wet.log10()) / torch.diff(level_db)
    before, after = (1, 0.25) if name == "soft_knee_compressor" else (4, 1)
    outside = (level_db[1:] < -41) | (level_db[1:] > -19)
    torch.testing.assert_close(slopes[outside], torch.where(level_db[1:] < -30, before, after)[outside].double())
    assert (torch.diff(slopes).abs() < 0.03).all()  # no corner


def test_without_a_knee_a_soft_compressor_is_the_hard_one():
    settings = values(threshold_db=-30, ratio=4, attack_ms=5, release_ms=50, makeup_db=3)
    soft = dsp.soft_knee_compressor(bursts(), RATE, **settings, **values(knee_db=0, mix=1))
    torch.testing.assert_close(soft, compressor(bursts(), RATE, **settings), rtol=1e-4, atol=0)


def test_a_side_chain_of_two_equal_channels_is_the_same_as_of_one():
    audio, key = noise(1, 2, 5000), bursts()[..., :5000]
    twin = TWINS["sidechain_compressor"]
    row = torch.from_numpy(twin.space.encode({"threshold_db": -40, "ratio": 10}))[None]
    once = twin(audio, row, RATE, sidechain=key)
    torch.testing.assert_close(twin(audio, row, RATE, sidechain=key.expand(1, 2, -1)), once, rtol=0, atol=0)
    torch.testing.assert_close(twin(audio, row, RATE), audio)  # silence ducks nothing
    assert (once - audio).abs().max() > 0.1
    with pytest.raises(AudioError, match=r"batch and time of audio, \(1, 2, 5000\)"):
        twin(audio, row, RATE, sidechain=key[..., :-1])


@pytest.mark.parametrize(
    ("name", "plugin", "setting"),
    [
        ("feedback_delay", pedalboard.Delay, {"delay_s": 0.1, "feedback": 0.5, "damping": 0, "mix": 0.4}),
        (
            "chorus",
            pedalboard.Chorus,
            {"rate_hz": 1, "depth": 0.25, "centre_delay_ms": 7, "feedback": 0, "mix": 0.5},
        ),
        (
            "chorus",
            pedalboard.Chorus,
            {"rate_hz": 0.3, "depth": 0.8, "centre_delay_ms": 20, "feedback": 0.5, "mix": 0.7},
        ),
        (
            "phaser",
            pedalboard.Phaser,
            {"rate_hz": 3, "depth": 0.8, "centre_frequency_hz": 500, "feedback": 0.6, "mix": 0.5},
        ),
    ],
)
def test_modulation_equals_pedalboard(name, plugin, setting, monkeypatch):
    # pedalboard sums angles in float32, and its swing drifts from a sine
    monkeypatch.setattr(modulation, "oscillate", functools.partial(modulation.oscillate, single=True))
    audio = noise(2, 2 * RATE, dtype=torch.float32).numpy()
    wet = getattr(dsp, name)(torch.from_numpy(audio)[None], RATE, **values(**setting))
    expected = plugin(*(value for key, value in setting.items() if key != "damping"))(audio, RATE)
    np.testing.assert_allclose(wet[0], expected, rtol=0, atol=3e-4)
    assert np.abs(expected - audio).max() > 0.1


def test_damping_takes_more_highs_from_every_echo():
    impulse = torch.zeros(1, 1, 4000, dtype=torch.float64)
    impulse[..., 0] = 1
    setting = values(delay_s=1000 / RATE, feedback=0.9, damping=0.5, mix=1)
    wet = dsp.feedback_delay(impulse, RATE, **setting)[0, 0]
    highs = [float(torch.fft.rfft(wet[k * 1000 : (k + 1) * 1000])[400].abs()) for k in (1, 2, 3)]
    lows = [float(torch.fft.rfft(wet[k * 1000 : (k + 1) * 1000])[1].abs()) for k in (1, 2, 3)]
    assert lows[1] / lows[0] == pytest.approx(0.9, abs=0.01)
    assert highs[1] / highs[0] == pytest.approx(highs[2] / highs[1], rel=1e-3)
    assert highs[1] / highs[0] < 0.4


def test_convolution_equals_scipy_and_pedalboard():
    audio, room = noise(2, 2, 8000), noise(2, 3000, seed=3)
    wet = dsp.convolution(audio, RATE, room, **both(fade_s=0.1, wet_db=-6, dry_db=-3))
    faded = room * 10 ** (-3 * torch.arange(3000, dtype=torch.float64) / RATE / 0.1)
    for channel in (0, 1):
        expected = 10 ** (-6 / 20) * np.convolve(audio[1, channel].numpy(), faded[channel].numpy())[:8000]
        np.testing.assert_allclose(wet[1, channel], expected + 10 ** (-3 / 20) * audio[1, channel].numpy(), atol=1e-10)
    plugin = pedalboard.Convolution(faded.numpy().astype(np.float32), 1.0, RATE)
    gain = 0.125 / float(faded.square().sum(1).max().sqrt())  # pedalboard makes responses equally loud
    bare = dsp.convolution(audio, RATE, room, **both(fade_s=0.1, wet_db=0, dry_db=-300))[1]
    np.testing.assert_allclose(plugin(audio[1].numpy().astype(np.float32), RATE), gain * bare, atol=1e-6)


def both(**named):
    return {name: value.expand(2) for name, value in values(**named).items()}


def test_a_convolution_takes_a_response_that_fits():
    audio, settings = noise(2, 2, 100), both(fade_s=1, wet_db=0, dry_db=0)
    assert torch.equal(dsp.convolution(audio, RATE, **settings), dsp.convolution(audio, RATE, **settings))
    for shape in ((3, 50), (2, 2, 50), (0,)):
        with pytest.raises(AudioError, match=r"\(channel, time\) with the 2 channels"):
            dsp.convolution(audio, RATE, torch.ones(shape), **settings)


def test_a_graphic_equaliser_goes_through_the_gains_that_are_set():
    impulse = torch.zeros(4, 1, 1 << 17, dtype=torch.float64)
    impulse[..., 0] = 1
    wanted = torch.from_numpy(np.random.default_rng(0).choice([-12.0, 12.0], (4, 31)))
    wet = dsp.graphic_eq(impulse, RATE, **dict(zip(filters.BAND_NAMES, wanted.unbind(1), strict=True)))[:, 0]
    turns = torch.outer(
        torch.arange(1 << 17, dtype=torch.float64) / RATE, torch.tensor(filters.BANDS_HZ, dtype=torch.float64)
    )
    heard = torch.complex(wet @ (2 * math.pi * turns).cos(), wet @ (2 * math.pi * turns).sin()).abs()
    torch.testing.assert_close(20 * heard.log10(), wanted, rtol=0, atol=1e-6)


def test_a_graphic_equaliser_knows_its_bands():
    audio, gain = noise(1, 1, 100), torch.tensor([6.0])
    with pytest.raises(ParameterError, match="got gain_db_21_hz"):
        dsp.graphic_eq(audio, RATE, gain_db_21_hz=gain)
    with pytest.raises(ParameterError, match="got none"):
        dsp.graphic_eq(audio, RATE)
    low = dsp.graphic_eq(audio, 8000, gain_db_20000_hz=gain)  # beyond half the sample rate
    torch.testing.assert_close(low, audio)


def test_six_bands_with_passes_equal_scipy():
    audio = noise(1, 3, RATE)
    peaks = [(k, -6 + 4 * k, 150 * 3**k, 0.7 + 0.5 * k) for k in range(1, 5)]
    named = {f"peak_{k}_{what}": v for k, *three in peaks for what, v in zip(SET, three, strict=True)}
    named |= {f"low_shelf_{what}": v for what, v in zip(SET, (6, 90, 0.8), strict=True)}
    named |= {f"high_shelf_{what}": v for what, v in zip(SET, (-6, 7000, 0.6), strict=True)}
    wet = dsp.six_band_eq(
        audio, RATE, high_pass_hz=values(x=60)["x"], low_pass_hz=values(x=12_000)["x"], **values(**named)
    )
    expected = sosfilt(butter(2, 60, "high", fs=RATE, output="sos"), audio.numpy())
    for kind, setting in (("low_shelf", (6, 90, 0.8)), ("high_shelf", (-6, 7000, 0.6))):
        expected = lfilter(*cookbook(kind, *setting), expected)
    for _, *setting in peaks:
        expected = lfilter(*cookbook("peak", *setting), expected)
    expected = sosfilt(butter(2, 12_000, "low", fs=RATE, output="sos"), expected)
    np.testing.assert_allclose(wet, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("items", "sections", "time"), [(1, 1, 10), (3, 4, 1025), (20, 8, 3000), (2, 31, 2048)])
def test_filters_in_series_equal_scipy(items, sections, time):
    rng = np.random.default_rng(0)
    radius, angle = rng.uniform(0.3, 0.99, (2, items, sections)) * [[[1]], [[math.pi]]]
    c = np.concatenate([rng.normal(0, 0.5, (items, sections, 3)), np.zeros((items, sections, 2))], 2)
    c[..., 3], c[..., 4] = -2 * radius * np.cos(angle), radius**2
    x = rng.standard_normal((items, time))
    wet = cascade(torch.from_numpy(x), torch.from_numpy(c))
    for row, own, heard in zip(x, c, wet.numpy(), strict=True):
        expected = sosfilt(np.insert(own, 3, 1.0, axis=1), row)
        np.testing.assert_allclose(heard, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("block", [5, 8, 1024])
def test_gradients_of_filters_in_series_go_through_blocks(block, monkeypatch):
    monkeypatch.setattr(sections, "_BLOCK", block)
    c = torch.tensor([[1.0, 0.3, 0.2, -0.9, 0.5]] * 3, dtype=torch.float64) * (0.5 + noise(30, 3, 1, scale=0.1))
    inputs = noise(30, 23).requires_grad_(), c.requires_grad_()
    assert torch.autograd.gradcheck(cascade, inputs, fast_mode=True)
    assert cascade(torch.zeros(2, 0), c[:2]).shape == (2, 0)
    with pytest.raises(ValueError, match="one block or more"):
        cascade(torch.zeros(2, 9), torch.zeros(2, 0, 3, 5, dtype=torch.float64))


def test_waveshaper_values():
    audio = noise(1, 2, 100)
    wet = waveshaper(audio, RATE, **values(drive_db=20, bias=0.5, mix=0.25))
    expected = 0.75 * audio.numpy() + 0.25 * (np.tanh(10 * audio.numpy() + 0.5) - np.tanh(0.5))
    np.testing.assert_allclose(wet, expected, rtol=0, atol=1e-12)
    assert not waveshaper(torch.zeros(1, 1, 8), RATE, **values(drive_db=20, bias=0.5, mix=1)).any()


@pytest.mark.parametrize(
    ("channels", "pan", "expected"),
    [(1, -1, (1, 0)), (1, 0, (0.5**0.5, 0.5**0.5)), (1, 1, (0, 1)), (2, -1, (2**0.5, 0)), (2, 0, (1, 1))],
)
def test_panning_law(channels, pan, expected):
    y = gain_pan(torch.ones(1, channels, 1, dtype=torch.float64), RATE, **values(gain_db=20, pan=pan))
    np.testing.assert_allclose(y[0, :, 0], 10 * np.array(expected), rtol=0, atol=1e-14)


def test_panning_takes_one_or_two_channels():
    with pytest.raises(AudioError, match="got 3"):
        gain_pan(torch.ones(1, 3, 1), RATE, **values(gain_db=0, pan=0))


@every_twin
def test_decodes_as_the_space_does(twin):
    held = next(iter(twin.space.free))
    for t in (twin, dataclasses.replace(twin, space=twin.space.fix({held: twin.space.parameters[held].high}))):
        u = torch.cat([rows(t, 5), torch.tensor([[-0.5], [0.0], [1.0], [1.5]]).expand(-1, t.space.width)])
        decoded = t.decode(u)
        for i, row in enumerate(u.numpy()):
            expected = t.space.complete(t.space.decode(row))
            assert list(decoded) == list(expected)
            assert [v[i].item() for v in decoded.values()] == pytest.approx(
                list(expected.values()), rel=1e-13, abs=1e-13
            )


@every_twin
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_its_effect_item_by_item(twin, dtype):
    audio, params = noise(3, 2, 20_000, dtype=torch.float32), rows(twin, 3, seed=4, dtype=dtype)
    wet = apply(twin, audio.to(dtype), params)
    assert (wet.dtype, wet.shape) == (dtype, audio.shape)
    effect = twin.effect()
    assert effect.name == f"twin:{twin.name}"
    for x, row, y in zip(audio.numpy(), params.numpy(), wet.numpy(), strict=True):
        before = x.copy()
        rendered = effect.render(x, twin.space.decode(row), RATE, inputs=further(twin, x))
        np.testing.assert_allclose(rendered, y, rtol=0, atol=1e-5)
        if dtype == torch.float64:  # the effect is as exact as float32 can say
            assert np.mean(rendered == y.astype(np.float32)) > 0.99
        np.testing.assert_array_equal(x, before)


@every_twin
def test_defaults_suit_any_channel_count(twin):
    for channels in (1, 2) if twin.name in ("gain_pan", "mid_side") else (1, 2, 5):
        params = torch.from_numpy(twin.space.encode())[None]  # float64; the audio decides the type of the output
        wet = twin(noise(1, channels, 100, dtype=torch.float32), params, RATE)
        assert wet.dtype == torch.float32
        assert wet.shape == (1, 2 if twin.function is gain_pan else channels, 100)
        assert wet.isfinite().all()


WORKER = """
import pickle, sys
from concurrent.futures import ThreadPoolExecutor
jobs = pickle.load(sys.stdin.buffer)
assert "blackbox_fx.dsp" in sys.modules
assert "numba" not in sys.modules, "importing dsp must stay fast"
wet = [effect.render(*job, inputs=inputs) for effect, inputs, *job in jobs]
with ThreadPoolExecutor(4) as threads:
    for (effect, inputs, *job), y in zip(jobs, wet):
        assert all((again == y).all() for again in threads.map(lambda _: effect.render(*job, inputs=inputs), range(20)))
pickle.dump(wet, sys.stdout.buffer)
"""


def test_effects_render_alike_in_another_process_and_in_its_threads():
    audio = noise(2, 10_000, dtype=torch.float32).numpy()
    jobs = [
        (t.effect(), further(t, audio), audio, t.space.decode(t.space.sample(1, 5)[0]), RATE) for t in TWINS.values()
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WORKER],
        input=pickle.dumps(jobs),
        env=os.environ | {"NUMBA_THREADING_LAYER": "workqueue"},  # the layer that bears no concurrent calls
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr
    for (effect, inputs, *job), wet in zip(jobs, pickle.loads(done.stdout), strict=True):
        np.testing.assert_array_equal(effect.render(*job, inputs=inputs), wet)


@pytest.mark.parametrize(
    "parameter",
    [Continuous(0, 1, 0, step=0.1), Integer(0, 3, 1), Toggle(), Choice(("a", "b"), "a")],
    ids=lambda p: p.kind,
)
def test_a_parameter_without_a_gradient_is_refused(parameter):
    with pytest.raises(ParameterError, match="mode has no gradient"):
        Twin("bad", waveshaper, Space({"mode": parameter}))


def test_wrong_shapes_are_refused():
    twin = TWINS["waveshaper"]
    with pytest.raises(AudioError, match=r"\(batch, channel, time\)"):
        twin(torch.ones(2, 8), torch.zeros(2, 3), RATE)
    with pytest.raises(ParameterError, match=r"\(batch, 3\), got \(2, 4\)"):
        twin(torch.ones(2, 1, 8), torch.zeros(2, 4), RATE)
    with pytest.raises(ParameterError, match="2 items of audio"):
        twin(torch.ones(2, 1, 8), torch.zeros(1, 3), RATE)


def response(low=1.0, mid=1.0, high=1.0, wet=0.0, dry=-300.0):
    impulse = torch.zeros(1, 2, 3 * RATE, dtype=torch.float64)
    impulse[..., 0] = 1
    settings = {"low_decay_s": low, "mid_decay_s": mid, "high_decay_s": high, "wet_db": wet, "dry_db": dry}
    return dsp.reverberation(impulse, RATE, **{name: torch.tensor([float(v)]) for name, v in settings.items()})[0]


@pytest.mark.parametrize(("band", "low_hz", "high_hz"), [("low", 40, 150), ("mid", 600, 1500), ("high", 6000, 18000)])
def test_each_band_of_a_reverberation_fades_by_60_db_in_its_time(band, low_hz, high_hz):
    wet = response(**{band: 0.4})[0].numpy()
    filtered = sosfilt(butter(4, (low_hz, high_hz), "band", fs=RATE, output="sos"), wet)
    levels = [np.square(filtered[round(a * RATE) : round((a + 0.05) * RATE)]).mean() for a in (0.05, 0.25)]
    assert 10 * np.log10(levels[0] / levels[1]) == pytest.approx(0.2 / 0.4 * 60, abs=6)


def test_a_reverberation_is_as_loud_at_every_decay_and_the_same_in_every_call():
    for decay in (0.1, 0.5, 3.0):
        energies = response(decay, decay, decay).square().sum(1)
        torch.testing.assert_close(energies, torch.ones_like(energies), rtol=0.15, atol=0)
    assert torch.equal(response(), response())
    left, right = response()
    assert abs(float(left @ right)) < 0.1
