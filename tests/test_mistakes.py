"""Malformed calls: each gets one clear sentence, and leaves nothing behind."""

import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import torch

import blackbox_fx as bfx
from blackbox_fx import audio
from blackbox_fx.data import read_songs
from blackbox_fx.errors import AudioError, DataError, EffectError, ParameterError
from tests.cases import RATE, SPACE, mixed, music

GAIN = bfx.Space({"gain_db": bfx.Continuous(-20, 10, 0, "dB")})
SOX = "command:sox {in} {out} bass {gain_db}"


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def script(folder, text):
    path = write(folder, "script.sh", f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def truncated(folder):
    binary = next(Path("/usr/lib/vst3/ZamCompX2.vst3").rglob("*.so"))
    home = folder / "Cut.vst3/Contents/x86_64-linux"
    home.mkdir(parents=True)
    (home / "Cut.so").write_bytes(binary.read_bytes()[:50_000])
    return folder / "Cut.vst3"


def render(effect, audio=None, values={}, rate=RATE, hop=None):
    effect = bfx.load(effect) if isinstance(effect, str) else effect
    return effect.render(music(0.05) if audio is None else audio, values, rate, hop)


def command(text, **options):
    return bfx.load(f"command:{text}", **options)


# a call of a folder to make files in, the error, and words of its sentence
LOADING = {
    "a number": (lambda _: bfx.load(3), EffectError, "3"),
    "nothing": (lambda _: bfx.load(""), EffectError, "host:name"),
    "no kind": (lambda _: bfx.load("Compressor"), EffectError, "host:name"),
    "an unknown kind": (lambda _: bfx.load("au:Compressor"), EffectError, "au:Compressor"),
    "a kind alone": (lambda _: bfx.load("ladspa:"), EffectError, "name"),
    "an unknown option": (lambda _: bfx.load("vst3:ZamCompX2", speed=3), EffectError, "speed"),
    "a built-in misspelt": (lambda _: bfx.load("pedalboard:Compresor"), EffectError, "Compressor"),
    "a built-in in small letters": (lambda _: bfx.load("pedalboard:reverb"), EffectError, "Reverb"),
    "no such vst3:": (lambda _: bfx.load("vst3:/no/such.vst3"), EffectError, "/no/such.vst3"),
    "a vst3:ZamCompX2 misspelt": (lambda _: bfx.load("vst3:ZamComX2"), EffectError, "ZamCompX2"),
    "text as vst3": (lambda d: bfx.load(f"vst3:{write(d, 'a.vst3', 'hello')}"), EffectError, "a.vst3"),
    "an empty folder as vst3": (lambda d: bfx.load(f"vst3:{write(d, 'b.vst3/x', '').parent}"), EffectError, "b.vst3"),
    "a truncated vst3": (lambda d: bfx.load(f"vst3:{truncated(d)}"), EffectError, "Cut.vst3"),
    "no such vst2:": (lambda _: bfx.load("vst2:Nothing"), EffectError, "Nothing"),
    "a vst2:MVerb in small letters": (lambda _: bfx.load("vst2:mverb"), EffectError, "MVerb"),
    "text as vst2:": (lambda d: bfx.load(f"vst2:{write(d, 'a.so', 'hello')}"), EffectError, "a.so"),
    "no such lv2:": (lambda _: bfx.load("lv2:urn:nobody:nothing"), EffectError, "urn:nobody:nothing"),
    "no such ladspa": (lambda _: bfx.load("ladspa:nothing_at_all"), EffectError, "nothing_at_all"),
    "ladspa in other letters": (lambda _: bfx.load("ladspa:SC4"), EffectError, "sc4"),
    "text as ladspa": (lambda d: bfx.load(f"ladspa:{write(d, 'a.so', 'hello')}:x"), EffectError, "a.so"),
    "ladspa label missing": (lambda _: bfx.load("ladspa:/usr/lib/ladspa/sc4_1882.so:x"), EffectError, "sc4"),
    "no such faust:": (lambda _: bfx.load("faust:/no/such.dsp"), EffectError, "/no/such.dsp"),
    "faust: that does not compile": (lambda _: bfx.load("faust:x", code="process = nothing;"), EffectError, "nothing"),
    "empty faust:": (lambda _: bfx.load("faust:x", code=""), EffectError, "faust:x"),
    "faust: of one in, three out": (
        lambda _: bfx.load("faust:x", code="process = _ <: _, _, _;"),
        EffectError,
        "outputs",
    ),
    "faust: with an empty range": (
        lambda _: bfx.load("faust:x", code='process = *(hslider("g", 1, 2, 2, 0.1));'),
        (EffectError, ParameterError),
        "faust:x",
    ),
    "no such program": (lambda _: command("no-such-program {in} {out}"), EffectError, "no-such-program"),
    "a program without a file": (lambda _: command("cp {in} out.wav"), ParameterError, "{out}"),
    "a placeholder without a parameter": (lambda _: bfx.load(SOX), ParameterError, "space"),
    "a parameter without a placeholder": (lambda _: command("cp {in} {out}", space=GAIN), ParameterError, "gain_db"),
    "an open quotation mark": (lambda _: command("cp '{in} {out}"), ParameterError, "Cannot split"),
    "a space that is none": (lambda _: command("cp {in} {out}", space={"gain_db": 3}), ParameterError, "Space"),
    "an empty rack": (lambda _: bfx.Rack([]), (EffectError, ParameterError), "effect"),
    "a rack of names": (lambda _: bfx.Rack(["Gain"]), (EffectError, ParameterError), "Gain"),
    "a function that is none": (lambda _: bfx.function(3, SPACE), (EffectError, ParameterError), "3"),
}
RENDERING = {
    "one dimension": (lambda _: render("pedalboard:Gain", music()[0]), AudioError, "channel"),
    "no samples": (lambda _: render("pedalboard:Gain", np.zeros((2, 0))), AudioError, "sample"),
    "whole numbers": (lambda _: render("pedalboard:Gain", np.zeros((2, 9), int)), AudioError, "int"),
    "NaN": (lambda _: render("pedalboard:Gain", np.full((1, 9), np.nan)), AudioError, "NaN"),
    "infinity": (lambda _: render("pedalboard:Gain", np.full((1, 9), np.inf)), AudioError, "infinity"),
    "a word for audio": (lambda _: render("pedalboard:Gain", "drums.wav"), AudioError, "str"),
    "64 channels into two": (lambda _: render("vst3:ZamCompX2", np.zeros((64, 999))), EffectError, "64"),
    "64 channels into ladspa": (lambda _: render("ladspa:tap_reverb", np.zeros((64, 999))), EffectError, "64"),
    "no sample rate": (lambda _: render("pedalboard:Gain", rate=0), AudioError, "sample"),
    "a negative sample rate": (lambda _: render("pedalboard:Gain", rate=-44100), AudioError, "-44100"),
    "a sample rate that is no number": (lambda _: render("pedalboard:Gain", rate=float("nan")), AudioError, "nan"),
    "an unknown parameter": (
        lambda _: render("vst3:ZamCompX2", values={"treshold_db": 1}),
        ParameterError,
        "threshold_db",
    ),
    "a value out of range": (lambda _: render("vst3:ZamCompX2", values={"ratio": 99}), ParameterError, "99"),
    "a word for a number": (lambda _: render("vst3:ZamCompX2", values={"ratio": "high"}), ParameterError, "high"),
    "NaN for a number": (lambda _: render("vst3:ZamCompX2", values={"ratio": float("nan")}), ParameterError, "ratio"),
    "an unknown option": (lambda _: render(bfx.function(mixed, SPACE), values={"kind": "mid"}), ParameterError, "band"),
    "values that are none": (lambda _: render("pedalboard:Gain", values=3), ParameterError, "int"),
    "no hop": (lambda _: render("pedalboard:Gain", values=[{}], hop=0), ParameterError, "hop"),
    "too few blocks": (lambda _: render("pedalboard:Gain", values=[{}], hop=100), ParameterError, "block"),
    "a program that fails": (
        lambda d: render(command(f"{script(d, 'echo broken >&2; exit 3')} {{in}} {{out}}")),
        EffectError,
        "broken",
    ),
    "a program that writes nothing": (lambda _: render(command("true {in} {out}")), EffectError, "wrote no file"),
    "a program that writes no audio": (
        lambda d: render(command(f"{script(d, 'echo hello > $2')} {{in}} {{out}}")),
        EffectError,
        "no audio",
    ),
    "a program that hangs": (
        lambda _: render(command("env X={in}{out} sleep 60", seconds=0.3)),
        EffectError,
        "0.3 s",
    ),
    "a program that drops a channel": (
        lambda _: render(command("sox {in} {out} remix 1")),
        EffectError,
        "channels",
    ),
    "a function that fails": (
        lambda _: render(bfx.function(lambda audio, sample_rate: 1 / 0, bfx.Space(), name="f")),
        EffectError,
        "ZeroDivisionError",
    ),
    "a function that shortens": (
        lambda _: render(bfx.function(lambda audio, sample_rate: audio[:, 1:], bfx.Space(), name="f")),
        EffectError,
        "shape",
    ),
    "a function of whole numbers": (
        lambda _: render(bfx.function(lambda audio, sample_rate: (audio * 9).astype(int), bfx.Space(), name="f")),
        EffectError,
        "floating point",
    ),
    "a function that gives NaN": (
        lambda _: render(bfx.function(lambda audio, sample_rate: audio * np.nan, bfx.Space(), name="f")),
        EffectError,
        "NaN",
    ),
}


def wave(folder, name, samples=None, **options):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, music(0.1)[0] if samples is None else samples, RATE, **options)
    return path


def cut(folder, name, **options):
    path = wave(folder, name, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def duck(audio, sample_rate, sidechain):
    return audio * (1 - sidechain)


DUCKER = bfx.function(duck, bfx.Space(), inputs=["sidechain"])


def keyed(inputs, effect=DUCKER, **named):
    return effect.render(music(0.05), {}, RATE, inputs=inputs, **named)


def forward(layer, *inputs, **named):
    return layer(torch.from_numpy(music(0.05))[None], torch.zeros(1, layer.width), *inputs, **named)


def console(*inputs, strip=DUCKER, bus=None, **named):
    made = bfx.Console(strip, bus)
    tracks = torch.from_numpy(music(0.05)).expand(3, -1, -1)
    return made(tracks, torch.zeros(3, dtype=torch.long), torch.zeros(3, made.track_width), *inputs, **named)


KEY = torch.from_numpy(music(0.05))[None]
NO_BUS = torch.zeros(1, 0)


# files as users have them
FILES = {
    "no such file": (lambda d: audio.read(d / "a.wav"), AudioError, "a.wav"),
    "a folder": (lambda d: audio.read(d), AudioError, "folder"),
    "an empty file": (lambda d: audio.read(write(d, "a.wav", "")), AudioError, "a.wav"),
    "text as a file": (lambda d: audio.read(write(d, "a.flac", "hello")), AudioError, "a.flac"),
    "a WAV cut off": (lambda d: audio.read(cut(d, "a.wav")), AudioError, "cut off"),
    "its length": (lambda d: audio.info(cut(d, "a.wav")), AudioError, "cut off"),
    "an AIFF cut off": (lambda d: audio.read(cut(d, "a.aiff")), AudioError, "cut off"),
    "an OGG cut off": (lambda d: audio.read(cut(d, "a.ogg")), AudioError, "cut off"),
    "a FLAC cut off": (lambda d: audio.read(cut(d, "a.flac")), AudioError, "a.flac"),
    "no samples in it": (lambda d: audio.read(wave(d, "a.wav", np.zeros(0))), AudioError, "no samples"),
    "NaN in it": (
        lambda d: audio.read(wave(d, "a.wav", np.full(9, np.nan), subtype="FLOAT")),
        AudioError,
        "NaN",
    ),
    "1e30 in it": (lambda d: audio.read(wave(d, "a.wav", np.full(9, 1e30), subtype="FLOAT")), AudioError, "1e+30"),
    "a start behind its end": (lambda d: audio.read(wave(d, "a.wav"), start=10**6), AudioError, "start"),
    "a path that is none": (lambda _: audio.read(None), AudioError, "path"),
    "half a sample": (lambda d: audio.read(wave(d, "a.wav"), start=1.5), AudioError, "1.5"),
    "less than one sample": (lambda d: audio.read(wave(d, "a.wav"), frames=0), AudioError, "frames=0"),
    "an unknown ending": (lambda d: audio.write(d / "a.txt", music(), RATE), AudioError, ".txt"),
    "a folder that is not there": (lambda d: audio.write(d / "x/a.wav", music(), RATE), AudioError, "does not exist"),
    "a name that is too long": (lambda d: audio.write(d / f"{'a' * 260}.wav", music(), RATE), AudioError, "too long"),
    "a folder of broken files": (lambda d: read_songs(cut(d, "song/a.wav").parent.parent), DataError, "cut off"),
}
# further inputs, and what calls a layer
CALLING = {
    "no such input": (lambda _: keyed({"key": music(0.05)}), ParameterError, "sidechain"),
    "an input of an effect without": (
        lambda _: keyed({"sidechain": music(0.05)}, bfx.load("pedalboard:Gain")),
        ParameterError,
        "sidechain",
    ),
    "an input that is no mapping": (lambda _: keyed(music(0.05)), ParameterError, "write sidechain=..."),
    "a key without its name": (lambda _: forward(bfx.BlackBox(DUCKER), KEY), ParameterError, "write sidechain=..."),
    "a key of a chain without its name": (
        lambda _: forward(bfx.Chain([DUCKER]), KEY),
        ParameterError,
        "write sidechain=...",
    ),
    "a key of a chain of two without its name": (
        lambda _: forward(bfx.Chain({"a": DUCKER, "b": DUCKER}), KEY),
        ParameterError,
        'write inputs={"a.sidechain": ...}',
    ),
    "a key of a mix without its name": (
        lambda _: forward(bfx.Mix([None, DUCKER]), KEY),
        ParameterError,
        "write sidechain=...",
    ),
    "a key of a rack without its name": (
        lambda _: forward(bfx.BlackBox(bfx.Rack({"a": DUCKER})), KEY),
        ParameterError,
        'write inputs={"a.sidechain": ...}',
    ),
    "an input twice in a call": (
        lambda _: keyed({"sidechain": music(0.05)}, sidechain=music(0.05)),
        ParameterError,
        "'sidechain' is given twice",
    ),
    "an input twice in a layer's call": (
        lambda _: forward(bfx.BlackBox(DUCKER), {"sidechain": KEY}, sidechain=KEY),
        ParameterError,
        "'sidechain' is given twice",
    ),
    "an input twice in a chain's call": (
        lambda _: forward(bfx.Chain({"a": DUCKER}), {"a.sidechain": KEY}, sidechain=KEY),
        ParameterError,
        "'a.sidechain' of this Chain is given twice",
    ),
    "an input that a mix lacks": (
        lambda _: forward(bfx.Mix({"dry": None, "a": DUCKER}), kick=KEY),
        ParameterError,
        "This Mix has no input 'kick'; known are a.sidechain",
    ),
    "a key of three channels": (
        lambda _: keyed({"sidechain": np.zeros((3, music(0.05).shape[1]))}),
        AudioError,
        "sidechain of duck has 3 channels",
    ),
    "a key of three channels for ladspa": (
        lambda _: keyed({"sidechain": np.zeros((3, music(0.05).shape[1]))}, bfx.load("ladspa:sc2")),
        AudioError,
        "sidechain of ladspa:sc2 has 3 channels",
    ),
    "a key of three channels for a layer": (
        lambda _: forward(bfx.BlackBox(DUCKER), sidechain=torch.zeros(1, 3, KEY.shape[-1])),
        AudioError,
        "sidechain of duck has 3 channels",
    ),
    "a list as key of a console": (lambda _: console(NO_BUS, [-1, 0, 0]), ParameterError, "got list"),
    "numbers with a point as key of a console": (
        lambda _: console(NO_BUS, torch.zeros(3)),
        ParameterError,
        "torch.float32",
    ),
    "audio as key of a console": (lambda _: console(NO_BUS, KEY), ParameterError, "key must be (3,) integers"),
    "a track that is its own key": (
        lambda _: console(NO_BUS, torch.tensor([-1, 1, 0])),
        ParameterError,
        "got 1 for track 1",
    ),
    "a side-chain of a console": (lambda _: console(NO_BUS, sidechain=KEY), ParameterError, "write key=..."),
    "no params of a bus": (
        lambda _: console(strip=None, bus=bfx.load("pedalboard:Gain")),
        ParameterError,
        "bus_params must be (mixes, 1), got None",
    ),
    "a function that takes what nothing gives": (
        lambda _: bfx.function(duck, bfx.Space()),
        ParameterError,
        'write inputs=["sidechain"]',
    ),
    "an input that is a word": (lambda _: bfx.function(duck, bfx.Space(), inputs="key"), ParameterError, "list"),
    "an input of another length": (lambda _: keyed({"sidechain": music(0.04)}), AudioError, "sidechain"),
    "NaN in an input": (lambda _: keyed({"sidechain": music(0.05) * np.nan}), AudioError, "sidechain contains NaN"),
    "an input called audio": (lambda _: bfx.function(duck, bfx.Space(), inputs=["audio"]), ParameterError, "audio"),
    **{
        f"an input called {name}": (
            lambda _, name=name: bfx.function(lambda x, sr, **named: x, bfx.Space(), inputs=[name]),
            ParameterError,
            f"cannot be called '{name}'",
        )
        for name in ("values", "sample_rate", "hop", "inputs", "tail", "params")
    },
    "an input twice": (lambda _: bfx.function(duck, bfx.Space(), inputs=["a", "a"]), ParameterError, "twice"),
    "an input that a layer lacks": (
        lambda _: forward(bfx.BlackBox(bfx.load("pedalboard:Gain"), sample_rate=RATE), sidechain=torch.zeros(1, 2, 9)),
        ParameterError,
        "sidechain",
    ),
    "a tempo of nothing": (lambda _: bfx.load("vst2:MVerb", tempo=0), ParameterError, "tempo"),
    "a tempo that is no number": (lambda _: bfx.load("vst2:MVerb", tempo="fast"), ParameterError, "fast"),
    "a tempo for a host without": (lambda _: bfx.load("ladspa:sc4", tempo=90), EffectError, "tempo"),
}


@pytest.fixture
def clean(tmp_path, monkeypatch):
    """Sees that no file and no process stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = set(psutil.Process().children(recursive=True))
    yield tmp_path
    assert not list((tmp_path / "temporary").iterdir())
    assert set(psutil.Process().children(recursive=True)) <= before


MISTAKES = {
    f"{kind}-{name}": mistake
    for kind, mistakes in {"load": LOADING, "render": RENDERING, "file": FILES, "call": CALLING}.items()
    for name, mistake in mistakes.items()
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, clean):
    call, error, words = MISTAKES[name]
    with pytest.raises(error) as caught:
        call(clean)
    text = str(caught.value)
    assert words in text
    assert "\n" not in text and 20 < len(text) < 400 and text.endswith(".")


@pytest.mark.parametrize("rate", [8000, 192_000])
@pytest.mark.parametrize("length", [1, 2, 511, 4099])
@pytest.mark.parametrize("name", ["pedalboard:Reverb", "vst3:ZamCompX2", "ladspa:tap_reverb"])
def test_odd_clips_are_no_mistakes(name, length, rate, clean):
    for channels in (1, 2):
        x = music(0.2, channels)[:, :length]
        assert render(name, x, rate=rate).shape == x.shape


def test_there_are_sixty_and_more():
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            'import("stdfaust.lib");\n\nprocess = fi.lowpas(2, 1000);\n',
            "line 3: undefined symbol lowpas in process = fi",
        ),
        ("x = 3\nprocess = _;", "line 2: syntax error, unexpected IDENT in process = _"),
        ('import("nothing.lib"); process = _;', "unable to open file nothing.lib"),
    ],
)
def test_faust_errors_name_the_users_line_and_no_path_of_ours(program, words):
    with pytest.raises(EffectError) as caught:
        bfx.load("faust:x", code=program)
    assert words in str(caught.value) and "site-packages" not in str(caught.value)


def test_near_names_are_suggested_for_lv2():
    with pytest.raises(EffectError, match=r"No LV2 plugin urn:dragonfly:plat \(did you mean urn:dragonfly:plate"):
        bfx.load("lv2:urn:dragonfly:plat")


def test_nan_is_not_blamed_on_parameters_alone():
    effect = bfx.function(lambda audio, sample_rate: audio * np.nan, bfx.Space(), name="f")
    with pytest.raises(EffectError, match=r"8000 Hz; try 44100 Hz\.$"):
        render(effect, rate=8000)


def test_many_settings_are_shown_as_far_as_they_moved():
    many = bfx.Space({f"parameter_{k}": bfx.Continuous(0, 1, 0) for k in range(99)})
    effect = bfx.function(lambda audio, sample_rate, **values: audio * np.nan, many, name="f")
    with pytest.raises(EffectError) as caught:
        render(effect, values={f"parameter_{k}": 0.5 for k in range(7, 20)})
    assert "'parameter_7': 0.5" in str(caught.value) and "5 more are not" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_program_that_writes_too_little_says_so_once(caplog):
    effect = command("sox {in} {out} trim 0 0.01")
    wet = [render(effect) for _ in range(2)]
    assert not wet[0][:, 441:].any() and np.array_equal(*wet)
    assert [r.message for r in caplog.records if "1764 of 2205 samples" in r.message] == [caplog.records[0].message]


def test_threads_open_a_plugin_where_they_are_called():
    effect = bfx.load("vst3:ZamCompX2")
    layer = bfx.BlackBox(effect, pool=bfx.Threads(1), sample_rate=RATE)
    row = effect.space.encode({})
    with torch.no_grad():
        wet = layer(torch.from_numpy(music(0.05))[None], torch.from_numpy(row).float()[None])
    assert np.abs(wet[0].numpy() - render(effect)).max() < 1e-6
    layer.pool.close()
