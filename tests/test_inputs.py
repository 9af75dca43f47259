"""Further inputs of effects, such as side-chains: what hears them, and the gradients with respect to them."""

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.effects import further
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators.audio_rules.ballistics import Clip
from tests.keyed import compress, duck, modulate

RATE = 44100
RATIO = bfx.Continuous(1, 20, 4, log=True)
THRESHOLD = bfx.Continuous(-60, 0, -30, "dB")
DEPTH = bfx.Space({"depth": bfx.Continuous(0, 1, 0.5)})
COMPRESSOR = bfx.function(compress, bfx.Space({"threshold_db": THRESHOLD, "ratio": RATIO}), inputs=("sidechain",))
EFFECTS = {
    "compressor": COMPRESSOR,
    "ring modulator": bfx.function(modulate, DEPTH, inputs=("modulator",)),
    "ducker of both channels": bfx.function(duck, DEPTH, inputs=("key",)),
}


def beats(batch, channels, seed, length=RATE):
    rng, t = np.random.default_rng(seed), np.arange(length) / RATE
    clips = [
        [
            0.4 * np.sin(2 * np.pi * rng.uniform(60, 300) * t + c) * np.exp(-((t * rng.uniform(2, 4)) % 1) * 5)
            + 0.02 * rng.standard_normal(length)
            for c in range(channels)
        ]
        for _ in range(batch)
    ]
    return torch.tensor(np.array(clips), dtype=torch.float32)


def directions(key, count):
    """Noise and swells by turns."""
    rng = np.random.default_rng(3)
    for k in range(count):
        swell = np.interp(np.arange(RATE) / 2205, np.arange(22), rng.standard_normal(22))
        yield (rng.standard_normal(key.shape) if k % 2 else key * swell).astype(np.float32)


def along(effect, audio, key, params, cotangent, u):
    """The derivative along a direction of the key, by central differences of renders."""
    (name,) = effect.inputs
    settings, step = effect.space.decode(params), 1e-3 * key.std()
    ends = [effect.render(audio, settings, **{name: key + way * step * u}).astype(np.float64) for way in (1, -1)]
    return float(((ends[0] - ends[1]) * cotangent).sum() / (2 * step))


@pytest.mark.parametrize(
    ("name", "key_channels", "channels"),
    [(name, *both) for name in EFFECTS for both in ((1, 1), (2, 2), (1, 2)) if "both" not in name or max(both) == 2],
)
def test_the_gradient_of_a_key_is_that_of_central_differences(name, key_channels, channels):
    effect = EFFECTS[name]
    audio, key = beats(2, channels, 1), beats(2, key_channels, 2).requires_grad_()
    layer = bfx.BlackBox(effect)
    params = torch.rand(2, layer.width, generator=torch.Generator().manual_seed(0))
    wet = layer(audio, params, **{effect.inputs[0]: key})
    cotangent = torch.randn(wet.shape, generator=torch.Generator().manual_seed(1))
    (wet * cotangent).sum().backward()
    true, found = [], []
    for item in range(2):
        at = (audio[item].numpy(), key[item].detach().numpy(), params[item].double().numpy(), cotangent[item].numpy())
        for u in directions(at[1], 16):
            true.append(along(effect, *at, u))
            found.append(float((key.grad[item].numpy().astype(np.float64) * u).sum()))
    cosine = np.dot(true, found) / (np.linalg.norm(true) * np.linalg.norm(found))
    assert cosine > 0.98 and np.linalg.norm(found) == pytest.approx(np.linalg.norm(true), rel=0.05)
    assert effect.inputs[0] in layer.explain()


@pytest.mark.parametrize(("key_channels", "channels"), [(1, 1), (1, 2), (2, 2)])
def test_the_key_of_a_plugin_at_slow_and_fast_times_and_with_a_knee(key_channels, channels):
    effect = bfx.load("ladspa:sc3").fix(chain_balance=1.0, makeup_gain_db=0.0)
    layer = bfx.BlackBox(effect, audio_rule=bfx.Dynamics())
    settings = [
        {"attack_time_ms": a, "release_time_ms": r, "threshold_level_db": t, "ratio": n, "knee_radius_db": k}
        for a, r, t, n, k in ((200, 600, -27, 2.2, 4), (4, 90, -21, 1.3, 5), (20, 300, -25, 8, 2))
    ]
    params = torch.tensor(np.stack([effect.space.encode(one) for one in settings]), dtype=torch.float32)
    audio, key = beats(3, channels, 1), beats(3, key_channels, 2).requires_grad_()
    wet = layer(audio, params, sidechain=key)
    cotangent = torch.randn(wet.shape, generator=torch.Generator().manual_seed(1))
    (wet * cotangent).sum().backward()
    for item in range(3):
        at = (audio[item].numpy(), key[item].detach().numpy(), params[item].double().numpy(), cotangent[item].numpy())
        swells = [u for k, u in enumerate(directions(at[1], 16)) if k % 2 == 0]
        true = np.array([along(effect, *at, u) for u in swells])
        found = np.array([float((key.grad[item].numpy().astype(np.float64) * u).sum()) for u in swells])
        assert np.dot(true, found) / (np.linalg.norm(true) * np.linalg.norm(found)) > 0.98
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(true), rel=0.15)


@pytest.mark.filterwarnings("error")
def test_a_faint_clip_beside_a_loud_key_is_no_error():
    noise = np.random.default_rng(0).standard_normal((3, 8000))
    found = Clip(1e-8 * noise[:2], np.zeros((2, 8000)), RATE, 0.5 * noise[2:]).anywhere()
    assert np.isfinite(found.curve(np.array([0.01, 0.3]))).all()


def test_params_and_audio_have_their_gradients_beside_a_key():
    audio, key = beats(2, 1, 1).requires_grad_(), beats(2, 1, 2)
    layer = bfx.BlackBox(COMPRESSOR, bfx.FiniteDifference(), audio_rule=bfx.Verified(recheck=0))
    params = torch.tensor([[0.4, 0.5], [0.5, 0.7]], requires_grad=True)
    layer(audio, params, sidechain=key).square().sum().backward()

    def energy(x, p, item):
        return float(np.square(COMPRESSOR.render(x, COMPRESSOR.space.decode(p), sidechain=key[item].numpy())).sum())

    for item in range(2):
        p, x = params[item].detach().double().numpy(), audio[item].detach().numpy()
        for column in range(2):
            step = 1e-3 * np.eye(2)[column]
            slope = (energy(x, p + step, item) - energy(x, p - step, item)) / 2e-3
            assert float(params.grad[item, column]) == pytest.approx(slope, rel=0.05)
        u = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32) * x.std() * 1e-2
        slope = (energy(x + u, p, item) - energy(x - u, p, item)) / 2
        assert float((audio.grad[item].numpy() * u).sum()) == pytest.approx(slope, rel=0.05)


def test_a_key_that_is_left_out_is_silence():
    audio, params = beats(1, 2, 1), torch.tensor([[0.2, 0.9]])
    layer = bfx.BlackBox(COMPRESSOR)
    assert torch.equal(layer(audio, params), layer(audio, params, sidechain=torch.zeros_like(audio)))
    assert not torch.equal(layer(audio, params), layer(audio, params, sidechain=audio))


def test_all_pools_and_racks_give_the_same():
    audio, key, params = beats(3, 2, 1, 8000), beats(3, 1, 2, 8000), torch.rand(3, 2)
    expected = bfx.BlackBox(COMPRESSOR, pool=bfx.Inline())(audio, params, sidechain=key)
    for pool in (bfx.Threads(2), bfx.Processes(2)):
        with pool:
            assert torch.equal(bfx.BlackBox(COMPRESSOR, pool=pool)(audio, params, sidechain=key), expected)
    rack = bfx.Rack({"comp": COMPRESSOR, "gain": bfx.load("pedalboard:Gain").fix(gain_db=0)})
    assert rack.inputs == ("comp.sidechain",)
    wet = bfx.BlackBox(rack)(audio, params, inputs={"comp.sidechain": key})
    torch.testing.assert_close(wet, expected)


def test_a_chain_hands_inputs_to_their_members():
    audio, key, other = beats(2, 2, 1, 8000), beats(2, 2, 2, 8000), beats(2, 2, 3, 8000)
    alone = bfx.BlackBox(COMPRESSOR)
    chain = bfx.Chain({"first": COMPRESSOR, "second": COMPRESSOR})
    assert chain.inputs == ("first.sidechain", "second.sidechain")
    params = torch.rand(2, 4)
    expected = alone(alone(audio, params[:, :2], sidechain=key), params[:, 2:], sidechain=other)
    assert torch.equal(chain(audio, params, {"first.sidechain": key, "second.sidechain": other}), expected)
    nested = bfx.Chain([bfx.load("pedalboard:Gain").fix(gain_db=0), [COMPRESSOR]])
    torch.testing.assert_close(nested(audio, params[:, :2], sidechain=key), alone(audio, params[:, :2], sidechain=key))
    for given, words in (({"sidechain": key}, "several inputs"), ({"kick": key}, "no input")):
        with pytest.raises(ParameterError, match=f"This Chain has {words} .*first.sidechain, second.sidechain"):
            chain(audio, params, given)


def test_a_console_routes_tracks_into_the_keys_of_others():
    tracks = torch.cat([beats(2, 2, 1, 8000), beats(1, 2, 2, 8000)])
    console = bfx.Console(strip=COMPRESSOR)
    song, params, bus = torch.zeros(3, dtype=torch.long), torch.rand(3, console.track_width), torch.zeros(1, 0)
    wet = bfx.BlackBox(COMPRESSOR)(
        tracks, params[:, :2], sidechain=torch.stack([tracks[2], torch.zeros_like(tracks[0]), tracks[0]])
    )
    expected = console.gain_pan(wet, params[:, 2:], RATE).sum(dim=0, keepdim=True)
    torch.testing.assert_close(console(tracks, song, params, bus, key=torch.tensor([2, -1, 0])), expected)
    with pytest.raises(ParameterError, match="key must name one of 3 tracks"):
        console(tracks, song, params, bus, key=torch.tensor([3, 0, 0]))
    with pytest.raises(ParameterError, match="another one of the same song, got 2 for track 0"):
        console(tracks, torch.tensor([0, 0, 1]), params, torch.zeros(2, 0), key=torch.tensor([2, -1, -1]))
    with pytest.raises(ParameterError, match="has the inputs none"):
        plain = bfx.Console(strip=bfx.load("pedalboard:Gain"))
        plain(tracks, song, torch.rand(3, plain.track_width), bus, key=torch.tensor([2, -1, 0]))


def test_further_inputs_of_a_bus_get_silence():
    tracks, song, bus = beats(2, 2, 1, 8000), torch.zeros(2, dtype=torch.long), torch.rand(1, 2)
    console, plain = bfx.Console(bus=COMPRESSOR), bfx.Console()
    params = torch.rand(2, console.track_width)
    mix = plain(tracks, song, params, torch.zeros(1, 0))
    expected = bfx.BlackBox(COMPRESSOR)(mix, bus, sidechain=torch.zeros(1, 1, 8000))
    torch.testing.assert_close(console(tracks, song, params, bus), expected)


def test_threshold_and_level_of_the_key_are_found_from_sound_alone():
    audio, key = beats(1, 1, 1), beats(1, 1, 2)
    layer = bfx.BlackBox(COMPRESSOR.fix(ratio=8.0), bfx.FiniteDifference())
    target = layer(audio, torch.tensor([[0.6]]), sidechain=0.5 * key)
    found = torch.tensor([0.3, 0.0], requires_grad=True)  # threshold, and the key's level in units of 20 dB
    optimiser = torch.optim.Adam([found], lr=0.03)
    for _ in range(120):
        optimiser.zero_grad()
        wet = layer(audio, found[None, :1], sidechain=key * 10 ** found[1])
        (wet - target).square().mean().backward()
        optimiser.step()
    threshold, level = found.detach().tolist()
    # a key twice as loud beside a threshold that is 6 dB higher gives the same gain
    assert -60 + 60 * threshold - 20 * level == pytest.approx(-60 + 36 + 6.02, abs=0.3)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"kick": torch.zeros(1, 1, 100)}, "has no input 'kick'; known are sidechain"),
        ({"sidechain": np.zeros((1, 1, 100))}, "sidechain must be a tensor"),
        ({"sidechain": torch.zeros(1, 1, 99)}, "batch and time must be equal"),
        ({"sidechain": torch.zeros(2, 1, 100)}, "batch and time must be equal"),
        ({"sidechain": torch.full((1, 1, 100), torch.nan)}, "sidechain contains NaN"),
        ({"sidechain": torch.zeros(1, 2, 100, requires_grad=True)}, "has 2 channels, and has a gradient with 1"),
    ],
)
def test_what_is_no_key_is_refused(inputs, words):
    with pytest.raises((AudioError, ParameterError), match=words):
        bfx.BlackBox(COMPRESSOR)(torch.zeros(1, 1, 100), torch.rand(1, 2), inputs)


def test_an_input_is_not_called_audio():
    with pytest.raises(ParameterError, match="cannot be called 'audio'"):
        bfx.function(lambda x, sr, audio: x, bfx.Space(), inputs=("audio",))


def test_a_mix_hands_inputs_to_their_branches():
    audio, key = beats(2, 2, 1, 8000), beats(2, 1, 2, 8000).requires_grad_()
    mix = bfx.Mix({"dry": None, "comp": bfx.Chain([COMPRESSOR])}, audio_rule=bfx.Pointwise())
    assert mix.inputs == ("comp.compress.sidechain",)
    params = torch.tensor([[0.3, 0.5], [0.4, 0.7]])
    expected = audio + bfx.BlackBox(COMPRESSOR)(audio, params, sidechain=key.detach())
    for given in ({"comp.compress.sidechain": key}, {"sidechain": key}):
        torch.testing.assert_close(mix(audio, params, given), expected)
    mix(audio, params, sidechain=key).square().sum().backward()
    assert key.grad.any()
    outer = bfx.Chain([bfx.load("pedalboard:Gain").fix(gain_db=0), mix])
    torch.testing.assert_close(outer(audio, params, sidechain=key), expected)


@pytest.mark.parametrize("pool", [bfx.Inline, bfx.Processes])
def test_a_key_that_is_left_out_is_said_once_and_here(pool, caplog, monkeypatch):
    monkeypatch.setattr(further, "_said", set())
    audio, params = beats(1, 1, 1, 800), torch.zeros(1, 1)
    with pool() as opened:
        for _ in range(2):
            bfx.BlackBox(bfx.function(duck, DEPTH, inputs=("key",)), pool=opened)(audio, params)
            bfx.function(duck, DEPTH, inputs=("key",)).render(audio[0].numpy())
    rack = bfx.Rack({"duck": bfx.function(duck, DEPTH, inputs=("key",))})
    bfx.BlackBox(rack)(audio, params)
    assert [record.message for record in caplog.records] == [
        "duck gets silence on its input key; write key=... if it is to hear something.",
        'rack gets silence on its input duck.key; write inputs={"duck.key": ...} if it is to hear something.',
    ]


def test_a_console_says_that_it_has_no_key(caplog, monkeypatch):
    monkeypatch.setattr(further, "_said", set())
    console = bfx.Console(strip=[COMPRESSOR])
    tracks, song = beats(2, 1, 1, 800), torch.zeros(2, dtype=torch.long)
    for key in (torch.tensor([-1, 0]), None, None):
        console(tracks, song, torch.zeros(2, console.track_width), torch.zeros(1, 0), key)
    assert [record.message for record in caplog.records] == [
        "compress gets silence on its input sidechain; write key=... if it is to hear something."
    ]


def test_audio_of_many_channels_has_silence_as_its_key():
    effect = bfx.function(duck, DEPTH, inputs=("key",))
    audio = beats(1, 3, 1, 800)[0].numpy()
    assert np.array_equal(bfx.Rack([effect]).render(audio), audio)


def test_functions_may_have_arguments_of_their_own():
    def free(audio, sample_rate, *rest, gain=1.0, **others):
        return audio

    for fn in (free, np.multiply, lambda x, sr, depth, *, key: x):
        bfx.function(fn, DEPTH, inputs=("key",))


def test_a_key_may_have_another_rule_than_audio():
    layer = bfx.BlackBox(EFFECTS["ring modulator"], audio_rule=bfx.Identity())
    layer.input_rules[0] = bfx.Crosswise()
    audio, key = beats(1, 2, 1, 2000), beats(1, 2, 2, 2000).requires_grad_()
    layer(audio, torch.tensor([[0.5]]), modulator=key).sum().backward()
    torch.testing.assert_close(key.grad, 0.5 * audio, atol=1e-3, rtol=1e-2)
