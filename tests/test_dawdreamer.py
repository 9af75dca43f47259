"""VST2, LV2 and Faust: what arrives, what is left of earlier renders, and what is refused."""

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from blackbox_fx import BlackBox, FiniteDifference, Processes, isolation
from blackbox_fx.effects import Rack, load
from blackbox_fx.effects.hosts.dawdreamer import engine
from blackbox_fx.effects.texts import count_steps, parameter_from_texts
from blackbox_fx.errors import EffectError, MissingHost, ParameterError
from blackbox_fx.space import Choice, Continuous, Integer, Toggle
from tests.cases import RATE, music

LOUD = music(0.4)
GAIN = 'process = par(i, 2, *(hslider("gain", 1, -2, 2, 0.01)));'
MDA = "lv2:http://drobilla.net/plugins/mda/"
# each with the cheapest reset that was measured to be pure, and a plugin that needs it
RESETS = {
    "vst2:ZamCompX2": "none",
    "vst2:3BandEQ": "none",
    "vst2:MVerb": "reload",
    "vst2:MaGigaverb": "reload",
    "vst2:SoulForce": "reload",
    "lv2:urn:dragonfly:plate": "graph",
    MDA + "Combo": "graph",
    MDA + "Leslie": "graph",
    MDA + "Overdrive": "none",
    "faust:tables": "reload",
    "faust:echo": "none",
}
CODE = {
    "faust:tables": 'import("stdfaust.lib"); t = int(ba.time); process(x) = x + rwtable(30000, 0.0, t, x, t + 1);',
    "faust:echo": "process = + ~ (@(2000) : *(0.9));",
}


def program(code, **options):
    return load("faust:test", code=code, **options)


@pytest.mark.parametrize("address", RESETS)
def test_purity(address):
    """Used equals fresh and A after B is A, loud is not heard in silence, with the reset that is expected."""
    options = {"code": CODE[address]} if address in CODE else {}
    effect = load(address, **options)
    assert effect.reset == RESETS[address]
    a, b = (effect.space.decode(row) for row in effect.space.sample(2, 7))
    first = effect.render(LOUD, a, RATE)
    effect.render(LOUD, b, 48_000)
    effect.render(LOUD, b, RATE)
    fresh = pickle.loads(pickle.dumps(effect))
    silence = effect.render(0 * LOUD, a, RATE)
    assert np.array_equal(silence, fresh.render(0 * LOUD, a, RATE))
    assert np.array_equal(effect.render(LOUD, a, RATE), first)
    assert fresh.fingerprint == effect.fingerprint


@pytest.mark.parametrize("address", ["vst2:MVerb", "lv2:urn:dragonfly:plate", "lv2:urn:dragonfly:early"])
def test_a_reset_of_none_leaks_where_another_is_chosen(address):
    effect = load(address, reset="none")
    quiet = effect.render(0 * LOUD)
    effect.render(LOUD)
    assert not np.array_equal(effect.render(0 * LOUD), quiet)
    pure = load(address)
    quiet = pure.render(0 * LOUD)
    pure.render(LOUD)
    assert np.array_equal(pure.render(0 * LOUD), quiet)


def test_faust_multiplies_as_numpy_does():
    effect = program(GAIN)
    for gain in (1.0, -1.7, 0.123456):
        assert np.array_equal(effect.render(LOUD, {"gain": gain}), np.float32(gain) * LOUD)


@pytest.mark.parametrize("hop", [512, 1024, 1000, 77])
def test_faust_changes_at_the_sample(hop):
    effect = program(GAIN)
    count = -(-LOUD.shape[1] // hop)
    gains = np.random.default_rng(0).uniform(-2, 2, count).astype(np.float32)
    wet = effect.render(LOUD, [{"gain": float(g)} for g in gains], RATE, hop)
    assert np.array_equal(wet, LOUD * np.repeat(gains, hop)[: LOUD.shape[1]])
    assert np.array_equal(effect.render(LOUD), LOUD)


def test_faust_gradients_are_exact():
    layer = BlackBox(program(GAIN), FiniteDifference(), sample_rate=RATE)
    params = torch.full((2, 1), 0.6, requires_grad=True)
    audio = torch.tensor(np.stack([LOUD, LOUD[::-1]]))
    layer(audio, params).square().sum().backward()
    gain = -2 + 4 * 0.6
    exact = 2 * gain * 4 * audio.double().square().sum(dim=(1, 2))
    assert torch.allclose(params.grad[:, 0].double(), exact, rtol=1e-4)


def test_faust_declares_its_parameters(tmp_path):
    (tmp_path / "mine.lib").write_text('level = hslider("level [unit:dB]", -6, -60, 12, 0.1);')
    (tmp_path / "all.dsp").write_text(
        """
        import("mine.lib");  // hslider("not me", 0, 0, 1, 1)
        f = hslider("v:[2]shape/freq [unit:Hz][scale:log]", 1000, 20, 20000, 1);
        zero = hslider("from zero [scale:log]", 1, 0, 10, 0);
        few = vslider("few [tooltip: a (b); c]", 0.5, 0, 1, 0.25);
        order = hslider("order", 2, 1, 4, 1);
        many = nentry("many", 100, 1, 500, 1);
        mode = nentry("mode [style:menu{'low':0;'high':2;'m d':1}]", 2, 0, 2, 1);
        same = hslider("h:one/same", 1, 0, 3, 0) + hslider("h:two/same", 2, 0, 3, 0);
        twice = hslider("é", 1, 0, 3, 0);
        meter = hbargraph("meter", 0, 1);
        total = level + f + zero + few + order + many + mode + same + twice + checkbox("on") + button("hit");
        process = _ * total <: attach(_, abs : meter);
        """
    )
    effect = load(f"faust:{tmp_path}/all.dsp")
    assert effect.space.parameters == {
        "level_db": Continuous(-60, 12, -6, "dB"),
        "freq_hz": Continuous(20, 20_000, 1000, "Hz", log=True),
        "from_zero": Continuous(0, 10, 1),
        "few": Continuous(0, 1, 0.5, step=0.25),
        "order": Integer(1, 4, 2),
        "many": Integer(1, 500, 100),
        "mode": Choice(("low", "high", "m d"), "high"),
        "one_same": Continuous(0, 3, 1),
        "two_same": Continuous(0, 3, 2),
        "é": Continuous(0, 3, 1),
        "on": Toggle(False),
        "hit": Toggle(False),
    }
    values = {"freq_hz": 2000, "mode": "m d", "on": True, "two_same": 0.5, "order": 3, "level_db": -3}
    factor = -3 + 2000 + 1 + 0.5 + 3 + 100 + 1 + 1 + 0.5 + 1 + 1 + 0
    assert np.abs(effect.render(LOUD, values) / factor - LOUD).max() < 1e-6


def test_what_faust_declares_arrives_parameter_by_parameter():
    code = 'process = _ * (hslider("b", 1, 0, 2, 0) + 10 * hslider("a", 1, 0, 2, 0) + 100 * checkbox("c"));'
    effect = program(code)
    one = np.ones((1, 600), np.float32)
    for values, expected in (({"a": 2}, 21), ({"b": 0}, 10), ({"c": True}, 111), ({}, 11)):
        assert np.array_equal(effect.render(one, values), expected * one)


def test_plugins_read_ranges_and_units():
    space = load("vst2:ZamCompX2", reset="none").space.parameters
    assert space["threshold_db"] == Continuous(-80, 0, 0, "dB") and space["sidechain"] == Toggle(False)
    tube = load("vst2:ZamTube", reset="none").space.parameters["tone_stack_mode"]
    assert isinstance(tube, Choice) and tube.columns == 25
    plate = load("lv2:urn:dragonfly:plate", reset="none").space.parameters
    assert plate["algorithm"] == Choice(("Simple", "Nested", "Tank"), "Nested")
    assert plate["decay"] == Continuous(0.1, 10, 0.4, "s")
    assert plate["high_cut"] == Continuous(1000, 16_000, 16_000, "Hz")


def test_steps_are_counted_by_texts():
    def stepped(position):
        return ("a", "b", "c", "c")[min(int(position * 3 + 0.5), 3)]

    assert count_steps(lambda p: str(round(p * 7))) == 8
    assert count_steps(lambda p: f"{p:.3f}") == 0 and count_steps(lambda p: "same") == 0 and count_steps(stepped) == 0
    low = parameter_from_texts(lambda p: f"{0.000244141 + p * 0.999755859:.9f}", 0, 0.0, "")
    assert isinstance(low, Continuous) and low.default == low.low
    hz = parameter_from_texts(lambda p: "0 Hz" if not p else f"{20 * p:.2f} kHz", 0, 0.5, "Hz")
    assert hz == Continuous(0, 20_000, 10_000, "Hz")
    assert parameter_from_texts(lambda p: f"{round(20_000 * p):,}", 0, 0.5, "Hz") == hz
    assert parameter_from_texts(lambda p: f"{20 * p:.2f} kHz", 0, 0.5, "kHz") == Continuous(0, 20, 10, "kHz")
    assert parameter_from_texts(lambda p: str(round(p * 7) - 2), 8, 0.0, "st") == Integer(-2, 5, -2, "st")


@pytest.mark.parametrize("address", ["vst2:3BandEQ", "lv2:urn:dragonfly:plate"])
def test_plugin_gain_arrives_at_the_first_sample(address):
    vst2 = address.startswith("vst2")
    values = {"master_db": -12.0} if vst2 else {"dry_level": 50.0, "wet_level": 0.0}
    expected = (0.25 if vst2 else 0.5) * LOUD  # exp(-12 / 8.656), as that equaliser has it
    assert np.abs(load(address, reset="graph").render(LOUD, values) - expected).max() < 2e-6


@pytest.mark.parametrize("length", [1, 511, 512, 513, 17_640])
@pytest.mark.parametrize("address", ["vst2:ZaMaximX2"])
def test_latency_is_compensated(address, length):
    audio = 0.1 * LOUD[:, :length]
    assert np.abs(load(address, reset="none").render(audio) - audio).max() < 1e-6


@pytest.mark.parametrize("address", ["vst2:ZamEQ2"])
def test_channels(address):
    mono = load(address)
    assert mono.channels == 1
    values = {n: v for n, v in mono.space.decode(mono.space.sample(1, 0)[0]).items()}
    assert np.array_equal(mono.render(LOUD, values)[1:], mono.render(LOUD[1:], values))
    stereo, many = program(GAIN), program("process = *(2), *(3), *(5), _;")
    assert np.array_equal(stereo.render(LOUD[:1], {"gain": 2}), 2 * LOUD[:1])
    assert np.array_equal(many.render(LOUD), LOUD * np.float32([[2], [3]]))
    with pytest.raises(EffectError, match="got audio with 3"):
        stereo.render(np.tile(LOUD[:1], (3, 1)))


@pytest.mark.parametrize("address", ["vst2:MVerb"])
def test_threads_render_what_was_loaded_and_load_nothing(address):
    effect = program(GAIN)
    with ThreadPoolExecutor(2) as executor:
        for wet in executor.map(lambda k: effect.render(LOUD, {"gain": 0.5}), range(4)):
            assert np.array_equal(wet, np.float32(0.5) * LOUD)
        for other, rate in ((effect, 22_050), (load(address), RATE)):
            with pytest.raises(EffectError, match=r"main thread only.*Processes"):
                executor.submit(other.render, LOUD, {}, rate).result()


@pytest.mark.parametrize("address", ["vst2:MVerb", "lv2:urn:dragonfly:plate"])
def test_an_effect_may_be_dropped_in_a_thread(address):
    held = [load(address, reset="none")]
    held[0].open()
    thread = threading.Thread(target=held.clear, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    before = len(engine.HELD)
    load(address, reset="none").open()
    assert len(engine.HELD) <= before  # one is new, and one or more are freed


@pytest.mark.parametrize("address", ["vst2:MVerb"])
def test_what_an_exception_still_names_is_not_freed_in_a_thread(address):
    effect = load(address, reset="none")
    processor = effect.loaded(RATE).processor
    frames = [processor]  # as the frames of an exception do
    del effect, processor
    load(address, reset="none").open()
    kept = len(engine.HELD)
    thread = threading.Thread(target=frames.clear, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    load(address, reset="none").open()
    assert len(engine.HELD) <= kept


@pytest.mark.parametrize("address", ["vst2:MVerb"])
def test_processes_render_what_this_one_does(address):
    effect = load(address).only("mix", "size")
    audio = torch.tensor(LOUD)[None]
    params = torch.full((1, 2), 0.3)
    here = BlackBox(effect, FiniteDifference(), sample_rate=RATE)(audio, params)
    with Processes(1, deadline=60) as pool:
        there = BlackBox(effect, FiniteDifference(), pool=pool, sample_rate=RATE)(audio, params)
    assert torch.equal(here, there)


def test_fingerprints_tell_effects_apart():
    marks = [program(GAIN), program(GAIN + "\n"), program(GAIN, sample_rate=48_000), load("vst2:3BandEQ", reset="none")]
    marks += [load(MDA + name, reset="none") for name in ("Limiter", "Combo")]
    assert len({effect.fingerprint for effect in marks}) == len(marks)
    assert program(GAIN).fingerprint == marks[0].fingerprint
    assert all(len(load(a, reset="none").version()) > 10_000 for a in ("lv2:urn:dragonfly:plate", MDA + "Combo"))


def test_a_rack_names_them_shortly():
    rack = Rack([load("vst2:3BandEQ", reset="none"), load(MDA + "Overdrive", reset="none"), program(GAIN)])
    assert {name.split(".")[0] for name in rack.space.free} == {"3_band_eq", "overdrive", "test"}


def test_nothing_is_imported_before_it_is_used():
    code = "import sys; from blackbox_fx.effects.hosts.dawdreamer import faust, lv2, vst2;"
    code += "print({'dawdreamer', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize("address", ["vst2:3BandEQ"])
def test_a_plugin_is_read_once_and_never_here(address, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load(address)
    assert first.is_open is False
    monkeypatch.setattr(isolation, "call", None)
    again = load(address)
    assert again.space == first.space and again.fingerprint == first.fingerprint


@pytest.mark.parametrize("address", ["vst2:3BandEQ"])
def test_a_plugin_that_crashes_on_loading_is_one_error(address, monkeypatch, tmp_path):
    def ask(*_):
        raise isolation.Failed("crashes with SIGSEGV")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(isolation, "call", ask)
    with pytest.raises(EffectError, match=r"Cannot load vst2:3BandEQ \(it crashes with SIGSEGV\)"):
        load(address)


@pytest.mark.parametrize("address", ["vst2:3BandEQ"])
def test_a_toml_file_overrides_what_a_plugin_tells(address, tmp_path):
    (tmp_path / "mine.toml").write_text("[low_db]\nmin = -6\nmax = 6\n[master_db]\nexclude = true\n")
    effect = load(address, parameters=tmp_path / "mine.toml")
    plain = load(address)
    assert "low_db" not in plain.excluded and effect.excluded["master_db"] == "is excluded by the user"
    low = effect.space.parameters["low_db"]
    assert (low.low, low.high) == (-6, 6)
    assert np.array_equal(effect.render(LOUD, {"low_db": 3}), plain.render(LOUD, {"low_db": 3}))


def test_without_dawdreamer_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "dawdreamer", None)
    with pytest.raises(MissingHost, match=r"pip install 'blackbox_fx\[dawdreamer\]'") as caught:
        program(GAIN)
    assert "\n" not in str(caught.value)


def test_arithmetic_is_left_alone():
    load("vst2:ZamTube", reset="none").render(LOUD)
    assert (np.array([2.3e-308]) / 4)[0] > 0  # subnormal numbers are still there


def test_engines_are_few():
    effect = program("process = _;")
    for rate in range(8000, 18_000, 1000):
        effect.render(LOUD, {}, rate)
    with effect.handle() as loaded:
        assert len(loaded) == engine._KEPT


@pytest.mark.parametrize(
    ("address", "options", "error", "words"),
    [
        ("vst2:NoSuchPlugin", {}, EffectError, "No such VST2"),
        ("vst2:/no/such/plugin.so", {}, EffectError, "No such VST2"),
        ("vst2:/usr/lib/vst3/ZamCompX2.vst3", {}, EffectError, "No such VST2"),
        ("vst2:{folder}/text.so", {}, EffectError, "Cannot load"),
        ("vst2:{folder}/text.txt", {}, EffectError, "No such VST2"),
        ("vst2:3BandEQ", {"reset": "never"}, ParameterError, "'never'"),
        ("vst2:3BandEQ", {"code": "x"}, EffectError, "'code'"),
        ("vst2:Nekobi", {}, EffectError, "does not turn audio into audio"),
        ("lv2:urn:no:such", {}, EffectError, "No LV2 plugin urn:no:such"),
        ("lv2:/usr/lib/lv2/mda.lv2", {}, EffectError, "no URI"),
        ("lv2:urn: x", {}, EffectError, "no URI"),
        ("faust:{folder}/missing.dsp", {}, EffectError, "No such file"),
        ("faust:{folder}", {}, EffectError, "Cannot read"),
        ("faust:{folder}/bytes.dsp", {}, EffectError, "no text"),
        ("faust:x", {"code": ""}, EffectError, "is empty"),
        ("faust:x", {"code": "process = ;"}, EffectError, "syntax error"),
        ("faust:x", {"code": "process = nosuch;"}, EffectError, "nosuch"),
        ("faust:x", {"code": 'import("no.lib"); process = _;'}, EffectError, "no.lib"),
        ("faust:x", {"code": "process = 1;"}, EffectError, "does not turn audio into audio"),
        ("faust:x", {"code": "process = !;"}, EffectError, "faust:x"),
        ("faust:x", {"code": "process = _ <: _, _, _;"}, EffectError, "1 inputs and 3 outputs"),
        ("faust:x", {"code": "process = _, _, _, _ :> _;"}, EffectError, "4 inputs and 1 outputs"),
        ("vst2:3BandEQ", {"tempo": 0}, ParameterError, "tempo=0 is not allowed"),
        ("lv2:urn:dragonfly:plate", {"tempo": "97"}, ParameterError, "tempo='97' is not allowed"),
        ("faust:x", {"code": "process = _ / 0;"}, EffectError, "division by 0"),
        ("faust:x", {"code": 3}, EffectError, "3"),
        ("faust:x", {"code": "process = _;", "sample_rate": 0}, ValueError, "sample_rate=0"),
    ],
)
def test_mistakes_get_one_clear_sentence(address, options, error, words, tmp_path):
    (tmp_path / "text.so").write_text("not a plugin")
    (tmp_path / "text.txt").write_text("not a plugin")
    (tmp_path / "bytes.dsp").write_bytes(b"\xff\xfe\x00process")
    with pytest.raises(error) as caught:
        load(address.format(folder=tmp_path), **options)
    assert words in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_nan_is_refused():
    with pytest.raises(EffectError, match="NaN or infinity"):
        program('process = _ * sqrt(hslider("g", 1, -1, 1, 0));').render(LOUD, {"g": -0.5})
