"""The contract of every effect, and what each host promises beside it."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import numpy as np
import pedalboard
import pytest

from blackbox_fx.core import files
from blackbox_fx.effects import Rack, RenderRequest, function, hosts, load
from blackbox_fx.effects.hosts.pedalboard import BUILTINS
from blackbox_fx.errors import AudioError, EffectError, NotFinite, ParameterError
from blackbox_fx.runtime import Job
from blackbox_fx.space import Choice, Continuous, Space
from tests.cases import EFFECTS, RATE, SPACE, mixed, music

LOUD, QUIET = music(0.5), 0.01 * music(0.4, seed=1)
LOUD *= np.abs(np.cos(np.linspace(0, 20, LOUD.shape[1], dtype=np.float32))) ** 8  # crosses every threshold
# these convolve in blocks, or keep denormal residue, so their repeats differ in the last bits
TOLERANCE = {"vst3:ZamEQ2": 1e-6, "vst3:ZamTube": 1e-3}


def settings(effect, seed):
    return effect.space.decode(effect.space.sample(1, seed)[0])


def test_every_builtin_is_listed_and_every_host_has_a_case():
    containers = {"Chain", "Mix", "Pedalboard", "PluginContainer"}  # of other effects: Rack is ours
    abstract = {"Plugin", "ExternalPlugin", "IIRFilter", "VST3Plugin", "AudioUnitPlugin"}
    classes = {
        n
        for n, c in vars(pedalboard).items()
        if isinstance(c, type) and issubclass(c, pedalboard.Plugin) and n[0] != "_"
    }
    assert set(BUILTINS) == classes - containers - abstract
    assert {name.split(":")[0] for name in EFFECTS} >= set(hosts.NAMES)


def test_shape_type_and_range(effect):
    for row in np.concatenate(
        [effect.space.sample(4, 0), np.zeros((1, effect.space.width)), np.ones((1, effect.space.width))]
    ):
        wet = effect.render(LOUD, effect.space.decode(row), RATE)
        assert wet.shape == LOUD.shape and wet.dtype == np.float32 and np.isfinite(wet).all()


def test_pure(effect):
    """Used equals fresh, A after B is A again, nothing of loud audio is heard in silence, the input stays as it was."""
    tolerance = TOLERANCE.get(effect.name.removesuffix(".vst3"), 0)
    a, b = settings(effect, 1), settings(effect, 2)
    first = effect.render(LOUD, a, RATE)
    effect.render(QUIET, b, 48_000)
    assert np.abs(effect.render(LOUD, a, RATE) - first).max() <= tolerance
    fresh = pickle.loads(pickle.dumps(effect))
    assert np.abs(fresh.render(LOUD, a, RATE) - first).max() <= tolerance
    silence = np.zeros_like(LOUD)
    assert np.abs(effect.render(silence, a, RATE) - fresh.render(silence, a, RATE)).max() <= tolerance
    frozen = LOUD.copy()
    effect.render(frozen, a, RATE)
    assert np.array_equal(frozen, LOUD)


def test_partial_values_stand_at_defaults(effect):
    full = effect.render(LOUD, effect.defaults, RATE)
    assert np.array_equal(effect.render(LOUD, {}, RATE), full) or effect.name.removesuffix(".vst3") in TOLERANCE
    for name in effect.space.free[:2]:
        assert effect.fix({name: settings(effect, 3)[name]}).defaults[name] == settings(effect, 3)[name]


def test_time_varying_settings(effect):
    """One row for each block: constant rows equal one call, the first block is right, the others differ."""
    hop = 4096
    count = -(-LOUD.shape[1] // hop)
    rows = np.array([[0.8], [0.3]]) * np.ones(effect.space.width)
    rows[1, -1:] = 0.9
    a, b = map(effect.space.decode, rows)
    whole = effect.render(LOUD, a, RATE)
    tolerance = TOLERANCE.get(effect.name.removesuffix(".vst3"), 1e-7)
    assert np.abs(effect.render(LOUD, [a] * count, RATE, hop) - whole).max() <= tolerance
    if not effect.space.width:
        return
    if not effect.automatable:
        with pytest.raises(EffectError, match="during a clip"):
            effect.render(LOUD, [a] * (count - 1) + [b], RATE, hop)
        return
    varied = effect.render(LOUD, [a, a] + [b] * (count - 2), RATE, hop)
    assert np.abs(varied[:, : 2 * hop] - whole[:, : 2 * hop]).max() <= tolerance
    assert not np.array_equal(varied[:, 2 * hop :], whole[:, 2 * hop :])
    with pytest.raises(ParameterError, match=f"need {count} mappings"):
        effect.render(LOUD, [a, b], RATE, hop)


def test_chunks_are_carried_without_a_reset():
    """The chunked path itself, with settings that never change, equals one call for every automatable built-in."""
    for name in BUILTINS:
        effect = EFFECTS[f"pedalboard:{name}"]()
        if effect.automatable:
            values = effect.space.complete(settings(effect, 5))
            blocks = [values] * -(-LOUD.shape[1] // 1000)
            chunked = effect.process(RenderRequest(LOUD, blocks, 1000, RATE))
            assert np.abs(chunked - effect.render(LOUD, values, RATE)).max() < 1e-6, name


def test_mono_and_stereo(effect):
    if effect.name == "twin:gain_pan":
        return  # always two channels out
    values = settings(effect, 1)
    mono = effect.render(LOUD[:1], values, RATE)
    assert mono.shape == (1, LOUD.shape[1])
    if effect.name.removesuffix(".vst3") in ("vst3:ZamEQ2", "vst3:ZamTube"):  # mono-only: each channel by itself
        both = effect.render(LOUD, values, RATE)
        assert np.abs(both[:1] - mono).max() < 1e-3


def test_pedalboard_defaults_are_pedalboards_own():
    for name, parameters in BUILTINS.items():
        if name != "Convolution":
            plugin = getattr(pedalboard, name)()
            for parameter, ours in parameters.items():
                theirs = getattr(plugin, parameter)
                expected = ours.default if isinstance(ours, Choice) else pytest.approx(float(ours.default), abs=1e-6)
                assert (theirs.name if isinstance(ours, Choice) else float(theirs)) == expected, (name, parameter)


def test_pedalboard_equals_the_bare_call():
    board = pedalboard.Pedalboard([pedalboard.Compressor(-30, 4, 5, 50), pedalboard.Reverb(room_size=0.7)])
    rack = Rack([load("pedalboard:Compressor"), load("pedalboard:Reverb")])
    values = {
        "compressor.threshold_db": -30,
        "compressor.ratio": 4,
        "compressor.attack_ms": 5,
        "compressor.release_ms": 50,
    }
    assert np.array_equal(rack.render(LOUD, {**values, "reverb.room_size": 0.7}, RATE), board(LOUD, RATE))


def test_filters_stay_stable_at_low_sample_rates():
    for name in ("LowpassFilter", "HighpassFilter", "LadderFilter", "PeakFilter"):
        effect = load(f"pedalboard:{name}")
        cutoff = next(n for n in effect.space.free if n.startswith("cutoff"))
        assert np.abs(effect.render(LOUD, {cutoff: 7900}, 8000)).max() < 10


def test_vst3_reads_ranges_and_units():
    space = load("vst3:ZamCompX2").space
    assert space.parameters["threshold_db"] == Continuous(-80, 0, 0, "dB")
    assert space.parameters["attack_ms"] == Continuous(0.1, 100, 10, "ms")
    assert space.parameters["sidechain"].kind == "toggle"
    assert not {"gain_reduction_db", "output_level_db", "buffer_size_frames", "current_program"} & set(space.parameters)
    assert isinstance(load("vst3:ZamTube").space.parameters["tone_stack_model"], Choice)


def test_vst3_parameters_arrive():
    comp = load("vst3:ZamCompX2")
    makeup = comp.render(LOUD, {"makeup_db": 6}, RATE)
    assert np.abs(makeup).max() == pytest.approx(np.abs(LOUD).max() * 10 ** (6 / 20), rel=0.01)
    squashed = comp.render(LOUD, {"threshold_db": -40, "ratio": 10}, RATE)
    assert np.square(squashed[:, RATE // 10 :]).mean() < 0.2 * np.square(LOUD).mean()


def test_rack_labels_and_freedom():
    rack = Rack(
        [load("pedalboard:PeakFilter").only("gain_db"), load("pedalboard:PeakFilter").fix(q=2), load("pedalboard:Gain")]
    )
    assert rack.space.free == (
        "peak_filter.gain_db",
        "peak_filter_2.cutoff_frequency_hz",
        "peak_filter_2.gain_db",
        "gain.gain_db",
    )
    assert rack.defaults["peak_filter_2.q"] == 2


def test_rack_lets_a_member_stand_still():
    rack = Rack({"pitch": load("pedalboard:PitchShift"), "gain": load("pedalboard:Gain")})
    count = -(-LOUD.shape[1] // 5000)
    ramp = [{"gain.gain_db": -k} for k in range(count)]
    assert rack.render(LOUD, ramp, RATE, 5000).shape == LOUD.shape
    with pytest.raises(EffectError, match="PitchShift cannot change"):
        rack.render(LOUD, [{"pitch.semitones": k} for k in range(count)], RATE, 5000)


def test_a_copy_that_travelled_has_the_same_fingerprint(effect):
    copy = pickle.loads(cloudpickle.dumps(effect))
    assert pickle.loads(cloudpickle.dumps(copy)).fingerprint == copy.fingerprint == effect.fingerprint
    if effect.space.free:
        assert effect.only().fingerprint != effect.fingerprint


def test_function_pickles_by_value():
    factor = 0.25
    effect = function(lambda x, sr: x * factor, Space(), name="quarter")
    assert np.array_equal(pickle.loads(pickle.dumps(effect)).render(LOUD), LOUD * np.float32(0.25))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda e: e.render(LOUD[0]), AudioError, "(channel, time)"),
        (lambda e: e.render(LOUD.T[:, :2]), AudioError, "transpose"),
        (lambda e: e.render(LOUD[:, :0]), AudioError, "at least one"),
        (lambda e: e.render((LOUD * 1000).astype(np.int16)), AudioError, "int16"),
        (lambda e: e.render(LOUD * np.nan), AudioError, "NaN"),
        (lambda e: e.render(LOUD, {}, 0), AudioError, "sample_rate=0"),
        (lambda e: e.render(LOUD, {}, "44100"), AudioError, "sample_rate"),
        (lambda e: e.render(LOUD, {"loudness": 1}), ParameterError, "'loudness'"),
        (lambda e: e.render(LOUD, {"gain_db": 1000}), ParameterError, "[-20, 10] dB"),
        (lambda e: e.render(LOUD, [{}]), ParameterError, "mapping"),
        (lambda e: e.render(LOUD, {}, RATE, 512), ParameterError, "one mapping"),
        (lambda e: e.render(LOUD, [{}], RATE, 0), ParameterError, "hop"),
        (lambda e: load("Compressor"), EffectError, "host:name"),
        (lambda e: load("vst4:x"), EffectError, "pedalboard, vst3"),
        (lambda e: load("pedalboard:Compresor"), EffectError, "did you mean Compressor"),
        (lambda e: load("pedalboard:Gain", gain=3), EffectError, "no option 'gain'"),
        (lambda e: load("pedalboard:Gain", impulse_response="x.wav"), EffectError, "takes no"),
        (lambda e: load("pedalboard:Convolution"), EffectError, "needs"),
        (lambda e: load("pedalboard:Convolution", impulse_response="missing.wav"), AudioError, "No such"),
        (lambda e: load("pedalboard:Convolution", impulse_response=LOUD), ParameterError, "impulse_rate"),
        (lambda e: load("vst3:NoSuchPlugin"), EffectError, "No such VST3"),
        (lambda e: load("vst3:/no/such/Plugin.vst3"), EffectError, "No such VST3"),
        (lambda e: Rack([]), EffectError, "got none"),
        (lambda e: Rack([e, "reverb"]), EffectError, "got 'reverb'"),
    ],
)
def test_mistakes_get_one_clear_sentence(call, error, words):
    with pytest.raises(error) as caught:
        call(function(mixed, SPACE))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_text_file_is_no_plugin(tmp_path):
    fake = tmp_path / "Fake.vst3"
    fake.write_text("not a plugin")
    with pytest.raises(EffectError, match="Cannot load"):
        load(f"vst3:{fake}")


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda x, sr: x[:, :10], "shape"),
        (lambda x, sr: x * np.inf, "NaN or infinity"),
        (lambda x, sr: 1 / 0, "ZeroDivisionError"),
        (lambda x, sr: None, "shape"),
    ],
)
def test_what_a_bad_function_does_is_said(fn, words):
    with pytest.raises(EffectError, match=words):
        function(fn, Space(), name="bad").render(LOUD)


def test_effects_do_without_torch_and_hosts():
    code = "import blackbox_fx as b, sys; b.load, b.Processes; print({'torch', 'pedalboard'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_a_plugin_leaves_the_arithmetic_of_the_process_alone():
    load("vst3:ZamTube").render(LOUD)
    assert (np.array([2.3e-308]) / 4)[0] > 0  # subnormal numbers are still there


def test_narrower_ranges_leave_physical_values_alone():
    for effect, name in ((load("vst3:ZamCompX2"), "makeup_db"), (load("pedalboard:Gain"), "gain_db")):
        values = {name: 7.5}
        expected = effect.render(LOUD, values)
        assert np.array_equal(effect.within({name: (3, 20)}).render(LOUD, values), expected)
        rack = Rack({"fx": effect.within({name: (3, 20)})})
        assert np.array_equal(rack.render(LOUD, {f"fx.{name}": 7.5}), expected)


def test_a_plugin_loaded_here_renders_in_another_thread():
    effect = load("vst3:ZamCompX2")
    expected = effect.render(LOUD, {"threshold_db": -40})
    with ThreadPoolExecutor(2) as executor:
        for wet in executor.map(lambda _: effect.fix(threshold_db=-40).render(LOUD), range(4)):
            assert np.array_equal(wet, expected)
        fresh = pickle.loads(pickle.dumps(effect))
        with pytest.raises(EffectError, match="main thread"):
            executor.submit(fresh.render, LOUD).result()


def test_a_function_may_give_its_own_buffer_back_and_exit():
    buffer = np.zeros_like(LOUD)

    def fill(x, sr):
        buffer[:] = x * 2
        return buffer

    effect = function(fill, Space())
    first = effect.render(LOUD)
    effect.render(LOUD * 0)
    assert np.array_equal(first, LOUD * 2)
    with pytest.raises(EffectError, match="SystemExit"):
        function(lambda x, sr: sys.exit(3), Space()).render(LOUD)


def test_names_in_a_rack_must_differ():
    inner = function(lambda x, sr, **v: x, Space({"b.c": Continuous(0, 1, 0)}))
    other = function(lambda x, sr, **v: x, Space({"c": Continuous(0, 1, 0)}))
    with pytest.raises(EffectError, match="same name"):
        Rack({"a": inner, "a.b": other})


def test_short_audio_of_many_channels_is_not_taken_for_transposed():
    gain = load("pedalboard:Gain")
    assert gain.render(np.ones((2, 1), np.float32) * 0.1).shape == (2, 1)
    assert gain.render(np.ones((8, 2), np.float32) * 0.1).shape == (8, 2)


def echo(audio, sample_rate, seconds):
    """Repeats the audio once, after a delay."""
    out, late = audio.copy(), round(seconds * sample_rate)
    out[:, late:] += 0.5 * audio[:, : audio.shape[1] - late]
    return out


def test_a_tail_holds_what_sounds_on_and_no_more():
    effect = function(echo, Space({"seconds": Continuous(0.01, 9, 1)}))
    audio = np.zeros((1, 1000), np.float32)
    audio[:, 500] = 1
    for seconds in (0.01, 0.3, 1.0, 3.0):
        wet = effect.render(audio, {"seconds": seconds}, 1000, tail=True)
        end = max(1000, 501 + round(1000 * seconds))
        assert wet.shape == (1, end), seconds
        assert np.array_equal(wet[:, :1000], effect.render(audio, {"seconds": seconds}, 1000))
        assert wet[0, 500 + round(1000 * seconds)] == 0.5
    forever = function(lambda x, sr: x + 1, Space())
    assert forever.render(audio, {}, 1000, tail=True).shape == (1, 11_000)  # at most ten seconds


@pytest.mark.parametrize("address", ["pedalboard:Reverb", "pedalboard:Delay", "ladspa:tap_reverb", "vst3:ZamDelay"])
def test_tails_of_real_effects_begin_with_the_clip(address):
    effect, audio = load(address), music(0.5)
    wet = effect.render(audio, {}, RATE, tail=True)
    assert wet.shape[1] > audio.shape[1] and np.array_equal(wet[:, : audio.shape[1]], effect.render(audio, {}, RATE))
    peak = np.abs(wet).max()
    assert np.abs(wet[:, -1]).max() > 1e-4 * peak or wet.shape[1] >= 10 * RATE


def test_settings_that_vary_stay_at_the_last_in_the_tail():
    effect = load("pedalboard:Delay").only("mix", "delay_seconds")
    audio = music(0.2)
    blocks = [{"mix": 0.5, "delay_seconds": 0.1}] * 2
    blocks[1] = {"mix": 0.2, "delay_seconds": 0.1}
    hop = -(-audio.shape[1] // 2)
    wet = effect.render(audio, blocks, RATE, hop, tail=True)
    assert np.array_equal(wet[:, : audio.shape[1]], effect.render(audio, blocks, RATE, hop))


def duck(audio, sample_rate, key, depth):
    return audio * (1 - depth * (np.abs(key).max(axis=0) > 0.1))


def test_further_inputs_go_by_name_and_are_silent_if_left_out():
    effect = function(duck, Space({"depth": Continuous(0, 1, 1)}), inputs=("key",))
    audio, key = np.ones((2, 4), np.float32), np.array([[0, 1, 0, 1]], np.float32)
    assert effect.render(audio, {}, 1000, inputs={"key": key}).tolist() == [[1, 0, 1, 0]] * 2
    assert np.array_equal(effect.render(audio, {}, 1000), audio)
    with pytest.raises(ParameterError, match="no input 'side'; known are key"):
        effect.render(audio, {}, 1000, inputs={"side": key})
    with pytest.raises(AudioError, match="3 samples for audio of 4"):
        effect.render(audio, {}, 1000, inputs={"key": key[:, :3]})
    with pytest.raises(ParameterError, match="input and a parameter"):
        function(duck, Space({"key": Continuous(0, 1, 1)}), inputs=("key",))


@pytest.mark.parametrize("pool", ["Inline", "Threads", "Processes"])
def test_further_inputs_and_other_channels_go_through_pools(pool, pools):
    wide = function(spread, Space({"gain": Continuous(0, 1, 1)}), inputs=("key",), channels_out=2)
    audio, key = (np.random.default_rng(k).standard_normal((3, 1, 50)).astype(np.float32) for k in (0, 1))
    job = Job(wide, audio, np.full((4, 1), 0.5), np.array([0, 1, 2, 0]), 1000.0, inputs={"key": key})
    wet = pools[pool].map(job)
    assert wet.shape == (4, 2, 50)
    assert np.array_equal(wet[2], np.concatenate([audio[2] * np.float32(0.5), key[2]]))
    cotangent = np.ones((3, 2, 50), np.float32)
    assert pools[pool].project(job, cotangent) == pytest.approx(wet.sum(axis=(1, 2), dtype=np.float64))
    with pytest.raises(AudioError, match=r"cotangent must be \(3, 2, 50\)"):
        pools[pool].project(job, cotangent[:, :1])


def spread(audio, sample_rate, key, gain):
    return np.concatenate([audio * np.float32(gain), key])


@pytest.mark.parametrize("address", ["vst3:ZamCompX2", "pedalboard:Compressor"])
def test_a_range_that_it_has_already_leaves_the_fingerprint(address):
    effect = load(address)
    for name, known in effect.space.parameters.items():
        if isinstance(known, Continuous):
            assert effect.within(**{name: (known.low, known.high)}).fingerprint == effect.fingerprint
            narrower = (known.low, 0.4 * known.low + 0.6 * known.high)
            assert effect.within(**{name: narrower}).fingerprint != effect.fingerprint


def test_a_path_alone_is_loaded_by_its_ending(tmp_path):
    (tmp_path / "half.dsp").write_text("process = _ * 0.5;")
    assert load(str(tmp_path / "half.dsp")).name == "faust:half"
    path = next(Path("/usr").glob("*/vst3/ZamTube.vst3"))
    assert load(str(path)).name == "vst3:ZamTube.vst3" and load(str(path)).address == f"vst3:{path}"
    assert load(path).address == load(f"{path}/").address == f"vst3:{path}"
    with pytest.raises(EffectError, match=r"may belong to several hosts; write ladspa:/x/y\.so or vst2:/x/y\.so"):
        load("/x/y.so")
    with pytest.raises(EffectError, match="write host:name"):
        load("/x/y.dll9")


def test_rounding_at_the_end_of_a_range_is_forgiven():
    space = Space({"gain_db": Continuous(-6.3, 0.3, 0)})
    for value, end in ((np.float32(0.3), 0.3), (np.float32(-6.3), -6.3)):
        assert float(value) != end
        assert space.complete({"gain_db": value}) == {"gain_db": end}
    with pytest.raises(ParameterError):
        space.complete({"gain_db": 0.3001})


def test_hints_suit_the_effect():
    nan = function(lambda x, sr: x * np.nan, Space())
    with pytest.raises(NotFinite, match="leave the effect out"):
        nan.render(np.ones((1, 9)))
    with pytest.raises(EffectError, match=r"; mend it\.$"):
        function(lambda x, sr: 1 / 0, Space()).render(np.ones((1, 9)))


def test_chatter_of_plugins_stays_off_the_terminal(tmp_path):
    code = "import numpy as np, blackbox_fx as b, logging; logging.disable()\n"
    code += "for name in ('ZamTube', 'ZamDelay', 'ZamVerb'): b.load('vst3:' + name).render(np.ones((2, 9000)) * .1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stdout and not done.stderr, done.stderr


def test_what_killed_writers_left_is_removed_by_the_next(tmp_path):
    code = "import os, signal, sys; from pathlib import Path; from blackbox_fx.core import files\n"
    code += "with files.replacing(Path(sys.argv[1])) as part: part.write_text('half'); os.kill(os.getpid(), 9)"
    target = tmp_path / "card.json"
    target.write_text("whole")
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == -9
    assert target.read_text() == "whole"
    files.sweep.cache_clear()
    files.write_text(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"] and target.read_text() == "new"


def test_a_folder_is_replaced_whole_and_what_killed_writers_left_is_removed(tmp_path):
    code = "import os, sys; from pathlib import Path; from blackbox_fx.core import files\n"
    code += "with files.replacing_folder(Path(sys.argv[1])) as part: (part / 'a').touch(); os.kill(os.getpid(), 9)"
    target = tmp_path / "song"
    with files.replacing_folder(target) as part:
        (part / "old").touch()
    assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == -9
    with pytest.raises(ZeroDivisionError), files.replacing_folder(target) as part:
        (part / "b").write_text(str(1 / 0))
    assert [path.name for path in target.iterdir()] == ["old"] and len(list(tmp_path.iterdir())) == 2
    files.sweep.cache_clear()
    with files.replacing_folder(target) as part:
        (part / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["song", "new"]
