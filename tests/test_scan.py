"""What is installed, listed from names and read aside: plugins that crash or hang cost their own line only."""

import time

import psutil
import pytest
from typer.testing import CliRunner

from blackbox_fx import effects, isolation
from blackbox_fx.cli.__main__ import app
from blackbox_fx.effects import scanning
from blackbox_fx.effects.hosts.dawdreamer import bundles as lv2_bundles
from blackbox_fx.errors import ParameterError
from tests.programs import write_module

KINDS = (("ladspa", ""), ("vst3", "mine"))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def few(tmp_path, monkeypatch, own_cache):
    """Three libraries of LADSPA plugins, one of them of no effects, and two VST3 plugins of which one is none."""
    folder = tmp_path / "ladspa"
    folder.mkdir()
    for name in ("tap_reverb.so", "analogue_osc_1416.so", "sc4_1882.so"):
        (folder / name).symlink_to(f"/usr/lib/ladspa/{name}")
    monkeypatch.setenv("LADSPA_PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".vst3").mkdir()
    (tmp_path / ".vst3/MineBad.vst3").write_text("hello")
    plugin(tmp_path / ".vst3/MineGate.vst3")
    return tmp_path


def plugin(path):
    inside = path / "Contents/x86_64-linux"
    inside.mkdir(parents=True)
    (inside / f"{path.stem}.so").symlink_to("/usr/lib/vst3/ZamGate.vst3/Contents/x86_64-linux/ZamGate.so")


def test_ladspa_is_listed_without_what_is_no_effect(few):
    assert effects.installed(["ladspa"]) == {"ladspa": ["ladspa:sc4", "ladspa:tap_reverb"]}
    assert effects.installed(["vst3"], "mine") == {"vst3": ["vst3:MineBad", "vst3:MineGate"]}
    assert effects.installed(["ladspa"], "REVERB") == {"ladspa": ["ladspa:tap_reverb"]}
    with pytest.raises(ParameterError, match="Unknown host 'au'; known are pedalboard, vst3"):
        effects.installed(["au"])


def test_a_scan_reads_each_and_keeps_it(few, monkeypatch):
    found = {f.address: f for kind, word in KINDS for f in effects.scan([kind], word)}
    reverb, wrong = found["ladspa:tap_reverb"], found["vst3:MineBad"]
    loaded = effects.load("ladspa:tap_reverb")
    assert (reverb.channels, reverb.parameters, reverb.latency, reverb.why) == (2, len(loaded.space.parameters), 0, "")
    assert found["vst3:MineGate"].channels == 1 and found["vst3:MineGate"].parameters >= 5
    assert "MineBad.vst3" in wrong.why and wrong.parameters is None and wrong.host == "vst3"
    assert any("no audio input" in f.why for f in found.values() if f.host == "ladspa")
    monkeypatch.setattr(isolation, "call", lambda *_: pytest.fail("read again"))
    assert {f.address: f for kind, word in KINDS for f in effects.scan([kind], word)} == found
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 2 * 86_400)  # what could not be used is tried again
    with pytest.raises(pytest.fail.Exception, match="read again"):
        list(effects.scan(["vst3"], "MineBad"))
    assert next(effects.scan(["vst3"], "MineGate")) == found["vst3:MineGate"]


def test_a_changed_file_is_read_again(few):
    first = next(effects.scan(["vst3"], "MineBad"))
    (few / ".vst3/MineBad.vst3").unlink()
    plugin(few / ".vst3/MineBad.vst3")
    assert first.why and not next(effects.scan(["vst3"], "MineBad")).why


def test_one_that_crashes_costs_its_own_line(tmp_path, monkeypatch, own_cache):
    body = """
for address in question:
    if address.endswith("Compressor"):
        os.kill(os.getpid(), signal.SIGSEGV)
    report({"channels": 2, "parameters": 1, "latency": 0, "why": "", "lasts": True})
"""
    monkeypatch.setattr(scanning, "READER", write_module(tmp_path, monkeypatch, body))
    monkeypatch.setattr(scanning, "_known", lambda entry: None)
    found = {f.address: f for f in effects.scan(["pedalboard"])}
    assert list(found) and len(found) == len(effects.installed(["pedalboard"])["pedalboard"])
    crashed = {a for a, f in found.items() if f.why}
    assert crashed == {a for a in found if a.endswith("Compressor")}
    assert all("crashes with SIGSEGV" in found[a].why for a in crashed)


def test_leaving_early_ends_the_processes(tmp_path, monkeypatch, own_cache):
    body = """
report({"channels": 2, "parameters": 1, "latency": 0, "why": "", "lasts": True})
time.sleep(600)
"""
    monkeypatch.setattr(scanning, "READER", write_module(tmp_path, monkeypatch, body))
    monkeypatch.setattr(scanning, "_known", lambda entry: None)
    before = set(psutil.Process().children(recursive=True))
    reading = effects.scan(["pedalboard"])
    first = next(reading)
    assert first.parameters == 1 and set(psutil.Process().children(recursive=True)) - before
    reading.close()
    assert set(psutil.Process().children(recursive=True)) <= before


def test_manifests_name_their_plugins():
    manifest = """
    @prefix lv2: <http://lv2plug.in/ns/lv2core#> .
    @prefix x: <http://example.org/a#> .  # a note; it ends here. <http://example.org/no>
    x:one a lv2:Plugin , lv2:ReverbPlugin ; lv2:binary <one.so> ; x:says "a . b ; c" .
    <urn:two> lv2:binary <two.so> ;
        a <http://lv2plug.in/ns/lv2core#Plugin> ; lv2:port [ a lv2:InputPort ; lv2:index 0 ] .
    <urn:preset> a <http://lv2plug.in/ns/ext/presets#Preset> ; lv2:appliesTo x:one .
    x:three.b a lv2:Plugin.
    """
    assert lv2_bundles.uris(manifest) == ["http://example.org/a#one", "urn:two", "http://example.org/a#three.b"]
    assert lv2_bundles.uris('no turtle " at ] all') == []


def test_the_command_groups_and_counts(few):
    shown = CliRunner().invoke(app, ["effects", "--host", "ladspa,pedalboard"]).stdout.splitlines()
    assert "ladspa: 2" in shown and "ladspa:sc4" in shown and "pedalboard:Gain" in shown
    scanned = CliRunner().invoke(app, ["effects", "--scan", "--host", "ladspa"]).stdout
    assert "ladspa:sc4\t2\t7\t0\t\n" in scanned and "no audio input" in scanned
    assert "'au'" in CliRunner().invoke(app, ["effects", "--host", "au"]).exception.args[0]


def test_ctrl_c_shows_what_was_read(monkeypatch):
    def interrupted(kinds, match):
        yield effects.Scanned("pedalboard:Gain", parameters=1)
        raise KeyboardInterrupt

    monkeypatch.setattr("blackbox_fx.cli.effects.scan_effects", interrupted)
    done = CliRunner().invoke(app, ["effects", "--scan", "--host", "pedalboard"])
    assert done.exit_code == 130 and "pedalboard:Gain\t-\t1" in done.stdout and "stopped after 1 of 24" in done.stderr
