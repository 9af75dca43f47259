"""Presets: exact values, damaged and foreign files, what plugins say of theirs, and what a run records."""

import base64
import json
import os
import string
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import blackbox_fx as bfx
from blackbox_fx import audio, isolation
from blackbox_fx.cli.__main__ import app
from blackbox_fx.effects import function, load, presets
from blackbox_fx.effects.hosts.vst3.state import value_at
from blackbox_fx.effects.texts import raw_value
from blackbox_fx.errors import BlackBoxError, DataError, EffectError, ParameterError
from blackbox_fx.space import Choice, Continuous, Integer, Space, Toggle
from blackbox_fx.tasks.mixing.training import effects_of
from blackbox_fx.training.run import Run
from tests.cases import RATE, music

names = st.text(string.ascii_lowercase + "_é.", min_size=1, max_size=8)
numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 9))


@st.composite
def parameters(draw):
    kind = draw(st.sampled_from(["linear", "log", "stepped", "integer", "toggle", "choice"]))
    if kind == "toggle":
        return Toggle(draw(st.booleans()))
    if kind == "choice":
        options = draw(st.lists(st.text(max_size=5), min_size=2, max_size=5, unique=True))
        return Choice(tuple(options), options[0])
    if kind == "integer":
        low = draw(st.integers(-1000, 1000))
        return Integer(low, low + draw(st.integers(1, 1000)), low)
    low = abs(draw(numbers)) + 1e-3 if kind == "log" else draw(numbers)
    high = low + abs(low) / 1000 + draw(st.floats(1e-3, 1e6))
    step = (high - low) / draw(st.integers(1, 50)) if kind == "stepped" else 0.0
    return Continuous(low, high, low, log=kind == "log", step=step)


@st.composite
def spaces(draw):
    return Space(draw(st.dictionaries(names, parameters(), max_size=6)))


def dry(x, sample_rate, **values):
    return x


@settings(max_examples=60)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_json_gives_every_value_back_exactly(tmp_path_factory, space, seed):
    effect, path = function(dry, space), tmp_path_factory.getbasetemp() / "any.json"
    values = space.decode(space.sample(1, seed)[0])
    effect.save_preset(path, values)
    read = effect.load_preset(path)
    assert read == values and [type(v) for v in read.values()] == [type(v) for v in values.values()]
    free = list(space.free)[:1]
    held = effect.only(*free).fix({n: values[n] for n in free}).within()
    assert held.load_preset(path) == values  # the same effect, whatever is free
    assert held.fix(read).defaults == values


@settings(max_examples=150)
@given(parameters(), st.floats(0, 1, width=32))
def test_the_value_of_a_control_is_the_shortest_of_those_it_stands_for(parameter, raw):
    value = parameter.check("value", value_at(parameter, raw))
    again = value_at(parameter, float(np.float32(raw_value(parameter, value))))
    if isinstance(parameter, Continuous) and not parameter.step:
        assert abs(raw_value(parameter, value) - raw) <= 1e-7
    else:
        assert again == value or isinstance(parameter, Continuous)


def test_a_control_gives_the_number_that_was_meant():
    knob = Continuous(-80, 0, -20, "dB")
    assert value_at(knob, float(np.float32(raw_value(knob, -20.1)))) == -20.1


@settings(max_examples=200)
@example(b'{"format": 1, "effect": "dry", "values": {"n": 1e999}}')
@example(b'{"format": 1, "effect": "dry", "values": {"gain": 1%s}}' % (b"0" * 400))
@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3))
    .map(json.dumps)
    .map(str.encode)
    | st.dictionaries(
        st.sampled_from(["format", "effect", "version", "values"]),
        st.sampled_from(
            [1, 1.5, None, [], "dry", {}, {"gain": 1e999}, {"n": 1e999}, {"n": [1]}, {"s": "x"}, {"no": 1}]
        ),
    )
    .map(json.dumps)
    .map(str.encode)
)
def test_no_bytes_at_all_give_anything_but_values_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "wild.json"
    path.write_bytes(content)
    space = Space({"gain": Continuous(0, 1, 0), "n": Integer(0, 3, 0), "s": Choice(("x", "y"), "x")})
    try:
        read = function(dry, space, "dry").load_preset(path)
    except (DataError, ParameterError) as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert space.complete(read).keys() == {"gain", "n", "s"}


def compressor():
    return load("pedalboard:Compressor")


def changed(path, **said):
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def test_what_a_preset_says_of_itself(tmp_path, caplog):
    path = tmp_path / "warm.json"
    compressor().save_preset(path, {"ratio": 3.3})
    said = json.loads(path.read_text())
    assert said["address"] == said["effect"] == "pedalboard:Compressor" and said["host"].startswith("pedalboard 0.")
    assert said["values"] == compressor().defaults | {"ratio": 3.3}
    assert [p.name for p in tmp_path.iterdir()] == ["warm.json"]
    compressor().fix(ratio=2).load_preset(path)
    assert not caplog.records
    changed(path, version="other", host="pedalboard 0.1")
    assert compressor().load_preset(path)["ratio"] == 3.3
    assert "another version of pedalboard:Compressor (pedalboard 0.1, now pedalboard 0.9" in caplog.text
    changed(path, values={"ratio": 2})
    assert compressor().load_preset(path) == {"ratio": 2.0}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_text(p.read_text()[:-9]), "damaged"),
        (lambda p: p.write_text("[" * 100_000), "damaged"),
        (lambda p: p.write_bytes(b"\xff\xfe"), "damaged"),
        (lambda p: p.write_text("{}"), "no format"),
        (lambda p: changed(p, format=3), "format 3; this release reads 2"),
        (lambda p: changed(p, effect="pedalboard:Gain"), "is a preset of pedalboard:Gain, not of pedalboard:Comp"),
        (lambda p: changed(p, values=[1]), "no values"),
        (lambda p: changed(p, values={"volume": 1}), "'volume'; known are threshold_db"),
        (lambda p: changed(p, values={"ratio": 1e6}), "ratio=1000000.0 is outside its range; allowed is"),
        (lambda p: changed(p, values={"ratio": "loud"}), "ratio must be a number"),
        (lambda p: p.write_text(p.read_text().replace("4.0", "NaN")), "NaN is no number"),
        (lambda p: p.unlink(), "No such file"),
        (lambda p: (p.unlink(), p.mkdir()), "is no file"),
        (lambda p: (p.unlink(), os.mkfifo(p)), "is no file"),
    ],
)
def test_bad_presets_are_one_sentence(spoil, words, tmp_path):
    path = tmp_path / "bad.json"
    compressor().save_preset(path, {"ratio": 4.0})
    spoil(path)
    with pytest.raises((DataError, ParameterError)) as caught:
        compressor().load_preset(path)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "values", "error", "words"),
    [
        ("none/warm.json", {}, DataError, "Cannot write"),
        ("folder.json", {}, DataError, "Cannot write"),
        ("warm.vstpreset", {}, DataError, "end its name with .json"),
        ("warm", {}, DataError, "end its name with .json"),
        ("warm.json", {"ratio": 0}, ParameterError, "ratio=0"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(path, values, error, words, tmp_path):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(error, match=words):
        compressor().save_preset(tmp_path / path, values)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder.json"]


@pytest.mark.parametrize("ending", [".vstpreset", ".state"])
@pytest.mark.parametrize("name", ["vst3:ZamCompX2", "vst3:ZamEQ2"])
def test_a_plugin_gives_its_own_preset_back(name, ending, tmp_path, caplog):
    effect, path = load(name), tmp_path / f"warm{ending}"
    values = effect.space.complete(effect.space.decode(effect.space.sample(1, 0)[0]))
    effect.save_preset(path, values)
    read = effect.load_preset(path)
    assert read.keys() == values.keys() and not caplog.records
    for key, p in effect.space.parameters.items():
        assert raw_value(p, read[key]) == pytest.approx(raw_value(p, values[key]), abs=1e-5)
    wet = effect.render(music(0.3), values)
    assert (
        np.abs(effect.fix(read).render(music(0.3)) - wet).max() < 1e-4 < np.abs(wet - effect.render(music(0.3))).max()
    )
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_pedalboard_itself_reads_a_vst3_preset(tmp_path):
    from blackbox_fx.effects.hosts.vst3.reader import load as load_bare
    from blackbox_fx.effects.native import same_arithmetic

    path = tmp_path / "warm.vstpreset"
    load("vst3:ZamCompX2").save_preset(path, {"threshold_db": -40, "ratio": 10})
    with same_arithmetic():
        plugin = load_bare(load("vst3:ZamCompX2").path)
        plugin.load_preset(str(path))
    assert plugin.threshold_db == pytest.approx(-40, abs=0.2)


def test_what_a_vst3_preset_holds_beyond_parameters_is_said(tmp_path, caplog):
    path, table = tmp_path / "loud.vstpreset", tmp_path / "my.toml"
    load("vst3:ZamEQ2").save_preset(path, {"master_gain_db": 12})
    table.write_text("[master_gain_db]\nexclude = true\n")
    read = load("vst3:ZamEQ2", parameters=table).load_preset(path)
    assert "master_gain_db" not in read
    assert "holds more than the parameters of vst3:ZamEQ2.vst3" in caplog.text and str(path) in caplog.text
    table.write_text("[master_gain_db]\nmax = 6\n")
    with pytest.raises(ParameterError, match=r"loud.vstpreset does not fit .* allowed is \[-12, 6\]"):
        load("vst3:ZamEQ2", parameters=table).load_preset(path)


@pytest.fixture(scope="module")
def vst3_presets(tmp_path_factory):
    """What ZamCompX2 and ZamEQ2 write, by ending, so that each is asked once."""
    folder, found = tmp_path_factory.mktemp("presets"), {}
    for name in ("ZamCompX2", "ZamEQ2"):
        for ending in (".vstpreset", ".state"):
            load(f"vst3:{name}").save_preset(folder / f"x{ending}")
            found[name, ending] = (folder / f"x{ending}").read_bytes()
    return found


@pytest.mark.parametrize(
    ("ending", "spoil", "words"),
    [
        (".vstpreset", lambda x, y: y, "preset of another plugin"),
        (".vstpreset", lambda x, y: x[:-30], "cut short"),
        (".vstpreset", lambda x, y: x[:20], "cut short"),
        (".vstpreset", lambda x, y: b"ratio = 4\n" * 20, "does not begin with VST3"),
        (".vstpreset", lambda x, y: b"", "does not begin with VST3"),
        (".vstpreset", lambda x, y: x[:4] + struct.pack("<i", 7) + x[8:], "format is 7"),
        (".vstpreset", lambda x, y: x[:40] + struct.pack("<q", 2**62) + x[48:], "cut short"),
        (".vstpreset", lambda x, y: x[:40] + struct.pack("<q", -9) + x[48:], "list of contents is nowhere"),
        (".vstpreset", lambda x, y: x[:40] + struct.pack("<q", 0) + x[48:], "list of contents is nowhere"),
        (".vstpreset", lambda x, y: x[:-34] + struct.pack("<q", 999) + x[-26:], "list of contents is wrong"),
        (".vstpreset", lambda x, y: x.replace(b"Comp", b"Prog"), "list of contents is wrong"),
        (".state", lambda x, y: y, "is a preset of vst3:ZamEQ2.vst3, not of vst3:ZamCompX2.vst3"),
        (".state", lambda x, y: x[:-30], "not the one that was written"),
        (".state", lambda x, y: x.partition(b"\n")[2], "damaged"),
        (".state", lambda x, y: b"", "damaged"),
    ],
)
def test_bad_files_of_vst3_are_one_sentence(ending, spoil, words, vst3_presets, tmp_path):
    path = tmp_path / f"bad{ending}"
    path.write_bytes(spoil(vst3_presets["ZamCompX2", ending], vst3_presets["ZamEQ2", ending]))
    with pytest.raises(DataError, match=words) as caught:
        load("vst3:ZamCompX2").load_preset(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=100)
@given(st.data())
def test_a_vst3_preset_is_checked_before_a_plugin_sees_it(vst3_presets, data):
    whole = vst3_presets["ZamCompX2", ".vstpreset"]
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert not presets.vstpreset_fault(whole) and presets.vstpreset_fault(whole[:cut])
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(presets.vstpreset_fault(bytes(content)), str)


def test_a_misbehaving_plugin_does_no_harm(misbehave, tmp_path):
    effect = load(f"vst3:{misbehave}")
    modes = effect.space.parameters["mode"]
    path = tmp_path / "calm.vstpreset"
    effect.save_preset(path)
    crash = effect.space.complete({"mode": modes.options[1] if isinstance(modes, Choice) else 1})
    with pytest.raises(EffectError, match=r"gives no .vstpreset \(it crashes with SIG"):
        effect.save_preset(tmp_path / "crash.vstpreset", crash)
    assert [p.name for p in tmp_path.iterdir()] == ["calm.vstpreset"]
    content = path.read_bytes()
    assert content.count(b"Mode\0000\0") == 1
    path.write_bytes(content.replace(b"Mode\0000\0", b"Mode\0001\0"))
    with pytest.raises(EffectError, match=r"cannot read .*calm.vstpreset \(it crashes with SIG"):
        effect.load_preset(path)


def test_a_plugin_that_hangs_on_a_preset_meets_a_deadline(monkeypatch, vst3_presets, tmp_path):
    path, given_up = tmp_path / "slow.vstpreset", []
    path.write_bytes(vst3_presets["ZamCompX2", ".vstpreset"])

    def hang(file, question, deadline):
        given_up.append(deadline)
        assert base64.b64decode(question["content"]) == path.read_bytes()
        raise isolation.Failed("does not answer within 30 seconds")

    effect = load("vst3:ZamCompX2")
    monkeypatch.setattr(isolation, "call", hang)
    with pytest.raises(EffectError, match=r"cannot read .*slow.vstpreset.*30 seconds"):
        effect.load_preset(path)
    assert given_up == [30.0]


def call(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def test_commands_write_convert_and_render_presets(tmp_path):
    source, out = tmp_path / "in.wav", tmp_path / "out.wav"
    audio.write(source, music(0.3), RATE)
    for target, more in (
        ("warm.vstpreset", ["--set", "threshold_db=-40", "--set", "ratio=10"]),
        ("warm.json", ["--preset", tmp_path / "warm.vstpreset", "--set", "ratio=3"]),
    ):
        shown = call("preset", "vst3:ZamCompX2", tmp_path / target, *more).stdout
        assert f"wrote {tmp_path / target}" in shown and "threshold_db=-40.0" in shown
    values = load("vst3:ZamCompX2").load_preset(tmp_path / "warm.json")
    assert values["ratio"] == 3.0 and values["threshold_db"] == -40.0
    assert call(
        "render", "vst3:ZamCompX2", source, out, "--preset", tmp_path / "warm.json", "--set", "knee_db=2"
    ).stdout
    wet, _ = audio.read(out)
    expected = load("vst3:ZamCompX2").render(music(0.3), values | {"knee_db": 2.0}, RATE)
    assert np.array_equal(wet, expected)
    with pytest.raises(BlackBoxError, match="No such file"):
        call("render", "pedalboard:Gain", source, tmp_path / "no.wav", "--preset", tmp_path / "none.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.wav", "out.wav", "warm.json", "warm.vstpreset"]


def console(plugin, gain_db=(-24, 12), **held):
    rack = bfx.Rack({"comp": plugin.fix(**held).only("ratio"), "gain": load("pedalboard:Gain")})
    layer = bfx.BlackBox(rack, bfx.FiniteDifference(), audio_rule=bfx.Identity(), pool=bfx.Inline(), sample_rate=RATE)
    return bfx.Console(layer, None, gain_db=gain_db)


def checkpointed(folder):
    kept = dict.fromkeys(("recipe", "excerpts", "losses", "seconds"), 0)
    (folder / "checkpoint.json").write_text(json.dumps({"version": 1, "tensors": "", "step": 1} | kept))


def test_a_run_records_its_effects_and_is_not_resumed_with_others(tmp_path):
    first = load("vst3:ZamCompX2")
    Run(tmp_path).require_effects(effects_of(console(first, knee_db=2)))
    said = json.loads((tmp_path / "effects.json").read_text())["strip"]
    comp = said["members"]["comp"]
    assert comp["address"] == "vst3:ZamCompX2" and comp["held"]["knee_db"] == 2 and comp["held"].keys() & {"slew"}
    assert comp["free"]["ratio"]["kind"] == "continuous" and comp["free"]["ratio"]["high"] == 20
    assert said["free"].keys() == {"comp.ratio", "gain.gain_db"} and said["fingerprint"].startswith("v2-")
    Run(tmp_path).require_effects(effects_of(console(first, knee_db=3)))  # nothing was trained yet
    checkpointed(tmp_path)
    Run(tmp_path).require_effects(effects_of(console(first, knee_db=3)))
    before = (tmp_path / "effects.json").read_bytes()
    for other, words in (
        (console(first, knee_db=2), "other held values of vst3:ZamCompX2"),
        (console(first.within(ratio=(2, 8)), knee_db=3), "other free parameters or ranges of vst3:ZamCompX2"),
        (console(load("vst3:ZamComp"), knee_db=3), "vst3:ZamCompX2.vst3 instead of vst3:ZamComp.vst3"),
        (console(first, gain_db=(-6, 6), knee_db=3), "other free parameters or ranges of twin:gain_pan"),
        (bfx.Console(None, None), r"other effects \(strip, gain_pan\)"),
    ):
        with pytest.raises(DataError, match=f"holds a run with {words}.*; go back to it, or train"):
            Run(tmp_path).require_effects(effects_of(other))
    for changes, words in (
        ({"host": "pedalboard 0.1", "fingerprint": "x"}, r"another host of .*\(pedalboard 0.1, now pedalboard 0.9"),
        ({"version": "x"}, "another version of vst3:ZamCompX2"),
        ({"fingerprint": "x"}, "another vst3:ZamCompX2"),
    ):
        record = json.loads(before)
        record["strip"]["members"]["comp"] |= changes
        (tmp_path / "effects.json").write_text(json.dumps(record))
        with pytest.raises(DataError, match=words):
            Run(tmp_path).require_effects(effects_of(console(first, knee_db=3)))
    record = json.loads(before)
    record["gain_pan"]["host"] = "blackbox_fx 0.0"  # which is no matter where the effect is the same
    (tmp_path / "effects.json").write_text(json.dumps(record))
    Run(tmp_path).require_effects(effects_of(console(first, knee_db=3)))
    for text in ("", "[]", '{"strip": 1}'):
        (tmp_path / "effects.json").write_text(text)
        with pytest.raises(DataError, match=r"effects\.json"):
            Run(tmp_path).require_effects(effects_of(console(first, knee_db=3)))
    assert not list(tmp_path.glob(".*"))
