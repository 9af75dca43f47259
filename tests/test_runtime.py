import functools
import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from blackbox_fx.effects import function, load
from blackbox_fx.errors import AudioError, EffectError, NotFinite, ParameterError, RenderTimeout, WorkerDied
from blackbox_fx.runtime import Inline, Job, Processes, Threads, base
from blackbox_fx.runtime.process import WorkerProcess
from blackbox_fx.space import Continuous, Integer, Space
from tests.cases import EFFECTS, RATE, SPACE, mixed, music
from tests.trouble import meet, misbehave, unruly

SHARED = Path("/dev/shm")
AUDIO = np.stack([music(0.2, seed=k) for k in range(3)])
WEIGHT = np.random.default_rng(0).standard_normal(AUDIO.shape).astype(np.float32)


def job(effect, n=7, audio=AUDIO):
    return Job(effect, audio, effect.space.sample(n, 0), np.arange(n) % len(audio), RATE)


BAD = function(misbehave, Space({"mode": Integer(0, 5, 0)}))


def bad_job(*modes):
    rows = np.array([BAD.space.encode({"mode": m}) for m in modes])
    return Job(BAD, AUDIO[:1, :, :1000], rows, np.zeros(len(modes), int), RATE)


def test_every_pool_equals_inline_bit_for_bit(effect, pools):
    if effect.name.startswith("vst3:ZamTube"):
        return  # keeps denormal residue between renders; its repeats agree to 1e-3 alone, see test_effects
    work = job(effect)
    expected = Inline().map(work), Inline().project(work, WEIGHT)
    for name, pool in pools.items():
        assert np.array_equal(pool.map(work), expected[0]), name
        assert np.array_equal(pool.project(work, WEIGHT), expected[1]), name
    products = (WEIGHT[work.items].astype(np.float64) * expected[0]).sum(axis=(1, 2))
    assert np.allclose(expected[1], products, rtol=1e-9, atol=1e-9)


def test_several_jobs_at_once_are_what_they_are_by_themselves(pools):
    comp, gain, zam = map(load, ("pedalboard:Compressor", "pedalboard:Gain", "vst3:ZamEQ2"))
    jobs = [job(comp, 5), job(gain, 0), job(comp, 1, np.tile(AUDIO, (1, 1, 3))), job(zam, 30)]
    expected = [Inline().map(each) for each in jobs]
    for name, pool in pools.items():
        for _ in range(2):
            for found, wanted in zip(pool.map_all(jobs), expected, strict=True):
                assert np.array_equal(found, wanted), name
        assert pool.map_all([]) == []


def test_jobs_at_once_share_the_workers(tmp_path):
    """Each of two effects renders only once the other one does."""
    jobs = [
        job(function(functools.partial(meet, tmp_path / me, tmp_path / other), Space({}), name=me), 1)
        for me, other in (("a", "b"), ("b", "a"))
    ]
    with Processes(2) as pool:
        pool.map_all(jobs)
    for path in tmp_path.iterdir():
        path.unlink()
    with Threads(2) as pool:
        pool.map_all(jobs)
    for path in tmp_path.iterdir():
        path.unlink()
    with Processes(1, deadline=2) as pool, pytest.raises(RenderTimeout):
        pool.map_all(jobs)


def test_one_of_several_jobs_that_crashes_leaves_the_others_alone():
    with Processes(2, on_failure="skip") as pool:
        jobs = [bad_job(0, 1, 0), job(load("pedalboard:Gain"), 9), bad_job(0, 5, 0, 0)]
        pool.map(bad_job(0))
        first, gains, last = pool.map_all(jobs)
        assert [each.failed.tolist() for each in jobs] == [
            [False, True, False],
            [False] * 9,
            [False, True, False, False],
        ]
        assert np.array_equal(gains, Inline().map(jobs[1]))
        assert np.array_equal(first[1], AUDIO[0, :, :1000]) and np.array_equal(last[2], Inline().map(bad_job(0))[0])
    with Processes(2) as pool:
        with pytest.raises(WorkerDied, match=r"SIGSEGV.*twice"):
            pool.map_all([job(load("pedalboard:Gain"), 3), bad_job(0, 1)])
        assert np.array_equal(pool.map(bad_job(0, 0)), Inline().map(bad_job(0, 0)))


def test_inner_products_come_whole_or_by_stretches_of_time(pools):
    work = job(load("pedalboard:Compressor"))
    whole, outputs = Inline().project(work, WEIGHT), Inline().map(work).astype(np.float64)
    length, stretch = AUDIO.shape[2], 1000
    for pool in pools.values():
        parts = pool.project(work, WEIGHT, stretch)
        assert parts.shape == (len(work), -(-length // stretch))
        for k, part in enumerate(parts.T):
            cut = slice(k * stretch, (k + 1) * stretch)
            expected = (WEIGHT[work.items][..., cut] * outputs[..., cut]).sum(axis=(1, 2))
            assert np.allclose(part, expected, rtol=1e-9, atol=1e-9)
        assert np.allclose(parts.sum(axis=1), whole, rtol=1e-9, atol=1e-9)


def test_pools_carry_time_varying_settings(pools):
    effect = load("pedalboard:Compressor")
    blocks = -(-AUDIO.shape[2] // 2048)
    params = effect.space.sample(4 * blocks, 0).reshape(4, blocks, -1)
    work = Job(effect, AUDIO, params, np.array([2, 0, 1, 1]), RATE, hop=2048)
    expected = Inline().map(work)
    for pool in pools.values():
        assert np.array_equal(pool.map(work), expected)
    values = [effect.space.decode(row) for row in params[0]]
    assert np.array_equal(expected[0], effect.render(AUDIO[2], values, RATE, 2048))


def test_pools_copy_as_places_and_pickle_as_recipes(pools):
    import copy

    for pool in pools.values():
        assert copy.deepcopy(pool) is pool and copy.copy(pool) is pool
        again = pickle.loads(pickle.dumps(pool))
        assert type(again) is type(pool) and getattr(again, "workers", 0) == getattr(pool, "workers", 0)
        again.close()


def test_empty_jobs_and_reopening():
    with Processes(1) as pool:
        assert pool.map(job(BAD, 0)).shape == (0, 2, AUDIO.shape[2])
        first = pool.map(bad_job(0))
        pool.close()
        assert np.array_equal(pool.map(bad_job(0)), first)
        bigger = job(load("pedalboard:Gain"), 9, np.tile(AUDIO, (1, 1, 4)))  # the shared memory grows
        assert np.array_equal(pool.map(bigger), Inline().map(bigger))
        assert np.array_equal(pool.map(bad_job(0)), first)


@pytest.mark.parametrize("mode", [1, 2])
def test_a_crash_is_reported_and_the_pool_goes_on(mode, caplog):
    with Processes(2) as pool:
        with pytest.raises(WorkerDied, match=r"SIGSEGV|SIGABRT") as caught:
            pool.map(bad_job(0, mode, 0, 0))
        assert f"'mode': {mode}" in str(caught.value)
        assert pool.restarts == 2 and len(caplog.records) == 1
        assert np.array_equal(pool.map(bad_job(0, 0)), Inline().map(bad_job(0, 0)))


def test_a_hang_is_ended_at_the_deadline():
    with Processes(2, deadline=0.5) as pool:
        with pytest.raises(RenderTimeout, match=r"0\.5 s"):
            pool.project(bad_job(0, 3, 0), WEIGHT[:1, :, :1000])
        assert pool.restarts == 2
        assert np.array_equal(pool.map(bad_job(0)), Inline().map(bad_job(0)))


@pytest.mark.parametrize(("mode", "words"), [(4, "no such mode"), (5, "NaN")])
def test_errors_come_home_with_their_traceback(mode, words):
    with Processes(2) as pool:
        with pytest.raises(EffectError, match=words) as caught:
            pool.map(bad_job(0, mode, 0, mode, 0))
        assert any("In the worker" in note for note in caught.value.__notes__)
        assert pool.restarts == (4 if words == "NaN" else 0)  # two renders, twice each
        assert np.array_equal(pool.map(bad_job(0, 0)), Inline().map(bad_job(0, 0)))


def _workers(pool):
    return [psutil.Process(pid) for pid in pool.worker_pids]


def test_kill_9_of_a_worker_in_mid_batch_completes_the_batch():
    slow = function(lambda x, sr: (__import__("time").sleep(0.05), x * 0.5)[1], Space(), name="slow")
    work = Job(slow, AUDIO, np.zeros((30, 0)), np.arange(30) % 3, RATE)
    with Processes(2) as pool:
        pool.map(bad_job(0, 0))
        victim = _workers(pool)[0]
        threading.Timer(0.3, victim.kill).start()
        assert np.array_equal(pool.map(work), AUDIO[work.items] * np.float32(0.5))
        assert pool.restarts == 1 and not victim.is_running()


def test_a_worker_killed_while_idle_is_replaced():
    with Processes(2) as pool:
        pool.map(bad_job(0, 0))
        for worker in _workers(pool):
            worker.kill()
            worker.wait()
        assert np.array_equal(pool.map(bad_job(0, 0)), Inline().map(bad_job(0, 0)))


PARENT = """
    import sys, time, os
    import numpy as np
    from blackbox_fx.effects import function
    from blackbox_fx.runtime import Job, Processes
    from blackbox_fx.space import Space

    def spin(x, sr):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            pass
        return x

    pool = Processes(2)
    fine = function(lambda x, sr: x, Space())
    pool.map(Job(fine, np.zeros((1, 2, 1000), np.float32), np.zeros((4, 0)), np.zeros(4, int), 44100))
    print(*[pid for pid in pool.worker_pids], flush=True)
    if sys.argv[1] == "busy":
        silence = np.zeros((1, 2, 1000), np.float32)
        pool.map(Job(function(spin, Space()), silence, np.zeros((2, 0)), np.zeros(2, int), 44100))
    if sys.argv[1] == "error":
        raise RuntimeError("on purpose")
    if sys.argv[1] == "idle":
        time.sleep(60)
"""


@pytest.mark.parametrize(
    ("how", "ending"),
    [("busy", signal.SIGKILL), ("idle", signal.SIGKILL), ("busy", signal.SIGINT), ("error", None), ("exit", None)],
)
def test_no_worker_and_no_shared_memory_outlive_the_parent(how, ending):
    before = set(SHARED.iterdir()) if SHARED.is_dir() else set()
    command = [sys.executable, "-c", textwrap.dedent(PARENT), how]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    if ending:
        time.sleep(0.3)
        parent.send_signal(ending)
    parent.wait(20)
    parent.stdout.close()
    _, alive = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], timeout=5)
    assert not alive
    if SHARED.is_dir():
        assert set(SHARED.iterdir()) <= before


def test_ctrl_c_leaves_the_pool_usable():
    with Processes(2) as pool:
        pool.map(bad_job(0, 0))
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            pool.map(bad_job(3, 3, 3))
        assert np.array_equal(pool.map(bad_job(0, 0)), Inline().map(bad_job(0, 0)))


def test_a_forked_child_uses_workers_of_its_own():
    with Processes(1) as pool:
        expected = pool.map(bad_job(0))
        team = _workers(pool)
        child = os.fork()
        if child == 0:
            same = np.array_equal(pool.map(bad_job(0)), expected)
            other = [w.pid for w in _workers(pool)] != [w.pid for w in team]
            pool.close()
            os._exit(0 if same and other else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert all(w.is_running() for w in team)
        assert np.array_equal(pool.map(bad_job(0)), expected)


def test_threads_of_the_caller_may_share_a_pool(pools):
    work = job(function(mixed, SPACE))
    expected = Inline().map(work)
    for pool in pools.values():
        results = []
        callers = [
            threading.Thread(target=lambda pool=pool, results=results: results.append(pool.map(work))) for _ in range(4)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        assert len(results) == 4 and all(np.array_equal(r, expected) for r in results)


def test_workers_stay_small():
    with Processes(1) as pool:
        pool.map(job(EFFECTS["pedalboard:Compressor"]()))
        worker = _workers(pool)[0]
        assert not any("torch" in m.path for m in worker.memory_maps())


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: Processes(0.5), ParameterError),
        (lambda: Processes(-1), ParameterError),
        (lambda: Processes(0), ParameterError),
        (lambda: Processes(1, deadline=0), ParameterError),
        (lambda: Threads(0), ParameterError),
        (lambda: Job(BAD, AUDIO[0], np.zeros((1, 1)), np.zeros(1, int), RATE), AudioError),
        (lambda: Job(BAD, AUDIO, np.zeros((1, 2)), np.zeros(1, int), RATE), ParameterError),
        (lambda: Job(BAD, AUDIO, np.zeros((1, 1)), np.array([3]), RATE), ParameterError),
        (lambda: Inline().project(bad_job(0), WEIGHT), AudioError),
    ],
)
def test_mistakes(call, error):
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)


def with_nan(item):
    audio = AUDIO.copy()
    audio[item, 0, -1] = np.nan
    return audio


def test_audio_of_a_job_is_checked_once_and_outputs_of_renders_each(monkeypatch, pools):
    for name in ("audio", "key"):
        arrays = {"audio": AUDIO} | {name: with_nan(2)}
        inputs = {"key": arrays["key"]} if "key" in arrays else {}
        with pytest.raises(AudioError, match=f"{name} contains NaN"):
            Job(BAD, arrays["audio"], np.zeros((1, 1)), np.zeros(1, int), RATE, inputs=inputs)
    seen = []
    original = base.check_audio
    monkeypatch.setattr(base, "check_audio", lambda audio, what: (seen.append(what), original(audio, what))[1])
    work = job(load("pedalboard:Compressor"), 12)
    Inline().map(work.part(slice(0, 6)))
    Inline().project(work.part(slice(6, None)), WEIGHT)
    assert seen == ["audio"] * 3
    late = function(
        lambda audio, sample_rate, mode: audio * (np.nan if mode == 3 else 1), Space({"mode": Integer(0, 5, 0)})
    )
    points = np.array([late.space.encode({"mode": mode}) for mode in (0, 1, 3, 4, 5)])
    for pool in (Inline(), *pools.values()):
        with pytest.raises(NotFinite, match="'mode': 3"):
            pool.map(Job(late, AUDIO[:1], points, np.zeros(5, int), RATE))


def test_a_function_that_changed_is_sent_anew():
    box = {"gain": 1.0}
    effect = function(lambda x, sr: x * box["gain"], Space())
    work = Job(effect, AUDIO, np.zeros((1, 0)), np.zeros(1, int), RATE)
    with Processes(1) as pool:
        pool.map(work)
        box["gain"] = 0.5
        assert np.array_equal(pool.map(work), Inline().map(work))


def test_dropped_pools_leave_nothing_open():
    process = psutil.Process()
    before = process.num_fds()
    for _ in range(5):
        pool = Processes(1)
        pool.map(bad_job(0))
        del pool
    gc.collect()
    assert process.num_fds() <= before


def test_threads_work_in_a_forked_child():
    with Threads(2) as pool:
        expected = pool.map(bad_job(0, 0))
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(pool.map(bad_job(0, 0)), expected) else 1)
        deadline = time.monotonic() + 20
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        if ended == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert ended != (0, 0) and os.waitstatus_to_exitcode(ended[1]) == 0


class OddError(EffectError):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def odd(audio, sample_rate):
    raise OddError("one", "two")


def test_errors_that_do_not_pickle_come_home_as_their_base():
    with Processes(1) as pool, pytest.raises(EffectError, match="one and two"):
        pool.map(Job(function(odd, Space()), AUDIO, np.zeros((1, 0)), np.zeros(1, int), RATE))


def test_what_cannot_travel_is_named():
    lock = threading.Lock()
    effect = function(lambda x, sr: x * lock.locked(), Space(), name="locked")
    with Processes(1) as pool, pytest.raises(EffectError, match="locked cannot travel"):
        pool.map(Job(effect, AUDIO, np.zeros((1, 0)), np.zeros(1, int), RATE))


def test_workers_do_not_import_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "signal.py").write_text("raise RuntimeError('a stranger')")
    monkeypatch.chdir(tmp_path)
    with Processes(1) as pool:
        assert np.array_equal(pool.map(bad_job(0)), Inline().map(bad_job(0)))


def test_jobs_with_more_parameters_than_a_socket_holds():
    effect = load("pedalboard:Compressor")
    audio = AUDIO[:1, :1, :4].copy()
    work = Job(effect, audio, effect.space.sample(3000, 0), np.zeros(3000, int), RATE)
    with Processes(2) as pool:
        assert np.array_equal(pool.map(work), Inline().map(work))


def ahead_in(pool, renders=20):
    """A layer's output whose gradient is being rendered ahead, and its parameters."""
    import torch

    import blackbox_fx as bfx

    effect = function(
        lambda x, sr, g: (__import__("time").sleep(0.02), x * g)[1], bfx.Space({"g": bfx.Continuous(0, 1, 0.5)})
    )
    layer = bfx.BlackBox(effect, bfx.FiniteDifference(), pool=pool)
    params = torch.full((renders, 1), 0.3, requires_grad=True)
    return layer(torch.ones(renders, 1, 50), params), params


def test_closing_a_pool_ends_what_renders_ahead_and_the_gradient_comes_all_the_same():
    with Processes(2) as pool:
        wet, params = ahead_in(pool)
    time.sleep(0.3)
    assert not pool.worker_pids
    wet.sum().backward()
    assert np.allclose(params.grad, 50, rtol=1e-3)
    pool.close()


def test_a_fork_renders_anew_what_was_ahead_and_may_close_its_pool():
    code = f"""
    import os, sys, time
    sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
    from blackbox_fx.runtime import Processes
    from tests.test_runtime import ahead_in
    pool = Processes(2)
    wet, params = ahead_in(pool)
    if os.fork() == 0:
        wet.sum().backward()
        ok = abs(params.grad - 50).max() < 0.1
        pool.close()
        os._exit(0 if ok else 3)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    shown = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert shown.stdout.split() == ["0"], shown.stderr
    assert "another worker takes over" not in shown.stderr  # nor at the end, with renders under way


def test_an_effect_that_forks_does_not_answer_twice():
    def forks(audio, sample_rate):
        import os
        import sys

        if os.fork() == 0:
            sys.exit(0)
        return audio * 0.5

    half = function(lambda x, sr: x * 0.25, Space())
    with Processes(2) as pool:
        for _ in range(3):
            assert (pool.map(Job(function(forks, Space()), AUDIO, np.zeros((8, 0)), np.arange(8) % 3, RATE)) != 0).any()
            work = Job(half, AUDIO, np.zeros((8, 0)), np.arange(8) % 3, RATE)
            assert np.array_equal(pool.map(work), Inline().map(work))


def test_as_many_renders_as_workers_go_to_one_each():
    def waits(audio, sample_rate):
        import os
        import time

        time.sleep(0.2)
        return np.full_like(audio, os.getpid() % 65536)

    audio = np.ones((2, 1, 8), np.float32)
    work = Job(function(waits, Space()), audio, np.zeros((2, 0)), np.arange(2), RATE)
    with Processes(2) as pool:
        pool.map(work)  # workers that start take what they can
        assert len(set(pool.map(work)[:, 0, 0])) == 2


@pytest.fixture
def orders(monkeypatch):
    """The orders that workers got, and how many renders their replies answered."""
    given, answered = [], []
    give, reply = WorkerProcess.give, WorkerProcess.reply

    def noted(worker):
        found = reply(worker)
        answered.extend([] if found is None or found.answers[0].n < 0 else [len(found.answers)])
        return found

    monkeypatch.setattr(WorkerProcess, "give", lambda worker, order: (given.append(order), give(worker, order))[1])
    monkeypatch.setattr(WorkerProcess, "reply", noted)
    return given, answered


def unruly_job(mode, count, at=None, once=""):
    """Short renders, with trouble `at` a place."""
    space = Space({"mode": Integer(0, 5, mode), "at": Continuous(0, 1, 1)}, ["at"])
    effect = function(functools.partial(unruly, once=str(once)), space, name="unruly")
    points = np.linspace(0.6, 1, count)[:, None]
    if at is not None:
        points[at] = 0.5
    return Job(effect, AUDIO[:, :, :1000], points, np.arange(count) % 3, RATE)


def right(work, but=()):
    """The outputs of an unruly job, where nothing happens; dry audio for some."""
    outputs = work.audio[work.items] * work.points[:, :, None]
    outputs[list(but)] = work.audio[work.items[list(but)]]
    return outputs.astype(np.float32)


def test_short_renders_travel_several_to_a_message_and_long_ones_alone(orders):
    given, _ = orders
    with Processes(2) as pool:
        for mode, count in ((5, 300), (4, 12)):
            work = unruly_job(mode, count)
            work.points[:] = 0.9
            pool.map(work.part(slice(0, 12)))
            given.clear()
            assert np.allclose(pool.map(work), right(work), atol=1e-6)
            assert sorted(n for order in given for n in order) == list(range(count))
            assert len(given) < count / 4 if mode == 5 else max(map(len, given)) == 1
        assert pool.counters.renders == 300 + 3 * 12 and not pool.counters.has_failures


@pytest.mark.parametrize(("mode", "counter"), [(0, "crashes"), (1, "hangs"), (2, "not_finite")])
def test_one_bad_render_of_a_message_costs_one_retry_and_no_other(mode, counter, orders, tmp_path):
    given, _ = orders
    with Processes(2, deadline=1.0) as pool:
        work = unruly_job(mode, 120, at=13, once=tmp_path / "once")
        pool.map(work.part(slice(60, None)))
        given.clear()
        assert np.allclose(pool.map(work), right(work), atol=1e-6)
        assert next(len(order) for order in given if 13 in order) > 1 and [13] in given
        counted = {name: n for name, n in vars(pool.counters).items() if n and name != "seconds"}
        assert counted == {"renders": 180, counter: 1, "retries": 1, "restarts": 1}


@pytest.mark.parametrize(("mode", "counter"), [(0, "crashes"), (1, "hangs"), (2, "not_finite")])
def test_a_render_of_a_message_that_fails_twice_is_the_one_given_up(mode, counter):
    with Processes(2, deadline=1.0, on_failure="skip") as pool:
        work = unruly_job(mode, 120, at=13)
        pool.map(work.part(slice(60, None)))
        weight = np.ones_like(work.audio)
        found = pool.project(work, weight)
        assert np.flatnonzero(work.failed).tolist() == [13] and getattr(pool.counters, counter) == 2
        assert pool.counters.quarantined == pool.counters.skipped == 1
        expected = right(work).astype(np.float64).sum(axis=(1, 2))
        expected[13] = 0.0
        assert np.allclose(found, expected, atol=1e-3)


def test_the_deadline_is_for_each_render_of_a_message(orders):
    given, _ = orders
    with Processes(1, deadline=0.5) as pool:
        work = unruly_job(4, 100)  # quick, and then slow
        pool.map(work.part(slice(0, 50)))
        given.clear()
        pool.map(work.part(slice(50, None)))
        assert len(given[0]) * 0.06 > 0.5 and not pool.counters.has_failures


def test_a_worker_that_has_grown_leaves_the_rest_of_a_message_to_another(orders):
    given, answered = orders
    with Processes(1, memory_mb=60) as pool:
        work = unruly_job(3, 60)
        assert np.allclose(pool.map(work), right(work), atol=1e-6)
        assert pool.counters.recycled > 0 and pool.restarts == 0
        assert pool.counters.renders == 60 and sum(answered) == 60 < sum(map(len, given))
