"""Songs of a console as Ardour sessions: what Ardour plays, what comes back, and what is not trusted."""

import dataclasses
import math
import random
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import blackbox_fx as bfx
from blackbox_fx.dsp import TWINS
from blackbox_fx.errors import AudioError, DataError, ParameterError
from blackbox_fx.sessions.ardour import laws
from tests.ardour_host import Ardour
from tests.cases import RATE, music

ROLES = ("kick", "vocals", "snare", "bass", "guitar")
MDA = "lv2:http://drobilla.net/plugins/mda/"


def only(name, *free, **fixed):
    return bfx.load(name).fix(fixed).only(*free)


def eq():
    return only("vst3:ZamEQ2", "boost_cut_1_db")


def songs(seconds=0.5):
    return [torch.from_numpy(music(seconds, 1 + k % 2, seed=k)) for k in range(len(ROLES))]


def settings(console, tracks=5, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (tracks, console.track_width), (1, console.bus_width)
    rows, buses = (torch.from_numpy(rng.uniform(0.25, 0.75, shape)).float() for shape in shapes)
    for k, name in enumerate(console.track_columns):
        if name.endswith(".on"):
            rows[:, k] = 0.1
    return rows, buses


def save(path, console, tracks=None, params=None, **given):
    given.setdefault("role", ROLES)
    return bfx.save_session(console, path, tracks or songs(), *(params or settings(console)), **given)


def differ(ardour, document, console, tracks=None, params=None, most=1e-6, **given):
    """The largest difference between what Ardour exports and `mixdown`."""
    given.setdefault("role", ROLES)
    mix = bfx.mixdown(console, tracks or songs(), *(params or settings(console)), **given)
    assert np.abs(mix).max() > 0.1

    def difference(audio):
        return np.abs(audio - mix).max() if audio.shape == mix.shape else math.inf

    audio, rate = ardour.export(document, document.with_suffix(".wav"), lambda audio: difference(audio) <= most)
    assert rate == RATE
    print(f"Ardour differs from mixdown by {difference(audio):.2g}, where the peak is {np.abs(mix).max():.2g}")
    return difference(audio)


@pytest.fixture(scope="module")
def ardour(tmp_path_factory):
    return Ardour(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def console():
    """A VST3 plugin, an LV2 plugin, faders, places, a group, and a send with a return."""
    return bfx.Console(
        strips={"vocals": {"eq": eq()}, "bass": {"drive": only(f"{MDA}Dynamics", "ratio")}},
        groups={"drums": bfx.Bus(["kick", "snare"])},
        sends={"room": bfx.Send(only(f"{MDA}Ambience", "size"), level_db=(-40, 0))},
        pool=bfx.Inline(),
    )


@pytest.fixture(scope="module")
def saved(console, tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    report = save(folder / "song.ardour", console)
    return folder / "song/song.ardour", report


# ---- played by Ardour


def test_it_is_the_mixdown_when_played_by_ardour(ardour, console, saved):
    document, report = saved
    assert report.path == document and report.complete
    assert {fate.fate for fate in report.fates} == {"live"} and len(report.fates) == 3
    assert "Ardour plays it as mixdown does." in str(report)
    assert differ(ardour, document, console) < 1e-6


def test_what_is_printed_muted_solo_or_late_is_the_mixdown_when_played_by_ardour(ardour, tmp_path):
    late = only("vst3:ZaMaximX2", "threshold_db")
    console = bfx.Console(
        strip={"limit": late, "off": bfx.Bypass(eq())},
        strips={
            "vocals": {"wide": only("pedalboard:Chorus", "rate_hz"), "comp": only("vst3:ZamCompX2", "makeup_db")},
            "snare": {"eq": eq(), "spin": only(f"{MDA}Leslie")},
        },
        groups={
            "drums": bfx.Bus(["kick", "snare"], only("ladspa:ZamEQ2", "boost_cut_1")),
            "band": bfx.Bus(["bass"], TWINS["parametric_eq"]),
        },
        sends={"room": bfx.Send(only(f"{MDA}Ambience", "size"), pre=True), "late": bfx.Send(late)},
        bus=eq(),
        pool=bfx.Inline(),
    )
    given = {"mute": torch.arange(5) == 4, "solo": torch.arange(5) != 1}
    report = save(tmp_path / "song.ardour", console, **given)
    found = {(fate.place, fate.effect.partition(" ")[0]): fate for fate in report.fates}
    assert found["track 1 'kick'", "limit"].fate == found["mix bus", "vst3:ZamEQ2.vst3"].fate == "live"
    assert found["track 1 'kick'", "off"].why == "It is bypassed."
    assert found["track 3 'snare'", "spin"].why.startswith("It sounds different after silence")
    assert found["track 3 'snare'", "eq"].why.startswith("It comes before spin")
    assert "built-in effect of pedalboard" in found["track 2 'vocals'", "wide"].why
    assert "which Ardour does not line up" in found["return 'late'", "vst3:ZaMaximX2.vst3"].why
    assert found["group 'band'", "parametric_eq"].fate == "printed to audio" and report.complete
    assert found["track 2 'vocals'", "comp"].fate == found["group 'drums'", "ladspa:ZamEQ2"].fate == "live"
    assert differ(ardour, report.path, console, **given) < 1e-6


def test_faders_that_move_are_as_far_off_as_said_when_played_by_ardour(ardour, tmp_path):
    console = bfx.Console(sends={"early": bfx.Send(None, pre=True)})
    draw = torch.Generator().manual_seed(0)
    names = ("gain_db", "pan", "early.level_db")
    curves = {name: bfx.Curve(torch.rand(5, 4, generator=draw) * 0.2 + 0.5, 5) for name in names}
    report = save(tmp_path / "song.ardour", console, curves=curves)
    assert "as mixdown does, but for faders while they move." in str(report)
    (note,) = [note for note in report.notes if "lag" in note]
    said = 10 ** (float(note.partition("at most ")[2].partition(" dB")[0]) / 20)
    worst = 2 * len(ROLES) * said * 1.06  # of each track and its send; the level was said in whole dB
    found = differ(ardour, report.path, console, most=worst, curves=curves)
    assert 1e-5 < found < worst and said < 0.05


# ---- written and read


def parts(path, **curves):
    """A session with something of everything."""
    console = bfx.Console(
        strips={"vocals": {"eq": bfx.Bypass(eq())}, "bass": {"drive": only("ladspa:hardLimiter", "db_limit")}},
        groups={"drums": bfx.Bus(["kick", "snare"], only(f"{MDA}Dynamics", "ratio"))},
        sends={"room": bfx.Send(TWINS["reverberation"]), "early": bfx.Send(None, pre=True)},
        pool=bfx.Inline(),
    )
    mute = torch.arange(5) == 3
    return console, save(path, console, songs(0.05), mute=mute, tempo=97.5, curves=curves)


def moving():
    draw = torch.Generator().manual_seed(0)
    return {name: bfx.Curve(torch.rand(5, 3, generator=draw), 40) for name in ("gain_db", "pan", "early.level_db")}


@pytest.mark.parametrize("curves", [{}, moving()], ids=["still", "moving"])
def test_ardour_sessions_read_back_as_dawproject_files_do(curves, tmp_path):
    console, report = parts(tmp_path / "song.ardour", **curves)
    session = bfx.read_session(report.path)
    assert (session.tempo, session.title, session.comment) == (97.5, "song", str(report)) and not session.skipped
    assert session.application == f"blackbox_fx {bfx.__version__}"
    kept = bfx.Console(groups={"drums": bfx.Bus(["kick", "snare"])}, sends=console.sends)
    rows, buses = settings(console)
    columns = [console.track_columns.index(name) for name in kept.track_columns]
    bus_columns = [console.bus_columns.index(name) for name in kept.bus_columns]
    params, mute = (rows[:, columns], buses[:, bus_columns]), torch.arange(5) == 3
    save(tmp_path / "song.dawproject", kept, songs(0.05), params, mute=mute, curves=curves)
    other = bfx.read_session(tmp_path / "song.dawproject")
    names = {track.id: track.name for track in (*session.tracks, *other.tracks)}
    for found, wanted in zip(session.tracks, other.tracks, strict=True):
        for name in ("name", "kind", "role", "mute", "solo", "channels"):
            assert getattr(found, name) == getattr(wanted, name)
        assert names.get(found.group) == names.get(wanted.group) and names.get(found.to) == names.get(wanted.to)
        require_near(found, wanted)
        in_order = sorted(wanted.sends, key=lambda send: not send.pre)  # as the signal goes
        for send, same in zip(found.sends, in_order, strict=True):
            assert (names[send.to], send.pre, send.enabled) == (names[same.to], same.pre, same.enabled)
            require_near(send, same)
        for clip, same in zip(found.clips, wanted.clips, strict=True):
            assert (clip.start, clip.duration, clip.channels) == (same.start, same.duration, same.channels)
            np.testing.assert_array_equal(session.audio(clip)[0], other.audio(same)[0])


def require_near(found, wanted):
    """Levels and places are the same, where both have points."""
    assert found.pan == pytest.approx(wanted.pan, abs=1e-6) and found.gain_db == pytest.approx(wanted.gain_db, abs=1e-6)
    for name in ("volume_points", "pan_points"):
        points, same = getattr(found, name), getattr(wanted, name)
        if same:
            times, values = np.array(same).T
            np.testing.assert_allclose(np.interp(times, *np.array(points).T), values, atol=2e-5)
        else:
            assert len({round(value, 6) for _, value in points}) <= 1


def test_plugins_stand_in_an_ardour_session_with_their_settings(tmp_path):
    console, report = parts(tmp_path / "song/song.ardour")
    assert report.path == tmp_path / "song/song.ardour"
    session = bfx.read_session(tmp_path / "song")
    found = {track.name: track.devices for track in session.tracks if track.devices}
    (vst3,), (ladspa,), (lv2,) = found["vocals"], found["bass"], found["drums"]
    assert (vst3.kind, vst3.label, vst3.enabled, vst3.channels) == ("vst3", "eq", False, 1)
    said = console.decode(*settings(console), ROLES)
    state = session.state(vst3)
    assert state[8:40].decode() == vst3.plugin_id
    preset = tmp_path / "x.vstpreset"
    preset.write_bytes(state)
    values = eq().load_preset(preset)
    assert values["boost_cut_1_db"] == pytest.approx(said["tracks"][1]["strip"]["eq"]["boost_cut_1_db"], abs=1e-3)
    assert (ladspa.kind, ladspa.plugin_id, ladspa.enabled) == ("ladspa", "1413", True)
    limit = said["tracks"][3]["strip"]["drive"]["db_limit"]
    assert dict(ladspa.values)["0"] == pytest.approx(limit, abs=1e-4)
    assert (lv2.kind, lv2.plugin_id, lv2.channels) == ("lv2", f"{MDA}Dynamics".removeprefix("lv2:"), 2)
    assert 0 < dict(lv2.values)["ratio"] < 1 and len(lv2.values) > 5
    with pytest.raises(ParameterError, match="no state"):
        session.state(lv2)


def test_the_law_of_ardour_is_turned_into_that_of_the_console_and_back():
    pan, gain = np.linspace(-1, 1, 201), np.full(201, 0.7)
    angle = (pan + 1) * np.pi / 4
    for channels in (1, 2):
        fader, place = laws.to_ardour(gain, pan, channels)
        sides = [side * fader for side in laws.panned(place, channels)]
        wanted = gain * np.stack([np.cos(angle), np.sin(angle)]) * np.sqrt(channels)
        np.testing.assert_allclose(sides, wanted, atol=1e-12)
        np.testing.assert_allclose(laws.from_ardour(fader, place, channels), [gain, pan], atol=1e-12)


def test_names_ardour_does_not_take_are_changed_and_said(tmp_path):
    names = ["Master", "a:b", "a:b", "", "Größe 日本語 🥁\x00\n/x"]
    report = save(tmp_path / "song.ardour", bfx.Console(), names=names, role=None)
    found = [track.name for track in bfx.read_session(report.path).of_kind("track")]
    assert found == ["Master 2", "a-b", "a-b 2", "track", "Größe 日本語 🥁\ufffd /x"]
    assert "some were changed" in str(report)


def test_a_session_is_replaced_only_if_no_one_worked_on_it(tmp_path):
    console, folder = bfx.Console(), tmp_path / "song"
    document = save(folder / "song.ardour", console, role=None).path
    assert document == folder / "song.ardour" and save(tmp_path / "song.ardour", console, role=None).path == document
    first = {path: path.read_bytes() for path in folder.rglob("*.*")}
    with pytest.raises(AudioError, match="NaN"):
        save(tmp_path / "song.ardour", console, [*songs()[:4], torch.full((1, 100), math.nan)], role=None)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == first and list(tmp_path.iterdir()) == [folder]
    (folder / "export").mkdir()
    save(tmp_path / "song.ardour", console, role=None)
    assert not (folder / "export").exists()
    for path, content in (
        (folder / "export.wav", b""),
        (document, document.read_bytes().replace(b'modified-with="blackbox_fx', b'modified-with="Ardour')),
        (document, b"<Session"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match="holds what save_session did not write there"):
            save(tmp_path / "song.ardour", console, role=None)
        assert path.read_bytes() == content
        shutil.rmtree(folder)
        save(tmp_path / "song.ardour", console, role=None)
    for name, words in (("a:b.ardour", "leave out colons"), ("no/x.ardour", "does not exist; create it first")):
        with pytest.raises(DataError, match=words):
            save(tmp_path / name, console, role=None)


# ---- not trusted


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    document = parts(tmp_path_factory.mktemp("small") / "song.ardour", **moving())[1].path
    return document, document.read_text()


def swap(old, new):
    def changed(text):
        assert old in text, old
        return text.replace(old, new, 1)

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "", "XML is damaged"),
        (lambda text: text[:-40], "XML is damaged"),
        (lambda text: "<Project/>", "in place of a Session"),
        (lambda text: '<!DOCTYPE x [<!ENTITY a "ha">]><Session version="7002">&a;</Session>', "document type"),
        (swap('<Session version="7002"', '<Session version="2.0"'), "version is '2.0'"),
        (swap('sample-rate="44100"', 'sample-rate="4.5"'), "no whole number"),
        (swap('npm="97.5"', 'npm="0"'), "tempo is 0"),
        (swap('name="kick"', 'name="snare"'), "the name 'snare'"),
        (swap('id="100"', 'id="101"'), "the id '101'"),
        (swap('other="drums/audio_in 1"', 'other="horns/audio_in 1"'), "'horns', which does not exist"),
        (swap(' target="', ' target="9'), "which does not exist"),
        (lambda text: text.replace(' source-0="', ' source-0="9'), "which does not exist"),
        (swap('audio-playlist="', 'audio-playlist="9'), "which does not exist"),
        (swap("01-kick.wav", "nothing.wav"), "lacks the audio file 'nothing.wav'"),
        (swap("01-kick.wav", "../../../../etc/passwd"), "no name of an audio file"),
        (swap("01-kick.wav", "*.wav"), "lacks the audio file"),
        (lambda text: text.replace('length="a', 'length="x'), "no time of audio"),
        (lambda text: re.sub('(name="pan-azimuth" .*value=")', "\\g<1>2", text), "is not from 0 to 1"),
        (swap("<events>a0 ", "<events>a0 -"), "below 0|not from 0 to 1"),
        (swap("<events>a0 ", "<events>a9999999999 "), "not in order"),
        (lambda text: re.sub("<events>a0 .*", "<events>a0 nan", text), "no numbers"),
        (swap("<events>a0 ", "<events>soon "), "a point of"),
        (swap('self-solo="0"', 'self-solo="perhaps"'), "must be true or false"),
    ],
)
def test_a_damaged_ardour_session_is_one_sentence(change, words, small, tmp_path):
    shutil.copytree(small[0].parent, tmp_path / "song")
    path = tmp_path / "song/song.ardour"
    path.write_text(change(small[1]))
    with pytest.raises(DataError, match=words) as error:
        bfx.read_session(path)
    assert str(path) in str(error.value) and str(error.value).endswith("; save it again.")
    assert "\n" not in str(error.value)


def test_nothing_outside_the_folder_of_an_ardour_session_is_read(small, tmp_path):
    shutil.copytree(small[0].parent, tmp_path / "song")
    session = bfx.read_session(tmp_path / "song")
    track = next(track for track in session.tracks if track.name == "vocals")
    clip, (device,) = track.clips[0], track.devices
    for path, words in (("../x.wav", "no path"), ("/etc/passwd", "no path"), ("x.wav", "lacks")):
        with pytest.raises(DataError, match=words):
            session.audio(dataclasses.replace(clip, path=path))
    with pytest.raises(DataError, match="lacks the plugin"):
        session.state(dataclasses.replace(device, state="9"))
    audio = tmp_path / "song" / clip.path
    (tmp_path / "secret.wav").write_bytes(audio.read_bytes())
    audio.unlink()
    audio.symlink_to(tmp_path / "secret.wav")
    with pytest.raises(DataError, match="leads out of it"):
        session.audio(clip)
    text = (tmp_path / "song/song.ardour").read_text().replace("<chunk>", "<chunk>!")
    (tmp_path / "song/song.ardour").write_text(text)
    with pytest.raises(DataError, match="no base64"):
        session.state(device)
    for name in ("nothing.ardour", "song"):
        (tmp_path / "song/other.ardour").write_text("")
        (tmp_path / "song/song.ardour").unlink(missing_ok=True)
        (tmp_path / "song/third.ardour").write_text("")
        with pytest.raises(DataError, match=r"No such file|other\.ardour, third\.ardour"):
            bfx.read_session(tmp_path / name)


@given(st.integers(0, 2**32))
def test_damage_anywhere_in_an_ardour_session_is_a_sentence_or_nothing(small, seed):
    rng = random.Random(seed)
    content = bytearray(small[1].encode())
    at = rng.randrange(len(content))
    if rng.random() < 0.3:
        del content[at : at + rng.choice([1, 10, 1000])]
    for _ in range(rng.choice([1, 3, 30])):
        content[rng.randrange(len(content))] = rng.randrange(256) if rng.random() < 0.5 else rng.choice(b'"<>/=09. ')
    path = small[0].with_name("damaged.ardour")
    path.write_bytes(content)
    try:
        session = bfx.read_session(path)
        for track in session.tracks:
            for device in track.devices:
                if device.state:
                    session.state(device)
            for clip in track.clips:
                session.audio(clip)
    except (DataError, AudioError) as error:
        assert "\n" not in str(error)
    finally:
        path.unlink()


FOREIGN = """<Session version="7002" name="theirs" sample-rate="48000">
<ProgramVersion created-with="Ardour 7.3" modified-with="Ardour 7.3"/>
<Sources><Source name="a.wav" type="audio" id="1" channel="0"/>
<Source name="/home/them/b.wav" type="audio" id="2" channel="0"/></Sources>
<Routes>
<Route id="10" name="Click bus" default-type="audio"><PresentationInfo order="2" flags="MonitorOut"/></Route>
<Route id="11" name="keys"><PresentationInfo order="1" flags="MidiTrack,OrderSet"/></Route>
<Route id="12" name="voice" audio-playlist="5"><PresentationInfo order="3" flags="AudioTrack"/>
<IO direction="Input"><Port type="audio" name="voice/audio_in 1"/></IO>
<IO direction="Output"><Port type="audio" name="o"><Connection other="Master/audio_in 1"/></Port></IO>
<Pannable><Controllable name="pan-azimuth" id="1" value="0.5"/><Automation><AutomationList
automation-id="pan-azimuth" id="2" time-domain="BeatTime" state="Play"><events>b0 1</events></AutomationList>
</Automation></Pannable>
<Processor type="lxvst" name="Old" unique-id="77" id="20"/><Processor type="port" name="insert" id="21"/>
<Processor type="amp" name="Amp" id="22"><Automation><AutomationList automation-id="gain" id="23" state="Play"
interpolation-style="Exponential"><events>a0 1
a282240000 0.5
</events></AutomationList></Automation></Processor>
<Processor type="main-outs" name="voice" id="24"><PannerShell bypassed="0" user-panner=""/></Processor></Route>
<Route id="13" name="Master"><PresentationInfo order="0" flags="MasterOut"/><Pannable/>
<Processor type="main-outs" name="m" id="25"><PannerShell bypassed="0" user-panner="urn:x"/></Processor></Route>
</Routes>
<Playlists><Playlist id="5" name="voice">
<Region name="r" start="a0" length="a282240000@a564480000" channels="1" source-0="1" type="audio" fade-in-active="1"/>
<Region name="far" start="a0" length="a1@a0" channels="1" source-0="2" type="audio"/>
<Region name="beats" start="a0" length="b1@b0" channels="1" source-0="1" type="audio"/>
<Region name="quiet" muted="1" start="a0" length="a1@a0" channels="1" source-0="1" type="audio"/>
</Playlist></Playlists></Session>"""


def test_an_ardour_session_of_others_reads_and_says_what_was_not_understood(tmp_path):
    (tmp_path / "interchange/x/audiofiles").mkdir(parents=True)
    (tmp_path / "interchange/x/audiofiles/a.wav").write_bytes(b"no audio")
    (tmp_path / "theirs.ardour").write_text(FOREIGN)
    session = bfx.read_session(tmp_path)
    master, voice = session.tracks
    assert (session.application, session.tempo, session.title) == ("Ardour 7.3", 120, "theirs")
    assert (master.kind, voice.kind, voice.channels, voice.to) == ("master", "track", 1, master.id)
    assert voice.pan == 0 and voice.gain_db == pytest.approx(0.0102, abs=1e-4)  # Ardour's law is 3 dB down, not 3.01
    assert [time for time, _ in voice.volume_points] == [0, 1]
    assert [(c.start, c.duration, c.offset) for c in voice.clips] == [(2, 1, 0)]
    assert [(d.kind, d.plugin_id) for d in voice.devices] == [("vst2", "77")]
    for words in (
        "MidiTrack 'keys'",
        "'Old'",
        "the port 'insert'",
        "'quiet'",
        "'far'",
        "'beats'",
        "is in beats",
        "fades",
        "joined",
        "panner 'urn:x'",
    ):
        assert any(words in said for said in session.skipped), words
    with pytest.raises(AudioError, match="Cannot read"):
        session.audio(voice.clips[0])
