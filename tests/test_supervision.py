"""What native effects do to their workers, and what is left of it."""

import copy
import json
import logging
import os
import pickle
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.core import files
from blackbox_fx.effects import function, load
from blackbox_fx.errors import EffectError, NotFinite, ParameterError, RenderTimeout, WorkerDied
from blackbox_fx.isolation import limits
from blackbox_fx.layers.black_box import report_failures
from blackbox_fx.runtime import Inline, Job, Processes, policy, quarantine, shared_pool
from blackbox_fx.space import Continuous, Space
from tests.cases import ESTIMATORS, RATE, music
from tests.trouble import Gate, environment_of, fussy

GOOD, SEGFAULT, ABORT, HANG, NAN, INF = range(6)
SOMETIMES, LEAKS, FALLS_SILENT, FALLS_DRY, PRINTS = range(11, 16)
AUDIO = np.stack([music(0.1, seed=k) for k in range(2)])


@pytest.fixture
def bad(misbehave):
    return load(f"vst3:{misbehave}")


def job(effect, *modes, **values):
    rows = np.stack([effect.space.encode({"mode": m, "gain_db": -6, **values}) for m in modes])
    return Job(effect, AUDIO, rows, np.arange(len(modes)) % len(AUDIO), RATE)


@pytest.mark.parametrize(
    ("mode", "error", "counted"),
    [
        (SEGFAULT, WorkerDied, "crashes"),
        (ABORT, WorkerDied, "crashes"),
        (HANG, RenderTimeout, "hangs"),
        (NAN, NotFinite, "not_finite"),
        (INF, NotFinite, "not_finite"),
    ],
)
def test_misbehaving_plugins_are_retried_then_raise_or_are_skipped(bad, mode, error, counted):
    work, good = job(bad, GOOD, mode, GOOD), Inline().map(job(bad, GOOD, GOOD, GOOD))
    with Processes(1, deadline=1, on_failure="skip") as pool:
        wet = pool.map(work)
        assert np.array_equal(wet[[0, 2]], good[[0, 2]]) and np.array_equal(wet[1], AUDIO[1])
        assert work.failed.tolist() == [False, True, False]
        found = pool.counters
        assert (found.retries, found.restarts, found.skipped, found.quarantined) == (1, 2, 1, 1)
        assert getattr(found, counted) == 2 and found.has_failures and counted.replace("_", " ") in str(found)
        assert pool.project(job(bad, mode), AUDIO).tolist() == [0.0]  # at once, by the quarantine
        assert pool.counters.restarts == 2 and pool.counters.skipped == 2
        pool.on_failure = "raise"
        with pytest.raises(error, match="twice"):
            pool.map(job(bad, mode))
        assert pool.restarts == 2


@pytest.mark.parametrize("mode", [FALLS_SILENT, FALLS_DRY])
def test_misbehaving_plugins_that_fall_silent_or_dry_are_opened_anew(bad, mode):
    work, good = job(bad, *[mode] * 30, count=20), Inline().map(job(bad, *[GOOD] * 30))
    assert not np.array_equal(Inline().map(work), good)
    with Processes(1) as pool:
        assert np.array_equal(pool.map(work), good)
        assert pool.counters.stale > 0 and pool.restarts == 0


def test_silence_that_is_genuine_is_believed_and_looked_at_rarely():
    gate = Gate("gate", Space())
    gate.log = limits.log_path().with_name("gate")
    gate.log.parent.mkdir(parents=True, exist_ok=True)
    with Processes(1) as pool:
        assert not pool.map(Job(gate, AUDIO, np.zeros((100, 0)), np.arange(100) % 2, RATE)).any()
        assert not pool.counters.has_failures
    assert gate.log.stat().st_size == 100 + 3 + 1


def test_misbehaving_plugins_that_crash_now_and_then_cost_retries_only(bad):
    work = job(bad, *[SOMETIMES] * 60, count=30)
    with Processes(2) as pool:
        assert np.array_equal(pool.map(work), Inline().map(job(bad, *[GOOD] * 60)))
        assert pool.counters.retries > 0 and not pool.counters.skipped


def test_misbehaving_plugins_that_leak_have_their_worker_recycled(bad):
    with Processes(1, memory_mb=60) as pool:
        pool.map(job(bad, GOOD))
        before = pool.worker_pids[0]
        assert np.array_equal(pool.map(job(bad, *[LEAKS] * 30)), Inline().map(job(bad, *[GOOD] * 30)))
        assert pool.counters.recycled > 0 and pool.restarts == 0
        assert not psutil.pid_exists(before)


def test_misbehaving_plugins_print_to_the_log_and_not_to_the_terminal(bad, capfd):
    with Processes(1) as pool:
        pool.map(job(bad, PRINTS))
        with pytest.raises(WorkerDied) as caught:
            pool.map(job(bad, SEGFAULT))
    assert any("Segmentation fault" in note for note in caught.value.__notes__)
    printed = "".join(capfd.readouterr())
    assert "said on" not in printed and "Segmentation" not in printed
    log = limits.log_path().read_text()
    assert "said on stdout" in log and "said on stderr" in log


@pytest.mark.parametrize(("name", "error"), [("crashing", WorkerDied), ("hanging", RenderTimeout)])
def test_misbehaving_plugins_that_do_not_open_raise_whatever_the_policy(bad, misbehave, monkeypatch, name, error):
    monkeypatch.setattr("blackbox_fx.runtime.process.START_DEADLINE", 2.0)
    broken = copy.copy(bad)
    path = misbehave.with_name(f"{name}.vst3")
    broken.__setstate__({"path": str(path), "digest": files.digest(path)})
    with Processes(1, on_failure="skip") as pool:
        with pytest.raises(error, match="while it was opened, twice"):
            pool.map(job(broken, GOOD))
        assert pool.map(job(bad, GOOD)).any()


def test_a_misbehaving_plugin_leaves_a_report_that_shows_it_again(bad, tmp_path):
    with Processes(1) as pool, pytest.raises(WorkerDied) as caught:
        pool.map(job(bad, SEGFAULT))
    path = next(p for p in quarantine.folder().glob("*.json") if str(p) in str(caught.value))
    report = json.loads(path.read_text())
    assert report["settings"] == {"gain_db": -6.0, "mode": SEGFAULT, "count": 8}
    assert "SIGSEGV" in report["cause"] and any("Segmentation" in line for line in report["output"])
    assert (report["channels"], report["sample_rate"], report["seconds"]) == (2, RATE, 0.1)
    command = [sys.executable, "-m", "blackbox_fx.cli", *shlex.split(report["reproduce"])[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, env=_importing())
    assert done.returncode == 2 and "SIGSEGV" in done.stderr and done.stderr.count("Segmentation") == 0


def _importing():
    return os.environ | {"PYTHONPATH": str(Path(bfx.__file__).parent.parent)}


FUSSY = function(fussy, Space({name: Continuous(0, 1, 0.5) for name in "abc"}))


def batch(*firsts):
    audio = torch.stack([torch.from_numpy(music(0.05, seed=3)) for _ in firsts])
    audio[:, 0, 0] = torch.tensor(firsts)
    return audio, torch.full((len(firsts), 3), 0.5, requires_grad=True)


@pytest.fixture(scope="module")
def skipping():
    with Processes(2, on_failure="skip") as pool:
        yield pool


@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_items_that_fail_get_dry_audio_and_no_gradient_and_leave_others_alone(estimator, lookahead, skipping):
    grads = []
    for firsts in ([0.0] * 4, [0.0, 1.0, 2.0, 0.0]):
        audio, params = batch(*firsts)
        audio.requires_grad_()
        options = {"audio_rule": bfx.Identity(), "pool": skipping, "lookahead": lookahead, "sample_rate": RATE}
        layer = bfx.BlackBox(FUSSY, ESTIMATORS[estimator](), **options)
        wet = layer(audio, params)
        wet.square().sum(dim=(1, 2)).sum().backward()
        grads.append((params.grad, audio.grad))
    assert layer.failed.tolist() == [False, False, True, False]
    assert torch.equal(wet[2], audio[2])
    (whole, _), (partial, of_audio) = grads
    assert not partial[2].any() and not of_audio[2].any() and of_audio[1].any()
    assert partial[1].any() == (estimator == "Autodiff")  # which renders nothing
    assert (whole != 0).any(dim=1).all() and torch.allclose(partial[[0, 3]], whole[[0, 3]], rtol=1e-9)


def test_each_member_of_a_chain_fails_by_itself(skipping):
    gain = load("pedalboard:Gain")
    chain = bfx.Chain({"fussy": FUSSY, "gain": gain}, bfx.FiniteDifference(), audio_rule=bfx.Identity(), pool=skipping)
    audio, _ = batch(0.0, 2.0)
    params = torch.full((2, 4), 0.5, requires_grad=True)
    wet = chain(audio, params)
    wet.square().mean().backward()
    expected = bfx.BlackBox(gain)(audio, torch.full((2, 1), 0.5))
    assert torch.equal(wet[1], expected[1]) and not torch.equal(wet[0], expected[0])
    assert not params.grad[1, :3].any() and params.grad[1, 3] and (params.grad[0] != 0).all()


def test_expected_losses_leave_out_what_fails(skipping):
    audio, params = batch(0.0, 1.0, 2.0)
    layer = bfx.BlackBox(FUSSY, pool=skipping)
    bfx.expected_loss(layer, audio, params, lambda wet: float(np.abs(wet).mean())).backward()
    assert params.grad[0].any() and not params.grad[1:].any()


def test_failures_are_warned_of_once_for_each_effect(caplog):
    audio, params = batch(2.0, 2.0, 2.0)
    with Processes(1, on_failure="skip") as pool:
        layer = bfx.BlackBox(FUSSY, bfx.FiniteDifference(), pool=pool)
        layer(audio, params)
        layer(audio, params).sum().backward()
        assert report_failures(layer) == [str(pool.counters)] and pool.counters.skipped == 6
        pool.reset_counters()
        assert not report_failures(layer)
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 1 and "on purpose" in caplog.text


def test_native_effects_run_in_one_shared_pool_unless_told_otherwise():
    plugin, builtin = load("ladspa:sc4"), load("pedalboard:Gain")
    assert plugin.native and not builtin.native
    assert bfx.Rack([builtin, plugin]).native and not bfx.Rack([builtin]).native
    layers = [bfx.BlackBox(effect) for effect in (plugin, bfx.Rack([builtin, plugin]), builtin)]
    assert layers[0].pool is layers[1].pool is shared_pool() and isinstance(layers[2].pool, Inline)
    assert isinstance(bfx.BlackBox(plugin, pool=Inline()).pool, Inline)
    audio, params = torch.from_numpy(AUDIO), torch.full((2, layers[0].width), 0.5)
    expected = bfx.BlackBox(plugin, pool=Inline())(audio, params)
    assert torch.equal(layers[0](audio, params), expected)
    again = pickle.loads(pickle.dumps(layers[0]))
    assert again.pool is shared_pool()


def test_deadlines_follow_what_was_measured():
    known = policy.Known()
    assert known.deadline(5) == 60
    known.pace = 0.01
    assert known.deadline(5) == 20
    known.pace = 2.0
    assert known.deadline(5) == 300


def test_workers_get_no_secrets_no_core_dumps_and_a_limit(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_TOKEN", "a3f9")
    monkeypatch.setenv("LADSPA_PATH", "/plugins")
    monkeypatch.setenv("XDG_SEEN", str(tmp_path / "seen"))
    with Processes(1) as pool:
        pool.map(Job(function(environment_of, Space()), AUDIO, np.zeros((1, 0)), np.zeros(1, int), RATE))
    seen = (tmp_path / "seen").read_text()
    assert "a3f9" not in seen and "LADSPA_PATH=/plugins" in seen and "PATH=" in seen
    assert "core (0, 0)" in seen and int(seen.split("cpu ")[1]) < 3600
    assert not Path(next(line for line in seen.splitlines() if line.startswith("TMPDIR="))[7:]).exists()


PARENT = """
    import sys
    import numpy as np
    from blackbox_fx.effects import load
    from blackbox_fx.runtime import Job, Processes

    sleeper = load(f"command:bash {sys.argv[1]} {{in}} {{out}}")
    pool = Processes(1, deadline=1)
    pool.map(Job(sleeper, np.zeros((1, 2, 1000), np.float32), np.zeros((1, 0)), np.zeros(1, int), 44100))
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, None])
def test_programs_and_folders_of_a_worker_go_with_it(ending, tmp_path):
    """However it ends: its parent is killed or interrupted, or it outlives its deadline, twice."""
    (tmp_path / "tmp").mkdir()
    script = tmp_path / "sleeper.sh"
    script.write_text(f"echo $$ >> {tmp_path}/pids\nsetsid sleep 345 &\necho $! >> {tmp_path}/pids\nsleep 345\n")
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(script)]
    environment = _importing() | {"TMPDIR": str(tmp_path / "tmp")}
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    pids, end = tmp_path / "pids", time.monotonic() + 30
    while not (pids.exists() and len(pids.read_text().split()) >= 2) and time.monotonic() < end:
        time.sleep(0.05)
    if ending:
        parent.send_signal(ending)
    parent.wait(30)
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == (2 if ending else 4)
    end = time.monotonic() + 10
    while (any(map(psutil.pid_exists, started)) or any((tmp_path / "tmp").iterdir())) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, started))
    assert not list((tmp_path / "tmp").iterdir())


def test_output_of_workers_is_bounded(tmp_path):
    log = tmp_path / limits.LOG
    log.write_bytes(b"a\n" * 10**6 + b"the end\n")
    limits.shorten(tmp_path)
    assert log.stat().st_size < 10**6 and log.read_bytes().endswith(b"the end\n")
    limits.clear(tmp_path)
    assert not tmp_path.exists() and limits.log_path().read_bytes().endswith(b"the end\n")


@pytest.mark.parametrize(
    "call",
    [
        lambda: Processes(1, on_failure="ignore"),
        lambda: Processes(1, memory_mb=0),
        lambda: Processes(1, memory_mb=True),
        lambda: Processes(1, deadline="1"),
        lambda: Job(FUSSY, AUDIO, np.zeros((2, 3)), np.zeros(2, int), RATE, failed=np.zeros(3, bool)),
    ],
)
def test_mistakes(call):
    with pytest.raises(ParameterError) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_errors_of_the_effect_itself_raise_by_default():
    with Processes(1) as pool, pytest.raises(EffectError, match="on purpose"):
        bfx.BlackBox(FUSSY, pool=pool)(*batch(2.0))


def test_a_short_soak_comes_out_right():
    from blackbox_fx.lab.soak import soak

    found = soak(renders=48, share=0.1, seconds=0.1, deadline=1.0)
    assert found.counters.renders == found.wanted == 48 and not found.wrong and not found.residual
    assert found.counters.restarts > 0 and not found.clean_counters.has_failures


def test_folders_of_processes_that_were_killed_are_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    old, mine = (tmp_path / f"{limits.PREFIX}{pid}-x" for pid in (ended.pid, os.getpid()))
    for folder in (old, mine):
        (folder / "inside").mkdir(parents=True)
    limits.sweep.cache_clear()
    new = limits.make_folder()
    assert not old.exists() and mine.exists() and new.exists()
