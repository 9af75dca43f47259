"""Command-line programs as effects: what reaches them, what comes back, and what is left of them."""

import json
import os
import pickle
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from blackbox_fx.effects import load
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.space import Choice, Continuous, Integer, Space, Toggle
from tests.cases import RATE, music

LOUD = 0.5 * music(0.5)
GAIN = Space({"gain": Continuous(-2, 2, 1)})
# writes its arguments and its environment, and copies its input
SPY = """
import json, os, shutil, sys
record, source, target, *rest = sys.argv[1:]
json.dump([rest, dict(os.environ), open(source, "rb").read(64).hex()], open(record, "w"))
shutil.copy(source, target)
"""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    """No test leaves a file in the folder of temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


@pytest.fixture
def spy(tmp_path):
    """An effect of these arguments and parameters that copies its input, and what it was called with."""
    script, record = tmp_path / "spy.py", tmp_path / "a record.json"
    script.write_text(SPY)

    def make(arguments, space=None, **options):
        return load(f"command:{sys.executable} {script} '{record}' {{in}} {{out}} {arguments}", space=space, **options)

    make.seen = lambda: json.loads(record.read_text())
    make.script = script
    return make


def shell(script, **options):
    return load(f"command:sh -c '{script}' x {{in}} {{out}}", **options)


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_sox_turns_the_volume_as_numpy_does():
    effect = load("command:sox {in} {out} vol {gain}", space=GAIN)
    for gain in (1.0, -0.3333333333, 1e-5, 1.25):
        assert np.abs(effect.render(LOUD, {"gain": gain}, RATE) - gain * LOUD).max() < 1e-7
    assert effect.name == "command:sox" and Path(effect.program).is_absolute()


def test_arguments_arrive_as_they_were_meant(spy):
    space = Space(
        {
            "x": Continuous(-1, 1, 0.1),
            "n": Integer(-3, 3, 2),
            "on": Toggle(True),
            "kind": Choice(("plain", "two words; $(x) 'q' --help *", ""), "plain"),
        }
    )
    effect = spy("a={x}:{n} {on}{on} '{{not}} {kind}' {kind} \"\"", space)
    effect.render(LOUD, {"x": -0.1234567890123, "kind": "two words; $(x) 'q' --help *"})
    odd = "two words; $(x) 'q' --help *"
    assert spy.seen()[0] == ["a=-0.1234567890123:2", "11", f"{{not}} {odd}", odd, ""]
    effect.render(LOUD, {"x": 1e-9, "n": -3, "on": False, "kind": ""})
    assert spy.seen()[0] == ["a=0.000000001:-3", "00", "{not} ", "", ""]


def test_the_program_sees_float_wav_and_no_secrets(spy, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "secret")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    wet = spy("").render(3 * LOUD, {}, 48_000)
    assert np.array_equal(wet, 3 * LOUD)
    _, environment, header = spy.seen()
    header = bytes.fromhex(header)
    assert header[:4] == b"RIFF" and header[20:22] == b"\3\0" and header[24:28] == (48_000).to_bytes(4, "little")
    assert environment["LC_ALL"] == "C.UTF-8" and environment["PATH"] == os.environ["PATH"]
    assert set(environment) <= {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VST_PATH"} | {
        "LADSPA_PATH",
        "LV2_PATH",
        "LC_CTYPE",
        "__CF_USER_TEXT_ENCODING",
    }


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_channels_are_kept(channels):
    audio = np.tile(LOUD[:1], (channels, 1)) * np.arange(1, channels + 1, dtype=np.float32)[:, None]
    assert np.array_equal(load("command:cp {in} {out}").render(audio), audio)


def test_output_of_another_length_is_cut_or_padded_sox():
    longer = load("command:sox {in} {out} pad 0 0.3").render(LOUD)
    shorter = load("command:sox {in} {out} trim 0 1000s").render(LOUD)
    assert np.abs(longer - LOUD).max() < 1e-7
    assert np.abs(shorter[:, :1000] - LOUD[:, :1000]).max() < 1e-7 and not shorter[:, 1000:].any()
    assert shorter.shape == LOUD.shape


def test_a_known_delay_is_compensated_sox():
    late = load("command:sox {in} {out} pad 300s trim 0 -300s")
    early = load("command:sox {in} {out} pad 300s trim 0 -300s", latency_samples=300)
    assert not late.render(LOUD)[:, :300].any()
    assert np.abs(early.render(LOUD) - LOUD).max() < 1e-7


def test_the_deadline_ends_child_and_grandchild(tmp_path):
    pids = tmp_path / "pids"
    effect = shell(f"sleep 600 & echo $! $$ >{pids}; echo half way >&2; sleep 601", seconds=0.5)
    with pytest.raises(EffectError, match=r"more than 0\.5 s and was killed \(half way\)"):
        effect.render(LOUD)
    found = [int(pid) for pid in pids.read_text().split()]
    time.sleep(0.1)
    assert len(found) == 2 and not any(map(is_running, found))


@pytest.mark.parametrize("then", ['cp "$1" "$2"', "exit 1"])
def test_what_a_program_leaves_running_is_ended(tmp_path, then):
    effect = shell(f"sleep 60 & echo $! >{tmp_path}/pid; {then}")
    try:
        assert np.array_equal(effect.render(LOUD), LOUD) and then != "exit 1"
    except EffectError:
        assert then == "exit 1"
    time.sleep(0.1)
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_it_pickles_and_is_known_by_its_command(spy):
    effect = spy("{gain}", GAIN)
    other = pickle.loads(pickle.dumps(effect))
    assert np.array_equal(other.render(LOUD), LOUD)
    assert other.fingerprint == effect.fingerprint == spy("{gain}", GAIN).fingerprint
    assert spy("{gain} x", GAIN).fingerprint != effect.fingerprint


def test_the_fingerprint_changes_with_the_files(spy, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ncp $1 $2\n")
    program.chmod(0o755)
    for effect, file in ((spy(""), spy.script), (load(f"command:{program} {{in}} {{out}}"), program)):
        before = effect.fingerprint
        file.write_text(file.read_text() + "\n# another\n")
        assert effect.fingerprint != before
        assert np.array_equal(effect.render(LOUD), LOUD)


MALFORMED = {
    "no program": ("command:nosuchprogram {in} {out}", {}, EffectError, "nosuchprogram"),
    "no text": ("command: ", {}, EffectError, "No such program: ''"),
    "a folder": ("command:/tmp {in} {out}", {}, EffectError, "/tmp"),
    "a program in braces": ("command:{in} {out}", {}, EffectError, "{in}"),
    "no in": ("command:cp x {out}", {}, ParameterError, "no {in}"),
    "no out": ("command:cp {in} x", {}, ParameterError, "no {out}"),
    "unknown placeholder": ("command:cp {in} {out} {gain}", {}, ParameterError, "{gain}"),
    "empty placeholder": ("command:cp {in} {out} {}", {}, ParameterError, "{}"),
    "unused parameter": ("command:cp {in} {out}", {"space": GAIN}, ParameterError, "gain is not used"),
    "a file as parameter": ("command:cp {in} {out}", {"space": Space({"in": Toggle(True)})}, ParameterError, "'in'"),
    "open brace": ("command:cp {in} {out} {gain", {}, ParameterError, "double a brace"),
    "closing brace": ("command:cp {in} {out} gain}", {}, ParameterError, "double a brace"),
    "format": ("command:cp {in} {out} {gain:3f}", {"space": GAIN}, ParameterError, "without ! or :"),
    "conversion": ("command:cp {in} {out} {gain!r}", {"space": GAIN}, ParameterError, "without ! or :"),
    "attribute": ("command:cp {in} {out} {gain.real}", {"space": GAIN}, ParameterError, "gain is not used"),
    "open quote": ("command:cp {in} {out} 'x", {}, ParameterError, "quotation"),
    "space of another kind": ("command:cp {in} {out}", {"space": {"gain": 1}}, ParameterError, "Space"),
    "no time": ("command:cp {in} {out}", {"seconds": 0}, ParameterError, "seconds"),
    "all time": ("command:cp {in} {out}", {"seconds": float("inf")}, ParameterError, "seconds"),
    "seconds as text": ("command:cp {in} {out}", {"seconds": "60"}, ParameterError, "'60'"),
    "negative latency": ("command:cp {in} {out}", {"latency_samples": -1}, ParameterError, "-1"),
    "half a sample": ("command:cp {in} {out}", {"latency_samples": 0.5}, ParameterError, "0.5"),
    "unknown option": ("command:cp {in} {out}", {"timeout": 3}, EffectError, "'timeout'"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_bad_commands_get_one_clear_sentence(case):
    address, options, error, words = MALFORMED[case]
    with pytest.raises(error) as caught:
        load(address, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).endswith(".")


FAILING = {
    "exit": ("exit 3", "status 3"),
    "exit with words": ("echo one >&2; echo >&2; echo bad two >&2; exit 1", "(one / bad two)"),
    "exit with many words": ("seq 100000 >&2; exit 1", "(99998 / 99999 / 100000)"),
    "binary words": ("head -c 5000 /dev/urandom >&2; exit 1", "status 1"),
    "a crash": ("kill -SEGV $$", "SIGSEGV"),
    "no output": ("echo nothing to do >&2", "wrote no file to {out} (nothing to do)"),
    "a silent one": ("true", "it printed no error"),
    "garbage": ('echo garbage >"$2"', "wrote no audio to {out}"),
    "an empty file": (': >"$2"', "wrote no audio to {out}"),
    "a folder": ('mkdir "$2"', "wrote no file"),
    "a locked folder": ('mkdir "$TMPDIR"/d; touch "$TMPDIR"/d/f; chmod 0 "$TMPDIR"/d; exit 1', "status 1"),
    "mono by sox": ('sox "$1" "$2" remix 1', "wrote 1 channels for 2"),
    "four channels by sox": ('sox "$1" "$2" remix 1 2 1 2', "wrote 4 channels for 2"),
    "another rate by sox": ('sox "$1" -r 22050 "$2"', "22050 Hz for 44100 Hz"),
    "a cut file": ('head -c 30 "$1" >"$2"', "wrote no audio to {out}"),
}


@pytest.mark.parametrize("case", FAILING)
def test_programs_that_fail_are_quoted_in_one_sentence(case):
    script, words = FAILING[case]
    with pytest.raises(EffectError) as caught:
        shell(script).render(LOUD)
    assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert str(caught.value).startswith("command:sh ") and str(caught.value).endswith(".")


def test_what_cannot_be_started_is_said(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF no program")
    program.chmod(0o755)
    with pytest.raises(EffectError, match="Cannot start"):
        load(f"command:{program} {{in}} {{out}}").render(LOUD)
    program.write_text("#!/bin/sh\ncp $1 $2\n")
    effect = load(f"command:{program} {{in}} {{out}}")
    program.unlink()
    with pytest.raises(EffectError, match="Cannot start"):
        effect.render(LOUD)


def test_settings_cannot_change_in_mid_clip(spy):
    with pytest.raises(EffectError, match="during a clip"):
        spy("{gain}", GAIN).render(LOUD, [{"gain": 0}, {"gain": 1}], RATE, LOUD.shape[1] // 2)


def test_programs_that_write_whole_numbers_are_said_to_clip_and_to_lose_what_is_soft(caplog):
    x = LOUD
    loud = load("command:sox {in} -b 16 -e signed-integer {out} gain 40")
    soft = load("command:sox {in} -b 16 -e signed-integer {out} gain -110")
    for effect, words in ((loud, "are clipped"), (soft, "its soft output vanishes")):
        for _ in range(2):
            effect.render(x)
        assert caplog.text.count(words) == 1 and "wrote 16-bit numbers" in caplog.text
