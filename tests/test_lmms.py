"""Projects of LMMS: what is read, plugins at the settings of authors, consoles that sound as LMMS does, odd files."""

import collections
import re
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import blackbox_fx as bfx
from blackbox_fx.cli.__main__ import app
from blackbox_fx.effects.hosts.ladspa import abi
from blackbox_fx.effects.native import cleared_memory
from blackbox_fx.errors import DataError, EffectError
from tests.cases import RATE, music
from tests.lmms_host import Lmms

DEMOS = sorted(Path("/usr/share/lmms/projects").rglob("*.mmp*"))
UNSTEADY = "vynil"  # a plugin of which two renders differ
LIMITER = ("hard_limiter_1413", "hardLimiter")  # dB limit, wet level, residue level: ports 0 to 2


def attributes(**given):
    return "".join(f' {name}="{value}"' for name, value in given.items())


def ladspa(file, label, ports, wet=1.0, inside="", **given):
    """An effect; ports are attributes by name."""
    said = "".join(f'<{name} data="{value}"/>' for name, value in ports.items())
    return (
        f'<effect name="ladspaeffect"{attributes(**{"on": 1, "wet": wet, "gate": 0, **given})}>{inside}'
        f'<ladspacontrols ports="{len(ports)}">{said}</ladspacontrols><key><attribute name="file" value="{file}"/>'
        f'<attribute name="plugin" value="{label}"/></key></effect>'
    )


def limiter(db, wet=1.0, right=None):
    """A mono plugin that bends what is loud, and so shows where gains stand."""
    sides = ((0, db), (1, db if right is None else right))
    effect = ladspa(*LIMITER, {f"port{s}{p}": v for s, d in sides for p, v in enumerate((d, 1, 0))}, wet)
    return effect if right is None else effect.replace(' data="', ' link="0" data="')


def track(name, effects="", kind="instrument", vol=100, pan=0, fxch=0, muted=0, inside=""):
    number = {"instrument": 0, "sample": 2}[kind]
    return (
        f'<track type="{number}" name="{name}" muted="{muted}" solo="0"><{kind}track vol="{vol}" pan="{pan}" '
        f'fxch="{fxch}">{inside}<fxchain enabled="1" numofeffects="1">{effects}</fxchain></{kind}track></track>'
    )


def channel(num, sends=(), effects="", volume=1.0, muted=0, name=None):
    ways = "".join(f'<send channel="{to}" amount="{amount}"/>' for to, amount in sends)
    return (
        f'<fxchannel num="{num}" name="{name or f"FX {num}"}" volume="{volume}" muted="{muted}"><fxchain enabled="1" '
        f'numofeffects="1">{effects}</fxchain>{ways}</fxchannel>'
    )


def document(tracks, channels=(), head='<head bpm="120" mastervol="100"/>', more="", root="lmms-project"):
    return (
        f'<?xml version="1.0"?>\n<!DOCTYPE {root}>\n<{root} version="1.0" creator="LMMS" creatorversion="1.2.2" '
        f'type="song">{head}<song><trackcontainer type="song">{"".join(tracks)}</trackcontainer><fxmixer>'
        f"{''.join(channels)}</fxmixer>{more}</song></{root}>"
    )


@pytest.fixture
def read(tmp_path):
    def write(*given, **named):
        path = tmp_path / "song.mmp"
        path.write_text(document(*given, **named))
        return bfx.read_lmms(path)

    return write


def packed(content, size=None):
    return struct.pack(">I", len(content) if size is None else size) + zlib.compress(content)


# ---- what is read


def test_a_project_says_its_tracks_channels_and_effects(read):
    moving = '<automationpattern len="192"><time pos="0" value="3"/><object id="7"/></automationpattern>'
    effect = (
        '<effect name="ladspaeffect" on="1"><wet id="3" value="0,25" scale_type="log"/><ladspacontrols ports="3" '
        'link="1"><port00 link="1"><data id="7" value="-6" scale_type="log"/></port00><port01 data="1"/><port02 '
        'data="0"/><port10><data id="9" value="-7"/><connection><data id="0"/></connection></port10></ladspacontrols>'
        '<key><attribute name="file" value="hard_limiter_1413.so"/><attribute name="plugin" value="hardLimiter"/></key>'
        "</effect>"
    )
    found = read(
        [
            track("Lead Vox", effect, vol="80,5", pan=-50, fxch=2),
            '<track type="1" name="Beat"><bbtrack><trackcontainer>'
            + track("Kick")
            + "</trackcontainer></bbtrack></track>",
            '<track type="2" name="Loop"><sampletrack vol="300"/></track>',
            '<track type="5" name="Ride"><automationtrack/></track>' + track("Lost", fxch=9),
        ],
        [channel(0, volume=0.5), channel(2, [(0, 0.75)], '<effect name="eq" on="1"><Eq/><key/></effect>', name="Main")],
        head='<head bpm="98"><mastervol id="1" value="90"/></head>',
        more=moving,
    )
    assert (found.version, found.tempo, found.volume) == ("1.2.2", 98.0, 0.9)
    vox, kick, loop, lost = found.tracks
    assert (vox.name, vox.kind, vox.role, vox.volume, vox.pan) == ("Lead Vox", "instrument", "vocals", 0.805, -0.5)
    assert (vox.channel, kick.role, loop.kind, loop.volume, lost.channel) == (2, "kick", "sample", 2.0, 0)
    (limit,) = vox.effects
    assert (limit.kind, limit.name, limit.wet) == ("ladspa", "hard_limiter_1413:hardLimiter", 0.25)
    assert limit.values == ({0: -7.0, 1: 1.0, 2: 0.0}, {0: -7.0}) and limit.moves == ("port00", "port10")
    master, main = found.channels
    assert (master.number, master.volume, main.number, main.name) == (0, 0.5, 2, "Main")
    assert main.sends == (bfx.LmmsSend(0, 0.75),) and main.effects[0].kind == "eq"
    assert [where for where, _ in found.effects] == ["track 'Lead Vox'", "FX channel 2 'Main'"]
    assert any("FX channel 9, which does not exist" in said for said in found.skipped)
    assert any("automation in the track 'Ride'" in said for said in found.skipped)


def test_what_is_not_said_stands_at_the_defaults_of_lmms(read):
    found = read(['<track type="0" name="x"><instrumenttrack/></track>'], head="")
    assert (found.tracks[0].volume, found.tracks[0].pan, found.tracks[0].channel, found.volume) == (1.0, 0.0, 0, 1.0)
    assert [each.number for each in found.channels] == [0] and not found.skipped


def test_projects_of_old_releases_have_ports_as_attributes_and_no_sends(read):
    ports = 'port00="-3" port01="1" port02="0" port12="0"><port10 id="4" value="-9"/><port11 id="4" value="1"/>'
    effect = ladspa(*LIMITER, {}).replace('ports="0">', ports)
    found = read([track("x", effect, fxch=3)], map(channel, range(65)), root="multimedia-project")
    assert found.tracks[0].effects[0].values == ({0: -9.0, 1: 1.0, 2: 0.0}, {0: -9.0, 1: 1.0, 2: 0.0})
    assert all(each.sends == (bfx.LmmsSend(0),) for each in found.channels[1:])
    assert all(not each.sends for each in read([track("x")], map(channel, range(9))).channels)


def test_sends_in_a_circle_are_left_out_as_lmms_does(read):
    given = [
        channel(0, [(1, 1)]),
        channel(1, [(2, 1)]),
        channel(2, [(3, 1), (2, 1)]),
        channel(3, [(1, 1), (0, 1), (8, 1)]),
    ]
    found = read([track("x", fxch=1)], given)
    assert [[send.to for send in each.sends] for each in found.channels] == [[], [2], [3], [0]]
    assert len([said for said in found.skipped if "leads in a circle" in said]) == 3
    assert any("FX channel 3 to 8, which does not exist" in said for said in found.skipped)
    assert bfx.lmms_console(found).console.track_width == 2


def test_a_compressed_project_is_the_same(read, tmp_path):
    found = read([track("x", limiter(-6))], [channel(0)])
    (tmp_path / "y.mmpz").write_bytes(packed((tmp_path / "song.mmp").read_bytes()))
    again = bfx.read_lmms(tmp_path / "y.mmpz")
    assert (again.tracks, again.channels) == (found.tracks, found.channels)


# ---- plugins at the settings of authors


def loaded(read, *given, **named):
    return bfx.load_author_effect(read([track("x", ladspa(*given, **named))]).tracks[0].effects[0])


def test_control_inputs_alone_are_parameters_whatever_their_place(read):
    found = loaded(
        read, "cmt", "canyon_delay", {"port04": 852.6, "port05": 0.3, "port06": 872.2, "port07": 0.2, "port08": 900}
    )
    assert [*found.settings.values()] == pytest.approx([0.8526, 0.3, 0.8722, 0.2, 900])
    assert [*found.effect.port_values(found.settings, RATE)] == ["4", "5", "6", "7", "8"]
    decoded = found.effect.space.decode(found.params)
    assert found.params.shape == (5,) and decoded == pytest.approx(found.settings)


@pytest.mark.parametrize("rate", [44100.0, 48000.0, 96000.0])
def test_parts_of_the_sample_rate_are_kept_as_hz(read, rate):
    found = loaded(read, "cmt", "hpf", {"port00": 1234.5, "port10": 1234.5})
    assert found.effect.port_values(found.settings, rate) == {"0": pytest.approx(1234.5)}
    assert found.right is None


def test_sides_that_differ_have_settings_of_their_own(read):
    project = read([track("x", limiter(-6, right=-20))])
    found = bfx.load_author_effect(project.tracks[0].effects[0])
    assert (found.settings["db_limit"], found.right["db_limit"]) == (-6.0, -20.0)
    linked = limiter(-6, right=-20).replace('link="0"', 'link="1"')
    assert read([track("x", linked)]).tracks[0].effects[0].values == ({0: -20.0, 1: 1.0, 2: 0.0},) * 2
    assert any("settings of its own on the right" in said for said in bfx.lmms_console(project).lost)


REFUSED = {
    "own": ('<effect name="eq"><Eq/><key/></effect>', "eq is an effect of LMMS itself"),
    "nameless": ("<effect/>", "an effect without a name"),
    "unknown": (ladspa("calf", "Reverb", {"port04": 1}), "calf:Reverb is not installed"),
    "library": (ladspa("caps", "hardLimiter", {"port00": 1}), "caps:hardLimiter is not installed"),
    "version": (
        ladspa(*LIMITER, {"port00": -3, "port03": 1}),
        "has the control inputs 0, 3 in the project and 0, 1, 2",
    ),
    "silent": (ladspa(*LIMITER, {}), "has the control inputs none in the project"),
    "range": (
        limiter(-300),
        "db_limit of hard_limiter_1413:hardLimiter is -300, and the installed plugin takes -50 to 0",
    ),
    "key": ('<effect name="ladspaeffect"/>', "without the name of its library"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_effects_that_cannot_be_used_are_named_with_the_reason(name, read):
    effect, reason = REFUSED[name]
    project = read([track("x", effect)])
    with pytest.raises(EffectError, match=re.escape(reason)):
        bfx.load_author_effect(project.tracks[0].effects[0])
    console = bfx.lmms_console(project)
    assert console.console.track_width == 2 and any(reason in said for said in console.lost)


def directly(path, label, values, audio, rate=RATE):
    """What a LADSPA plugin makes of audio, (channel, time), run by itself; values are by port, for each side."""
    plugin = abi.descriptors(str(path))[label]
    of, out = plugin.contents, []
    ins, outs = (list(abi.ports(plugin, side | abi.AUDIO)) for side in (abi.INPUT, abi.OUTPUT))
    for side, feed in zip(values or [{}, {}], [audio] if len(ins) == 2 else [audio[:1], audio[1:]], strict=True):
        with cleared_memory():  # some read what they did not write
            handle = of.instantiate(plugin, round(rate))
        control = np.zeros(of.port_count, np.float32)
        for port, value in side.items():
            control[port] = value
        for port in range(of.port_count):
            of.connect_port(handle, port, control.ctypes.data + 4 * port)
        source, sink = (np.zeros((len(ports), 512), np.float32) for ports in (ins, outs))
        for ports, buffer in ((ins, source), (outs, sink)):
            for k, port in enumerate(ports):
                of.connect_port(handle, port, buffer[k].ctypes.data)
        if of.activate:
            with cleared_memory():
                of.activate(handle)
        parts = []
        for start in range(0, feed.shape[1], 512):
            source[:] = feed[:, start : start + 512]
            of.run(handle, 512)
            parts.append(sink.copy())
        out.append(np.concatenate(parts, axis=1))
        of.cleanup(handle)
    return np.concatenate(out)


def uses(path):
    """Library, label and raw values for each side of the LADSPA effects in a demo, read by other code."""
    content = path.read_bytes()
    root = ElementTree.fromstring(content if content[:1] == b"<" else zlib.decompress(content[4:]))
    for effect in root.iter("effect"):
        if effect.get("name") != "ladspaeffect":
            continue
        key = {each.get("name"): each.get("value") for each in effect.find("key")}
        controls = effect.find("ladspacontrols")
        sides = collections.defaultdict(dict)
        for name, value in controls.items():
            if name.startswith("port") and name != "ports":
                sides[name[4]][int(name[5:])] = float(value)
        for port in controls:
            value = port.get("data") or port.find("data").get("value")
            sides[port.tag[4]][int(port.tag[5:])] = float(value)
        yield key["file"].removesuffix(".so"), key["plugin"], tuple(sides[side] for side in sorted(sides))


def test_each_plugin_in_the_demos_of_lmms_renders_as_when_it_is_run_with_their_values():
    project = [effect for path in DEMOS for _, effect in bfx.read_lmms(path).effects if effect.kind == "ladspa"]
    given = [use for path in DEMOS for use in uses(path)]
    assert len(project) == len(given) == 282
    audio = music(8192 / RATE, 2, seed=3)
    rendered, labels, worst, seen = 0, set(), 0.0, set()
    for source, (file, label, values) in zip(project, given, strict=True):
        assert (source.file, source.label, source.values) == (file, label, values)
        if label == UNSTEADY or repr((file, label, values)) in seen:
            continue
        seen.add(repr((file, label, values)))
        try:
            found = bfx.load_author_effect(source)
        except EffectError:
            continue
        names = {port: text.lower() for port, text in found.effect.port_names.items()}
        in_ms = {port for port, text in names.items() if "(s)" in text or "(seconds)" in text}
        raw = [{p: v / 1000 if p in in_ms else v for p, v in side.items()} for side in values]
        latency = found.effect.latency
        expected = directly(found.effect.path, label, raw, np.pad(audio, ((0, 0), (0, 1024))))
        expected = expected[:, latency : latency + audio.shape[1]]
        sides = [rendered_by(found.effect, audio, each) for each in (found.settings, found.right or found.settings)]
        worst = max(worst, np.abs(np.stack([sides[0][0], sides[1][1]]) - expected).max())
        rendered, labels = rendered + 1, labels | {label}
    print(f"{rendered} different uses of {len(labels)} plugins, largest difference {worst:.2g}")
    assert rendered > 60 and len(labels) > 25 and worst < 1e-6


def rendered_by(effect, audio, values):
    return effect.render(audio, values, RATE)


# ---- consoles


def sounding(effects):
    """Those that a console can have, with their share."""
    for effect in effects:
        if effect.on and effect.wet > 0:
            try:
                yield bfx.load_author_effect(effect), effect.wet
            except EffectError:
                continue


def through(effects, audio):
    for found, wet in sounding(effects):
        audio = (1 - wet) * audio + wet * rendered_by(found.effect, audio.astype(np.float32), found.settings)
    return audio


def as_lmms(project, tracks):
    """The mix as LMMS makes it: volume and place, effects, FX channels one after another, the master."""
    channels = {each.number: each for each in project.channels}
    comes_in = {number: np.zeros(tracks[0].shape) for number in channels}
    for each, audio in zip(project.tracks, tracks, strict=True):
        if not each.mute:
            gains = np.array([min(1, 1 - each.pan), min(1, 1 + each.pan)])[:, None] * each.volume
            comes_in[each.channel] = comes_in[each.channel] + through(each.effects, gains * audio)
    done = {}

    def out(number):
        if number not in done:
            here, audio = channels[number], comes_in[number]
            for each in project.channels:
                for send in each.sends:
                    if send.to == number:
                        audio = audio + each.volume * send.amount * out(each.number)
            silent = here.mute and number
            done[number] = np.zeros_like(audio) if silent else through(here.effects, audio)
        return done[number]

    return project.volume * channels[0].volume * out(0)


def sounds(project, seconds=0.1):
    return [music(seconds, 2, seed=k) for k in range(len(project.tracks))]


def mixed(made, tracks):
    """The mix of a console that was made of a project."""
    song = torch.zeros(len(tracks), dtype=torch.long)
    given = (made.track_params, made.bus_params)
    with torch.no_grad():
        return made.console(torch.tensor(np.stack(tracks)), song, *given, role=made.role, mute=made.mute)[0].numpy()


def differ(project):
    """How far the console is from LMMS, as a share of the largest sample."""
    tracks = sounds(project)
    expected = as_lmms(project, tracks)
    made = bfx.lmms_console(project, pool=bfx.Inline())
    return np.abs(mixed(made, tracks) - expected).max() / max(np.abs(expected).max(), 1e-3), made


def test_a_console_sounds_as_the_project_does(read):
    project = read(
        [
            track("Kick.1", limiter(-12), vol=160, pan=30, fxch=1),  # alone on its channel
            track("Kick.1", limiter(-9, wet=0.4), vol=70, pan=-100, fxch=2),
            track("Snare", fxch=2, vol=50),
            track("Vox", vol=120, pan=-20, fxch=3),  # spread by a channel without effects
            track("Pad", limiter(-20), fxch=5, vol=90),  # to the returns alone
            track("Off", muted=1),
            track("Gone", fxch=7),
            track("Zero", vol=0),
            track("Straight", vol=30),
            track("Nowhere", fxch=8),
        ],
        [
            channel(0, effects=limiter(-3), volume=0.8),
            channel(1, [(0, 0.5), (4, 0.25)], limiter(-15), volume=1.5),
            channel(2, [(0, 0.75)], limiter(-6), volume=0.9, name="Drums"),
            channel(3, [(0, 1), (4, 0.6)], volume=0.7),
            channel(4, [(0, 0.9)], limiter(-18, wet=0.7), name="Room", volume=1.2),
            channel(5, [(4, 0.5), (6, 0.8)]),
            channel(6, [(0, 1)], limiter(-25), name="Hall"),
            channel(7, [(0, 1)], muted=1),
            channel(8),
        ],
        head='<head bpm="120" mastervol="110"/>',
    )
    far, made = differ(project)
    assert far < 2e-5
    assert list(made.console.groups.names)[:1] == ["Drums"] and "Room" in made.console.sends
    assert made.role[:2] == ("Kick 1", "Kick 1 2") and not made.lost
    assert made.mute.tolist() == [False] * 5 + [True] * 3 + [False, True]
    settings = made.console.decode(made.track_params, made.bus_params, made.role)
    assert settings["tracks"][0]["strip"]["2_hardLimiter"]["db_limit"] == pytest.approx(-12, abs=1e-4)
    assert settings["buses"][0]["bus"]["1_hardLimiter"]["db_limit"] == pytest.approx(-3, abs=1e-4)
    assert made.console.encode(settings, made.role)[0].allclose(made.track_params, atol=1e-6)


def test_ways_between_groups_are_lost_and_named(read):
    project = read(
        [track("a", fxch=1), track("b", fxch=1), track("c", fxch=2), track("d", fxch=2), track("e", fxch=3)],
        [
            channel(0),
            channel(1, [(0, 1), (2, 0.5)], limiter(-6), name="A"),
            channel(2, [(3, 1)], limiter(-9), name="B"),
            channel(3, [(0, 1)], limiter(-12), name="C"),
        ],
    )
    lost = bfx.lmms_console(project).lost
    assert any("The send of FX channel 1 'A' to FX channel 2 'B' is left out" in said for said in lost)
    assert any("The effects of FX channel 3 'C' are left out: it sums others" in said for said in lost)


def test_what_moves_is_off_or_has_a_gate_is_named(read):
    moving = '<automationpattern><time pos="0" value="3"/><object id="7"/></automationpattern>'
    plain = {"port00": -6, "port01": 1, "port02": 0}
    project = read(
        [
            track(
                "a",
                ladspa(*LIMITER, plain, gate=0.2) + ladspa(*LIMITER, plain, on=0),
                inside="<vol id='7' value='50'/>",
            ),
            track("b", ladspa(*LIMITER, plain, wet=-1) + ladspa(*LIMITER, plain, wet=0)),
        ],
        more=moving,
    )
    lost = bfx.lmms_console(project).lost
    wanted = (
        "has a gate at 0.2",
        "The volume of track 'a' moves",
        "sign reversed (wet=-1)",
        "hardLimiter is switched off",
    )
    assert all(any(text in said for said in lost) for text in wanted)


def test_a_project_without_tracks_has_no_console(read):
    with pytest.raises(DataError, match="has no tracks that make sound"):
        bfx.lmms_console(read([]))


def chains():
    return st.sampled_from(["", limiter(-8), limiter(-14, wet=0.5), limiter(-20)])


@st.composite
def projects(draw):
    """Tracks and FX channels with sends to later ones, or to the master."""
    many = draw(st.integers(1, 5))
    gains = st.sampled_from([0.0, 0.3, 0.7, 1.0])
    tracks = [
        track(
            f"t{k}",
            draw(chains()),
            vol=draw(st.sampled_from([0, 40, 100, 150])),
            pan=draw(st.sampled_from([-60, 0, 100])),
            fxch=draw(st.integers(0, many)),
        )
        for k in range(draw(st.integers(1, 4)))
    ]
    channels = [channel(0, (), draw(chains()), draw(gains) or 0.5)]
    for number in range(1, many + 1):
        later = [*range(number + 1, many + 1), 0]
        sends = [(to, draw(gains)) for to in draw(st.lists(st.sampled_from(later), max_size=3, unique=True))]
        channels.append(channel(number, sends, draw(chains()), draw(gains) or 1.3, draw(st.sampled_from([0, 0, 0, 1]))))
    return document(tracks, channels)


@given(text=projects())
@settings(deadline=None, max_examples=60)
def test_any_ways_that_a_console_has_sound_the_same(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("lmms") / "x.mmp"
    path.write_text(text)
    far, made = differ(bfx.read_lmms(path))
    assert far < 2e-5 or any("left out" in said for said in made.lost)


def test_the_demos_of_lmms_become_consoles():
    assert len(DEMOS) == 26
    found = [bfx.read_lmms(path) for path in DEMOS]
    assert sum(len(project.effects) for project in found) == 399
    usable = sum(1 for project in found for _, effect in project.effects for _ in sounding([effect]))
    exact, ways, split, most = 0, 0, 0, 0.0
    for project in found:
        far, made = differ(project)
        lost_ways = any("a Console has no sends" in said or "it sums others" in said for said in made.lost)
        sides = any("on the right" in said for said in made.lost)
        steady = all(effect.label != UNSTEADY for _, effect in project.effects)
        ways += lost_ways
        if steady and not lost_ways:
            exact, most, split = exact + 1, max(most, far), split + sides
    print(
        f"{usable} of 399 effects are in consoles; {exact} of 26 consoles are as LMMS with these, to {most:.1g}, "
        f"{split} of them with the left settings on both sides; {ways} lose ways"
    )
    assert usable > 90 and exact == 24 and ways == 1 and most < 1e-4


def played(name, effects="", sample="", **given):
    """A track that plays a sound file once, as it is."""
    source = (
        f'<instrument name="audiofileprocessor"><audiofileprocessor src="{sample}" sframe="0" eframe="1" lframe="0" '
        'amp="100" looped="0" reversed="0" stutter="0" interp="0"/></instrument><eldata fwet="0"/>'
    )
    note = (
        '<pattern type="1" pos="0" len="192" muted="0"><note pos="0" len="192" key="57" vol="100" pan="0"/></pattern>'
    )
    text = track(name, effects, **given).replace("<fxchain", f"{source}<fxchain", 1)
    text = text.replace("<instrumenttrack", '<instrumenttrack basenote="57" pitch="0" usemasterpitch="0"')
    return text.replace("</instrumenttrack>", f"</instrumenttrack>{note}")


ECHO = ladspa("cmt", "fbdelay_1s", {f"port{s}{p}": v for s in (0, 1) for p, v in ((0, 105.0), (1, 0.5), (4, 0.3))})
PLAYED = {
    "volume and place": ([dict(vol=150, pan=-60), dict(vol=40, pan=100)], [channel(0)]),
    "an effect behind a volume": ([dict(effects=limiter(-20), vol=50)], [channel(0)]),
    "partly wet": ([dict(effects=limiter(-20, wet=0.4))], [channel(0)]),
    "linked sides": ([dict(effects=limiter(-20, right=-30).replace('link="0"', 'link="1"'))], [channel(0)]),
    "milliseconds": ([dict(effects=ECHO)], [channel(0)]),
    "a rate in Hz": ([dict(effects=ladspa("cmt", "hpf", {"port00": 900, "port10": 900}))], [channel(0)]),
    "a channel": ([dict(fxch=1)], [channel(0), channel(1, [(0, 0.5)], limiter(-20), volume=0.7)]),
    "a group": ([dict(fxch=1), dict(fxch=1, vol=60)], [channel(0), channel(1, [(0, 0.8)], limiter(-20))]),
    "returns": (
        [dict(fxch=1), dict(fxch=2)],
        [
            channel(0),
            channel(1, [(0, 0.5), (3, 0.5)], volume=0.7),
            channel(2, [(3, 0.8)]),
            channel(3, [(0, 1)], limiter(-25)),
        ],
    ),
    "mute": (
        [dict(fxch=1), dict(fxch=2), dict(muted=1)],
        [channel(0), channel(1, [(0, 0.5)]), channel(2, [(0, 1)], muted=1)],
    ),
    "master": ([dict()], [channel(0, (), limiter(-20), volume=0.7)]),
    "nowhere": ([dict(), dict(fxch=1)], [channel(0), channel(1)]),
}


@pytest.mark.parametrize("name", PLAYED)
def test_a_console_is_what_is_played_by_lmms(name, tmp_path):
    tracks, channels = PLAYED[name]
    sound = [music(2.0, 2, seed=k) for k in range(len(tracks))]
    for k, audio in enumerate(sound):
        soundfile.write(tmp_path / f"{k}.wav", audio.T, 44100, subtype="FLOAT")
    given = [played(f"t{k}", sample=tmp_path / f"{k}.wav", **each) for k, each in enumerate(tracks)]
    head = '<head bpm="120" mastervol="90" masterpitch="0" timesig_numerator="4" timesig_denominator="4"/>'
    (tmp_path / "x.mmp").write_text(document(given, channels, head))
    made = bfx.lmms_console(bfx.read_lmms(tmp_path / "x.mmp"), pool=bfx.Inline())
    (tmp_path / "home").mkdir()
    heard = Lmms(tmp_path / "home").render(tmp_path / "x.mmp", tmp_path / "out.wav")
    most = slice(0, 80000)  # a note of LMMS fades out at its end
    assert not made.lost and np.abs(heard).max() > 0.02
    assert np.abs(mixed(made, sound)[:, most] - heard[:, most]).max() < 1e-6


# ---- settings of many projects


def test_the_settings_of_authors_are_rows(read, tmp_path):
    read(
        [track("a", limiter(-6)), track("b", limiter(-20, right=-30)), track("c", limiter(-99))],
        [channel(0, (), limiter(-12))],
    )
    (tmp_path / "more").mkdir()
    off = ladspa(*LIMITER, {"port00": -6, "port01": 1, "port02": 0}, on=0)
    (tmp_path / "more" / "y.mmpz").write_bytes(packed(document([track("d", limiter(-1) + off)]).encode()))
    (tmp_path / "more" / "z.mmpz").write_bytes(b"nothing")
    effect = bfx.load("ladspa:hardLimiter")
    found = bfx.author_settings(effect, tmp_path)
    assert found.columns == tuple(effect.space.columns) and found.params.shape == (5, 3)
    limits = [row["db_limit"] for row in effect.space.decode(found.params)]
    assert limits == pytest.approx([-1, -6, -20, -30, -12]) and found.origins[-1].endswith("song.mmp: the master")
    assert sorted(found.skipped.values()) == [1, 1, 1] and any("switched off" in why for why in found.skipped)
    narrow = bfx.author_settings(effect.within(db_limit=(-15, 0)).only("db_limit"), [tmp_path / "song.mmp"])
    assert narrow.params.shape == (2, 1) and sum(narrow.skipped.values()) == 2
    assert bfx.author_settings(bfx.load("ladspa:tap_reverb"), tmp_path).params.shape[0] == 0


def test_the_settings_of_authors_need_a_plugin_and_projects(tmp_path):
    with pytest.raises(EffectError, match="is no LADSPA plugin"):
        bfx.author_settings(bfx.load("pedalboard:Gain"), tmp_path)
    with pytest.raises(DataError, match="holds no LMMS project"):
        bfx.author_settings(bfx.load("ladspa:hardLimiter"), tmp_path)


def test_the_demos_of_lmms_have_settings_of_an_echo():
    effect = bfx.load("ladspa:tap_stereo_echo")
    found = bfx.author_settings(effect, DEMOS[0].parents[1])
    assert found.params.shape == (18, effect.space.width) and len(found.origins) == 18
    assert found.skipped == {"it is switched off.": 1}
    assert ((found.params >= 0) & (found.params <= 1)).all() and found.params.std(axis=0).max() > 0.1


# ---- files that are not trusted

PLAIN = document([track("x", limiter(-6), fxch=1)], [channel(0), channel(1, [(0, 1)])]).encode()
BOMB = b'<!DOCTYPE lmms-project [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><lmms-project>&b;</lmms-project>'
DAMAGED = {
    "empty": (b"", "it has 0 bytes"),
    "no zlib": (b"\0\0\1\0nothing at all", "neither XML nor zlib"),
    "cut": (packed(PLAIN)[:-30], "it says that it holds"),
    "flipped": (packed(PLAIN)[:40] + b"\xff\xff" + packed(PLAIN)[42:], "zlib|it holds|damaged"),
    "larger than said": (packed(PLAIN, 10), "it says that it holds 10 bytes, and it holds more"),
    "smaller than said": (packed(PLAIN, 10**6), "it says that it holds 1000000 bytes, and it holds"),
    "huge": (packed(PLAIN, 2**32 - 1), "it says that it holds 4294967295 bytes, and 67108864 are allowed"),
    "cut XML": (PLAIN[:-20], "its XML is damaged"),
    "other": (b"<html/>", "its XML is a 'html' in place of a lmms-project"),
    "entities": (BOMB, "its XML defines entities"),
    "wide entities": (BOMB.decode().encode("utf-16"), "its XML defines entities|neither XML nor zlib|it says"),
    "deep": (
        b"<lmms-project>" + b"<a>" * 200 + b"</a>" * 200 + b"</lmms-project>",
        "more elements than any session needs",
    ),
    "number": (PLAIN.replace(b' vol="100"', b' vol="loud"'), "vol of <instrumenttrack> is 'loud' and no number"),
    "endless": (PLAIN.replace(b' vol="100"', b' vol="inf"'), "is 'inf' and no number"),
    "twice": (PLAIN.replace(b'num="1"', b'num="0"'), "two of its FX channels have the number 0"),
    "many": (document([], [channel(k) for k in range(600)]).encode(), "it has 600 FX channels, and 512 are allowed"),
    "sends": (document([], [channel(0), channel(1, [(0, 1)] * 5000)]).encode(), "it has 5000 sends, and 4096"),
    "negative": (PLAIN.replace(b'num="1"', b'num="-1"'), "no whole number from 0"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_one_sentence(name, tmp_path):
    content, reason = DAMAGED[name]
    path = tmp_path / "x.mmpz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        bfx.read_lmms(path)
    assert "save it again in LMMS" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        bfx.read_lmms(tmp_path / "none.mmp")
    with pytest.raises(DataError, match="give the path of a project"):
        bfx.read_lmms(tmp_path)
    with pytest.raises(DataError, match="is an LMMS project; read it with read_lmms"):
        bfx.read_session(tmp_path / "x.mmpz")


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_damage_is_a_project_or_one_sentence(data, tmp_path_factory):
    content = bytearray(data.draw(st.sampled_from([PLAIN, packed(PLAIN), PLAIN * 2])))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    path = tmp_path_factory.mktemp("lmms") / "x.mmpz"
    path.write_bytes(bytes(content))
    try:
        project = bfx.read_lmms(path)
    except DataError as error:
        assert "\n" not in str(error)
        return
    if project.tracks:
        bfx.lmms_console(project)


# ---- the command


def test_the_command_shows_a_project(read, tmp_path):
    delay = ladspa("cmt", "delay_1s", {"port00": 235, "port01": 0.5, "port10": 235, "port11": 0.5}, wet=0.5)
    nameless = '<effect name="ladspaeffect"><ladspacontrols/><key/></effect>'
    read(
        [track("Lead [Vox]", delay + nameless + '<effect name="eq"/>', fxch=1), track("Off", muted=1)],
        [channel(0), channel(1, [(0, 0.5)], muted=1)],
    )
    shown = CliRunner().invoke(app, ["lmms", str(tmp_path / "song.mmp")], catch_exceptions=False)
    assert shown.exit_code == 0 and "Lead [Vox]" in shown.output and "vocals" in shown.output
    assert "track 'Lead [Vox]': cmt:delay_1s wet 0.5 (delay_s=0.235, dry_wet_balance=0.5)" in shown.output
    assert "Off (muted)" in shown.output and "FX 1 FX 1 (muted)" in shown.output
    assert "without the name of its library" in shown.output
    assert "An effect of track 'Lead [Vox]' is left out: eq is an effect of LMMS itself" in shown.output
