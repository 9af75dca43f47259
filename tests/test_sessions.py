"""Songs of a console as DAWproject files: what stands in them, what they sound like, and what comes back."""

import dataclasses
import functools
import io
import math
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

import blackbox_fx as bfx
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects.hosts.vst3.effect import VST3
from blackbox_fx.errors import AudioError, DataError, ParameterError
from blackbox_fx.sessions import document
from blackbox_fx.sessions.channels import class_id
from blackbox_fx.sessions.container import NewArchive
from blackbox_fx.sessions.dawproject import DawProject
from blackbox_fx.sessions.series import Member
from blackbox_fx.sessions.wave import write_wave
from tests.cases import RATE, music

SCHEMAS = Path(__file__).parent / "dawproject"
ROLES = ("kick", "vocals", "snare", "bass", "guitar")
ONE = torch.zeros(len(ROLES), dtype=torch.long)


def only(name, *free, **fixed):
    return bfx.load(name).fix(fixed).only(*free)


def eq():
    return only("vst3:ZamEQ2", "boost_cut_1_db")


def comp():
    return only("vst3:ZamCompX2", "threshold_db")


def parts():
    """Strips, groups and returns that stay live, that are printed, and that are printed in part; a bus that is live."""
    return {
        "strip": {"eq": eq()},
        "strips": {
            "vocals": {
                "drive": only("pedalboard:Distortion", "drive_db"),
                "comp": bfx.Bypass(comp()),
                "shelf": bfx.Bypass(eq()),
            },
            "snare": {"eq": eq(), "tone": TWINS["parametric_eq"]},
        },
        "groups": {
            "drums": bfx.Bus(["kick", "snare"], comp()),
            "band": bfx.Bus(["bass"], [only("pedalboard:LowShelfFilter", "gain_db"), eq()]),
        },
        "sends": {
            "room": bfx.Send(only("pedalboard:Reverb", "room_size", dry_level=0.0), level_db=(-40, 0)),
            "early": bfx.Send(eq(), level_db=(-40, 0), pre=True),
        },
        "bus": eq(),
    }


def songs(seconds=0.25):
    return [torch.from_numpy(music(seconds, 1 + k % 2, seed=k)) for k in range(len(ROLES))]


def settings(console, tracks=5, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (tracks, console.track_width), (1, console.bus_width)
    rows, buses = (torch.from_numpy(rng.uniform(0.3, 0.7, shape)).float() for shape in shapes)
    for k, name in enumerate(console.track_columns):
        if name.endswith(".on"):
            rows[:, k] = 0.9 if "comp" in name else 0.1
    return rows, buses


def moving(console):
    draw = torch.Generator().manual_seed(0)
    names = {"gain_db": 5, "pan": 5, "room.level_db": 5, "early.level_db": 5, "band.level_db": 1, "drums.level_db": 1}
    return {name: bfx.Curve(torch.rand(rows, 4, generator=draw), 13) for name, rows in names.items()}


def save(path, console, tracks=None, params=None, **given):
    given.setdefault("role", ROLES)
    return bfx.save_session(console, path, tracks or songs(), *(params or settings(console)), **given)


@functools.cache
def schema(name):
    return etree.XMLSchema(etree.parse(SCHEMAS / name))


def contents(path):
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def require_valid(path):
    """Against the published schema; every path is there, and nothing is there that no path names."""
    found = contents(path)
    for name, against in (("project.xml", "Project.xsd"), ("metadata.xml", "MetaData.xsd")):
        schema(against).assertValid(etree.fromstring(found[name]))
    named = set(etree.fromstring(found["project.xml"]).xpath("//File/@path | //State/@path"))
    assert named == found.keys() - {"project.xml", "metadata.xml"}
    return found


# ---- what a session sounds like, in numpy


@functools.cache
def _preset(name, content):
    effect = bfx.load(f"vst3:{name}")
    path = Path(_folder()) / f"{abs(hash(content))}.vstpreset"
    path.write_bytes(content)
    return effect, effect.load_preset(path)


@functools.cache
def _folder():
    import tempfile

    return tempfile.mkdtemp(prefix="blackbox_fx-")


def through(session, track, audio):
    for device in track.devices:
        content = session.state(device)
        assert device.plugin_id == content[8:40].decode()
        if device.enabled:
            effect, values = _preset(device.name, content)
            audio = effect.render(audio, values, RATE)
    return audio


def line(points, still, time):
    if not points:
        return np.full(time, still)
    return np.interp(np.arange(time) / RATE, *np.array(points).T)


def place(audio, pan):
    angle = (pan + 1) * np.pi / 4
    return audio * np.stack([np.cos(angle), np.sin(angle)]) * np.sqrt(len(audio))


def factor(gain_db):
    return 10 ** (gain_db / 20)


def play(path):
    """The sum of a session: audio, states, faders, places, sends, groups, mutes and solos, as its file has them."""
    session = bfx.read_session(path)
    clips = {t.id: [(c, *session.audio(c)) for c in t.clips] for t in session.tracks}
    time = max(audio.shape[1] for found in clips.values() for _, audio, _ in found)
    sums = {t.id: np.zeros((2, time)) for t in session.tracks}
    solo = any(t.solo for t in session.tracks)
    members = [t for t in session.tracks if t.kind == "track"]
    for track in [*members, *session.of_kind("group"), *session.of_kind("return"), *session.of_kind("master")]:
        audio = sums[track.id]
        for clip, found, rate in clips[track.id]:
            assert rate == RATE and clip.start == clip.offset == 0 and clip.channels == len(found)
            assert clip.duration == found.shape[1] / RATE
            audio = np.pad(found, ((0, 0), (0, time - found.shape[1])))
        if track.mute or (solo and track.kind == "track" and not track.solo):
            continue
        audio = through(session, track, np.ascontiguousarray(audio, np.float32))
        assert track.channels == len(audio)
        pan = line(track.pan_points, track.pan, time)
        placed = place(audio, pan) * line(track.volume_points, factor(track.gain_db), time)
        for send in track.sends:
            level = line(send.volume_points, factor(send.gain_db), time)
            sent = place(audio if send.pre else placed, line(send.pan_points, send.pan, time))
            sums[send.to] += sent * level
        if track.kind == "master":
            return placed
        sums[track.to] += placed
    raise AssertionError("no master")


def differ(path, console, tracks=None, params=None, **given):
    """The largest difference between the sum of a session and `mixdown`."""
    given.setdefault("role", ROLES)
    mix = bfx.mixdown(console, tracks or songs(), *(params or settings(console)), **given)
    assert np.abs(mix).max() > 0.01
    return np.abs(play(path) - mix).max()


@pytest.fixture(scope="module")
def console():
    return bfx.Console(**parts(), pool=bfx.Inline())


@pytest.fixture(scope="module")
def saved(console, tmp_path_factory):
    path = tmp_path_factory.mktemp("session") / "song.dawproject"
    return path, save(path, console, curves=moving(console))


# ---- written


def test_a_session_is_valid_and_its_sum_is_the_mixdown(console, saved):
    path, report = saved
    require_valid(path)
    assert report.complete
    assert differ(path, console, curves=moving(console)) < 1e-5


def test_states_of_plugins_are_asked_for_once_and_again_for_other_settings(tmp_path, monkeypatch):
    asked, whole = [], VST3.write_state
    monkeypatch.setattr(VST3, "write_state", lambda self, *a: asked.append(a) or whole(self, *a))
    console = bfx.Console(bus=eq())
    params, tracks = settings(console, 1, seed=701), songs()[:1]  # which no other test has
    for k in range(2):
        save(tmp_path / f"{k}.dawproject", console, tracks, params, role=None)
    assert len(asked) == 1
    first, second = (contents(tmp_path / f"{k}.dawproject") for k in range(2))
    assert [n for n in first if n.endswith(".vstpreset")] and first.keys() == second.keys()
    assert all(first[name] == second[name] for name in first if name.endswith(".vstpreset"))
    save(tmp_path / "other.dawproject", console, tracks, settings(console, 1, seed=702), role=None)
    assert len(asked) == 2


def test_the_report_says_what_became_of_every_effect(saved):
    _, report = saved
    found = {(fate.place, fate.effect.partition(" ")[0]): fate for fate in report.fates}
    assert len(found) == len(report.fates) == 14
    assert found["track 1 'kick'", "eq"].fate == "live"
    assert found["track 2 'vocals'", "drive"].fate == "printed to audio"
    assert "built-in effect of pedalboard" in found["track 2 'vocals'", "drive"].why
    assert found["track 2 'vocals'", "comp"].fate == "live"
    assert found["track 2 'vocals'", "shelf"].why == "It is bypassed."
    assert (
        found["track 3 'snare'", "eq"].fate == "printed to audio"
        and "before tone" in found["track 3 'snare'", "eq"].why
    )
    assert "twin" in found["track 3 'snare'", "tone"].why
    assert found["group 'band'", "low_shelf_filter"].fate == "printed to audio"
    assert found["group 'band'", "zam_eq2"].fate == found["group 'drums'", "vst3:ZamCompX2.vst3"].fate == "live"
    assert found["return 'room'", "pedalboard:Reverb"].fate == "printed to audio"
    assert found["mix bus", "vst3:ZamEQ2.vst3"].fate == "live"
    assert all(
        fate.why.endswith(".") and fate.fate in ("live", "printed to audio", "left out") for fate in report.fates
    )
    text = str(report)
    assert "The group 'band' is printed as the track 'band (printed)'" in text and "volume 0" in text
    assert "It sounds as mixdown does" in text and all(fate.why in text for fate in report.fates)
    assert bfx.read_session(saved[0]).comment == text


def test_what_was_written_reads_back_equal(console, saved):
    session, (rows, buses) = bfx.read_session(saved[0]), settings(console)
    said = console.decode(rows, buses, ROLES)
    assert not session.skipped and session.tempo == 120 and session.application.startswith("blackbox_fx ")
    assert session.title == "song"
    found = {track.name: track for track in session.tracks}
    assert list(found) == [
        "drums", "kick", "snare", "vocals", "band", "bass", "band (printed)", "guitar", "room", "room (printed)",
        "early", "Master",
    ]  # fmt: skip
    curves = moving(console)
    for k, (role, own) in enumerate(zip(ROLES, said["tracks"], strict=True)):
        track = found[role]
        assert (track.role, track.kind, track.channels) == (role, "track", 1 + k % 2)
        points = curves["gain_db"].points[k].double() * 36 - 24
        assert track.gain_db == pytest.approx(float(points[0]), abs=1e-9)
        assert track.pan_points == tuple((n / 13, 2 * float(v) - 1) for n, v in enumerate(curves["pan"].points[k]))
        at_breaks = [dict(track.volume_points)[n / 13] for n in range(4)]
        np.testing.assert_allclose(20 * np.log10(at_breaks), points, atol=1e-9)
        room, early = track.sends
        assert (room.pre, early.pre, early.pan_points) == (False, True, track.pan_points)
        assert [found[n].id for n in ("room", "early")] == [room.to, early.to]
        assert own["strip"].keys() >= {device.label for device in track.devices}
    assert [found[n].group for n in ("kick", "snare", "bass", "guitar")] == [
        found["drums"].id, found["drums"].id, found["band"].id, "",
    ]  # fmt: skip
    assert [device.label for device in found["vocals"].devices] == ["comp", "shelf"]
    assert [device.enabled for device in found["vocals"].devices] == [True, False]
    assert found["band"].gain_db == found["room"].gain_db == -math.inf
    assert found["early"].kind == "return" and found["drums"].kind == "group"
    assert document.project(session.tracks, 120, bfx.__version__) == contents(saved[0])["project.xml"]


def test_levels_that_stand_still_read_back_equal(console, tmp_path):
    params = settings(console)
    said = console.decode(*params, ROLES)
    save(tmp_path / "still.dawproject", console, tempo=97.5)
    session = bfx.read_session(tmp_path / "still.dawproject")
    assert session.tempo == 97.5
    found = {track.name: track for track in session.tracks}
    for role, own in zip(ROLES, said["tracks"], strict=True):
        track = found[role]
        assert track.gain_db == pytest.approx(own["gain_db"], abs=1e-6)
        assert track.pan == pytest.approx(own["pan"], abs=1e-6)
        assert [send.gain_db for send in track.sends] == pytest.approx(list(own["sends"].values()), abs=1e-6)
        assert track.sends[1].pan == track.pan and track.sends[0].pan == 0
    groups = said["buses"][0]["groups"]
    assert found["drums"].gain_db == pytest.approx(groups["drums"]["level_db"], abs=1e-6)
    assert found["band (printed)"].gain_db == pytest.approx(groups["band"]["level_db"], abs=1e-6)
    state = session.state(found["drums"].devices[0])
    assert _preset("ZamCompX2", state)[1]["threshold_db"] == pytest.approx(groups["drums"]["threshold_db"], abs=1e-3)


@pytest.mark.parametrize("flags", [{"mute": (1, 2)}, {"solo": (0, 3)}, {"mute": (0,), "solo": (0, 1, 4)}])
def test_mutes_and_solos_hold_for_what_is_printed_too(flags, console, tmp_path):
    given = {name: torch.isin(torch.arange(5), torch.tensor(chosen)) for name, chosen in flags.items()}
    report = save(tmp_path / "x.dawproject", console, **given)
    session = bfx.read_session(tmp_path / "x.dawproject")
    found = {track.name: track for track in session.tracks}
    for name, chosen in flags.items():
        assert [getattr(found[role], name) for role in ROLES] == [k in chosen for k in range(5)]
    assert found["room (printed)"].solo == ("solo" in flags)
    assert differ(tmp_path / "x.dawproject", console, **given) < 1e-5
    assert "Some DAWs still send muted tracks" in str(report)


def test_what_cannot_be_held_on_the_mix_bus_is_left_out_and_said(tmp_path):
    console = bfx.Console(bus={"limit": only("pedalboard:Limiter", "threshold_db"), "eq": eq()}, pool=bfx.Inline())
    params = settings(console)
    report = save(tmp_path / "x.dawproject", console, params=params, role=None)
    assert [fate.fate for fate in report.fates] == ["left out", "live"] and not report.complete
    assert "does not sound as mixdown" in str(report)
    require_valid(tmp_path / "x.dawproject")
    rest = bfx.Console(bus={"eq": eq()}, pool=bfx.Inline())
    assert differ(tmp_path / "x.dawproject", rest, params=(params[0], params[1][:, 1:]), role=None) < 1e-5


def test_keys_moving_settings_and_moving_switches_are_printed(tmp_path):
    console = bfx.Console(
        strip={"eq": bfx.Bypass(eq())},
        strips={"bass": {"eq": eq(), "duck": TWINS["sidechain_compressor"]}, "vocals": {"a": eq(), "b": comp()}},
        keys={"bass": "kick"},
        pool=bfx.Inline(),
    )
    points = torch.rand(5, 3, generator=torch.Generator().manual_seed(1))
    curves = {"vocals.a.boost_cut_1_db": bfx.Curve(points, 10), "strip.eq.on": bfx.Curve(points, 10)}
    report = save(tmp_path / "x.dawproject", console, curves=curves)
    found = {(fate.place, fate.effect): fate for fate in report.fates}
    assert "its settings move (boost_cut_1_db)" in found["track 2 'vocals'", "a (vst3:ZamEQ2.vst3)"].why.lower()
    assert found["track 2 'vocals'", "b (vst3:ZamCompX2.vst3)"].fate == "live"
    assert found["track 4 'bass'", "eq (vst3:ZamEQ2.vst3)"].fate == "printed to audio"
    assert found["track 1 'kick'", "eq (Switched)"].why == "Its switch moves."
    assert report.complete and differ(tmp_path / "x.dawproject", console, curves=curves) < 1e-5


def test_switched_off_effects_print_nothing(tmp_path):
    console = bfx.Console(strip=[eq(), bfx.Bypass(only("pedalboard:Distortion", "drive_db"))], pool=bfx.Inline())
    rows, buses = settings(console)
    report = save(tmp_path / "x.dawproject", console, params=(rows, buses), role=None)
    assert {fate.fate for fate in report.fates} == {"live", "left out"} and report.complete
    assert differ(tmp_path / "x.dawproject", console, params=(rows, buses), role=None) < 1e-5
    held = bfx.Console(strip=[bfx.Bypass(eq()), only("pedalboard:Distortion", "drive_db")], pool=bfx.Inline())
    report = save(tmp_path / "y.dawproject", held, params=settings(held), role=None)
    assert {fate.fate for fate in report.fates} == {"left out", "printed to audio"}
    assert differ(tmp_path / "y.dawproject", held, role=None) < 1e-5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vst3:ZamEQ2", ""),
        ("pedalboard:Distortion", "built-in effect of pedalboard"),
        ("ladspa:sc4", "no place for LADSPA"),
        ("lv2:http://drobilla.net/plugins/mda/Combo", "no place for LV2"),
        ("vst2:3BandEQ", "VST2"),
    ],
)
def test_a_reason_names_the_kind_of_effect(name, words, tmp_path):
    with NewArchive(tmp_path / "x.dawproject") as archive:
        obstacle = DawProject(archive, "x").obstacle
    layer = bfx.BlackBox(bfx.load(name), pool=bfx.Inline())
    found = obstacle(Member("", layer, torch.zeros(1, layer.width), {}, {}))
    assert words in found if words else not found
    if not words:
        late = bfx.BlackBox(bfx.load(name, latency_samples=5), pool=bfx.Inline())
        assert "latency" in obstacle(Member("", late, torch.zeros(1, layer.width), {}, {}))
        keyed = eq()
        keyed.inputs = ("sidechain",)
        assert "side-chains" in obstacle(Member("", bfx.BlackBox(keyed, pool=bfx.Inline()), torch.zeros(1, 1), {}, {}))
        function = bfx.function(lambda audio, rate: audio, bfx.Space({}))
        assert "no plugin" in obstacle(Member("", bfx.BlackBox(function), torch.zeros(1, 0), {}, {}))
        side = bfx.Mix([eq()])
        assert "side by side" in obstacle(Member("", side, torch.zeros(1, side.width), {}, {}))


def test_a_plain_console_and_one_without_a_bus(tmp_path):
    for console in (bfx.Console(), bfx.Console(strip=TWINS["parametric_eq"], bus=None)):
        path = tmp_path / "x.dawproject"
        report = save(path, console, role=None)
        require_valid(path)
        assert differ(path, console, role=None) < 1e-5 and str(report)
        assert [t.name for t in bfx.read_session(path).of_kind("track")] == [f"track {k + 1}" for k in range(5)]
        assert not any(track.role for track in bfx.read_session(path).tracks)


@pytest.mark.parametrize("channels", [1, 2])
def test_tracks_are_made_mono_or_stereo_as_in_mixdown(channels, console, tmp_path):
    save(tmp_path / "x.dawproject", console, channels=channels)
    found = bfx.read_session(tmp_path / "x.dawproject")
    assert {t.clips[0].channels for t in found.of_kind("track") if t.role} == {channels}
    assert differ(tmp_path / "x.dawproject", console, channels=channels) < 1e-5


def test_names_are_kept_whatever_they_are(tmp_path):
    names = ["", 'a/b\\..\\"c" & <d>\'', "Größe ü 日本語 🥁", "same\tname\nhere\r", "../../../etc/passwd"]
    console = bfx.Console(strip=TWINS["parametric_eq"])
    report = save(tmp_path / "x.dawproject", console, names=names, role=[name[::-1] for name in names])
    found = bfx.read_session(tmp_path / "x.dawproject").of_kind("track")
    assert [track.name for track in found] == names and [track.role for track in found] == [n[::-1] for n in names]
    members = require_valid(tmp_path / "x.dawproject").keys()
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-./") for name in members
    )
    assert not any(".." in name for name in members)
    assert len(str(report).splitlines()) == 9  # a line for each effect, and no name breaks one
    report = save(tmp_path / "x.dawproject", console, names=["same\x00\ud800"] * 5, role=None)
    assert [t.name for t in bfx.read_session(tmp_path / "x.dawproject").of_kind("track")] == ["same\ufffd\ufffd"] * 5
    assert "XML cannot hold" in str(report)
    require_valid(tmp_path / "x.dawproject")


def test_tracks_of_other_lengths_and_rates(tmp_path):
    files = []
    for k, (rate, seconds) in enumerate([(44100, 0.3), (48000, 0.25), (22050, 0.1)]):
        files.append(tmp_path / f"stem {k}.wav")
        soundfile.write(files[-1], music(2 * seconds, 2, seed=k)[:, : int(rate * seconds)].T, rate)
    console = bfx.Console(strip=eq(), pool=bfx.Inline())
    params = settings(console, 3)
    save(tmp_path / "x.dawproject", console, files, params, role=None)
    assert differ(tmp_path / "x.dawproject", console, files, params, role=None) < 1e-5
    tracks = bfx.read_session(tmp_path / "x.dawproject").of_kind("track")
    assert [track.name for track in tracks] == ["stem 0", "stem 1", "stem 2"]
    assert [track.clips[0].duration for track in tracks] == pytest.approx([0.3, 0.25, 0.1], abs=1e-4)


def test_what_is_printed_rings_out_and_curves_end_behind_the_song(tmp_path):
    console = bfx.Console(strip=[eq(), only("pedalboard:Delay", "mix", delay_seconds=0.1)], pool=bfx.Inline())
    tracks, params = [songs()[0], songs()[1][:, :2000]], settings(console, 2)
    curves = {"gain_db": bfx.Curve(torch.tensor([[0.3, 0.9, 0.0, 1.0], [0.8, 0.2, 0.0, 1.0]]), 3)}
    save(tmp_path / "x.dawproject", console, tracks, params, role=None, curves=curves)
    assert differ(tmp_path / "x.dawproject", console, tracks, params, role=None, curves=curves) < 1e-5
    first, second = bfx.read_session(tmp_path / "x.dawproject").of_kind("track")
    assert first.clips[0].duration == second.clips[0].duration == 0.25
    assert first.volume_points[-1][0] == pytest.approx(1 / 3)


def test_automation_of_few_points_is_near_and_of_many_exact(tmp_path):
    console = bfx.Console()
    curves = {"gain_db": bfx.Curve(torch.tensor([[0.9, 0.3, 0.6, 0.6]]).repeat(5, 1), 12)}
    found = {}
    for exact in (True, False):
        path = tmp_path / f"{exact}.dawproject"
        save(path, console, curves=curves, role=None, sample_accurate=exact)
        points = bfx.read_session(path).tracks[0].volume_points
        found[exact] = len(points), differ(path, console, curves=curves, role=None)
    assert found[False][0] == 4 and found[True][0] > 300
    assert found[True][1] < 1e-5 < 1e-2 < found[False][1]


def test_the_same_song_gives_the_same_bytes_and_a_mistake_leaves_nothing(tmp_path):
    console, path = bfx.Console(), tmp_path / "x.dawproject"
    save(path, console, role=None)
    first = path.read_bytes()
    save(path, console, role=None)
    assert path.read_bytes() == first
    broken = [*songs()[:4], torch.full((1, 100), math.nan)]
    with pytest.raises(AudioError, match="NaN"):
        save(path, console, broken, role=None)
    assert path.read_bytes() == first and list(tmp_path.iterdir()) == [path]
    for wrong, error, words in (
        ({"names": ["a"]}, ParameterError, "names must be a list of 5 texts"),
        ({"names": "abcde"}, ParameterError, "names must be"),
        ({"tempo": 0}, ParameterError, r"tempo must be a number in \[1, 1000\]"),
        ({"mute": torch.zeros(5)}, ParameterError, "mute must be a tensor of 5 bools"),
        ({"sample_accurate": 2}, ParameterError, "sample_accurate must be one of"),
        ({"curves": {"gain_db": bfx.Curve(torch.rand(5, 5000), 20000)}}, ParameterError, "sample_accurate=False"),
    ):
        with pytest.raises(error, match=words):
            save(path, console, **{"role": None} | wrong)
    for name, words in (("x.zip", "end it with .dawproject"), ("no/x.dawproject", "does not exist; create it first")):
        with pytest.raises(DataError, match=words):
            save(tmp_path / name, console, role=None)
    with pytest.raises(AudioError, match="whole sample rate"):
        save(path, bfx.Console(sample_rate=22050.5), role=None)
    assert list(tmp_path.iterdir()) == [path]


def test_wave_files_are_those_that_others_read(tmp_path):
    audio = 3 * music(0.1, 2)
    with (tmp_path / "x.wav").open("wb") as file:
        write_wave(file, audio, 48000, "x")
    found, rate = soundfile.read(tmp_path / "x.wav", dtype="float32", always_2d=True)
    assert rate == 48000 and soundfile.info(tmp_path / "x.wav").subtype == "FLOAT"
    np.testing.assert_array_equal(found.T, audio)
    header = (tmp_path / "x.wav").read_bytes()[:58]
    assert header[38:42] == b"fact" and int.from_bytes(header[46:50], "little") == audio.shape[1]
    with pytest.raises(AudioError, match="4294967238"):
        write_wave(io.BytesIO(), np.broadcast_to(np.float32(0), (2, 2**29)), 48000, "x")


# ---- read


def rewritten(path, target, **changed):
    """A copy of a session with other files: a function of the old content, bytes, or None for none at all."""
    found = contents(path)
    with zipfile.ZipFile(target, "w") as file:
        for name in {*found, *changed}:
            new = changed.get(name, found.get(name))
            new = new(found[name]) if callable(new) else new
            if new is not None:
                file.writestr(name, new)
    return target


PROJECT, ROOT = "project.xml", b'<Project version="1.0">'
LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><Project version="1.0" name="&b;"/>'
OUTSIDE = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Project version="1.0">&a;</Project>'


def swap(old, new):
    def changed(content):
        assert old.encode() in content, old
        return content.replace(old.encode(), new.encode(), 1)

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "lacks 'project.xml'"),
        (b"", "XML is damaged"),
        (b"<Project", "XML is damaged"),
        (b"\xff\xfe\x00", "XML is damaged"),
        (b"<?xml version='1.0' encoding='nonsense'?><Project/>", "XML is damaged"),
        (b"<MetaData/>", "'MetaData' in place of a Project"),
        (LAUGHS, "document type"),
        (OUTSIDE, "document type"),
        (ROOT + b"<Lanes>" * 200 + b"</Lanes>" * 200 + b"</Project>", "more elements"),
        (ROOT + b'<a b="" c="" d=""/>' * 750_001 + b"</Project>", "more elements"),
        (b'<Project version="2.0"/>', "version is '2.0'"),
        (b"<Project/>", "version is ''"),
        (swap("audio/01-", "audio/nothing-"), "lacks 'audio/nothing-kick.wav'"),
        (swap("audio/01-kick.wav", "../01-kick.wav"), "no path within it"),
        (swap("audio/01-kick.wav", "/etc/passwd"), "no path within it"),
        (swap("audio/01-kick.wav", "C:/kick.wav"), "no path within it"),
        (swap("plugins/track1-1.vstpreset", "plugins\\..\\x"), "no path within it"),
        (swap('destination="group1"', 'destination="group9"'), "'group9', which does not exist"),
        (swap('destination="return1"', 'destination="return9"'), "'return9', which does not exist"),
        (swap('track="track1-track"', 'track="track9"'), "'track9', which does not exist"),
        (swap('id="track1-volume"', 'id="track1-pan"'), "two of its elements have the id"),
        (swap('id="track1" ', 'id="master" '), "two of its elements have the id"),
        (swap('unit="bpm" value="120.0"', 'unit="bpm" value="0"'), "tempo is 0"),
        (swap('unit="normalized" value="', 'unit="normalized" value="NaN'), "and no number"),
        (swap('unit="normalized" value="', 'unit="normalized" value="1e999'), "and no number"),
        (swap('solo="false"', 'solo="perhaps"'), "must be true or false"),
        (swap('audioChannels="1"', 'audioChannels="99"'), "no whole number from 0 to 64"),
        (swap('sampleRate="44100"', 'sampleRate="4.5"'), "no whole number"),
        (swap('type="pre"', 'type="side"'), "must be pre or post"),
        (swap('timeUnit="seconds"', 'timeUnit="years"'), "must be beats or seconds"),
        (swap('RealPoint time="0.0"', 'RealPoint time="9.0"'), "not in order"),
        (swap('Clip name="kick" time="0.0"', 'Clip name="kick"'), "time of a Clip is None"),
    ],
)
def test_a_damaged_document_is_one_sentence(change, words, saved, tmp_path):
    path = rewritten(saved[0], tmp_path / "bad.dawproject", **{PROJECT: change})
    with pytest.raises(DataError, match=words) as error:
        bfx.read_session(path)
    assert str(path) in str(error.value) and str(error.value).endswith("; save it again.")
    assert "\n" not in str(error.value)


def test_files_that_are_no_zip_or_a_bad_one(saved, tmp_path):
    whole, path = saved[0].read_bytes(), tmp_path / "bad.dawproject"
    with pytest.raises(DataError, match="No such file"):
        bfx.read_session(path)
    with pytest.raises(DataError, match="no folder of one Ardour session"):
        bfx.read_session(tmp_path)
    for content in (b"", b"PK\x05\x06", b"PK\x05\x06" + b"\0" * 10, whole[:-30], whole[: len(whole) // 2], b"x" * 999):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no zip file"):
            bfx.read_session(path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as file:
        file.writestr(PROJECT, ROOT + b"</Project>")
        file.writestr(PROJECT, ROOT + b"</Project>")
    with pytest.raises(DataError, match="same name"):
        bfx.read_session(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(PROJECT, b" " * (65 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="and 67108864 are allowed"):
        bfx.read_session(path)
    with zipfile.ZipFile(path, "w") as file:
        for k in range(20_001):
            file.writestr(str(k), b"")
    with pytest.raises(DataError, match="it holds 20001 files"):
        bfx.read_session(path)
    locked = bytearray(whole)
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = locked.find(mark)
        while at >= 0:
            locked[at + flags] |= 1
            at = locked.find(mark, at + 4)
    path.write_bytes(locked)
    with pytest.raises(DataError, match="cannot be read"):
        bfx.read_session(path)


def test_audio_and_states_are_checked_when_they_are_asked_for(saved, tmp_path):
    session = bfx.read_session(saved[0])
    kick = next(track for track in session.tracks if track.name == "kick")
    clip, device = kick.clips[0], kick.devices[0]
    with pytest.raises(DataError, match="no path within it"):
        session.audio(dataclasses.replace(clip, path="../../etc/passwd"))
    with pytest.raises(DataError, match=r"lacks 'audio/x\.wav'"):
        session.audio(dataclasses.replace(clip, path="audio/x.wav"))
    with pytest.raises(ParameterError, match="no state"):
        session.state(dataclasses.replace(device, state=""))
    with pytest.raises(ParameterError, match="kind must be one of"):
        session.of_kind("bus")
    whole = saved[0].read_bytes()
    at = whole.find(b"RIFF") + 1000
    broken = tmp_path / "bad.dawproject"
    broken.write_bytes(whole[:at] + bytes(100) + whole[at + 100 :])
    with pytest.raises(DataError, match="cannot be read: Bad CRC"):
        bfx.read_session(broken).audio(bfx.read_session(broken).tracks[1].clips[0])
    other = rewritten(saved[0], tmp_path / "other.dawproject", **{clip.path: b"no audio"})
    with pytest.raises(AudioError, match="Cannot read"):
        bfx.read_session(other).audio(clip)
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".wav"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "x.dawproject"
    console = bfx.Console(sends={"room": bfx.Send(TWINS["reverberation"])})
    tracks = [torch.from_numpy(music(0.01, 1, seed=k)) for k in range(2)]
    save(path, console, tracks, settings(console, 2), role=None, curves={"pan": bfx.Curve(torch.rand(2, 3), 100)})
    return path.read_bytes(), contents(path)[PROJECT]


@given(st.integers(0, 2**32), st.sampled_from(["zip", "xml", "cut"]))
def test_damage_anywhere_is_a_sentence_or_nothing(small, seed, kind):
    import tempfile

    rng = random.Random(seed)
    whole, xml = small
    content = bytearray(xml if kind == "xml" else whole)
    if kind == "cut":
        at = rng.randrange(len(content))
        del content[at : at + rng.choice([1, 10, 10_000])]
    for _ in range(rng.choice([1, 3, 30]) if kind != "cut" else 0):
        content[rng.randrange(len(content))] = rng.randrange(256) if rng.random() < 0.5 else rng.choice(b'"<>/=09. ')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.dawproject"
        path.write_bytes(content)
        if kind == "xml":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr(PROJECT, bytes(content))
                for k, name in enumerate(("01-track-1", "02-track-2", "return1-room")):
                    file.writestr(f"audio/{name}.wav", str(k))
        try:
            session = bfx.read_session(path)
            for track in session.tracks:
                for clip in track.clips:
                    session.audio(clip)
        except (DataError, AudioError) as error:
            assert "\n" not in str(error)


FOREIGN = (SCHEMAS / "foreign.xml").read_text()


def test_a_file_of_another_program_reads_and_says_what_was_not_understood(tmp_path):
    path = tmp_path / "other.dawproject"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(PROJECT, FOREIGN)
        file.writestr("plugins/a.clap", b"state")
        file.writestr("audio/loop.wav", b"")
    session = bfx.read_session(path)
    assert (session.application, session.tempo, session.title) == ("Other 5.0", 60, "")
    bass, group, loop, master, folder, vca = session.tracks
    assert [t.kind for t in session.tracks] == ["track", "group", "track", "master", "track", "track"]
    assert bass.gain_db == pytest.approx(-6) and bass.pan == -0.5 and bass.mute and bass.to == master.id
    assert bass.volume_points == ((0, 1), (4, pytest.approx(0.1)))
    assert [d.kind for d in bass.devices] == ["clap", "vst3", "vst2", "vst3", "builtin"]
    assert session.state(bass.devices[0]) == b"state" and bass.devices[1].state == ""
    assert [d.plugin_id for d in bass.devices][1:4] == ["5653544D76327A7A616D657132000000", "1397572658", ""]
    assert loop.group == loop.to == group.id and loop.sends[0].gain_db == pytest.approx(-6.02, abs=0.01)
    assert [(c.start, c.duration, c.offset) for c in loop.clips] == [(8, 4, 1)] and folder.name == "Folder"
    assert vca.devices == ()
    for words in (
        "Equalizer", "class id 'nonsense'", "lies outside the file", "semitones", "the clip ''", "steps", "'id7'",
        "warps", "fades", "Markers", "Scenes", "time signature", "a Thing", "role 'vca'",
    ):  # fmt: skip
        assert any(words in said for said in session.skipped), words
    tempo = '<TempoAutomation><Target/><RealPoint time="0" value="6"/><RealPoint time="1" value="9"/></TempoAutomation>'
    moving = FOREIGN.replace("<Markers>", f"{tempo}<Markers>")
    session = bfx.read_session(rewritten(path, tmp_path / "moving.dawproject", **{PROJECT: moving.encode()}))
    assert any("tempo where it moves" in said for said in session.skipped) and not session.tracks[2].clips


def test_class_ids_are_read_with_dashes_and_without():
    plain = "5653544D76327A7A616D657132000000"
    for text in (
        plain,
        plain.lower(),
        "5653544D-7632-7A7A-616D-657132000000",
        "{5653544d-7632-7a7a-616d-657132000000}",
    ):
        assert class_id(text) == plain
    assert not any(map(class_id, ("", plain[:-1], plain + "0", "g" * 32)))
