"""Consoles with strips by role, groups, sends, keys, switches and curves; twins and proxies as layers."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
import soundfile
import torch

import blackbox_fx as bfx
from blackbox_fx.dsp import TWINS
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.layers.bypass import Switched
from blackbox_fx.proxy.find import find_proxies
from blackbox_fx.testing import RecordingPool
from tests.cases import RATE, music

ROLES = ("kick", "snare", "bass", "vocals", "kick", "bass", "vocals")
SONG = torch.tensor([0, 0, 0, 0, 1, 1, 1])
GENTLE = {"gain_db": (-6, 6), "ratio": (2, 6), "threshold_db": (-40, -20)}


def twin(name, *free, **ranges):
    made = TWINS[name]
    space = made.space.within(ranges) if ranges else made.space
    return type(made)(made.name, made.function, space.only(*free) if free else space, made.inputs)


def loaded(name, *free, **fixed):
    effect = bfx.load(name).fix(fixed) if fixed else bfx.load(name)
    return effect.within({n: GENTLE[n] for n in free if n in GENTLE}).only(*free)


def real_parts():
    """Three kinds of strips, two groups and two sends of real plugins and one twin, for the key."""
    return {
        "strip": {"eq": loaded("pedalboard:PeakFilter", "gain_db", cutoff_frequency_hz=900)},
        "strips": {
            "vocals": {
                "comp": bfx.Bypass(loaded("pedalboard:Compressor", "threshold_db", "ratio", attack_ms=5)),
                "high": loaded("pedalboard:HighShelfFilter", "gain_db"),
            },
            "bass": {"duck": twin("sidechain_compressor", "threshold_db", "ratio", threshold_db=(-50, -30))},
        },
        "groups": {
            "drums": bfx.Bus(["kick", "snare"], loaded("vst3:ZamEQ2", "boost_cut_1_db")),
            "band": bfx.Bus(["bass"]),
        },
        "sends": {
            "room": bfx.Send(loaded("pedalboard:Reverb", "room_size", dry_level=0.0), level_db=(-40, 0)),
            "echo": bfx.Send(twin("feedback_delay", "feedback", "mix"), level_db=(-40, 0), pre=True),
        },
        "bus": loaded("pedalboard:LowShelfFilter", "gain_db"),
        "keys": {"bass": "kick"},
    }


def tracks(seconds=0.25):
    return torch.stack([torch.from_numpy(music(seconds, 1, seed=k)) for k in range(len(ROLES))])


def settings(console, seed=0, on=True):
    rng = np.random.default_rng(seed)
    rows, buses = (torch.from_numpy(rng.uniform(0.25, 0.75, shape)).float() for shape in shapes(console))
    for k, name in enumerate(console.track_columns):
        if name.endswith(".on"):
            rows[:, k] = 0.9 if on else 0.1
    return rows, buses


def shapes(console):
    return (len(ROLES), console.track_width), (2, console.bus_width)


def blended(self, audio, params, inputs={}, **named):
    """A switch that can be turned down, whose derivative at 1 is the gradient of the switch."""
    wet = self.layer(audio, params[:, :-1])
    return audio + (params[:, -1:, None] + 0.1) * (wet - audio)


def test_every_column_of_a_full_console_has_the_gradient_of_central_differences(monkeypatch):
    console = bfx.Console(
        **real_parts(), estimator=bfx.FiniteDifference(2e-3), pool=bfx.Inline(), sample_rate=RATE, direct=False
    )
    rows, buses = settings(console)
    ride = torch.tensor([[0.3, 0.6, 0.4]] * len(ROLES), requires_grad=True)
    sweep = torch.tensor([[0.4, 0.6, 0.5]] * len(ROLES), requires_grad=True)
    wave = torch.tensor([[0.3, 0.5, 0.4]] * 2, requires_grad=True)
    audio, g = tracks(), torch.from_numpy(music(0.25, 2, seed=50))

    def value(rows, buses, *points):
        names = ("gain_db", "strip.eq.gain_db", "drums.boost_cut_1_db")
        curves = {name: bfx.Curve(own, rate_hz=10) for name, own in zip(names, points, strict=True)}
        return (console(audio, SONG, rows, buses, role=ROLES, curves=curves) * g).sum()

    rows.requires_grad_()
    buses.requires_grad_()
    value(rows, buses, ride, sweep, wave).backward()
    monkeypatch.setattr(Switched, "forward", blended)
    every = (rows, buses, ride, sweep, wave)
    for given, known in [(x, x.grad) for x in every]:
        flat = given.detach().double()
        for column in range(given.shape[1]):
            truth = torch.zeros(len(given), dtype=torch.float64)
            for row in range(len(given)):
                ends = []
                for step in (-4e-3, 4e-3):
                    moved = flat.clone()
                    moved[row, column] += step
                    parts = [moved.float() if given is x else x.detach() for x in every]
                    with torch.no_grad():
                        ends.append(float(value(*parts).double()))
                truth[row] = (ends[1] - ends[0]) / 8e-3
            if truth.norm() > 1e-3 * float(known.norm()):
                cosine = torch.nn.functional.cosine_similarity(known[:, column].double(), truth, 0)
                assert cosine > 0.98, (column, known[:, column], truth)
    names = console.track_columns
    unused = {"gain_db", *(f"vocals.{c}" for c in ("comp.threshold_db", "comp.ratio", "comp.on", "high.gain_db"))}
    assert not rows.grad[0][[names.index(n) for n in unused]].any()  # the curve is in place of the fader
    assert rows.grad[3][[names.index(n) for n in unused - {"gain_db"}]].all()


def test_what_does_not_wait_for_each_other_renders_at_the_same_time():
    pool = RecordingPool()
    console = bfx.Console(**real_parts(), pool=pool, sample_rate=RATE, direct=False)
    rows, buses = settings(console)
    console(tracks(), SONG, rows, buses, role=ROLES)
    # the first members of three strips; the second of one; a group and two returns; the bus
    assert pool.rounds == [3, 1, 3, 1]
    pool.rounds.clear()
    rows[4:, [k for k, name in enumerate(console.track_columns) if name.endswith(".on")]] = 0.1
    console(tracks(), SONG, rows.requires_grad_(), buses, role=ROLES)
    assert pool.rounds == [4, 1, 3, 1]  # a switch that learns renders what is off, too, in a job of its own
    peak, gain = (loaded(f"pedalboard:{name}", "gain_db") for name in ("PeakFilter", "Gain"))
    mix = bfx.Mix([peak, [gain, peak]], pool=pool)
    pool.rounds.clear()
    mix(tracks()[:2], torch.full((2, 3), 0.5))
    assert pool.rounds == [2, 1]


def test_renders_are_counted_and_a_return_renders_once_for_each_mix():
    pool = RecordingPool()
    console = bfx.Console(**real_parts(), pool=pool, sample_rate=RATE, direct=False)
    console(tracks(), SONG, *settings(console), role=ROLES)
    renders = {}
    for job in pool.jobs:
        renders[job.effect.name] = renders.get(job.effect.name, 0) + len(job)
    assert renders == {
        "pedalboard:PeakFilter": 3,
        "pedalboard:Compressor": 2,
        "pedalboard:HighShelfFilter": 2,
        "twin:sidechain_compressor": 2,
        "vst3:ZamEQ2.vst3": 2,
        "pedalboard:Reverb": 2,
        "twin:feedback_delay": 2,
        "pedalboard:LowShelfFilter": 2,
    }
    assert len(pool.jobs) == len(renders)  # one job for all tracks and songs of a stage


def twin_parts():
    return {
        "strip": {"eq": TWINS["parametric_eq"]},
        "strips": {
            "vocals": {"eq": TWINS["six_band_eq"], "comp": bfx.Bypass(TWINS["compressor"])},
            "bass": TWINS["sidechain_compressor"],
        },
        "groups": {"drums": bfx.Bus(["kick", "snare"], TWINS["compressor"]), "band": bfx.Bus(["bass"])},
        "sends": {
            "room": bfx.Send(TWINS["reverberation"]),
            "echo": bfx.Send(TWINS["feedback_delay"], pre=True),
        },
        "bus": TWINS["soft_knee_compressor"],
        "keys": {"bass": "kick"},
    }


def test_the_same_console_of_twins_and_of_black_boxes_by_one_argument():
    audio, found = tracks(), []
    for direct in (None, False):
        console = bfx.Console(**twin_parts(), direct=direct, pool=bfx.Inline())
        with torch.no_grad():
            found.append(console(audio, SONG, *settings(console), role=ROLES))
        assert sum(isinstance(m, bfx.BlackBox) for m in console.modules()) == (0 if direct is None else 8)
    torch.testing.assert_close(*found, rtol=0, atol=2e-6)


def test_gradients_through_twins_and_through_black_boxes_agree():
    how, found = {"estimator": bfx.FiniteDifference(1e-3), "pool": bfx.Inline(), "audio_rule": bfx.Pointwise()}, []
    for direct in (True, False):
        console = bfx.Console(TWINS["parametric_eq"], TWINS["waveshaper"], direct=direct, **how)
        rows, buses = (x.requires_grad_() for x in settings(console))
        (console(tracks(), SONG, rows, buses) * torch.from_numpy(music(0.25, 2, seed=50))).sum().backward()
        found.append(torch.cat([rows.grad.flatten(), buses.grad.flatten()]))
    assert torch.nn.functional.cosine_similarity(*found, 0) > 0.999


def test_nothing_renders_where_all_is_direct_and_an_effect_without_a_proxy_is_named():
    with pytest.raises(EffectError, match="Phaser has no proxy at 22050 Hz"):
        bfx.Console(bfx.load("pedalboard:Phaser"), direct=True, sample_rate=22050)
    proxy = bfx.load_proxy("pedalboard-compressor")
    console = bfx.Console(proxy.effect(), bus=proxy, direct=True)
    assert all(isinstance(layer, bfx.Direct) for layer in (console.strip, console.bus))
    rows, buses = torch.full((2, console.track_width), 0.5), torch.full((1, console.bus_width), 0.5)
    mix = console(tracks()[:2], torch.zeros(2, dtype=torch.long), rows.requires_grad_(), buses)
    mix.square().sum().backward()
    assert rows.grad.any() and not any(p.requires_grad for p in console.parameters())
    assert all(p.requires_grad for p in proxy.parameters())  # the proxy itself is as it was


def test_settings_in_physical_units_come_back_and_render_the_same():
    console = bfx.Console(**twin_parts())
    rows, buses = settings(console, on=False)
    said = console.decode(rows, buses, ROLES)
    assert said["tracks"][3]["strip"]["comp"]["on"] is False
    assert said["tracks"][0]["sends"].keys() == {"room", "echo"} and said["buses"][1]["groups"]["drums"]["level_db"]
    mixes = console(tracks(), SONG, rows, buses, role=ROLES)
    again = console(tracks(), SONG, *console.encode(said, ROLES), role=ROLES)
    torch.testing.assert_close(again, mixes, rtol=0, atol=1e-5)
    plain = console.encode({"tracks": [{}] * len(ROLES), "buses": [{}, {}]}, ROLES)
    said = console.decode(*plain, ROLES)
    assert said["tracks"][3]["strip"]["comp"]["on"] is True and said["tracks"][0]["sends"]["room"] == -60
    assert said["buses"][0]["groups"]["band"]["level_db"] == pytest.approx(0, abs=1e-5)
    with pytest.raises(ParameterError, match="level_db"):
        console.encode({"tracks": [{"sends": {"room": 9}}] * 7, "buses": [{}, {}]}, ROLES)


def test_songs_and_groups_keep_to_themselves():
    console = bfx.Console(**twin_parts())
    rows, buses = settings(console)
    together = console(tracks(), SONG, rows, buses, role=ROLES)
    alone = console(tracks()[4:], SONG[4:] - 1, rows[4:], buses[1:], role=ROLES[4:])
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-6)
    order = torch.tensor([6, 2, 0, 5, 3, 1, 4])
    shuffled = console(tracks()[order], SONG[order], rows[order], buses, role=[ROLES[k] for k in order])
    torch.testing.assert_close(shuffled, together, rtol=0, atol=1e-5)


def test_a_key_by_role_is_the_sum_of_its_tracks():
    console = bfx.Console(strips={"bass": TWINS["sidechain_compressor"]}, keys={"bass": "kick"})
    row = console.encode(
        {"tracks": [{}, {}, {"strip": {"threshold_db": -50, "ratio": 20}}], "buses": []}, ("kick", "kick", "bass")
    )[0]
    audio, song = tracks()[:3], torch.zeros(3, dtype=torch.long)
    heard = console(audio, song, row, torch.zeros(1, 0), role=("kick", "kick", "bass"))
    both = TWINS["sidechain_compressor"](audio[2:], row[2:, : -2 or None], RATE, sidechain=audio[:1] + audio[1:2])
    expected = (audio[:1] + audio[1:2] + both).expand(1, 2, -1) * 0.5**0.5
    torch.testing.assert_close(heard, expected, rtol=0, atol=1e-5)
    by_number = console(audio, song, row, torch.zeros(1, 0), torch.tensor([-1, -1, 0]), role=("kick", "kick", "bass"))
    assert not torch.allclose(by_number, heard)


def test_muted_tracks_are_silent_and_one_that_is_solo_is_alone():
    console = bfx.Console(sends={"wire": bfx.Send(None, level_db=(-20, 0), pre=True)})
    rows, buses = torch.full((7, console.track_width), 0.5), torch.zeros(2, 0)
    audio, off = tracks(), torch.zeros(7, dtype=torch.bool)
    whole = console(audio, SONG, rows, buses)
    mute, solo = off.clone(), off.clone()
    mute[1], solo[5] = True, True
    quiet = audio.clone()
    quiet[1] = 0
    torch.testing.assert_close(console(audio, SONG, rows, buses, mute=mute), console(quiet, SONG, rows, buses))
    alone = console(audio, SONG, rows, buses, solo=solo)
    torch.testing.assert_close(alone[0], whole[0])
    torch.testing.assert_close(alone[1:], console(audio[5:6], SONG[5:6] - 1, rows[5:6], buses[:1]))
    assert not console(audio, SONG, rows, buses, mute=solo, solo=solo)[1].any()


def test_a_curve_goes_straight_from_point_to_point_and_holds_the_last():
    curve = bfx.Curve(torch.tensor([[0.0, 1.0, 0.5]]), rate_hz=4)
    samples = curve.samples(16, 16)
    expected = [0, 0.25, 0.5, 0.75, 1, 0.875, 0.75, 0.625, *[0.5] * 8]
    torch.testing.assert_close(samples[0], torch.tensor(expected))
    assert bfx.Curve(torch.full((2, 1), 0.3), 1).samples(5, 8).tolist() == [[pytest.approx(0.3)] * 5] * 2


def test_a_fader_ride_is_recovered_from_sound_alone():
    console, audio = bfx.Console(), torch.from_numpy(music(20, 1, seed=3))[None]
    song, rows, buses = torch.zeros(1, dtype=torch.long), torch.full((1, 2), 0.5), torch.zeros(1, 0)

    def mix(points):
        return console(audio, song, rows, buses, curves={"gain_db": bfx.Curve(points, rate_hz=0.5)})

    hidden = torch.from_numpy(np.random.default_rng(0).uniform(0.2, 0.9, (1, 11))).float()
    target, free = mix(hidden), torch.zeros(1, 11, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(150):
        loss = (mix(free.sigmoid()) - target).square().mean() / target.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((free.sigmoid() - hidden).detach().abs().max()) < 0.01


def bent(x, sr, drive):
    return np.tanh(drive * x)


def test_a_switch_has_the_gradient_of_what_its_member_changes():
    pool = RecordingPool()
    effect = bfx.function(bent, bfx.Space({"drive": bfx.Continuous(1, 9, 3)}))
    chain = bfx.Chain({"drive": bfx.Bypass(effect)}, bfx.FiniteDifference(1e-3), audio_rule=bfx.Pointwise(), pool=pool)
    assert chain.columns == ("drive.drive", "drive.on")
    audio = tracks()[:3].requires_grad_()
    params = torch.tensor([[0.5, 0.7], [0.5, 0.2], [0.25, 0.5]], requires_grad=True)
    wet, g = chain(audio, params), tracks()[3:6]
    expected = torch.stack([torch.tanh(5 * audio[0]), audio[1], torch.tanh(3 * audio[2])])
    torch.testing.assert_close(wet, expected, rtol=0, atol=1e-6)
    (wet * g).sum().backward()
    changes = torch.tanh(torch.tensor([5.0, 5.0, 3.0])[:, None, None] * audio) - audio
    torch.testing.assert_close(params.grad[:, 1], (changes * g).sum((1, 2)).detach(), rtol=1e-4, atol=1e-4)
    assert params.grad[1, 0] == 0 and params.grad[0, 0] != 0
    torch.testing.assert_close(audio.grad[1], g[1])
    assert not torch.allclose(audio.grad[0], g[0])
    pool.jobs.clear()
    chain(audio.detach(), params.detach())
    assert sum(len(job) for job in pool.jobs) == 2  # what is off does not render where nothing is learnt
    pool.jobs.clear()
    dry = chain(audio.detach(), torch.tensor([[0.5, 0.0]] * 3))
    assert torch.equal(dry, audio.detach()) and not pool.jobs


def test_switched_layers_copy_nest_and_keep_settings():
    chain = bfx.Chain([bfx.Bypass([TWINS["waveshaper"], bfx.Bypass(TWINS["compressor"])]), TWINS["limiter"]])
    again = pickle.loads(pickle.dumps(copy.deepcopy(chain)))
    params = torch.full((2, chain.width), 0.6)
    assert torch.equal(again(tracks()[:2], params), chain(tracks()[:2], params))
    params[:, [k for k, name in enumerate(chain.columns) if name.endswith("on")]] = 1.0
    torch.testing.assert_close(chain.encode(chain.decode(params)), params, rtol=0, atol=1e-5)
    with pytest.raises(ParameterError, match="true or false, got 'yes'"):
        chain.encode({"list": {"on": "yes"}})
    space = bfx.Space({"on": bfx.Toggle(True)})
    with pytest.raises(ParameterError, match='cannot have a column "on"'):
        bfx.Chain([bfx.Bypass(bfx.function(lambda x, sr, on: x, space, name="mute"))])


def test_the_picture_names_every_part_and_what_is_in_it():
    console = bfx.Console(**twin_parts())
    picture = console._repr_svg_()
    assert picture == bfx.console_svg(console) and picture.startswith("<svg") and picture.count("<rect") == 8
    words = (
        "vocals",
        "other tracks",
        "drums",
        "kick, snare",
        "band",
        "room",
        "echo",
        "mix",
        "six_band_eq",
        "compressor (on/off)",
    )
    assert all(word in picture for word in words)
    assert picture.count('stroke-dasharray="5 4"') == 2 * 3 and picture.count('stroke-dasharray="1 3"') == 1
    plain = bfx.console_svg(bfx.Console())
    assert plain.count("<rect") == 2 and " H " not in plain
    lanes = {float(y) for y in re.findall(r"(\S+) H ", picture)}  # of what goes straight to the mix
    boxes = re.findall(r'<rect x="(\S+)" y="(\S+)" width="\S+" height="(\S+)"', picture)
    between = [float(y) + float(height) for x, y, height in boxes if float(x) == 260]
    assert len(between) == 4 and len(lanes) == 1 and min(lanes) > max(between)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bfx.Console(groups={"drums": ["kick"]}), "drums must be a Bus"),
        (lambda: bfx.Console(sends={"room": TWINS["reverberation"]}), "room must be a Send"),
        (lambda: bfx.Console(sends={"bus": bfx.Send(None)}), "cannot be called 'bus'"),
        (lambda: bfx.Console(groups={"a": bfx.Bus(["x"])}, sends={"a": bfx.Send(None)}), "cannot be called 'a'"),
        (lambda: bfx.Console(groups={"a": bfx.Bus(["x"]), "b": bfx.Bus(["x"])}), "'x' is in the groups a and b"),
        (lambda: bfx.Console(strips={"a.b": TWINS["limiter"]}), "without a dot, and not 'a.b'"),
        (
            lambda: bfx.Console(TWINS["limiter"], strips={"strip": TWINS["limiter"]}),
            "No role can be called 'strip'",
        ),
        (
            lambda: bfx.Console(strips={"a": TWINS["sidechain_compressor"]}, keys={"a": "a"}),
            "key of a must be the name of another",
        ),
        (lambda: bfx.Console(gain_db=(6, -6)), "gain_db must be"),
        (lambda: bfx.Console(keys={"bass": "kick"}), "strip of bass has the inputs none"),
        (lambda: bfx.Bus("kick"), "roles must be a list"),
        (lambda: bfx.Bus([]), "roles must be a list"),
        (lambda: bfx.Send(None, level_db=(0,)), "level_db must be"),
        (lambda: bfx.Curve(torch.zeros(3), 1), r"points must be a tensor \(rows, points\)"),
        (lambda: bfx.Curve(torch.tensor([[1.5]]), 1), r"must lie in \[0, 1\]"),
        (lambda: bfx.Curve(torch.tensor([[0.5]]), 0), "rate_hz must be"),
        (lambda: bfx.Direct("compressor"), "must be a Twin or a Proxy"),
        (lambda: bfx.Direct(bfx.load_proxy("pedalboard-compressor"), 48000), "for 44100 Hz, and the layer for 48000"),
    ],
)
def test_mistakes_in_parts_are_one_sentence(make, words):
    with pytest.raises(ParameterError, match=words) as error:
        make()
    assert str(error.value).count(". ") == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({}, r"goes by roles; write role=\[...\]"),
        ({"role": "kick"}, "role must be a list of names"),
        ({"role": ["kick"]}, "a name for each of 7 tracks, got 1"),
        ({"role": ROLES, "mute": torch.zeros(7)}, "mute must be a tensor of 7 bools"),
        ({"role": ROLES, "solo": [True] * 7}, "solo must be a tensor of 7 bools"),
        ({"role": ROLES, "curves": {"ratio": bfx.Curve(torch.zeros(7, 1), 1)}}, "'ratio' of a Console cannot move"),
        ({"role": ROLES, "curves": {"pan": bfx.Curve(torch.zeros(2, 1), 1)}}, "Curve with 7 rows, got 2 rows"),
        ({"role": ROLES, "curves": {"drums.level_db": torch.zeros(2, 1)}}, "must be a Curve with 2 rows"),
    ],
)
def test_mistakes_in_calls_are_one_sentence(call, words):
    console = bfx.Console(**twin_parts())
    with pytest.raises(ParameterError, match=words):
        console(tracks(), SONG, *settings(console), **call)


@pytest.mark.parametrize("song", [0, 1])
def test_a_whole_song_track_by_track_is_the_same_bit_for_bit(song, tmp_path):
    console = bfx.Console(**real_parts(), sample_rate=RATE, pool=bfx.Inline(), direct=False)
    chosen = [k for k, s in enumerate(SONG.tolist()) if s == song]
    rows, buses = settings(console)
    audio, roles = tracks()[chosen], [ROLES[k] for k in chosen]
    with torch.no_grad():
        whole = console(audio, torch.zeros(len(chosen), dtype=torch.long), rows[chosen], buses[:1], role=roles)[0]
    np.testing.assert_array_equal(bfx.mixdown(console, audio, rows[chosen], buses[:1], role=roles), whole)
    files = [tmp_path / f"{k}.wav" for k in range(len(chosen))]
    for path, track in zip(files, audio, strict=True):
        soundfile.write(path, track.T.numpy(), RATE, subtype="FLOAT")
    said = []
    mix = bfx.mixdown(console, files, rows[chosen], buses[:1], role=roles, progress=lambda *now: said.append(now))
    np.testing.assert_array_equal(mix, whole)
    assert [done for done, *_ in said] == [*range(len(chosen)), *[len(chosen)] * 3]


def test_many_tracks_are_the_same_bit_for_bit():
    console, draw = bfx.Console(sends={"wire": bfx.Send(None)}), torch.Generator().manual_seed(0)
    audio, rows = torch.randn(70, 1, 64, generator=draw), torch.rand(70, 3, generator=draw)
    whole = console(audio, torch.zeros(70, dtype=torch.long), rows, torch.zeros(1, 0))[0]
    np.testing.assert_array_equal(bfx.mixdown(console, audio, rows, torch.zeros(1, 0)), whole)


def test_a_mixdown_has_curves_mutes_and_shorter_tracks(monkeypatch):
    monkeypatch.setattr("blackbox_fx.layers.song._CHUNK", 4096)
    console = bfx.Console(**twin_parts())
    rows, buses = settings(console)
    audio, roles, song = tracks()[:4], ROLES[:4], torch.zeros(4, dtype=torch.long)
    audio[1, :, 5000:] = 0
    draw = torch.Generator().manual_seed(0)
    curves = {name: bfx.Curve(torch.rand(n, 5, generator=draw), 12) for name, n in (("pan", 4), ("drums.level_db", 1))}
    curves["room.level_db"] = bfx.Curve(torch.rand(4, 3, generator=draw), 7)
    mute = torch.tensor([False, False, True, False])
    whole = console(audio, song, rows[:4], buses[:1], role=roles, curves=curves, mute=mute)[0]
    given = [audio[0], audio[1, :, :5000].numpy(), audio[2], audio[3]]
    mix = bfx.mixdown(console, given, rows[:4], buses[:1], role=roles, curves=curves, mute=mute)
    np.testing.assert_allclose(mix, whole.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "shape", "words"),
    [
        ([], (0, 2), "tracks must be a list of a track or more"),
        ("song.wav", (1, 2), "tracks must be a list of a track or more"),
        ([np.zeros((3, 9), np.float32)], (1, 2), "has 3 channels"),
        (["no.wav"], (1, 2), "no.wav"),
        ([np.zeros((1, 9), np.float32)], (1, 3), r"track_params must have shape \(1, 2\)"),
    ],
)
def test_mistakes_in_mixdowns_are_one_sentence(given, shape, words):
    with pytest.raises(bfx.BlackBoxError, match=words):
        bfx.mixdown(bfx.Console(), given, torch.zeros(shape), torch.zeros(1, 0))


DESCRIBED = """
gain_db = [-12, 6]
[strip]
eq = {effect = "pedalboard:PeakFilter", free = ["gain_db"], fix = {q = 0.7}, within = {gain_db = [-9, 9]}}
[strips.vocals]
comp = {effect = "twin:compressor", free = ["ratio"], bypass = true}
[groups.drums]
roles = ["kick", "snare"]
level_db = [-6, 6]
chain.drive = {effect = "pedalboard:Distortion"}
[sends.room]
pre = true
chain.reverb = {effect = "twin:reverberation", free = ["mid_decay_s"]}
[bus]
limiter = {effect = "pedalboard:Limiter", free = ["threshold_db"]}
"""


def test_a_console_is_described_in_a_file(tmp_path):
    path = tmp_path / "console.toml"
    path.write_text(DESCRIBED)
    console = bfx.load_console(path, pool=bfx.Inline(), estimator=bfx.SPSA())
    own = ("strip.eq.gain_db", "vocals.comp.ratio", "vocals.comp.on", "gain_db", "pan", "room.level_db")
    assert console.track_columns == own
    drums = ("drums.drive.drive_db", "drums.level_db")
    assert console.bus_columns == (*drums, "room.reverb.mid_decay_s", "bus.limiter.threshold_db")
    rows, buses = settings(console)
    mixes = console(tracks(), SONG, rows, buses, role=ROLES)
    assert mixes.shape[:2] == (2, 2) and mixes.any()
    low, high = (console.decode(torch.full_like(rows, end), buses, ROLES)["tracks"][0] for end in (0.0, 1.0))
    assert (low["gain_db"], high["gain_db"]) == (-12, 6)
    assert (low["strip"]["eq"]["gain_db"], high["strip"]["eq"]["gain_db"]) == (-9, 9)
    path.write_text("")
    assert bfx.load_console(path).track_columns == ("gain_db", "pan")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strip = 3", "strip must be a table, got 3"),
        ("[strips]\nvocals = 3", "strips.vocals must be a table"),
        ("[stripes.a]", r"no 'stripes' \(did you mean strips or strip\?\)"),
        ("[strip]\neq = {free = []}", "strip.eq needs an effect"),
        ('[strip]\neq = {effect = "twin:compresor"}', "did you mean compressor or"),
        ('[strip]\neq = {effect = "twin:limiter", fre = []}', r"no 'fre' \(did you mean free\?\)"),
        ('[strip]\neq = {effect = "twin:limiter", free = "a"}', "free must be a list"),
        ('[strip]\neq = {effect = "twin:limiter", free = ["a"]}', "Unknown parameter 'a'"),
        ('[strip]\neq = {effect = "twin:limiter", within = {release_ms = 3}}', r"must be \(low, high\), got 3"),
        ('[strip]\neq = {effect = "twin:limiter", bypass = 2}', "bypass of strip.eq"),
        ("[groups.drums]\nlevel_db = [0, 6]", "groups.drums needs the roles"),
        ("[groups.drums]\nroles = [3]", "roles must be a list of names"),
        ("[sends.room]\nlevel_db = [6, 0]", "level_db must be"),
        ('[keys]\nbass = "kick"', "strip of bass has the inputs none"),
        ("strip = [", "must be TOML"),
        ('sample_rate = "high"', "sample"),
    ],
)
def test_mistakes_in_a_file_are_one_sentence_that_names_it(text, words, tmp_path):
    path = tmp_path / "console.toml"
    path.write_text(text)
    with pytest.raises(bfx.BlackBoxError, match=words) as error:
        bfx.load_console(path)
    assert str(path) in str(error.value)


def test_settings_are_files_that_come_back_and_presets_of_every_plugin(tmp_path):
    console = bfx.Console(**real_parts(), sample_rate=RATE, pool=bfx.Inline(), direct=False)
    rows, buses = settings(console)
    folder = tmp_path / "mix" / "settings"
    bfx.save_settings(console, folder, rows, buses, ROLES)
    again = bfx.load_settings(console, folder)
    assert again[2] == list(ROLES)
    with torch.no_grad():
        mixes = [console(tracks(), SONG, *params, role=ROLES) for params in ((rows, buses), again[:2])]
    torch.testing.assert_close(*mixes, rtol=0, atol=1e-5)
    table = (folder / "settings.csv").read_text().splitlines()
    assert len(table) == 1 + len(console.table(rows, buses, ROLES))
    assert ("track 3 bass", "strip.duck.ratio") in {row[:2] for row in console.table(rows, buses, ROLES)}
    assert table[0] == "part,setting,value" and any(line.startswith("track 3 bass,strip.duck.ratio,") for line in table)
    assert all(len(line.rpartition(",")[2]) <= len("-1.23457e-05") for line in table)  # for people; JSON has all digits
    plugin = console.groups["drums"].effect
    preset = folder / "presets" / "mix 2" / "drums.vstpreset"
    said = json.loads((folder / "settings.json").read_text())["buses"][1]["groups"]["drums"]
    assert plugin.load_preset(preset)["boost_cut_1_db"] == pytest.approx(said["boost_cut_1_db"], abs=1e-3)
    eq = console.strip.members["eq"].effect
    assert eq.load_preset(folder / "presets" / "track 1 kick" / "eq.json")["gain_db"] == pytest.approx(
        console.decode(rows, buses, ROLES)["tracks"][0]["strip"]["eq"]["gain_db"]
    )
    assert len([path for path in (folder / "presets").rglob("*") if path.is_file()]) == 3 + 2 * 2 + 2 + 2 * 4


def test_curves_are_saved_and_the_mix_of_what_comes_back_is_the_same(tmp_path):
    console = bfx.Console(**real_parts(), sample_rate=RATE, pool=bfx.Inline(), direct=False)
    rows, buses = settings(console)
    draw = torch.Generator().manual_seed(0)
    moving = ("gain_db", "room.level_db", "strip.eq.gain_db", "vocals.comp.on", "drums.boost_cut_1_db", "bus.gain_db")
    tall = {name: len(ROLES) if name in console.track_columns else 2 for name in moving}
    curves = {name: bfx.Curve(torch.rand(n, 3, generator=draw), 10) for name, n in tall.items()}
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "stale.json").write_text("{}")
    bfx.save_settings(console, tmp_path, rows, buses, ROLES, curves)
    again = bfx.load_settings(console, tmp_path)
    assert not (tmp_path / "presets" / "stale.json").exists()
    assert set(again.curves) == set(moving)
    torch.testing.assert_close(again.curves["gain_db"].points, curves["gain_db"].points, rtol=0, atol=0)
    table = [line.split(",") for line in (tmp_path / "settings.csv").read_text().splitlines()]
    values = {(part, name): value for part, name, value in table}
    gain = -24 + 36 * float(curves["gain_db"].points[1, 2])
    assert float(values["track 2 snare", "gain_db at 0.2 s"]) == pytest.approx(gain, abs=1e-4)
    for name in ("sends.room", "strip.eq.gain_db"):
        assert float(values["track 1 kick", f"{name} at 0.1 s"])
    for name in ("groups.drums.boost_cut_1_db", "bus.gain_db"):
        assert float(values["mix 2", f"{name} at 0 s"])
    on = {values[f"track {k + 1} vocals", f"strip.comp.on at {t} s"] for k in (3, 6) for t in ("0", "0.1", "0.2")}
    assert on == {"True", "False"}
    with torch.no_grad():
        mixes = [
            console(tracks(), SONG, given[0], given[1], role=ROLES, curves=own)
            for given, own in (((rows, buses), curves), (again[:2], again.curves))
        ]
    torch.testing.assert_close(*mixes, rtol=0, atol=1e-5)
    whole = bfx.mixdown(
        console,
        list(tracks()[:4]),
        rows[:4],
        buses[:1],
        role=ROLES[:4],
        curves={name: own.rows(slice(0, 4 if name in console.track_columns else 1)) for name, own in curves.items()},
    )
    one = torch.zeros(4, dtype=torch.long)
    with torch.no_grad():
        at_once = console(
            tracks()[:4],
            one,
            rows[:4],
            buses[:1],
            role=ROLES[:4],
            curves={
                name: own.rows(slice(0, 4 if name in console.track_columns else 1)) for name, own in curves.items()
            },
        )
    np.testing.assert_array_equal(whole, at_once[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"tracks": 3, "buses": []}',
        *(f'{{"tracks": [{{"strip": {wrong}}}], "buses": []}}' for wrong in ("1", '"x"', "[]", "[{}]")),
        f'{{"tracks": [{{"gain_db": {"9" * 400}}}], "buses": []}}',
        *(
            f'{{"tracks": [], "buses": [], "curves": {wrong}}}'
            for wrong in ("1", '{"pan": 2}', '{"pan": {"points": 1}}')
        ),
    ],
)
def test_damaged_settings_are_one_sentence(text, tmp_path):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(bfx.BlackBoxError, match=r"settings|strip|gain_db"):
        bfx.load_settings(bfx.Console(TWINS["limiter"]), tmp_path)


def test_settings_of_another_console_are_refused(tmp_path):
    console = bfx.Console(TWINS["limiter"])
    bfx.save_settings(console, tmp_path, torch.full((2, console.track_width), 0.3), torch.zeros(1, 0))
    with pytest.raises(ParameterError, match="settings of another console"):
        bfx.load_settings(bfx.Console(TWINS["compressor"]), tmp_path)


def test_a_fader_and_an_effect_of_a_group_may_not_share_a_name():
    space = bfx.Space({"level_db": bfx.Continuous(-9, 9, 0)})
    effect = bfx.function(lambda x, sr, level_db: x, space, name="level")
    with pytest.raises(ParameterError, match=r"Two columns of this Console are called 'drums\.level_db'"):
        bfx.Console(groups={"drums": bfx.Bus(["kick"], effect)})
    labelled = bfx.Console(groups={"drums": bfx.Bus(["kick"], {"own": effect})})
    assert labelled.bus_columns == ("drums.own.level_db", "drums.level_db")


def test_roles_may_be_any_words_and_one_that_looks_like_another_is_said_once(caplog):
    strips = {"keys": TWINS["limiter"], "pop": TWINS["limiter"], "lead vocal": TWINS["waveshaper"]}
    console = bfx.Console(strips=strips, groups={"items": bfx.Bus(["keys"])})
    again = copy.deepcopy(console)
    again.load_state_dict(console.state_dict())
    rows, buses = torch.full((3, console.track_width), 0.5), torch.full((1, console.bus_width), 0.5)
    song = torch.zeros(3, dtype=torch.long)
    for _ in range(2):
        console(tracks()[:3], song, rows, buses, role=("keys", "lead vocals", "guitar"))
    said = [record.message for record in caplog.records]
    assert said == ["No strip, group or key of this Console has the role 'lead vocals' (did you mean lead vocal?)."]


@pytest.mark.parametrize("number", [1.5, -0.1, float("nan")])
def test_columns_outside_their_range_are_named(number):
    rows = torch.full((7, 2), 0.5)
    rows[3, 1] = number
    with pytest.raises(ParameterError, match=r"track_params\[3\] \(pan\) is .*put a sigmoid before"):
        bfx.Console()(tracks(), SONG, rows, torch.zeros(2, 0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tracks": [{"sends": {"rom": -3}}], "buses": [{}]}, r"sends of a track has no 'rom' \(did you mean room"),
        ({"tracks": [{"strp": {}}], "buses": [{}]}, r"no 'strp' \(did you mean strip"),
        ({"tracks": [{}], "buses": [{"group": {}}]}, r"no 'group' \(did you mean groups"),
        ({"tracks": [{}], "buses": [{"groups": {"drum": {}}}]}, r"no 'drum' \(did you mean drums"),
    ],
)
def test_settings_that_are_unknown_are_named(settings, words):
    with pytest.raises(ParameterError, match=words):
        bfx.Console(**twin_parts()).encode(settings, ["kick"])


def test_a_twin_is_narrowed_as_an_effect_is():
    made = TWINS["compressor"].fix(attack_ms=5).within(ratio=(2, 4)).only("ratio")
    assert made.columns == ("ratio",) and made.decode(torch.ones(1, 1))["attack_ms"].item() == pytest.approx(5)
    assert made.effect().space == made.space


def test_the_default_gradient_of_a_keyed_effect_takes_segments():
    layer = bfx.BlackBox(TWINS["sidechain_compressor"].effect(), bfx.MultiplexedSPSA(1), pool=bfx.Inline())
    audio, key = torch.from_numpy(music(1, 1))[None], torch.from_numpy(music(1, 1, seed=1))[None]
    params = torch.full((1, layer.width), 0.4, requires_grad=True)
    layer(audio, params, sidechain=key).square().mean().backward()
    assert params.grad.any() and params.grad.isfinite().all()


def test_a_member_of_a_bypass_keeps_the_channels():
    console = bfx.Console(bfx.Bypass(TWINS["gain_pan"]))
    rows = torch.full((7, console.track_width), 0.6)
    with pytest.raises(bfx.AudioError, match="turned 1 channels into 2, and must keep them"):
        console(tracks(), SONG, rows, torch.zeros(2, 0))


@pytest.mark.parametrize("role", ["../../x", "a/b", "a\0b", "\ud800", "x" * 300, ".", "keys"])
def test_presets_of_any_role_stay_in_their_folder(role, tmp_path):
    console = bfx.Console(strips={role: TWINS["waveshaper"]} if "." not in role else {}, direct=False)
    bfx.save_settings(console, tmp_path / "here", torch.full((1, console.track_width), 0.5), torch.zeros(1, 0), [role])
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert bfx.load_settings(console, tmp_path / "here")[2] == [role]


def test_ends_of_ranges_come_back(tmp_path):
    for high in (-3.3, -0.1, 5.7):
        console = bfx.Console(sends={"r": bfx.Send(None, level_db=(-60.3, high))}, gain_db=(-24.1, 12.3))
        bfx.save_settings(console, tmp_path, torch.ones(1, 3), torch.zeros(1, 0))
        torch.testing.assert_close(bfx.load_settings(console, tmp_path)[0], torch.ones(1, 3))


def test_a_group_whose_range_has_no_0_db_begins_at_the_nearest_level():
    console = bfx.Console(groups={"d": bfx.Bus(["a"], level_db=(-40, -6))})
    assert console.encode({"tracks": [], "buses": [{}]})[1].tolist() == [[1.0]]


def test_hybrids_are_decoded_and_adapted_proxies_become_black_boxes():
    proxy = bfx.load_proxy("pedalboard-compressor")
    console = bfx.Console(bfx.Hybrid(proxy.effect(), proxy, "half"))
    row = torch.full((1, console.track_width), 0.5)
    said = console.decode(row, torch.zeros(1, 0))
    torch.testing.assert_close(console.encode(said)[0], row, rtol=0, atol=1e-5)
    found = find_proxies(proxy.effect(), RATE)[0]
    assert isinstance(bfx.Console(found, direct=False).strip, bfx.BlackBox)


def test_a_proxy_that_misses_much_where_it_stands_says_so(caplog):
    send = bfx.load("pedalboard:Reverb").fix(dry_level=0.0, freeze_mode=False).only("room_size")
    bfx.Console(sends={"room": bfx.Send(send)}, direct=True)
    assert "misses" in caplog.text and "pedalboard:Reverb" in caplog.text
    caplog.clear()
    bfx.Console(bfx.load("pedalboard:Compressor"), direct=True)
    assert not caplog.records
