"""Plugins in dawdreamer that behave oddly: latency, time, order, units, channels, side chains, tempo."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from blackbox_fx.effects import load
from blackbox_fx.effects.hosts.dawdreamer import bundles
from blackbox_fx.effects.hosts.dawdreamer.layout import Layout
from blackbox_fx.errors import AudioError, EffectError, ParameterError
from blackbox_fx.space import Continuous
from tests import odd_plugins
from tests.cases import RATE, music

ONE = np.ones((2, 2048), np.float32) / 8
TURTLE = """
@prefix : <http://lv2plug.in/ns/lv2core#> . @prefix u: <http://lv2plug.in/ns/extensions/units#> .
@prefix pp: <http://lv2plug.in/ns/ext/port-props#> . @prefix x: <urn:x#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . @prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .
@prefix pg: <http://lv2plug.in/ns/ext/port-groups#> .
# a comment: it's "odd" ] .
x:y a :Plugin ; :minorVersion 2 ; rdfs:comment "a ] . \\" b", 'c' , \"\"\"d "e" .\"\"\" ;
  :port [ a :InputPort, :ControlPort ; :index 2 ; :symbol "f" ; :name "Fréq"@fr ; :minimum 1e-3 ; :maximum +0.45 ;
    :default .1 ; :portProperty :sampleRate, pp:logarithmic ; u:unit u:hz ] , [
    a :InputPort , :ControlPort ; :index "1"^^<urn:int> ; :name "Mode" ; :default 1 ; :minimum 0 ; :maximum 2. ;
    :portProperty :enumeration ; :scalePoint [ rdfs:label "b" ; rdf:value 2 ] , [ rdfs:label "a" ; rdf:value 0 ] ;
    x:list ( 1 [ x:z 2 ] ) ; u:unit [ u:symbol "st" ; u:render "%f st" ] ] ;
  :port [ a :InputPort, :AudioPort ; :index 0 ; :name "In" ] ,
    [ a :AudioPort, :InputPort ; :index 3 ; :name "Key" ; pg:group x:g ; :portProperty :connectionOptional ] ,
    [ a :OutputPort, :ControlPort ; :index 4 ; :name "late" ; :designation :latency ] .
x:g pg:sideChainOf x:main .
"""


def odd(kind, host, monkeypatch, *channels, **options):
    monkeypatch.setenv("LV2_PATH", str(odd_plugins.lv2_path()))
    return load(odd_plugins.build(kind, host, *channels), **options)


def test_a_latency_that_moves_is_refused_beside_a_tempo_odd_plugin(monkeypatch):
    words = r"changes its latency with its settings \(0, .*882 samples\), .* leave out tempo=, or give latency_samples="
    with pytest.raises(EffectError, match=words):
        odd("latency-by-setting", "vst3", monkeypatch, tempo=100)
    effect, audio = odd("latency-by-setting", "vst3", monkeypatch, tempo=100, latency_samples=441), music(0.2)
    assert np.abs(effect.render(audio, {effect.space.free[-1]: 10}) - audio).max() < 1e-6


@pytest.mark.parametrize(("host", "reset"), [("vst2", None), ("vst2", "reload"), ("lv2", None)])
def test_each_setting_has_its_own_latency_odd_plugin(host, reset, monkeypatch):
    effect = odd("late-latency", host, monkeypatch, reset=reset)
    audio = music(0.2)
    for lookahead in (0, 20, 3):
        assert np.abs(effect.render(audio, {effect.space.free[-1]: lookahead}) - audio).max() < 1e-6


@pytest.mark.parametrize("host", ["vst2", "lv2", "vst3"])
def test_what_a_plugin_keeps_shows_where_no_switch_mutes_it_odd_plugin(host, monkeypatch):
    effect = odd("switches", host, monkeypatch)
    first = effect.render(ONE)
    effect.render(-ONE)
    assert effect.reset != "none" and first.any() and np.array_equal(effect.render(ONE), first)


def test_a_plugin_that_is_not_ready_is_waited_for_odd_plugin(monkeypatch):
    effect = odd("warm-up", "vst2", monkeypatch)
    assert effect.settle >= 0.3 and effect.reset == "none"
    for one in (effect, pickle.loads(pickle.dumps(effect))):
        assert np.array_equal(one.render(ONE), ONE / 4)


def test_settings_that_are_answered_late_are_waited_for_odd_plugin(monkeypatch):
    effect = odd("slow-setting", "lv2", monkeypatch)
    assert effect.pause >= 0.15
    for gain in (6, -12, 6):
        assert np.abs(effect.render(ONE, {"gain": gain}) / ONE - 10 ** (gain / 20)).max() < 1e-5


@pytest.mark.parametrize("host", ["vst2", "lv2"])
def test_an_option_that_takes_time_is_waited_for_odd_plugin(host, monkeypatch):
    effect = odd("model", host, monkeypatch)
    for gain, model in ((6, 12), (0, 12), (0, 0), (0, 12), (-6, 2), (6, 12)):
        wet = effect.render(ONE, dict(zip(effect.space.parameters, (gain, model), strict=True)))
        assert np.abs(wet / ONE * (1 + model) - 10 ** (gain / 20)).max() < 1e-5


def gain_of(kind, first, second):
    return {"bank": 1 + first + 10 * second}.get(kind, 10 ** (first / 20))


# the parameter that overwrites the other, and values of both
OVERWRITTEN = {
    "mode": ("style", [(6, 0), (6, 3), (6, 0), (-3, 3), (6, 2)]),
    "bank": ("bank", [(2, 0), (2, 1), (3, 2), (3, 0), (0, 2), (2, 1)]),
    "macro": ("macro", [(6, 0), (6, 0.5), (6, 1), (-3, 0.2), (6, 0.5)]),
}


@pytest.mark.parametrize(("host", "tempo"), [("vst2", None), ("lv2", None), ("vst3", 120)])
@pytest.mark.parametrize("kind", OVERWRITTEN)
def test_a_parameter_that_overwrites_another_odd_plugin(kind, host, tempo, monkeypatch):
    effect = odd(kind, host, monkeypatch, tempo=tempo)
    mover, rows = OVERWRITTEN[kind]
    for row in rows:
        wet = effect.render(ONE, dict(zip(effect.space.parameters, row, strict=True)))
        assert wet[0, -1] * 8 == pytest.approx(gain_of(kind, *row), rel=1e-3)
    assert effect.first == [mover] and effect.settle == effect.pause == 0


@pytest.mark.parametrize(("kind", "host"), [("trigger", "lv2"), ("meter", "vst2")])
def test_what_is_no_parameter_odd_plugin(kind, host, monkeypatch):
    effect = odd(kind, host, monkeypatch)
    assert (
        effect.excluded
        == {
            "trigger": {"tap": "is a trigger, which acts once when it is pressed"},
            "meter": {"level": "moves by itself, as a meter"},
        }[kind]
    )
    assert len(effect.space.free) == 1


def changed_bundle(folder, monkeypatch, name, old, new):
    """A bundle that was built, with other Turtle, on the path."""
    shutil.copytree(odd_plugins.lv2_path() / f"{name}.lv2", folder / "lv2/other.lv2")
    path = folder / f"lv2/other.lv2/{name}.ttl"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    monkeypatch.setenv("LV2_PATH", str(folder / "lv2"))


def test_parts_of_the_sample_rate_are_hz_odd_plugin(monkeypatch, tmp_path):
    address = odd_plugins.build("plain", "lv2")
    old = "lv2:minimum -24 ;\n        lv2:maximum 24 ;"
    new = "lv2:portProperty lv2:sampleRate ; lv2:minimum 0 ; lv2:maximum 0.0005 ;"
    changed_bundle(tmp_path, monkeypatch, "Plain22", old, new)
    effect = load(address)
    assert effect.space.parameters == {"gain_hz": Continuous(0, 22.05, 0, "Hz")}
    for rate, value in ((RATE, 20), (22_050, 10), (22_050, 20), (96_000, 20)):
        db = 20 * np.log10(effect.render(ONE, {"gain_hz": value}, rate)[0, -1] * 8)
        assert abs(db - min(value, rate * 0.0005)) < 1e-3


def test_a_side_chain_that_may_be_left_unconnected_odd_plugin(monkeypatch, tmp_path):
    address = odd_plugins.build("side", "lv2", 4, 2, "sidechain.cpp")
    changed_bundle(tmp_path, monkeypatch, "Side42", "lv2:isSideChain", "lv2:isSideChain, lv2:connectionOptional")
    effect = load(address)
    assert effect.inputs == ("sidechain",)
    ducked = effect.render(ONE, {"depth": 1}, inputs={"sidechain": np.full_like(ONE, 0.1)})
    assert np.abs(ducked * 5 - ONE).max() < 1e-6 and np.array_equal(effect.render(ONE, {"depth": 1}), ONE)


def test_turtle_is_read(tmp_path):
    (tmp_path / "manifest.ttl").write_text(TURTLE)
    audio, mode, frequency, key, late = bundles.ports("urn:x#y", tmp_path)
    assert frequency.ends == (0.1, 0.001, 0.45) and frequency.unit == "Hz" and frequency.name == "Fréq"
    assert frequency.properties == {"lv2:sampleRate", "pprops:logarithmic"}
    assert mode.points == {"a": 0, "b": 2} and mode.unit == "st" and mode.ends == (1, 0, 2)
    assert key.side and key.is_a("Input", "Audio") and audio.is_a("Audio") and not audio.side
    assert late.tells_latency and not mode.tells_latency
    assert bundles.uris(TURTLE) == ["urn:x#y"]


def test_turtle_is_changed_for_the_host(tmp_path):
    (tmp_path / "manifest.ttl").write_text(TURTLE)
    changed = bundles.changed("urn:x#y", tmp_path, 1000)
    (tmp_path / "manifest.ttl").write_text(changed["manifest.ttl"])
    frequency, key = (bundles.ports("urn:x#y", tmp_path)[k] for k in (2, 3))
    assert frequency.ends == (0.1, 1, 450) and "lv2:connectionOptional" not in key.properties
    assert changed["manifest.ttl"].count("30000") == 2


@pytest.mark.parametrize("text", ["", "x", '"', "[ [ (", "] . ) .", "<a> a", "a " * 99 + ".", "[ <c> " * 99])
def test_odd_turtle_is_no_error(text, tmp_path):
    (tmp_path / "manifest.ttl").write_text(text)
    assert bundles.uris(text) == [] == bundles.ports("a", tmp_path)


@pytest.mark.parametrize("host", ["vst2", "lv2"])
@pytest.mark.parametrize("channels", [(1, 2), (2, 1)])
def test_unequal_channels_odd_plugin(host, channels, monkeypatch):
    effect = odd("channels", host, monkeypatch, *channels)
    left = ONE * np.float32([[1], [0]])
    stereo, mono = effect.render(left)[:, -1] * 8, effect.render(ONE[:1])[:, -1] * 8
    # the outputs of one input are it, and minus half of it; two inputs are added
    assert stereo.tolist() == ([0.5, -0.25] if channels == (1, 2) else [1, 1])
    assert mono.tolist() == ([1] if channels == (1, 2) else [2])


def test_layouts():
    audio = np.float32([[1, 2], [3, 4]])
    fed = Layout(5, 2, (3, 1), (0,)).feed(audio, audio)
    assert fed.tolist() == [[2, 3], [3, 4], [0, 0], [1, 2], [0, 0]]
    assert Layout.of(4, 2, (2, 3)).feed(audio[:1], audio[1:]).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
    assert Layout.of(2, 1).channels == Layout.of(1, 2).channels == 2 and Layout.of(2, 1, (1,)).channels == 1


@pytest.mark.parametrize("host", ["vst2", "lv2"])
def test_side_chain_odd_plugin(host, monkeypatch):
    monkeypatch.setenv("LV2_PATH", str(odd_plugins.lv2_path()))
    effect = load(odd_plugins.build("side", host, 4, 2, "sidechain.cpp"))
    assert effect.inputs == ("sidechain",) and effect.layout.inputs == 4
    key = np.full_like(ONE, 0.1)
    assert np.array_equal(effect.render(ONE, {"depth": 1}), ONE)
    both = [effect.render(ONE, {"depth": 1}, inputs={"sidechain": k}) for k in (key, key[:1])]
    assert np.array_equal(*both) and np.abs(both[0] * 5 - ONE).max() < 1e-6  # 1 / (1 + 20 * 0.2)
    one = effect.render(ONE, {"depth": 1}, inputs={"sidechain": key * np.float32([[1], [0]])})
    assert np.abs(one * 3 - ONE).max() < 1e-6
    with pytest.raises(AudioError, match="equally long"):
        effect.render(ONE, inputs={"sidechain": key[:, 1:]})
    with pytest.raises(AudioError, match="has 3 channels, and must have one or two"):
        effect.render(ONE, inputs={"sidechain": np.tile(key[:1], (3, 1))})


@pytest.mark.parametrize("address", ["vst2:ZamComp", "vst2:ZamCompX2", "lv2:urn:zamaudio:ZamCompX2"])
def test_side_chains_of_compressors(address):
    effect = load(address, reset="graph")
    name = next(n for n in effect.space.free if n.startswith("sidechain"))
    threshold, ratio = (next(n for n in effect.space.free if n.startswith(w)) for w in ("threshold", "ratio"))
    values = {name: True, threshold: -40, ratio: 20}
    quiet, audio = 0.001 * music(0.4), music(0.4)
    ducked = effect.render(quiet, values, inputs={"sidechain": audio})
    alone = effect.render(quiet, values)
    assert 0 < np.square(ducked[:, 4000:]).sum() < 0.25 * np.square(alone[:, 4000:]).sum()


def test_side_chains_of_faust():
    effect = load("faust:x", code="process(x, y, k) = x * (1 - k), y * (1 - k);")
    assert effect.inputs == ("sidechain",)
    key = np.stack([0 * ONE[0] + 1, 0 * ONE[0]])
    assert np.array_equal(effect.render(ONE), ONE)
    assert np.array_equal(effect.render(ONE, inputs={"sidechain": key}), ONE / 2)
    mono = load("faust:x", code="process(x, l, r) = x * l - r;")
    assert np.array_equal(mono.render(ONE, inputs={"sidechain": key}), ONE)
    two = load("faust:x", code="process = _ <: _, *(0.5);")
    assert np.array_equal(two.render(ONE)[:, 0], [0.125, 0.0625]) and two.inputs == ()
    with pytest.raises(ParameterError, match="no input 'sidechain'"):
        two.render(ONE, inputs={"sidechain": ONE})


@pytest.mark.parametrize("host", ["vst2", "vst3", "lv2"])
def test_tempo_odd_plugin(host, monkeypatch):
    """The plugin dips in the middle of each beat, from the first."""
    long = np.ones((2, 44_100), np.float32)
    effect = odd("tempo", host, monkeypatch, tempo=240)
    wet = effect.render(long)
    beat = 60 / 240 * 44_100
    dips = 0.5 + 0.5 * np.cos(2 * np.pi * np.arange(44_100) / beat)
    assert np.abs(wet - dips).max() < 1e-3 and np.array_equal(effect.render(long), wet)
    assert effect.address is None and effect.tempo == 240


def test_a_vst3_odd_plugin_with_a_tempo_is_refused_in_other_threads(monkeypatch):
    """Where it would wait for the main thread, for ever."""
    effect = odd("plain", "vst3", monkeypatch, tempo=120)
    effect.render(ONE, {}, RATE)
    with ThreadPoolExecutor(1) as executor, pytest.raises(EffectError, match="on the main thread only"):
        executor.submit(effect.render, ONE, {}, RATE).result(timeout=30)
