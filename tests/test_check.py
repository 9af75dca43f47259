"""The checker: it passes what is right, and fails what is wrong, one promise at a time."""

import csv
import itertools
import json
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from blackbox_fx import check_effect, isolation
from blackbox_fx.cli.__main__ import app
from blackbox_fx.effects import function, load
from blackbox_fx.effects.base import Effect
from blackbox_fx.lab.checks import Checked, count
from blackbox_fx.profiling.check import CHECKS, table
from blackbox_fx.space import Choice, Continuous, Space
from tests.cases import RATE

DRAWN = itertools.cycle((1, 1.5))

# what is known of those that do not honour everything
KNOWN = {
    "pedalboard:MP3Compressor": {"sample rates"},  # it takes 32 to 48 kHz
    "twin:gain_pan": {"mono and stereo"},  # always two channels out
    # where memory lies is heard in it, about -85 dB
    "vst3:ZamTube": {"repeats", "used equals fresh", "A after B is A", "silence after loud", "cut or whole"}
    | {"changes during a clip", "threads", "ready at once", "every option", "order of settings"}
    | {"odd blocks", "tail"},
}


def test_every_effect_honours_what_it_promises(request, effect):
    name = request.node.callspec.id
    report = check_effect(effect, 0.05)
    assert {check.name for check in report.failed} <= KNOWN.get(name, set()), report.failed
    assert len(report.checks) == len(CHECKS) == len(table(report.checks))


SPACES = {
    "every option": {"gain": Continuous(0.1, 2, 1), "style": Choice(("a", "b", "c"), "a")},
    "order of settings": {"gain": Continuous(0.1, 2, 1), "macro": Continuous(0, 1, 0)},
    "meters and triggers": {"gain": Continuous(0.1, 2, 1), "gain_reduction_db": Continuous(0, 60, 0, "dB")},
    "units": {"gain": Continuous(0.1, 2, 1), "cutoff": Continuous(0, 0.5, 0.1)},
}


class Wrong(Effect):
    """An effect that breaks one promise."""

    def __init__(self, promise):
        super().__init__("wrong", Space(SPACES.get(promise, {"gain": Continuous(0.1, 2, 1)})))
        self.promise = promise
        self.automatable = promise in ("cut or whole", "changes during a clip", "odd blocks")
        self.native = promise == "ready at once"
        self.excluded = {"bypass": ""} if promise == "names" else {}
        self.inputs = ("key",) if promise == "further inputs" else ()
        self.latency = 5 if promise == "lines up" else 0
        self.style, self.made = "a", time.monotonic()
        self.held, self.passed, self.renewed = 1, [1, 0], False  # of a wrapper, and whether each render has a new one
        self.state = 0.0
        self.count = itertools.count(1) if promise in ("repeats", "threads") else None

    @property
    def defaults(self):
        return {"gain": 9.0} if self.promise == "defaults inside the space" else super().defaults

    def __getstate__(self):
        if self.promise == "pickles":
            raise TypeError("no")
        return super().__getstate__()

    def process(self, request):
        gain = request.settings["gain"]
        if self.promise == "input left alone":
            request.audio *= 0.5
        self.refuse(request)
        wet = request.audio * np.float32(gain)
        if self.promise == "shape and type":
            return wet[:, 1:]
        if self.promise == "finite" and gain not in (0.1, 1.0, 2.0):
            return wet * np.nan
        if self.promise == "edges of the space" and gain == 2.0:
            return wet * np.inf
        if self.promise == "mono and stereo" and len(wet) == 1:
            return wet[[0, 0]]
        return self.misbehave(self.change(self.remember(wet, request), request), request)

    def misbehave(self, wet, request):
        """Does what plugins do without a word."""
        if self.promise == "every option":
            before, self.style = self.style, request.settings["style"]
            return wet * (2 if "c" in (before, self.style) and before != self.style else 1)
        if self.promise == "settings are heard":
            return 0.5 * request.audio
        if self.promise == "order of settings":
            return self.overwrite(request)
        if self.promise == "ready at once":
            return wet * (2 if time.monotonic() - self.made > 0.3 else 1)
        if self.promise == "lines up":
            return np.roll(wet, 700, axis=1)
        if self.promise == "both channels":
            return wet[:1].repeat(len(wet), axis=0)
        if self.promise == "tail" and wet.shape[1] > 5 * RATE:
            return -wet
        if self.promise == "further inputs":
            return wet * (1 + np.abs(request.inputs["key"]).max() if request.inputs["key"].any() else next(DRAWN))
        return wet

    def overwrite(self, request):
        """A macro sets the gain when it moves, and what did not change is not passed on, as in wrappers."""
        gain, macro = request.settings["gain"], request.settings["macro"]
        if self.renewed:
            self.held, self.passed = 1, [1, 0]
        self.held = gain if gain != self.passed[0] else self.held
        self.held = macro if macro != self.passed[1] else self.held
        self.passed = [gain, macro]
        return request.audio * np.float32(self.held)

    def __setstate__(self, state):
        super().__setstate__(state)
        self.made = time.monotonic()

    def refuse(self, request):
        """Raises for one length, or for one sample rate."""
        if self.promise == "short and odd lengths" and request.audio.shape[1] == 7:
            raise ValueError("odd")
        if self.promise == "sample rates" and request.sample_rate == 8000:
            raise ValueError("slow")

    def remember(self, wet, request):
        """Depends on earlier renders."""
        gain = request.settings["gain"]
        if self.promise == "repeats":
            wet = wet + 0.01 * next(self.count)
        if self.promise == "used equals fresh":
            wet, self.state = wet + self.state, 0.1
        if self.promise == "A after B is A":
            wet, self.state = wet + 0.1 * (self.state not in (0.0, gain)), gain
        if self.promise == "silence after loud":
            wet, self.state = wet + self.state, self.state + 0.01 * float(np.abs(request.audio).max())
        return wet

    def change(self, wet, request):
        """Takes settings that change during a clip wrongly."""
        if self.promise == "cut or whole" and len(request.blocks) > 1:
            wet[:, request.hop] += 0.1
        if self.promise == "odd blocks" and request.hop % 2:
            wet[:, request.hop - 1 :: request.hop] *= 0.5
        if self.promise == "changes during a clip" and len({b["gain"] for b in request.blocks}) > 1:
            wet[:, 0] += 0.1
        return wet


class Lossy(Continuous.__mro__[1]):
    """A parameter that does not come back."""

    kind = "continuous"
    default = 0.5
    unit_step = 0.0

    def decode(self, u):
        return float(u[0]) / 2

    def encode(self, value):
        return np.array([value])

    def check(self, name, value):
        return value

    def sample(self, n, rng):
        return rng.random((n, 1))

    def describe(self):
        return "lossy"


@pytest.mark.parametrize("promise", [name for name in CHECKS if name not in ("threads", "unknown names refused")])
def test_each_promise_is_seen_broken(promise):
    effect = Wrong(promise)
    if promise == "space round trip":
        effect.space = Space({"gain": Lossy()})
    report = check_effect(effect, 0.4)
    assert promise in {check.name for check in report.failed} and not report.passed


def test_a_setting_that_is_lost_in_each_new_instance_is_seen():
    effect = Wrong("order of settings")
    effect.renewed = True
    (found,) = check_effect(effect, 0.1).failed
    assert found.value == "gain does nothing as soon as macro leaves its default"


def test_unknown_names_that_are_taken_are_seen(monkeypatch):
    effect = Wrong("")
    assert check_effect(effect, 0.3).passed
    monkeypatch.setattr(effect.space, "complete", lambda values: effect.space.defaults | dict(values))
    assert "unknown names refused" in {check.name for check in check_effect(effect, 0.1).failed}


def test_threads_that_disturb_each_other_are_seen():
    import threading
    import time

    inside = []

    def slow(audio, sample_rate, gain):
        inside.append(threading.get_ident())
        time.sleep(0.02)
        others = len(set(inside)) - 1
        inside.remove(threading.get_ident())
        return audio * gain + others

    effect = function(slow, Space({"gain": Continuous(0, 1, 1)}))
    assert {check.name for check in check_effect(effect, 0.05).failed} == {"threads"}


def test_a_function_that_is_wrong_in_many_ways_is_a_table_and_no_error():
    report = check_effect(function(lambda x, sr: 1 / 0, Space(), name="bad"), 0.05)
    assert not report.passed and "ZeroDivisionError" in " ".join(row[2] for row in table(report.checks))
    assert check_effect(load("pedalboard:Gain"), 0.05).passed


def test_promises_are_counted_and_the_survey_is_taken_up(tmp_path, monkeypatch):
    addresses = ("pedalboard:Gain", "pedalboard:PitchShift", "ladspa:no_such_label")
    asked = ("bench", "checks", *addresses, "--out", str(tmp_path))
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    found = {c["address"]: c for c in map(json.loads, (tmp_path / "checks-0.25.jsonl").read_text().splitlines())}
    assert set(found) == set(addresses)
    assert "No LADSPA plugin" in found["ladspa:no_such_label"]["refused"]
    assert [name for name, passed, _, _ in found["pedalboard:Gain"]["results"]] == list(CHECKS)
    assert all(passed is not False for _, passed, _, _ in found["pedalboard:Gain"]["results"])
    assert "3 effects: " in shown.output and "1 is refused." in shown.output
    with (tmp_path / "refused.csv").open() as file:
        assert [row["effect"] for row in csv.DictReader(file)] == ["ladspa:no_such_label"]
    assert "not applicable" in shown.output and "checked before" not in shown.output
    tried = []
    monkeypatch.setattr(isolation, "call", lambda _, question, *more: tried.append(question["address"]))
    again = CliRunner().invoke(app, asked)
    assert again.exit_code == 0 and set(tried) == {"ladspa:no_such_label"}
    assert again.stderr.replace("\n", "").endswith("checks-0.25.jsonl: 2 of 3") and "0 are refused." in again.stdout
    assert (tmp_path / "refused.csv").read_text() == "effect,why\n"


def test_the_tables_of_a_folder_hold_all_that_was_found_in_it(tmp_path, monkeypatch):
    for address in ("pedalboard:PitchShift", "ladspa:no_such_label", "pedalboard:Gain"):
        shown = CliRunner().invoke(app, ("bench", "checks", address, "--out", str(tmp_path)))
        assert shown.exit_code == 0, shown.output
    assert shown.stdout.endswith("1 effect: 1 keeps every promise, 0 are refused.\n")
    assert "no_such_label" not in shown.stdout and "no_such_label" in (tmp_path / "refused.csv").read_text()
    assert (tmp_path / "broken.csv").read_text().startswith("effect,promise,measured\n")


def test_verdicts_are_counted():
    kept, broken, unused = (Checked(a, [("repeats", v, "", "")]) for a, v in (("a", True), ("b", False), ("c", None)))
    rows = {name: numbers for name, *numbers in count([kept, broken, unused, Checked("d", refused="It is gone.")])}
    assert rows["repeats"] == [1, 1, 1]
    assert [check.name for check in broken.failed] == ["repeats"] and not kept.failed
