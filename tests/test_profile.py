"""Profiles: what is measured of effects that are known, kept, read back, and survived."""

import dataclasses
import json
import math
import os
import threading
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from blackbox_fx import isolation
from blackbox_fx.cli.__main__ import app
from blackbox_fx.effects import Effect, function, load
from blackbox_fx.errors import EffectError
from blackbox_fx.lab import hosts
from blackbox_fx.lab.hosts import Hosted
from blackbox_fx.profiling import cached, plots, profile, profiles
from blackbox_fx.profiling.check import CHECKS
from blackbox_fx.profiling.profiles import rows
from blackbox_fx.profiling.record import ParameterProfile, Profile
from blackbox_fx.space import Choice, Continuous, Integer, Space, Toggle
from tests.trouble import fails_above

RATE = 44100
LATE = 333


def known(audio, sample_rate, gain, dead, fine, jump, mode, on):
    """A late gain that is silent for a while, and a tone of its own."""
    wet = np.zeros_like(audio)
    wet[:, LATE:] = audio[:, : audio.shape[1] - LATE] * gain
    wet = wet + audio * 0 + 1e-3 * np.round(fine * 100) / 100 * np.abs(wet)
    return wet * (2.0 if jump > 0.7 else 1.0) * {"a": 1.0, "b": 1.5}[mode] * (1.1 if on else 1.0) + 2e-3


SPACE = Space(
    {
        "gain": Continuous(0.5, 2, 1),
        "dead": Continuous(0, 1, 0.5),
        "fine": Continuous(0, 1, 0.5),
        "jump": Continuous(0, 1, 0.5),
        "mode": Choice(("a", "b"), "a"),
        "on": Toggle(False),
    }
)


@pytest.fixture(scope="module")
def measured():
    return profile(function(known, SPACE), budget=3.0)


def test_what_is_known_is_measured(measured):
    assert measured.purity_error == 0 and measured.cut_error == 0 and not measured.notes
    assert measured.latency_measured == LATE and measured.latency_reported == 0
    assert measured.silence_peak == pytest.approx(2e-3) and measured.non_finite == 0
    assert measured.largest_gain == pytest.approx(2 * 2 * 1.5 * 1.1, rel=0.5)
    assert measured.tail_seconds == pytest.approx(LATE / RATE, abs=0.002)
    assert measured.linear < 0.01 and measured.time_invariant < 1e-4 and measured.memoryless > 0.5
    assert math.isnan(measured.chunk_error) and not measured.automatable
    assert measured.realtime > 1 and measured.overhead_ms > 0 and measured.settings == 24


def test_parameters_are_measured(measured):
    p = measured.parameters
    assert (
        measured.dead == ("dead",)
        and "gain" in measured.alive
        and "dead" not in measured.alive
        and p["dead"].step != p["dead"].step
    )
    assert p["gain"].monotone and p["gain"].smoothness > 0.9 and p["gain"].step == 1e-6
    assert p["gain"].sensitivity > 0.2 and p["gain"].settings == 8
    assert p["fine"].step == pytest.approx(1e-2) and 1e-6 < p["fine"].most < 1e-2
    assert p["jump"].smoothness == pytest.approx(1 / 8)
    assert p["on"].step == 1 and p["mode"].alive and p["mode"].monotone is None


def test_a_profile_is_kept_and_read_back(measured, monkeypatch):
    effect = function(known, SPACE)
    monkeypatch.setattr(isolation, "call", None)
    assert str(profile(effect, budget=3.0)) == str(measured)
    assert cached(effect, 3.0) is not None and cached(effect, 4.0) is None
    assert str(Profile.from_json(json.loads(json.dumps(measured.to_json())))) == str(measured)


def test_a_damaged_file_is_measured_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    effect = load("pedalboard:Gain")
    profile(effect, budget=0.5)
    (file,) = (tmp_path / "blackbox_fx" / "profiles").iterdir()
    for text in ("{", json.dumps({**json.loads(file.read_text()), "answer": {"effect": 3}})):
        file.write_text(text)
        again = profile(effect, budget=0.5)
        assert again.purity_error == 0 and "gain_db" in again.parameters


def test_traits_tell_effects_apart():
    clip, echo, comp = (profile(load(f"pedalboard:{n}"), 2.0) for n in ("Clipping", "Delay", "Compressor"))
    assert clip.linear > 0.01 and clip.memoryless < 1e-6 and clip.time_invariant < 1e-6
    assert echo.linear < 1e-5 and echo.memoryless > 0.1 and echo.tail_seconds > 1
    assert comp.linear > 0.01 and comp.memoryless > 0.01 and comp.automatable


def worse(kind):
    """A function that is wrong in one way."""

    def fn(audio, sample_rate, gain):
        wet = audio * gain
        if kind == "random":
            return wet + 0.01 * np.random.default_rng().standard_normal(audio.shape)
        if kind == "nan" and gain > 0.9:
            wet = wet * np.nan
        if kind == "cut":
            wet = wet * (1.0 + 0.1 * (audio.shape[1] < 8000))
        if kind == "crash" and not audio.any():
            os.abort()
        if kind == "hang" and audio.shape[1] == 64:
            time.sleep(600)
        return wet

    return function(fn, Space({"gain": Continuous(0, 1, 0.5)}), name=kind)


class Leaky(Effect):
    """One tenth of the last peak is heard in the next render."""

    loud = 0.0

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "loud"}

    def process(self, request):
        audio, gain = request.audio, request.settings["gain"]
        wet, self.loud = audio * gain + 0.1 * self.loud, float(np.abs(audio).max())
        return wet


def test_what_is_wrong_is_measured():
    random, nan, cut = (profile(worse(kind), 1.0) for kind in ("random", "nan", "cut"))
    leak = profile(Leaky("leaky", Space({"gain": Continuous(0, 1, 0.5)})), 1.0)
    assert random.repeat_error > 0.01 < random.random_error and random.purity_error > 0.01
    assert leak.leak > 0.01 and leak.random_error == 0
    assert 0 < nan.non_finite < 0.5 and nan.purity_error == 0
    assert cut.cut_error > 0.01 and cut.purity_error == 0


@pytest.mark.parametrize(
    ("kind", "words", "lost"),
    [("crash", "it crashes with SIGABRT", "leak"), ("hang", "does not answer within", "realtime")],
)
def test_a_crash_is_a_line_and_not_the_end(kind, words, lost, monkeypatch):
    monkeypatch.setattr(profiles, "_DEADLINE", 5.0 if kind == "hang" else 60.0)
    found = profile(worse(kind), 0.5)
    assert any(words in note for note in found.notes)
    assert math.isnan(getattr(found, lost)) and found.largest_gain > 0 and found.parameters["gain"].alive


def test_an_effect_that_fails_at_some_settings_is_measured_at_the_others():
    found = profile(function(fails_above, Space({"gain": Continuous(0, 1, 0.5)}), name="fails"), 1.0)
    assert 0.2 < found.non_finite < 0.8 and found.purity_error == 0 and found.memoryless < 1e-6
    assert found.parameters["gain"].alive and 0 < found.largest_gain <= 0.5


def test_what_cannot_be_opened_or_sent_is_one_error():
    def broken(audio, sample_rate):
        raise ValueError("never")

    with pytest.raises(EffectError, match=r"cannot be measured: .*never"):
        profile(function(broken, Space(), name="broken"))
    lock = threading.Lock()
    with pytest.raises(EffectError, match="does not pickle"):
        profile(function(lambda x, sr: lock and x, Space(), name="held"))


def test_progress_is_told():
    said = []
    profile(function(lambda x, sr: x, Space()), 0.3, progress=lambda *a: said.append(a))
    assert said[0][2] == "opening" and said[-1][0] == said[-1][1] == 8 and {"speed", "traits"} <= {s[2] for s in said}


def test_plots_hold_what_a_page_draws():
    drawn = plots(load("pedalboard:PeakFilter"))
    gain = drawn["parameters"]["gain_db"]
    assert len(gain) == 5 and len(gain[0]["response"]) == len(drawn["frequencies"])
    assert max(gain[-1]["response"]) > 10 > -10 > min(gain[0]["response"])
    assert len(gain[0]["static"]) == len(drawn["levels"]) and len(gain[0]["step"]) == len(drawn["times"])


def test_every_number_has_a_row():
    fields = {f.name for f in dataclasses.fields(Profile)} - {"effect", "settings", "parameters", "notes", "seconds"}
    assert len(rows(Profile("x"))) == len(fields) + 1
    assert not ParameterProfile(0, 0, 0, 0, None, 8).alive


def call(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def test_inspect_measures_shows_and_writes(tmp_path):
    shown = call("inspect", "pedalboard:Compressor", "--html", tmp_path / "page.html")
    assert shown.exit_code == 0 and "threshold_db" in shown.stdout and "memoryless" in shown.stdout
    made = {path.name for path in tmp_path.iterdir()}
    assert {"page.html", "page-sensitivity.svg", "page-impulse.svg", "page-parameter-1.svg"} <= made
    assert not any(name.startswith(".") for name in made)
    assert all(name in (tmp_path / "page.html").read_text() for name in made - {"page.html"})
    told = json.loads(call("inspect", "pedalboard:Compressor", "--json").stdout)
    assert told["effect"] == "pedalboard:Compressor" and told["parameters"]["ratio"]["most"] > 0
    quick = call("inspect", "pedalboard:Chorus", "--quick").stdout
    assert "centre_delay_ms" in quick and "memoryless" not in quick


def test_inspect_takes_a_users_file_and_shows_what_is_left_out(tmp_path):
    (tmp_path / "my.toml").write_text("[threshold_db]\nmin = -40\n")
    shown = call("inspect", "vst3:ZamCompX2", "--quick", "--parameters", tmp_path / "my.toml").stdout
    assert "[-40, 0] dB" in shown and "Left out" in shown and "gain_reduction_db" in shown


def test_check_exits_by_what_it_finds():
    right, wrong = call("check", "pedalboard:Gain"), call("check", "pedalboard:MP3Compressor", "--seconds", 0.1)
    assert right.exit_code == 0 and "FAIL" not in right.stdout and "used equals fresh" in right.stdout
    assert wrong.exit_code == 1 and f"1 of {len(CHECKS)} broken: sample rates." in wrong.stdout


def test_check_survives_a_crash(monkeypatch):
    from blackbox_fx.profiling import check_isolated

    found = []
    check_isolated(worse("crash"), 0.1, found.append)
    failed = [(one.name, one.value) for one in found if one.passed is False]
    assert failed == [("silence after loud", "it crashes with SIGABRT")]
    assert [one.name for one in found] == list(CHECKS)
    hopeless = []
    check_isolated(function(lambda x, sr: os.abort(), Space({}), name="aborts"), 0.1, hopeless.append)
    assert [one.name for one in hopeless] == list(CHECKS)
    assert [one.value for one in hopeless].count("not tried after 3 crashes") == len(CHECKS) - 3 - sum(
        one.passed is True for one in hopeless
    )


def test_integers_and_steps_are_moved_by_what_moves_them():
    space = Space({"order": Integer(1, 5, 1), "drive": Continuous(1, 3, 1, step=0.5)})
    found = profile(function(lambda x, sr, order, drive: x * order * drive, space), 1.0)
    assert found.parameters["order"].step == 0.25 and found.parameters["drive"].step == 0.25
    assert found.parameters["order"].monotone and found.parameters["order"].alive


@pytest.mark.parametrize("match", ["ladspa:sc"])
def test_a_survey_is_taken_up_and_summarised(match, tmp_path, monkeypatch):
    shown = call("bench", "hosts", "--host", "ladspa", "--match", match, "--out", tmp_path)
    assert shown.exit_code == 0 and "100%" in shown.stdout
    assert {p.name for p in tmp_path.iterdir()} == {"hosts.jsonl", "hosts.csv", "index.html"}
    text = (tmp_path / "hosts.jsonl").read_text()
    monkeypatch.setattr(isolation, "call", None)
    (tmp_path / "hosts.jsonl").write_text(text + "{damaged")
    assert call("bench", "hosts", "--host", "ladspa", "--match", match, "--out", tmp_path).exit_code == 0


def test_reasons_are_named():
    pure = Hosted("vst3:a", fresh=0, aba=0, leak=1e-7, repeat=0, random=0, ratio=1.2, used=3, excluded=1)
    leaky = dataclasses.replace(pure, address="vst3:b", leak=0.1)
    random = dataclasses.replace(pure, address="lv2:c", random=0.2, aba=0.3)
    failed = hosts.measure("ladspa:no_such_label", threading.Event(), 30)
    assert pure.pure and not pure.reason and "loud audio" in leaky.reason and "fresh to fresh" in random.reason
    assert "No LADSPA plugin" in failed.failure and not failed.pure
    first, second, _, everything = hosts.summarise([pure, leaky, random, failed])
    assert (first.host, first.found, first.pure) == ("vst3", 2, 1) and second.pure == 0
    assert (everything.found, everything.loaded, everything.excluded) == (4, 3, (3, 12))


def test_lv2_addresses_are_read_from_manifests(tmp_path, monkeypatch):
    (tmp_path / "a.lv2").mkdir()
    (tmp_path / "a.lv2" / "manifest.ttl").write_text(
        "@prefix lv2: <http://lv2plug.in/ns/lv2core#> .\n@prefix x: <urn:x:> .\n"
        "<urn:full>\n a lv2:Plugin ; lv2:binary <a.so> .\nx:short a lv2:Plugin .\n<urn:preset> a pset:Preset .\n"
    )
    monkeypatch.setenv("LV2_PATH", str(tmp_path))
    assert {"lv2:urn:full", "lv2:urn:x:short"} <= set(hosts.installed(["lv2"]))
    assert "lv2:urn:preset" not in hosts.installed(["lv2"])


def test_misbehaving_plugins_are_known_by_their_profile(misbehave):
    """What a plugin does wrong, and nothing else, stands in its profile."""
    bad = load(f"vst3:{misbehave}").fix(count=8)
    good, remembers, smooths, lies, noisy = (profile(bad.fix(mode=m)) for m in (0, 6, 7, 9, 10))
    for right in (good, smooths, lies):
        assert right.purity_error == 0 and right.cut_error == 0
    assert good.linear < 1e-6 and good.memoryless < 1e-6 and good.latency_measured == 0 and good.realtime > 20
    assert lies.latency_measured == -64 and smooths.latency_measured == 0
    assert remembers.repeat_error > 0.01 and remembers.leak > 0.01 and remembers.random_error == 0
    assert min(noisy.repeat_error, noisy.fresh_error, noisy.silence_peak) > 5e-3


def test_too_few_settings_call_nothing_dead():
    few, many, moved = (ParameterProfile(0, most, 0, 0, None, n) for most, n in ((0, 1), (0, 8), (0.1, 1)))
    found = Profile("x", parameters={"few": few, "many": many, "moved": moved})
    assert found.dead == ("many",) and found.alive == ("few", "moved")
