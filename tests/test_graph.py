import copy
import pickle

import numpy as np
import pytest
import torch
from auraloss.freq import STFTLoss

import blackbox_fx as bfx
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.layers.console import join
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.models.encoders import LogMel, mel_filters
from blackbox_fx.tasks.mixing.engineer import HiddenEngineer, demo_console
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.testing import RecordingPool
from tests.cases import RATE, music


def songs(*counts, seconds=0.3):
    return [
        torch.stack([torch.from_numpy(music(seconds, 1, seed=10 * s + k)) for k in range(n)])
        for s, n in enumerate(counts)
    ]


@pytest.fixture(scope="module")
def console():
    return demo_console(bfx.Inline(), RATE, seed=0)


def test_console_is_strip_gain_pan_sum_bus(console):
    tracks, song = join(songs(2, 3))
    u = torch.rand(5, console.track_width, generator=torch.Generator().manual_seed(0))
    v = torch.rand(2, console.bus_width, generator=torch.Generator().manual_seed(1))
    mixes = console(tracks, song, u, v)
    assert mixes.shape == (2, 2, tracks.shape[-1])
    expected = np.zeros((2, 2, tracks.shape[-1]), np.float32)
    for k, (track, row) in enumerate(zip(tracks.numpy(), u.double().numpy(), strict=True)):
        effect = console.strip.effect
        wet = effect.render(track, effect.space.decode(row[:-2]), RATE)
        gain = 10 ** ((-18 + 30 * row[-2]) / 20)
        angle = row[-1] * np.pi / 2
        expected[int(song[k])] += (wet * gain * np.array([[np.cos(angle)], [np.sin(angle)]])).astype(np.float32)
    for k in range(2):
        effect = console.bus.effect
        expected[k] = effect.render(expected[k], effect.space.decode(v[k].double().numpy()), RATE)
    assert np.allclose(mixes.numpy(), expected, atol=1e-4)


def test_songs_do_not_hear_each_other(console):
    together = join(songs(2, 4))
    draw = torch.Generator().manual_seed(2)
    u, v = torch.rand(6, console.track_width, generator=draw), torch.rand(2, console.bus_width, generator=draw)
    mixes = console(*together, u, v)
    alone = console(*join(songs(2)), u[:2], v[:1])
    assert torch.equal(mixes[:1], alone)


def test_gradients_reach_every_setting(console):
    tracks, song = join(songs(2, 3))
    u = torch.full((5, console.track_width), 0.4, requires_grad=True)
    v = torch.full((2, console.bus_width), 0.4, requires_grad=True)
    console(tracks, song, u, v).square().mean().backward()
    assert (u.grad != 0).all() and (v.grad != 0).all()


def test_bare_console_is_exact():
    console = bfx.Console(None, None)
    assert console.track_columns == ("gain_db", "pan") and console.bus_width == 0
    tracks, song = join(songs(2))
    u = torch.tensor([[24 / 36, 0.5], [24 / 36, 0.5]])
    mix = console(tracks, song, u, torch.zeros(1, 0))
    assert torch.allclose(mix[0, 0], tracks.sum(dim=(0, 1)) * 0.5**0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda t, s, u, v: (t[0], s, u, v), AudioError),
        (lambda t, s, u, v: (t.expand(-1, 3, -1), s, u, v), AudioError),
        (lambda t, s, u, v: (t, s[:1], u, v), ParameterError),
        (lambda t, s, u, v: (t, s + 1, u, v), ParameterError),
        (lambda t, s, u, v: (t, s, u[:, 1:], v), ParameterError),
        (lambda t, s, u, v: (t, s, u, v[:, 1:]), ParameterError),
        (lambda t, s, u, v: (t, s, u + 1, v), ParameterError),
    ],
)
def test_mistakes(console, change, error):
    tracks, song = join(songs(2))
    u, v = torch.full((2, console.track_width), 0.5), torch.full((1, console.bus_width), 0.5)
    with pytest.raises(error):
        console(*change(tracks, song, u, v))


def test_strip_and_bus_share_a_sample_rate():
    gain = bfx.load("pedalboard:Gain")
    with pytest.raises(AudioError, match="needs one for all"):
        bfx.Console(bfx.BlackBox(gain, sample_rate=44100), bfx.BlackBox(gain, sample_rate=48000))


def test_network_is_equivariant_and_takes_any_number_of_tracks(console):
    network = MixNet(console.track_width, console.bus_width)
    hear = LogMel(RATE)
    tracks, song = join(songs(3, 8, 1, seconds=0.5))
    mel = hear(tracks)
    u, v = network(mel, song, 3)
    assert u.shape == (12, console.track_width) and v.shape == (3, console.bus_width)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    u2, v2 = network(mel[order], song[order], 3)
    assert torch.allclose(u2, u[order], atol=1e-6) and torch.allclose(v2, v, atol=1e-6)
    alone, _ = network(mel[:3], song[:3], 1)
    assert torch.allclose(alone, u[:3], atol=1e-6)
    assert not torch.allclose(network(mel[:2], song[:2], 1)[0], u[:2], atol=1e-6)  # context matters


def test_mel_filters_cover_the_spectrum_and_short_audio_is_heard():
    filters = mel_filters(64, 2048, RATE)
    assert filters.shape == (64, 1025) and (filters.sum(dim=1) > 0).all() and filters.max() <= 1
    peak = LogMel(RATE)(torch.sin(2 * np.pi * 1000 * torch.arange(RATE) / RATE)[None, None])[0].mean(-1).argmax()
    centre = filters[peak].argmax() * RATE / 2048
    assert abs(centre - 1000) < 60
    assert torch.isfinite(LogMel(RATE)(torch.zeros(1, 1, 10))).all()


def test_hidden_engineer_listens(console):
    engineer = HiddenEngineer(console)
    tracks, song = join(songs(3, 2))
    tracks = tracks * torch.linspace(0.1, 1, 5)[:, None, None]
    u, v = engineer.decide(tracks, song, 2)
    assert u.shape == (5, console.track_width) and v.shape == (2, console.bus_width)
    assert ((u >= 0) & (u <= 1)).all() and u.std(dim=0).max() > 0.02
    louder, _ = engineer.decide(tracks * 3, song, 2)
    gain = console.track_columns.index("gain_db")
    assert (louder[:, gain] < u[:, gain]).all() and v.std(dim=0).max() > 0.02


def test_loss_is_zero_at_the_target_and_its_scales_average_to_it():
    distance = MultiResolutionSTFT()
    wet, target = torch.from_numpy(music(0.5)), torch.from_numpy(music(0.5, seed=1))
    assert distance(target[None], target[None]) < 1e-6
    whole = distance(wet[None], target[None])
    assert torch.allclose(torch.stack([distance(wet[None], target[None], k) for k in range(3)]).mean(), whole)
    theirs = [STFTLoss(n, n // 4, n)(wet[None], target[None]) for n in distance.windows]
    assert torch.allclose(torch.stack(theirs).mean(), whole)
    assert torch.isfinite(distance(wet[None, :, ::2], target[None, :, ::2]))
    tone = 0.3 * torch.sin(0.1 * torch.arange(20000.0))[None, None]
    hiss = tone + 1e-4 * torch.randn(tone.shape, generator=torch.Generator().manual_seed(0))
    assert MultiResolutionSTFT(floor=1e-2)(hiss, tone) < 0.05 * distance(hiss, tone)
    for wrong in ({"windows": ()}, {"floor": 0.0}, {"floor": float("inf")}):
        with pytest.raises(ParameterError):
            MultiResolutionSTFT(**wrong)


def strip():
    return {
        "low": bfx.load("pedalboard:LowShelfFilter").only("gain_db"),
        "mid": bfx.load("pedalboard:PeakFilter").within(cutoff_frequency_hz=(300, 3000), gain_db=(-12, 12), q=(0.4, 2)),
        "comp": bfx.load("pedalboard:Compressor").within(threshold_db=(-40, -20), ratio=(2, 8), attack_ms=(2, 50)),
    }


def test_a_chain_renders_what_a_rack_renders_and_has_its_gradient():
    chain, rack = bfx.Chain(strip(), bfx.FiniteDifference(), sample_rate=RATE), bfx.Rack(strip())
    whole = bfx.BlackBox(rack, bfx.FiniteDifference(), audio_rule=bfx.Identity(), sample_rate=RATE)
    assert chain.columns == rack.space.columns and chain.width == whole.width
    audio = torch.from_numpy(np.stack([music(0.5, 1, seed=k) for k in range(2)]))
    target = torch.from_numpy(np.stack([music(0.5, 1, seed=k + 9) for k in range(2)]))
    found = []
    for layer in (chain, whole):
        params = torch.from_numpy(0.3 + 0.4 * rack.space.sample(2, 1)).float().requires_grad_()
        wet = layer(audio, params)
        MultiResolutionSTFT()(wet, target).backward()
        found.append((wet.detach(), params.grad))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    error = torch.linalg.norm(found[0][1] - found[1][1], dim=1) / torch.linalg.norm(found[1][1], dim=1)
    assert (error < 0.15).all(), error


def test_no_effect_is_rendered_for_a_parameter_of_one_before_it():
    pools = {name: RecordingPool() for name in strip()}
    members = {
        name: bfx.BlackBox(e, bfx.FiniteDifference(), audio_rule=bfx.Identity(), pool=pools[name], sample_rate=RATE)
        for name, e in strip().items()
    }
    chain = bfx.Chain(members)
    params = torch.full((1, chain.width), 0.4, requires_grad=True)
    chain(torch.from_numpy(music(0.1, 1))[None], params).square().sum().backward()
    counts = {name: sum(len(job) for job in pool.jobs) for name, pool in pools.items()}
    assert counts == {"low": 1 + 2, "mid": 1 + 6, "comp": 1 + 8}
    assert (params.grad != 0).all()


def test_split_gives_every_member_its_columns():
    chain = bfx.Chain(strip())
    params = torch.arange(float(chain.width))[None]
    own = chain.split(params)
    assert list(own) == ["low", "mid", "comp"] and torch.equal(torch.cat(list(own.values()), dim=1), params)
    assert own["mid"].tolist() == [[1, 2, 3]]


def test_a_mix_sums_its_branches_behind_exact_faders():
    mix = bfx.Mix(
        {"dry": None, "wet": bfx.load("pedalboard:Reverb").only("room_size")},
        bfx.FiniteDifference(),
        level_db=(-40, 0),
        audio_rule=bfx.TimeReversal(),
        sample_rate=RATE,
    )
    assert mix.columns == ("wet.room_size", "dry.level_db", "wet.level_db")
    audio = torch.from_numpy(music(0.2, 2))[None].requires_grad_()
    params = torch.tensor([[0.6, 0.5, 1.0]], requires_grad=True)
    wet = mix(audio, params)
    reverb = bfx.load("pedalboard:Reverb").only("room_size")
    expected = 0.1 * audio + torch.from_numpy(reverb.render(audio[0].detach().numpy(), {"room_size": 0.6}, RATE))
    assert torch.allclose(wet, expected, atol=1e-5)
    wet.square().sum().backward()
    part = 2 * float((wet * 0.1 * audio).sum().detach())
    assert params.grad[0, 1].item() == pytest.approx(part * 40 * np.log(10) / 20, rel=1e-4)
    assert audio.grad is not None and torch.isfinite(audio.grad).all()


def test_chains_nest_copy_and_keep_their_state():
    inner = bfx.Mix([bfx.load("pedalboard:Delay").only("mix"), bfx.load("pedalboard:Delay").only("mix")])
    chain = bfx.Chain([inner, bfx.load("pedalboard:Gain")], bfx.SPSA(), audio_rule=bfx.Identity())
    assert chain.columns == ("mix.delay.mix", "mix.delay_2.mix", "gain.gain_db")
    again = pickle.loads(pickle.dumps(copy.deepcopy(chain)))
    again.load_state_dict(chain.state_dict())
    audio, params = torch.from_numpy(music(0.1, 1))[None], torch.full((1, 3), 0.5)
    assert torch.equal(again(audio, params), chain(audio, params))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bfx.Chain([]), "none"),
        (lambda: bfx.Chain(["pedalboard:Gain"]), "must be an effect"),
        (lambda: bfx.Chain([None]), "must be an effect"),
        (lambda: bfx.Chain({"a.b": bfx.load("pedalboard:Gain")}), "without a dot"),
        (lambda: bfx.Chain({"keys": bfx.load("pedalboard:Gain")}), "not 'keys'"),
        (lambda: bfx.Chain(bfx.load("pedalboard:Gain")), "must be a list"),
        (lambda: bfx.Chain([bfx.load("pedalboard:Gain")], bfx.SPSA), "write its parentheses too"),
        (
            lambda: bfx.Chain([bfx.load("pedalboard:Gain")], "spsa"),
            "'spsa' is not an object of kind Estimator; make one",
        ),
        (lambda: bfx.Chain([bfx.load("pedalboard:Gain")], sample_rate=0), "sample"),
        (lambda: bfx.Mix([None], level_db=(6, -6)), "level_db"),
        (lambda: bfx.Mix([None], level_db=(-6, 6))(torch.zeros(1, 1, 9), torch.ones(1, 1) + 1), r"dry.level_db\) is 2"),
        (lambda: bfx.Mix([None])(torch.full((1, 1, 9), np.nan), torch.zeros(1, 0)), "NaN"),
        (
            lambda: bfx.Chain(
                [bfx.BlackBox(bfx.load("pedalboard:Gain"), sample_rate=r) for r in (44100, 48000)],
            ),
            "sample rates",
        ),
        (lambda: bfx.Chain([bfx.load("pedalboard:Gain")]).split(torch.zeros(1, 2)), "params must be"),
    ],
)
def test_mistakes_in_chains(make, words):
    with pytest.raises((EffectError, AudioError, ParameterError), match=words):
        make()


def test_hooks_of_members_are_called():
    chain = bfx.Chain(
        {"a": bfx.load("pedalboard:Gain"), "b": bfx.Bypass(bfx.load("pedalboard:Gain"))}, pool=bfx.Inline()
    )
    seen = []
    for module in (chain.members["a"], chain.members["b"], chain.members["b"].layer):
        module.register_forward_hook(lambda module, given, wet: seen.append(wet.shape))
    chain(torch.zeros(1, 1, 9), torch.full((1, 3), 0.6))
    assert seen == [(1, 1, 9)] * 3


@pytest.mark.parametrize(
    ("audio", "params", "error", "words"),
    [
        (torch.zeros(1, 1, 9), torch.tensor([[0.5, 7.0]]), bfx.ParameterError, "is 7"),
        (torch.zeros(1, 1, 9), torch.tensor([[0.5, float("nan")]]), bfx.ParameterError, "is nan"),
        (torch.full((1, 1, 9), float("nan")), torch.tensor([[0.5, 0.0]]), bfx.AudioError, "NaN or infinity"),
        (torch.zeros(1, 9), torch.tensor([[0.5, 0.0]]), bfx.AudioError, "batch, channel, time"),
        (torch.zeros(1, 1, 9, dtype=torch.int64), torch.tensor([[0.5, 0.0]]), bfx.AudioError, "floating point"),
        (torch.zeros(1, 1, 9), torch.full((3, 2), 0.5), bfx.ParameterError, "params must be"),
        (torch.zeros(1, 1, 9), [[0.5, 0.5]], bfx.ParameterError, "got list"),
    ],
)
def test_a_switch_checks_what_it_gets(audio, params, error, words):
    chain = bfx.Chain({"a": bfx.Bypass(bfx.load("pedalboard:Gain"))}, pool=bfx.Inline())
    with pytest.raises(error, match=words):
        chain(audio, params)
