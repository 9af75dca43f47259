"""Coverage: what prepare reaches on many effects, with reasons, resumed from its log."""

import json
import math
import threading

import pytest
from typer.testing import CliRunner

from blackbox_fx import isolation
from blackbox_fx.cli.__main__ import app
from blackbox_fx.lab import coverage
from blackbox_fx.lab.coverage import Covered, summarise
from blackbox_fx.lab.survey import survey
from blackbox_fx.report.coverage import reason_table


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_coverage_is_measured_and_taken_up(tmp_path, monkeypatch):
    asked = (
        "bench",
        "coverage",
        "pedalboard:HighShelfFilter",
        "pedalboard:Invert",
        "--minutes",
        "0.03",
        "--out",
        tmp_path,
    )
    shown = call(*asked)
    assert shown.exit_code == 0, shown.output
    log = tmp_path / "coverage-0.03-0.jsonl"
    found = {c["address"]: c for c in map(json.loads, log.read_text().splitlines())}
    assert "no free parameters" in found["pedalboard:Invert"]["failure"]
    peak = found["pedalboard:HighShelfFilter"]
    assert not peak["failure"] and peak["layer_params"] > 0.8 and peak["layer_audio"] > 0.9 and peak["backward"] > 0
    assert (tmp_path / "index.html").exists() and (tmp_path / "coverage.csv").exists()
    monkeypatch.setattr(isolation, "call", None)
    again = call(*asked)
    assert again.exit_code == 0 and again.stdout == shown.stdout


def test_shares_and_reasons():
    good = Covered("pedalboard:a", params=0.95, audio=0.99, esr=0.01, dry=1.0, layer_params=1.0, layer_audio=1.0)
    jumps = Covered("vst3:Zam", audio=0.99, esr=0.1)
    wrong = Covered("ladspa:c", params=0.95, audio=0.5, layer_params=0.95, layer_audio=0.99)
    refused = Covered("ladspa:d", refused="It is worse.", params=0.99, audio=0.99)
    failed = coverage.measure("ladspa:no_such_label", threading.Event(), 1, 0)
    found = [good, jumps, wrong, refused, failed]
    reasons = dict(reason_table(found)[1:])
    assert list(reasons) == ["ladspa:c", "ladspa:d", "ladspa:no_such_label", "vst3:Zam"]
    assert "audio 0.500" in reasons["ladspa:c"] and reasons["ladspa:d"] == "It is worse."
    assert "No LADSPA plugin" in reasons["ladspa:no_such_label"] and "no gradient" in reasons["vst3:Zam"]
    everything = summarise(found)[-1]
    assert (everything.found, everything.counted, everything.good, everything.layers) == (5, 3, 1, 2)
    assert math.isnan(failed.params)


def test_a_survey_that_is_stopped_ends_its_work(tmp_path):
    stopped = threading.Event()

    def measure(address, stop):
        if address == "slow" and stop.wait(20):
            stopped.set()
        return Covered(address)

    with pytest.raises(KeyboardInterrupt):
        for found in survey(["quick", "slow", "never"], measure, Covered, tmp_path / "log", lambda *_: None):
            assert found.address in ("quick", "never")
            raise KeyboardInterrupt
    assert stopped.is_set()
    assert "slow" not in (tmp_path / "log").read_text()
