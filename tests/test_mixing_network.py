"""What a mixing network promises whatever it has learnt: order, number and rate of tracks, styles, distances."""

import dataclasses

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.data.composer import compose
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.layers.console import join
from blackbox_fx.models.encoders import LogMel
from blackbox_fx.tasks.mixing import evaluation
from blackbox_fx.tasks.mixing.measures import DISTANCES, MixDistances, MixFeatures, MixLoss, matched, mid_side
from blackbox_fx.tasks.mixing.mixer import Mixer
from blackbox_fx.tasks.mixing.network import MixNet
from blackbox_fx.tasks.mixing.refining import refine
from blackbox_fx.tasks.mixing.simple import equal_loudness, rule_based
from blackbox_fx.tasks.mixing.teacher import RealMixes
from blackbox_fx.tasks.mixing.training import Excerpts, MixRecipe, train_step
from tests.cases import RATE


def console(rate=RATE):
    eq = bfx.load("pedalboard:HighShelfFilter").fix(cutoff_frequency_hz=4000, q=0.7).within(gain_db=(-12, 12))
    return bfx.Console({"eq": eq}, gain_db=(-12, 12), pool=bfx.Inline(), sample_rate=rate)


def random_network(desk, **how):
    """With settings that differ much between tracks."""
    torch.manual_seed(3)
    network = MixNet(desk.track_width, desk.bus_width, size=32, **how).eval()
    with torch.no_grad():
        for head in (network.track_head, network.bus_head):
            if list(head.parameters()):
                head[-1].weight.normal_(std=2.0)
    return network


def tracks_of(count, rate=RATE, seconds=0.7):
    draw = torch.Generator().manual_seed(count)
    colours = torch.linspace(0.0, 0.98, count)
    out = 0.1 * torch.randn(count, 1, round(seconds * rate), generator=draw)
    for k, colour in enumerate(colours):
        out[k, 0] = torch.from_numpy(np.convolve(out[k, 0], [1, float(colour)])[: out.shape[-1]]) * (k + 1) / count
    return out.float()


@pytest.mark.parametrize("rate", [44100, 96000])
@pytest.mark.parametrize("count", [3, 12, 24])
def test_the_order_of_tracks_changes_nothing(count, rate):
    desk, tracks = console(rate), tracks_of(count, rate)
    network, log_mel = random_network(desk), LogMel(rate)
    song = torch.zeros(count, dtype=torch.long)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rows, buses = network(log_mel(tracks), song, 1)
        turned, other = network(log_mel(tracks[order]), song, 1)
        mix = desk(tracks, song, rows, buses)
        again = desk(tracks[order], song, turned, other)
    assert rows.std(0).max() > 0.03
    torch.testing.assert_close(turned, rows[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(again, mix, atol=1e-5, rtol=0)


def test_songs_of_a_batch_and_silent_tracks_change_nothing_for_others():
    desk = console()
    network, log_mel = random_network(desk), LogMel(RATE)
    first, second = tracks_of(3), tracks_of(5)
    silent = torch.cat([first, 1e-5 * torch.randn(2, 1, first.shape[-1])])
    with torch.no_grad():
        alone, _ = network(log_mel(first), torch.zeros(3, dtype=torch.long), 1)
        tracks, song = join([silent, second])
        both, _ = network(log_mel(tracks), song, 2)
    torch.testing.assert_close(both[:3], alone, atol=1e-5, rtol=0)


def stereo(seed=0, width=0.3, seconds=2.0):
    draw = torch.Generator().manual_seed(seed)
    middle, side = torch.randn(2, round(seconds * RATE), generator=draw)
    return (0.1 * torch.stack([middle + width * side, middle - width * side]))[None]


def test_features_do_not_hear_level_or_mirrors_and_hear_all_else():
    heard, x = MixFeatures(RATE), stereo()
    here = heard(x)
    for other in (0.1 * x, 3 * x, x.flip(1)):
        for name, value in heard(other).items():
            torch.testing.assert_close(value, here[name], atol=2e-3, rtol=1e-3, msg=name)
    swell = torch.linspace(0.05, 1, x.shape[-1])
    changes = {
        "width": stereo(width=0.9),
        "balance": x * torch.tensor([[[1.0], [0.5]]]),
        "panning": x * torch.tensor([[[1.0], [0.2]]]),
        "crest": torch.tanh(30 * x),
        "dynamics": x * swell,
        "centroid": x[..., 1:] + x[..., :-1],
        "spectrum": x[..., 1:] - x[..., :-1],
    }
    for name, other in changes.items():
        apart = (heard(other)[name] - here[name]).abs().max()
        chance = (heard(stereo(1))[name] - here[name]).abs().max()
        assert apart > 5 * chance, name
    assert float(heard(stereo(width=0.0))["width"]) < 0.02
    torch.testing.assert_close(mid_side(mid_side(x)), x)


@pytest.mark.parametrize("seconds", [0.05, 0.3, 2.0])
def test_distances_are_zero_for_the_same_and_finite_for_silence(seconds):
    distances, loss, x = MixDistances(RATE), MixLoss(RATE), stereo(seconds=seconds)
    assert set(distances(x, x)) == set(DISTANCES)
    assert all(float(value) < 1e-5 for value in distances(0.5 * x, x).values())
    silence = torch.zeros_like(x)
    for wet in (silence, x, torch.cat([x[:, :1], silence[:, 1:]], 1)):
        wet = wet.clone().requires_grad_()
        found = loss(wet, x) + loss(wet, silence)
        found.backward()
        assert torch.isfinite(found) and torch.isfinite(wet.grad).all()
        assert all(torch.isfinite(value).all() for value in distances(wet, silence).values())
    assert torch.equal(matched(silence), silence)


def test_simple_mixes():
    tracks = tracks_of(4, seconds=1.5) * torch.tensor([1.0, 0.1, 3.0, 0.0])[:, None, None]
    mix = equal_loudness(tracks, RATE)
    assert mix.shape == (2, tracks.shape[-1]) and torch.equal(mix[0], mix[1])
    torch.testing.assert_close(equal_loudness(tracks * torch.tensor([0.5, 5, 1, 1])[:, None, None], RATE), mix)
    ruled = rule_based(tracks, RATE, ("vocals", "guitar", "synth", "keys"))
    lead = rule_based(tracks[:1], RATE, ("vocals",))
    torch.testing.assert_close(lead[0], lead[1])
    assert (ruled[0] - ruled[1]).abs().max() > 0.01 and torch.isfinite(ruled).all()


def bus_console():
    shelf = bfx.load("pedalboard:HighShelfFilter").fix(cutoff_frequency_hz=1500, q=0.7).within(gain_db=(-18, 18))
    return bfx.Console(bus={"eq": shelf}, gain_db=(-12, 12), pool=bfx.Inline(), sample_rate=RATE)


def two_mixes(seed):
    """A song with two equally right mixes: a bright one, and a dark one."""
    song, engineer, found = compose(seed, seconds=3.0), bus_console(), []
    tracks, index = join([torch.from_numpy(song.stack(1))])
    for place in (0.8, 0.2):
        rows, bus = torch.full((len(tracks), engineer.track_width), 0.5), torch.full((1, 1), place)
        with torch.no_grad():
            mix = engineer(tracks, index, rows, bus)[0]
        found.append(dataclasses.replace(song, mix=mix.numpy()))
    return found


def taught(styles, songs, steps=45):
    recipe = MixRecipe(steps=steps, batch=4, seconds=0.5, warm_up=5, learning_rate=4e-3, styles=styles)
    teacher = RealMixes(bus_console(), channels=1)
    torch.manual_seed(0)
    network = MixNet(teacher.console.track_width, teacher.console.bus_width, size=32, styles=styles)
    excerpts, optimizer = Excerpts(songs, teacher, 1 << 30, recipe), torch.optim.Adam(network.parameters())
    for step in range(steps):
        train_step(network, teacher.console, excerpts, recipe, optimizer, teacher.distance(), step)
    return Mixer(network, teacher.console, 1, 0.5)


def test_where_songs_have_two_right_mixes_draws_cover_both_and_one_style_does_not():
    songs, distance = [song for seed in range(6) for song in two_mixes(seed)], MixLoss(RATE)
    one, two = taught(1, songs), taught(2, songs)
    lone, near, share = [], [], []
    for seed in range(20, 23):
        pair = two_mixes(seed)
        tracks, index = join([torch.from_numpy(pair[0].stack(1))])

        def apart(settings, pair=pair, tracks=tracks, index=index):
            with torch.no_grad():
                wet = one.console(tracks, index, *settings, role=pair[0].roles)
            return [float(distance(wet, torch.from_numpy(song.mix)[None])) for song in pair]

        lone.append(np.mean(apart(one.settings(pair[0]))))
        drawn = np.array([apart(settings) for _, settings in two.listen(pair[0]).draw(8, seed=seed)])
        near.append(drawn.min(1).mean())
        share.append((drawn[:, 0] < drawn[:, 1]).mean())
    assert all(0.25 <= each <= 0.75 for each in share), share
    assert np.mean(near) < 0.5 * np.mean(lone), (near, lone)


def test_draws_are_as_frequent_as_styles_are_probable_and_repeat_with_their_seed():
    desk = console()
    mixer, song = Mixer(random_network(desk, styles=3), desk, 1, 1.0), compose(0, seconds=3.0)
    opinion = dataclasses.replace(mixer.listen(song), likely=torch.tensor([0.5, 0.3, 0.2]))
    counts = np.bincount([style for style, _ in opinion.draw(1000)], minlength=3)
    assert np.abs(counts - [500, 300, 200]).max() <= 1
    assert sorted(style for style, _ in opinion.draw(2, seed=5)) in ([0, 1], [0, 2])
    (_, first), (_, again), (_, other) = (opinion.draw(1, seed)[0] for seed in (7, 7, 8))
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    best, opinion = mixer.settings(song), mixer.listen(song)
    assert any(torch.equal(best[0], rows) for rows in opinion.rows) and ((best[0] >= 0) & (best[0] <= 1)).all()


class OnDisk:
    """A song in memory that says what a song on disk says."""

    def __init__(self, song):
        self.song, self.has_mix = song, song.mix is not None

    def __getattr__(self, name):
        return getattr(self.song, name)


def test_refining_comes_nearer_to_the_song_s_own_mix_and_to_a_reference():
    song = OnDisk(two_mixes(4)[0])
    mixer = taught(1, two_mixes(5), steps=1)
    begin = mixer.settings(song)
    own = refine(mixer, song, begin, 25)
    assert own.after < 0.6 * own.before
    sound = refine(mixer, song, begin, 25, reference=two_mixes(4)[1].mix)  # not that of the song, but the dark one
    assert sound.after < 0.6 * sound.before
    with pytest.raises(DataError, match="give a reference"):
        refine(mixer, OnDisk(dataclasses.replace(song.song, mix=None)), begin, 1)
    with pytest.raises(ParameterError, match="1 s or longer"):
        refine(mixer, song, begin, 1, reference=np.zeros((2, 100), np.float32))


def test_a_comparison_has_all_ways_and_distances_and_stars_what_is_apart():
    songs = [two_mixes(seed)[0] for seed in range(10, 14)]
    mixer = taught(1, songs[:2], steps=40)
    unseen = evaluation.passages(songs[2:], 1)
    ways = {**evaluation.simple_ways(RATE), "random console": evaluation.random_way(mixer, 0)}
    ways |= {"nearest": evaluation.nearest_way(mixer, songs[:2]), evaluation.TRAINED: evaluation.network_way(mixer)}
    scores = evaluation.score(ways, unseen, RATE, 0)
    assert len(scores) == len(ways) * len(unseen)
    assert [evaluation.Score.of_row(s.row()).way for s in scores] == [s.way for s in scores]
    found = evaluation.compare(scores)
    assert list(found) == list(ways) and all(set(each) == set(DISTANCES) for each in found.values())
    assert all(c.low <= c.mean <= c.high for each in found.values() for c in each.values())
    assert found["plain sum"]["stft"].apart and not found[evaluation.TRAINED]["stft"].apart
    table = evaluation.comparison_table(scores)
    assert len(table) == len(DISTANCES) + 1 and any("*" in cell for row in table for cell in row)
    assert [p.name for p in evaluation.passages([songs[0], songs[1], songs[0]], 1)] == [
        songs[0].name,
        songs[1].name,
        f"{songs[0].name} (2)",
    ]
    with pytest.raises(DataError, match="no held-out song"):
        evaluation.passages([dataclasses.replace(songs[0], mix=None)], 1)
