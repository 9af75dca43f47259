"""LADSPA plugins: what they tell of themselves, purity over many, latency, channels, libraries that misbehave."""

import ctypes
import os
import pickle
import platform
import random
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from blackbox_fx import BlackBox, FiniteDifference, check_effect, isolation
from blackbox_fx.effects import RenderRequest, further, load
from blackbox_fx.effects.hosts.ladspa import catalogue as ladspa_catalogue
from blackbox_fx.effects.hosts.ladspa.catalogue import installed
from blackbox_fx.effects.native import cleared_memory
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Continuous, Integer, Toggle
from tests.cases import RATE, music

LOUD, QUIET = music(0.5), 0.01 * music(0.4, seed=1)
LOUD *= np.abs(np.cos(np.linspace(0, 20, LOUD.shape[1], dtype=np.float32))) ** 8  # crosses every threshold
AMP = "/usr/lib/ladspa/amp_1181.so"
CAPS = "/usr/lib/ladspa/caps.so"
# these draw random numbers from the C library, whose generator all threads share; with settings where it is heard
RANDOM = {
    "Scape": {},
    "disintegrator": {"probability": 0.5, "multiplier": -1},
    "flanger": {"lfo_frequency_hz": 100, "max_slowdown_ms": 10, "delay_base_ms": 25, "feedback": 0.5},
    "gsm": {"error_rate_bits_block": 20},
    "hermesFilter": {"osc1_wave": 4, "osc1_gain_db": 0},
    "lofi": {},
    "multivoiceChorus": {"number_of_voices": 8, "lfo_frequency_hz": 30, "detune": 5},
    "retroFlange": {},
    "tap_doubler": {},
    "tap_pinknoise": {"noise_level_db": 0},
    "vynil": {"crackle": 1, "wear": 1},
}
# these differ a little between instances; why was not examined
VAGUE = {"pitchScale", "pitchScaleHQ"}


def settings(effect, seed):
    return effect.space.decode(effect.space.sample(1, seed)[0])


def repeats(effect, seed):
    """A loud render, and then again after another one; by a fresh copy; and silence before and after loud audio."""
    a, b, silence = settings(effect, seed), settings(effect, seed + 100), np.zeros_like(LOUD)
    first, still = effect.render(LOUD, a, RATE), effect.render(silence, a, RATE)
    effect.render(QUIET, b, 48_000)
    effect.render(5 * LOUD, b, RATE)
    fresh = pickle.loads(pickle.dumps(effect))
    loud = [effect.render(LOUD, a, RATE), fresh.render(LOUD, a, RATE)]
    silent = [effect.render(silence, a, RATE), fresh.render(silence, a, RATE)]
    return [(first, again) for again in loud] + [(still, again) for again in silent]


def test_a_hundred_and_twenty_of_all_installed_effects_are_pure():
    """Used equals fresh bit for bit, A after B is A again, nothing of loud audio is heard in silence."""
    known = [address for address in installed() if address.split(":")[-1] not in {*RANDOM, *VAGUE}]
    assert len(known) > 150
    impure = []
    for address in random.Random(7).sample(known, 120):
        effect = load(address)
        try:
            pairs = repeats(effect, 1)
        except EffectError as error:
            assert "NaN or infinity" in str(error), address
            continue
        if not all(np.array_equal(one, other) for one, other in pairs):
            impure.append(address)
    assert not impure


@pytest.mark.parametrize("label", sorted({*RANDOM} - {"vynil"}))
def test_the_known_random_ones_draw_the_same_in_each_render(label):
    effect = load(f"ladspa:{label}")
    first = effect.render(LOUD, RANDOM[label], RATE)
    assert all(np.array_equal(effect.render(LOUD, RANDOM[label], RATE), first) for _ in range(3))


@pytest.mark.parametrize("label", sorted(VAGUE))
def test_the_known_vague_ones_differ_little_if_at_all(label):
    effect = load(f"ladspa:{label}")
    renders = [effect.render(LOUD, {}, RATE) for _ in range(10)]
    assert max(np.abs(wet - renders[0]).max() for wet in renders) < 0.02


@pytest.mark.parametrize(
    ("label", "name", "parameter"),
    [
        ("sc4", "threshold_level_db", Continuous(-30, 0, 0, "dB")),
        ("sc4", "attack_time_ms", Continuous(1.5, 400, 101.125, "ms")),  # the lower quarter of a linear range
        ("sc4", "rms_peak", Continuous(0, 1, 0)),
        ("tap_reverb", "decay_ms", Continuous(0, 10_000, 2500, "ms")),
        ("tap_reverb", "comb_filters", Toggle(True)),
        ("tap_reverb", "reverb_type", Integer(0, 42, 0)),  # the port says 42.1
        ("tap_deesser", "monitor", Integer(0, 1, 0)),
        ("tap_tremolo", "depth", Continuous(0, 100, 0, "%")),
        ("freeverb3", "freeze_mode", Toggle(False)),
        ("freeverb3", "damping", Continuous(0, 1, 0.5)),  # logarithmic from 0
        ("flanger", "lfo_frequency_hz", Continuous(0.05, 100, 0.334370, "Hz", log=True)),
        ("amPitchshift", "pitch_shift", Continuous(0.25, 4, 1, log=True)),
        ("amPitchshift", "buffer_size", Integer(1, 7, 4)),
        ("bandpass_iir", "center_frequency_hz", Continuous(4.41, 19_845, 295.832, "Hz", log=True)),
        ("highpass_iir", "cutoff_frequency_hz", Continuous(4.41, 19_845, 36.1195, "Hz", log=True)),
        ("singlePara", "frequency_hz", Continuous(0, 17_640, 440, "Hz")),
        ("hpf", "cutoff_frequency_hz", Continuous(22.05, 22_050, 440, "Hz", log=True)),
        ("svf", "filter_type", Integer(0, 5, 0)),
        ("sc1", "ratio_1_n", None),
        ("sc1", "ratio", Continuous(1, 10, 1)),
        ("Eq4p", "a_mode", Integer(-1, 2, 0)),
        ("gong", "inner_stiffness_1_2", Continuous(0, 1, 0.5)),  # two ports differ by + and - alone
        ("amp_mono", "gain", Continuous(0, 4, 1)),  # no upper end
        ("delay_n", "delay_time_s", Continuous(0, 4, 0, "s")),
        ("compress_peak", "compression_ratio", Continuous(0, 1, 0.5)),  # no lower end
        ("djFlanger", "lfo_sync", Continuous(-4, 4, 0)),  # neither
        ("sc4", "gain_reduction_db", None),
        ("mbeq", "latency", None),
        ("ZaMaximX2", "latency", None),
    ],
)
def test_kinds_ranges_and_units_are_the_plugins_own(label, name, parameter):
    assert load(f"ladspa:{label}").space.parameters.get(name) == parameter


def test_every_installed_effect_loads_and_names_its_parameters():
    for address in installed():
        effect = load(address)
        for name in effect.space.parameters:
            assert name and name == name.lower() and not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789_")


def test_parts_of_the_sample_rate_are_kept_at_other_rates():
    highpass = load("ladspa:highpass_iir")
    top = highpass.space.parameters["cutoff_frequency_hz"].high
    expected = highpass.render(LOUD, {"cutoff_frequency_hz": 0.45 * 8000}, 8000)
    assert np.abs(expected).max() > 0
    assert np.abs(highpass.render(LOUD, {"cutoff_frequency_hz": top}, 8000) - expected).max() < 1e-4


def test_integers_and_switches_arrive():
    reverb = load("ladspa:tap_reverb")
    plain = reverb.render(LOUD, {}, RATE)
    assert not np.array_equal(reverb.render(LOUD, {"reverb_type": 20}, RATE), plain)
    assert not np.array_equal(reverb.render(LOUD, {"comb_filters": False}, RATE), plain)


@pytest.mark.parametrize(
    "label",
    ["sc4", "tap_reverb", "freeverb3", "ChorusI", "PhaserII", "AutoFilter", "gverb", "tap_equalizer", "svf", "sc3"],
)
def test_blocks_at_constant_settings_equal_one_call(label):
    """Bit for bit where blocks of settings fill blocks of samples, even if the plugin counts its calls."""
    effect = load(f"ladspa:{label}")
    assert effect.automatable
    values = effect.space.complete(settings(effect, 5))
    whole = effect.render(LOUD, values, RATE)
    blocks = [values] * -(-LOUD.shape[1] // 4096)
    assert np.array_equal(effect.process(RenderRequest(LOUD, blocks, 4096, RATE)), whole)


@pytest.mark.parametrize("length", [1, 100, 1234])
def test_a_short_clip_is_the_beginning_of_a_longer_one(length):
    """Even of plugins that glide to their settings within a call, however short it is."""
    for label in ("Saturate", "ChorusI", "ZamDelay"):
        effect = load(f"ladspa:{label}")
        values = settings(effect, 1)
        short = LOUD[:, 8000 : 8000 + length]
        later = np.pad(short, ((0, 0), (0, LOUD.shape[1])))
        assert np.array_equal(effect.render(short, values, RATE), effect.render(later, values, RATE)[:, :length])


def test_any_hop_will_do_where_a_plugin_does_not_count_its_calls():
    for label in ("sc4", "tap_reverb", "freeverb3", "amp"):
        effect = load(f"ladspa:{label}")
        values = effect.space.complete(settings(effect, 5))
        blocks = [values] * -(-LOUD.shape[1] // 777)
        assert (
            np.abs(effect.process(RenderRequest(LOUD, blocks, 777, RATE)) - effect.render(LOUD, values, RATE)).max()
            < 1e-5
        )


@pytest.mark.parametrize("hop", [1, 100, 777, 4096])
def test_changes_land_on_their_sample(hop):
    audio = LOUD[:, 4000:6500]
    gains = np.random.default_rng(0).uniform(-20, 20, -(-audio.shape[1] // hop))
    wet = load("ladspa:amp").render(audio, [{"amps_gain_db": g} for g in gains], RATE, hop)
    expected = audio * 10 ** (np.repeat(gains, hop)[: audio.shape[1]] / 20)
    assert np.abs(wet - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("label", ["fastLookaheadLimiter", "tap_limiter"])
def test_latency_is_compensated(label):
    effect = load(f"ladspa:{label}")
    assert not effect.automatable
    wet = effect.render(QUIET, {}, RATE)  # which no limiter touches
    assert np.abs(wet - QUIET).max() < 1e-3 * np.abs(QUIET).max()
    with pytest.raises(EffectError, match="during a clip"):
        name, parameter = next(iter(effect.space.parameters.items()))
        effect.render(QUIET, [{name: parameter.low}] + [{name: parameter.high}] * 3, RATE, 4410)


@pytest.mark.parametrize(("delay_ms", "samples"), [(0, 0), (1, 44), (100, 4410), (10_000, 441_000)])
def test_latency_is_asked_for_at_the_settings_of_the_render(delay_ms, samples):
    """By a plugin that reports latency and has none."""
    wet = load("ladspa:artificialLatency").render(QUIET, {"delay_ms": delay_ms}, RATE)
    early = np.pad(QUIET, ((0, 0), (0, samples)))[:, samples:]
    assert np.array_equal(wet, early)


def test_without_latency_settings_may_vary():
    assert load("ladspa:sc4").automatable
    assert not load("ladspa:Eq4p").automatable  # reports 3 samples


def test_mono_plugins_render_each_channel_by_itself():
    effect = load("ladspa:sc4m").fix(threshold_level_db=-30, ratio=10)
    three = np.concatenate([LOUD, QUIET.repeat(2, axis=1)[:1, : LOUD.shape[1]]])
    wet = effect.render(three, {}, RATE)
    for row, out in zip(three, wet, strict=True):
        assert np.array_equal(effect.render(row[None], {}, RATE)[0], out)


def test_stereo_plugins_take_mono_twice_and_no_more_than_two():
    effect = load("ladspa:matrixStMS")  # its left is the sum of both
    mono = effect.render(LOUD[:1], {}, RATE)
    assert np.array_equal(mono, effect.render(np.repeat(LOUD[:1], 2, axis=0), {}, RATE)[:1])
    assert not np.array_equal(effect.render(LOUD, {}, RATE)[:1], mono)
    with pytest.raises(EffectError, match="has 2 channels, got audio with 3; render pairs"):
        effect.render(np.repeat(LOUD[:1], 3, axis=0), {}, RATE)


def test_one_input_and_two_outputs_take_the_mean():
    effect = load("ladspa:gverb")
    wet = effect.render(LOUD, {}, RATE)
    middle = np.repeat(LOUD.mean(axis=0, keepdims=True), 2, axis=0)
    assert np.array_equal(wet, effect.render(middle, {}, RATE)) and not np.array_equal(wet[0], wet[1])
    assert np.array_equal(effect.render(middle[:1], {}, RATE), wet[:1])


def test_two_inputs_and_one_output_take_left_and_right():
    effect = load("ladspa:am")
    product = np.broadcast_to(LOUD[0] * LOUD[1], LOUD.shape)
    assert effect.channels == 2 and np.abs(effect.render(LOUD, {}, RATE) - product).max() < 1e-6
    assert np.abs(effect.render(LOUD[:1], {}, RATE) - LOUD[:1] ** 2).max() < 1e-6
    assert np.abs(load("ladspa:mixer").render(LOUD, {}, RATE) - LOUD.sum(axis=0)).max() < 1e-6


def test_side_chains_hear_their_own_input():
    for label, heard in (("sc3", {"chain_balance": 1}), ("sc2", {})):
        effect = load(f"ladspa:{label}").fix(threshold_level_db=-30, ratio=10, attack_time_ms=2, **heard)
        assert effect.inputs == ("sidechain",)
        quiet = 0.001 * LOUD
        alone = effect.render(quiet, {}, RATE)
        assert np.square(alone).mean() > 0.7 * np.square(quiet).mean()  # what is left out is silent
        key = LOUD
        pressed = effect.render(quiet, {}, RATE, inputs={"sidechain": key})
        assert np.square(pressed).mean() < 0.5 * np.square(alone).mean()
        mean = effect.render(quiet, {}, RATE, inputs={"sidechain": key.mean(axis=0, keepdims=True)})
        assert np.array_equal(pressed, mean)
    assert np.array_equal(effect.render(quiet[:1], {}, RATE, inputs={"sidechain": key}), pressed[:1])


def test_an_input_that_is_left_out_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(further, "_said", set())
    effect = load("ladspa:sc2")
    for _ in range(3):
        effect.render(LOUD, {}, RATE)
        effect.fix(ratio=2).render(LOUD, {}, RATE)
        load("ladspa:sc2").render(LOUD, {}, RATE)
    assert [r.message for r in caplog.records if "silence" in r.message] == [
        "ladspa:sc2 gets silence on its input sidechain; write sidechain=... if it is to hear something."
    ]
    caplog.clear()
    load("ladspa:sc2").render(LOUD, {}, RATE, inputs={"sidechain": LOUD})
    assert not caplog.records


@pytest.mark.parametrize(
    ("names", "side"),
    [
        ("Input|Modulator", "01"),
        ("In L|In R|Key L|Key R", "0011"),
        ("Input|External_Key", "01"),
        ("in|sc", "01"),
        ("Audio|CV", "01"),
        ("Sidechain|Key", "00"),  # all of them: then they are the inputs
        ("Keyboard In|Scale", "00"),
        ("Input (Left)|Input (Right)", "00"),
        ("Left|Right", "00"),
        ("Formant-in|Carrier-in", "00"),
        ("Delay (s)|Input", "00"),
        ("Mod Input|Main", "10"),
    ],
)
def test_side_chains_are_told_by_their_names(names, side):
    inputs = tuple(names.split("|"))
    assert ladspa_catalogue.Layout(inputs, ("out",)).side == tuple(digit == "1" for digit in side)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tap_revrb", "did you mean tap_reverb"),
        ("Sc4", "did you mean sc4"),
        ("zzzzzzzz", "blackbox-fx effects"),
        ("sine_fcac", "no audio input"),
        ("peak", "no audio output"),
        ("bf2cube", "4 audio inputs and 8 outputs"),
        (CAPS, "says no label"),
        ("amp_1181.so", "No such LADSPA library"),
        (f"{AMP}:", "has no plugin ''; it has amp."),
        (f"{AMP}:amq", "did you mean amp"),
        (":amp", "No such LADSPA library: ''"),
        ("/no/such/file.so:amp", "No such LADSPA library"),
        ("/usr/lib/ladspa:amp", "No such LADSPA library"),
        ("~nosuchuser/file.so:amp", "No such LADSPA library"),
        ("x" * 5000 + ":amp", "No such LADSPA library"),
        ("a\0b:amp", "No such LADSPA library"),
        (f"{__file__}:amp", "invalid ELF header"),
        ("/usr/lib/ladspa/../../bin/env:amp", "Cannot load"),
        (f"{sys.modules['_ctypes'].__file__}:amp", "exports no ladspa_descriptor"),
    ],
)
def test_mistakes_get_one_clear_sentence(address, words):
    with pytest.raises(EffectError) as caught:
        load(f"ladspa:{address}")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_one_plugin_needs_no_label():
    assert load(f"ladspa:{AMP}").name == "ladspa:amp"


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Compiles C to a library in a folder that is the whole LADSPA_PATH."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    monkeypatch.setenv("LADSPA_PATH", str(tmp_path))

    def compiled(name, source):
        path = tmp_path / name
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source, text=True, check=True)
        return path

    return compiled


CONSTRUCTOR = (
    "#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) void f() {{ {} }}"
)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("abort();", "crashes with SIGABRT"),
        ("*(volatile int *)0 = 1;", "crashes with SIGSEGV"),
        ("sleep(60);", "does not answer within 8 seconds"),
        ('printf("{\\"plugins\\": {}}"); fflush(stdout); exit(0);', "ends the process that loads it"),
        ("if (!fork()) sleep(5);", "exports no ladspa_descriptor"),
    ],
)
def test_libraries_that_crash_or_hang_are_survived_and_reported(library, body, words, caplog, monkeypatch):
    monkeypatch.setattr(ladspa_catalogue, "_DEADLINE", 8.0)
    bad = library("bad.so", CONSTRUCTOR.format(body))
    shutil.copy(AMP, bad.with_name("good.so"))
    assert installed() == ["ladspa:amp"]
    assert words in caplog.text and str(bad) in caplog.text
    with pytest.raises(EffectError, match=words):
        load(f"ladspa:{bad}:amp")
    assert load("ladspa:amp").path == str(bad.with_name("good.so"))


PLUGIN = """
typedef struct { int hint; float low, high; } Hint;
typedef struct Descriptor {
    unsigned long id; const char *label; int properties; const char *name, *maker, *copyright; unsigned long count;
    const int *kinds; const char *const *names; const Hint *hints; void *data;
    void *(*instantiate)(const struct Descriptor *, unsigned long); void (*connect)(void *, unsigned long, float *);
    void (*activate)(void *); void (*run)(void *, unsigned long); void *adding, *gain;
    void (*deactivate)(void *); void (*cleanup)(void *);
} Descriptor;
static int kinds[] = {9, 10, 5, 5, 5};
static const char *names[] = {"in", "out", "Held", "Upside (Hz)", ""};
static Hint hints[] = {{0}, {0}, {3 | 32 | 64, 2.1, 3.9}, {3 | 64, 5, 2}, {3 | 64, -1, -1}};
static float *ports[5];
static void *instantiate(const Descriptor *d, unsigned long rate) { return rate > 100000 ? 0 : ports; }
static void connect(void *h, unsigned long k, float *p) { ports[k] = p; }
static void run(void *h, unsigned long n) {
    for (unsigned long i = 0; i < n; i++) ports[1][i] = ports[0][i] * *ports[2] + *ports[4];
}
static void cleanup(void *h) {}
static Descriptor plugin = {
    1, "odd", 0, "Odd", "", "", 5, kinds, names, hints, 0, instantiate, connect, 0, run, 0, 0, 0, cleanup};
const Descriptor *ladspa_descriptor(unsigned long k) { return k < 2 ? &plugin : 0; }
"""


def test_ports_with_odd_ranges_and_plugins_that_refuse_a_rate(library):
    library("odd.so", PLUGIN)
    effect = load("ladspa:odd")
    assert effect.space.parameters == {"upside_hz": Continuous(5, 20_005, 5, "Hz")}
    assert effect.excluded == {"held": "can stand nowhere but at 3", "parameter_2": "can stand nowhere but at -1"}
    assert np.array_equal(effect.render(LOUD, {}, RATE), LOUD * 3 - 1)  # ports that can stand nowhere else stand there
    with pytest.raises(EffectError, match="cannot run at 192000 Hz"):
        effect.render(LOUD, {}, 192_000)


LATE = (
    PLUGIN.replace("{9, 10, 5, 5, 5}", "{9, 10, 5, 6, 6}")
    .replace('"Held", "Upside (Hz)", ""', '"Gain", "Latency (samples)", "Meter"')
    .replace("{3 | 32 | 64, 2.1, 3.9}, {3 | 64, 5, 2}, {3 | 64, -1, -1}", "{3 | 576, 0, 2}, {0}, {0}")
    .replace("static void *instantiate", "static float past[64]; static unsigned long at;\nstatic void *instantiate")
    .replace("return rate > 100000 ? 0 : ports;", "for (at = 0; at < 64; at++) past[at] = 0; at = 0; return ports;")
    .replace(
        "ports[1][i] = ports[0][i] * *ports[2] + *ports[4];",
        "{ float x = ports[0][i]; ports[1][i] = *ports[2] * past[at % 64]; past[at++ % 64] = x; } *ports[3] = TOLD;",
    )
)


@pytest.mark.parametrize("length", [100, 1000, 20_000])
def test_latency_is_found_by_any_name_and_whenever_it_is_told(library, length):
    library("odd.so", LATE.replace("TOLD", "at > 2048 ? 64 : 0"))
    effect, clip = load("ladspa:odd"), LOUD[:, :length]
    assert effect.latency == 64 and not effect.automatable
    assert np.array_equal(effect.render(clip, {"gain": 2}, RATE), 2 * clip)


@pytest.mark.parametrize("told", ["0.0 / 0.0", "-5", "1e12"])
def test_a_latency_that_cannot_be_is_one_sentence(library, told):
    library("odd.so", LATE.replace("TOLD", told))
    with pytest.raises(EffectError, match=r"reports a latency of .* samples; allowed are 0 to"):
        load("ladspa:odd")


def test_plugins_that_share_what_their_library_keeps_take_turns(library):
    """The delay line of this one is in its library; it rests between two samples, so that others come in between."""
    library("odd.so", "#include <sched.h>\n" + LATE.replace("TOLD", "64; sched_yield()"))
    effect, clip = load("ladspa:odd"), np.tile(LOUD, (1, 8))
    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(lambda gain: effect.render(clip, {"gain": gain}, RATE), [0.5, 1, 1.5, 2] * 2))
    for gain, wet in zip([0.5, 1, 1.5, 2] * 2, found, strict=True):
        assert np.array_equal(wet, np.float32(gain) * clip)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_memory_that_a_plugin_does_not_fill_is_zero(library):
    """What it puts out is what stands in its memory."""
    library(
        "odd.so",
        "#include <stdlib.h>\n"
        + PLUGIN.replace("return rate > 100000 ? 0 : ports;", "ports[3] = malloc(40000); return ports;")
        .replace("ports[0][i] * *ports[2] + *ports[4]", "ports[0][i] + ports[3][5000 + i % 4000]")
        .replace("ports[k] = p;", "if (k != 3) ports[k] = p;")
        .replace(
            "cleanup(void *h) {}",
            "cleanup(void *h) { for (int i = 0; i < 10000; i++) ports[3][i] = 7; free(ports[3]); }",
        ),
    )
    effect = load("ladspa:odd")
    for _ in range(3):
        assert np.array_equal(effect.render(LOUD, {}, RATE), LOUD)


def test_kept_instances_return_while_others_wait_for_their_turn(library):
    library("odd.so", "#include <unistd.h>\n" + PLUGIN.replace("{\n    for (un", "{\n    usleep(100);\n    for (un"))
    effect, done = load("ladspa:odd"), threading.Event()
    effect.keeps = True
    effect.render(LOUD, {}, RATE)

    def render_on():
        while not done.is_set():
            effect.render(LOUD, {}, RATE)

    rendering, trying = (threading.Thread(target=f, daemon=True) for f in (render_on, effect.find_hop_multiple))
    rendering.start()
    time.sleep(0.1)
    trying.start()
    trying.join(30)
    done.set()
    rendering.join(30)
    assert not trying.is_alive() and not rendering.is_alive()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_memory_is_cleared_until_the_last_has_left():
    libc, size = ctypes.CDLL(None), 40_000
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )

    def is_clear():
        """Whether memory is zero that was filled before."""
        for value in (7, None):
            place = libc.malloc(size)
            found = any(ctypes.string_at(place + 64, size - 128))
            if value is not None:
                ctypes.memset(place, value, size)
            libc.free(place)
        return not found

    first, second = cleared_memory(), cleared_memory()
    with first:
        second.__enter__()
        assert is_clear()
    assert is_clear()
    second.__exit__(None, None, None)
    assert not is_clear()


def test_settings_that_are_read_only_at_the_beginning_fail_the_check(library):
    library(
        "odd.so",
        LATE.replace("TOLD", "0")
        .replace("connect, 0, run", "connect, activate, run")
        .replace(
            "static void run",
            "static float held;\nstatic void activate(void *h) { held = *ports[2]; }\nstatic void run",
        )
        .replace("*ports[2] * past", "held * past"),
    )
    report = check_effect(load("ladspa:odd"), 0.1)
    (broken,) = (check for check in report.checks if check.name == "changes during a clip")
    assert broken.passed is False and broken.value == "the change is not heard"


def test_what_a_library_holds_is_kept_until_it_changes(tmp_path, monkeypatch):
    asked = []

    def call(module, path, *rest, original=isolation.call):
        asked.append(path)
        return original(module, path, *rest)

    monkeypatch.setattr(isolation, "call", call)
    path = shutil.copy(AMP, tmp_path / "copy.so")
    load(f"ladspa:{path}:amp"), load(f"ladspa:{path}:amp")
    assert len(asked) == 1
    os.utime(path, (1, 1))
    load(f"ladspa:{path}:amp")
    assert len(asked) == 2
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "blackbox_fx" / "ladspa"
    for file in cache.iterdir():
        assert file.suffix == ".json"
        file.write_text("{")
    load(f"ladspa:{path}:amp")
    assert len(asked) == 3


def test_the_first_folder_in_the_path_wins(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        shutil.copy(AMP, folder)
    monkeypatch.setenv("LADSPA_PATH", f"{first}{os.pathsep}{tmp_path / 'none'}{os.pathsep}{second}")
    assert load("ladspa:amp").path == str(first / "amp_1181.so")
    assert installed() == [f"ladspa:{second}/amp_1181.so:amp", "ladspa:amp"]
    assert load(installed()[0]).path == str(second / "amp_1181.so")
    monkeypatch.setenv("LADSPA_PATH", str(tmp_path / "none"))
    with pytest.raises(EffectError, match="LADSPA_PATH"):
        load("ladspa:amp")


def test_listing_loads_no_library_here():
    code = "from blackbox_fx.effects.hosts.ladspa.catalogue import installed as all_of_them\n"
    code += "assert all_of_them(); print(open('/proc/self/maps').read())"
    if sys.platform == "linux":
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert "_ctypes" in shown and "/ladspa/" not in shown


def test_pickles_as_a_recipe(tmp_path):
    path = shutil.copy(AMP, tmp_path / "copy.so")
    effect = load(f"ladspa:{path}:amp").fix(amps_gain_db=6)
    again = pickle.loads(pickle.dumps(effect))
    assert again.is_open is False and again.fingerprint == effect.fingerprint
    assert np.array_equal(again.render(LOUD, {}, RATE), effect.render(LOUD, {}, RATE))
    before = effect.fingerprint
    with path.open("ab") as file:
        file.write(b"\0")
    assert effect.fingerprint != before
    again = pickle.loads(pickle.dumps(effect).replace(b"copy.so", b"gone.so"))
    with pytest.raises(EffectError, match="Cannot load ladspa:amp"):
        again.render(LOUD)
    with pytest.raises(EffectError, match="Cannot read"):
        _ = again.fingerprint


def test_threads_render_side_by_side():
    effects = [load("ladspa:mbeq"), load("ladspa:tap_reverb"), load("ladspa:freeverb3")]
    expected = [effect.render(LOUD, settings(effect, 1), RATE) for effect in effects]
    with ThreadPoolExecutor(6) as executor:
        jobs = [
            (k % 3, executor.submit(effects[k % 3].render, LOUD, settings(effects[k % 3], 1), RATE)) for k in range(60)
        ]
        assert all(np.array_equal(job.result(), expected[k]) for k, job in jobs)


@pytest.mark.parametrize("where", ["constructor", "run"])
def test_plugins_leave_the_arithmetic_of_the_process_alone(library, where):
    """Whether they turn subnormal numbers off on loading or on running."""
    off = "__builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);"
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("written for x86-64")
    if where == "run":
        library("off.so", PLUGIN.replace("long n) {", f"long n) {{ {off}"))
    else:
        library("off.so", f"__attribute__((constructor)) static void f() {{ {off} }}\n{PLUGIN}")
    effect = load("ladspa:odd")
    assert (np.array([2.3e-308]) / 4)[0] > 0
    effect.render(LOUD, {}, RATE)
    assert (np.array([2.3e-308]) / 4)[0] > 0


def test_the_gradient_of_a_gain_is_what_it_is_by_hand():
    effect = load("ladspa:amp").within(amps_gain_db=(-20, 20))
    layer = BlackBox(effect, FiniteDifference(), sample_rate=RATE)
    audio, weight = torch.tensor(LOUD[None, :, 5000:9000]), torch.tensor(music(0.5, seed=2)[None, :, 5000:9000])
    params = torch.tensor([[0.6]], requires_grad=True)
    (layer(audio, params) * weight).sum().backward()
    gain = 10 ** ((-20 + 0.6 * 40) / 20)
    by_hand = float((audio * weight).sum()) * gain * np.log(10) / 20 * 40
    assert params.grad.item() == pytest.approx(by_hand, rel=1e-2)
