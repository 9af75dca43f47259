"""The pool on a Ray cluster: two nodes on one machine, and more that come and go."""

import contextlib
import copy
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import psutil
import pytest

from blackbox_fx.effects import function, load
from blackbox_fx.errors import EffectError, ParameterError, RenderTimeout, WorkerDied
from blackbox_fx.runtime import Inline, Job, Ray
from blackbox_fx.space import Continuous, Integer, Space
from tests.cases import EFFECTS, RATE, music
from tests.trouble import misbehave

ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'blackbox_fx[ray]')")

AUDIO = np.stack([music(0.2, seed=k) for k in range(3)])
WEIGHT = np.random.default_rng(0).standard_normal(AUDIO.shape).astype(np.float32)
BAD = function(misbehave, Space({"mode": Integer(0, 5, 0)}))


def job(effect, n=30):
    return Job(effect, AUDIO, effect.space.sample(n, 0), np.arange(n) % 3, RATE)


def bad_job(*modes):
    rows = np.array([BAD.space.encode({"mode": m}) for m in modes])
    return Job(BAD, AUDIO[:1, :, :1000], rows, np.zeros(len(modes), int), RATE)


def diary(folder, act=None, slow=0.0):
    """An effect that takes its time and notes in a folder which actor its worker belongs to.

    Args:
        folder: with a file for each actor, as long as it has made renders.
        act: "kill" or "stop" the actor, the first time that the gain is 1; "doom" kills it each time.
        slow: seconds that a render takes more in the first actor.
    """

    def process(audio, sample_rate, gain):
        here = os.getppid()
        with (folder / str(here)).open("a") as file:
            file.write(".")
        if act and gain == 1.0 and (act == "doom" or not (folder / "acted").exists()):
            (folder / "acted").touch()
            os.kill(here, signal.SIGSTOP if act == "stop" else signal.SIGKILL)
            time.sleep(600)
        with contextlib.suppress(FileExistsError), (folder / "first").open("x") as file:
            file.write(str(here))
        time.sleep(0.05 + (slow if (folder / "first").read_text() == str(here) else 0.0))
        return audio * np.float32(gain)

    return function(process, Space({"gain": Continuous(0, 1, 0.5)}), name="diary")


def diary_job(effect, n=40, special=None):
    """Renders at gains in [0.1, 0.9], but 1 for a special one; and what comes out."""
    points = np.linspace(0.1, 0.9, n)[:, None]
    if special is not None:
        points[special] = 1.0
    work = Job(effect, AUDIO, points, np.arange(n) % 3, RATE)
    return work, AUDIO[work.items] * points[:, :, None].astype(np.float32)


def actors(folder):
    """How many renders each actor made or began."""
    return {int(path.name): path.stat().st_size for path in folder.iterdir() if path.name.isdigit()}


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes with one core each, to which the program is connected."""
    from ray.cluster_utils import Cluster

    ray.shutdown()  # what a pool of other tests may have started
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def shared(cluster, tmp_path_factory):
    """A pool that has an actor on both nodes."""
    with Ray(deadline=20) as pool:
        warm_up(pool, tmp_path_factory.mktemp("warm"), 2)
        yield pool


@pytest.fixture
def pool(shared):
    shared.reset_counters()
    return shared


@pytest.fixture(scope="module")
def second(cluster):
    with Ray(1, deadline=0.5) as pool:
        yield pool


@pytest.fixture
def impatient(second):
    second.reset_counters()
    return second


def warm_up(pool, folder, nodes):
    """Renders until all nodes do."""
    wait_for(lambda: pool.map(diary_job(diary(folder), 8)[0]) is not None and len(actors(folder)) == nodes)


@pytest.mark.parametrize(
    "name",
    [
        "pedalboard:Compressor",
        "function",
        "rack",
        "vst3:ZamCompX2",
        "ladspa:/usr/lib/ladspa/tap_reverb.so",
    ],
)
def test_it_equals_inline_bit_for_bit(name, pool):
    work = job(EFFECTS[name]() if name in EFFECTS else load(name))
    assert np.array_equal(pool.map(work), Inline().map(work))
    for stretch in (None, 1000):
        assert np.array_equal(pool.project(work, WEIGHT, stretch), Inline().project(work, WEIGHT, stretch))
    assert pool.counters.renders == 90 and not pool.counters.has_failures


def test_it_carries_settings_that_vary_in_time_and_what_failed_before(pool):
    effect = load("pedalboard:Compressor")
    blocks = -(-AUDIO.shape[2] // 2048)
    params = effect.space.sample(4 * blocks, 0).reshape(4, blocks, -1)
    work = Job(effect, AUDIO, params, np.array([2, 0, 1, 1]), RATE, hop=2048)
    work.failed[1] = True
    assert np.array_equal(pool.map(work), Inline().map(work))
    assert np.array_equal(pool.project(work, WEIGHT), Inline().project(work, WEIGHT))
    assert work.failed.tolist() == [False, True, False, False] and pool.counters.renders == 6


def test_it_carries_further_inputs(pool):
    depth = Space({"depth": Continuous(0, 1, 0.5)})
    duck = function(lambda x, sr, key, depth: x[:1] - depth * key, depth, inputs=["key"])
    key = np.ascontiguousarray(AUDIO[::-1, 1:])
    work = Job(duck, np.ascontiguousarray(AUDIO[:, :1]), np.linspace(0, 1, 9)[:, None], np.arange(9) % 3, RATE)
    keyed = Job(duck, work.audio, work.points, work.items, RATE, inputs={"key": key})
    assert np.array_equal(pool.map(keyed), Inline().map(keyed))
    assert not np.array_equal(pool.map(keyed), pool.map(work))


def test_audio_goes_into_the_object_store_once_for_a_job(pool, monkeypatch):
    stored, put = [], ray.put
    monkeypatch.setattr(ray, "put", lambda value, **options: stored.append(value) or put(value, **options))
    pool.project(job(load("pedalboard:Gain"), 60), WEIGHT)
    assert len(stored) == 1
    assert len(pickle.dumps(stored)) > AUDIO.nbytes + WEIGHT.nbytes


def test_a_node_that_is_faster_gets_more(pool, tmp_path):
    work, expected = diary_job(diary(tmp_path, slow=0.15))
    assert np.array_equal(pool.map(work), expected)
    few, many = sorted(actors(tmp_path).values())
    assert few + many == 40 and many > 2 * few


def test_errors_come_home_as_what_they_are(pool):
    with pytest.raises(EffectError, match="no such mode") as caught:
        pool.map(bad_job(0, 4, 0, 4, 0))
    assert any("In the worker" in note for note in caught.value.__notes__)
    assert any("On Ray's node" in note for note in caught.value.__notes__)
    assert type(caught.value) is EffectError and not pool.counters.has_failures
    with pytest.raises(EffectError, match="locked cannot travel"):
        lock = threading.Lock()
        pool.map(job(function(lambda x, sr: x * lock.locked(), Space(), name="locked")))
    assert np.array_equal(pool.map(bad_job(0, 0)), Inline().map(bad_job(0, 0)))


def test_a_crash_stays_on_its_node_and_is_counted_at_home(pool, caplog):
    with pytest.raises(WorkerDied, match=r"SIGSEGV at \{'mode': 1\}, twice"):
        pool.map(bad_job(1))
    found = pool.counters
    assert (found.crashes, found.retries, found.restarts, found.quarantined) == (2, 1, 2, 1)
    assert re.search("another worker takes over.*on Ray's node", caplog.text)
    pool.reset_counters()
    pool.map(bad_job(0))
    assert pool.counters.renders == 1 and not pool.counters.has_failures


def test_ctrl_c_leaves_the_pool_usable(pool, tmp_path):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        pool.map(diary_job(diary(tmp_path), 400)[0])
    assert np.array_equal(pool.map(bad_job(0, 0)), Inline().map(bad_job(0, 0)))
    begun = actors(tmp_path)
    wait_for(lambda: not any(map(is_running, begun)))  # nobody goes on with what was left
    assert 0 < sum(begun.values()) < 400


def test_an_actor_that_is_lost_costs_a_retry_elsewhere(pool, tmp_path, caplog):
    work, expected = diary_job(diary(tmp_path, "kill"), special=20)
    assert np.array_equal(pool.map(work), expected)
    found = pool.counters
    assert (found.crashes, found.restarts, found.renders) == (1, 1, 40)
    assert 1 <= found.retries <= 8 and sum(actors(tmp_path).values()) > 40
    assert "diary lost Ray's node" in caplog.text
    warm_up(pool, tmp_path, 3)  # and another takes its place in the next job


def test_an_actor_that_hangs_costs_a_deadline(impatient, tmp_path):
    work, expected = diary_job(diary(tmp_path, "stop"), special=20)
    assert np.array_equal(impatient.map(work), expected)
    found = impatient.counters
    assert (found.hangs, found.restarts, found.crashes, found.renders) == (1, 1, 0, 40) and found.retries >= 1
    stopped = [pid for pid in actors(tmp_path) if psutil.Process(pid).status() == psutil.STATUS_STOPPED]
    assert len(stopped) == 1
    os.kill(stopped[0], signal.SIGKILL)  # which Ray cannot, before its node ends


def test_a_render_that_hangs_costs_a_deadline(impatient):
    with pytest.raises(RenderTimeout, match=r"deadline of 0\.5 s .*twice"):
        impatient.map(bad_job(0, 3))
    assert impatient.counters.hangs == 2


def test_a_render_that_loses_two_nodes_is_an_error(pool, tmp_path):
    work, _ = diary_job(diary(tmp_path, "doom"), 4, special=2)
    with pytest.raises(WorkerDied, match=r"diary lost Ray's node .* at \{'gain': 1\.0\}, twice"):
        pool.map(work)
    assert 2 <= pool.counters.crashes <= 3 and pool.counters.retries >= 1


def test_a_render_that_loses_two_nodes_can_be_skipped(cluster, tmp_path):
    work, expected = diary_job(diary(tmp_path, "doom"), 4, special=2)
    expected[2] = AUDIO[work.items[2]]
    with Ray(1, on_failure="skip") as pool:
        assert np.array_equal(pool.map(work), expected)
        assert work.failed.tolist() == [False, False, True, False]
        assert (pool.counters.skipped, pool.counters.renders) == (1, 3) and pool.counters.crashes >= 2
        again = bad_job(0, 1, 0)  # what a node's own pool skips
        assert np.array_equal(pool.map(again)[1], again.audio[0])
        assert again.failed.tolist() == [False, True, False] and pool.counters.skipped == 2
        assert pool.project(again, WEIGHT[:1, :, :1000])[1] == 0


def test_nodes_come_and_go(pool, cluster, tmp_path):
    third = cluster.add_node(num_cpus=1)
    before, folder = tmp_path / "before", tmp_path / "now"
    before.mkdir()
    folder.mkdir()
    warm_up(pool, before, 3)
    assert pool.workers == 3

    def remove():
        wait_for(lambda: len(actors(folder)) == 3)
        cluster.remove_node(third)

    plain = function(lambda x, sr, gain: x * np.float32(gain), Space({"gain": Continuous(0, 1, 0.5)}))
    leaving = threading.Thread(target=remove)
    leaving.start()
    pool.reset_counters()
    found = pool.project(diary_job(diary(folder), 90)[0], WEIGHT)
    assert np.array_equal(found, Inline().project(diary_job(plain, 90)[0], WEIGHT))
    leaving.join(20)
    assert (pool.counters.crashes, pool.counters.restarts, pool.counters.renders) == (1, 1, 90)
    assert 1 <= pool.counters.retries <= 8
    wait_for(lambda: pool.map(bad_job(0)) is not None and pool.workers == 2)


def test_a_node_that_cannot_start_is_left_out(pool, cluster, tmp_path, caplog):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['blackbox_fx'] = None")
    odd = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path)})
    wait_for(lambda: pool.map(bad_job(0, 0)) is not None and "is left out" in caplog.text)
    assert not pool.counters.has_failures
    cluster.remove_node(odd)


def test_closing_ends_what_it_started_and_nothing_else(pool, tmp_path):
    warm_up(pool, tmp_path, 2)
    children = [child.pid for pid in actors(tmp_path) for child in psutil.Process(pid).children()]
    assert len(children) == 2
    pool.close()
    wait_for(lambda: not any(map(is_running, [*actors(tmp_path), *children])), 10)
    assert ray.is_initialized()
    pool.close()
    assert np.array_equal(pool.map(bad_job(0)), Inline().map(bad_job(0)))  # it opens again


def test_a_forked_process_is_told_so(pool):
    child = os.fork()
    if child == 0:
        try:
            pool.map(bad_job(0))
        except ParameterError as error:
            pool.close()
            os._exit(0 if "forked" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(pool.map(bad_job(0)), Inline().map(bad_job(0)))


def test_it_copies_as_a_place_and_pickles_as_a_recipe(pool):
    assert copy.deepcopy(pool) is pool and pool.background and not pool.prefers_lookahead
    given = Ray(3, 2.5, "skip", 99.0, "auto")
    again = pickle.loads(pickle.dumps(given))
    assert {n: v for n, v in vars(again).items() if n in ("deadline", "on_failure", "memory_mb", "address")} == {
        "deadline": 2.5,
        "on_failure": "skip",
        "memory_mb": 99.0,
        "address": "auto",
    }
    assert again.workers == given.workers == 3


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"deadline": -1}, {"on_failure": "hide"}, {"memory_mb": 0}, {"workers": 1.5}]
)
def test_mistakes(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        Ray(**options)


def test_without_ray_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ParameterError, match=r"pip install 'blackbox_fx\[ray\]'") as caught:
        Ray()
    assert "\n" not in str(caught.value)


SCRIPT = """
    import sys
    import numpy as np
    import blackbox_fx.runtime
    from blackbox_fx.effects import function
    from blackbox_fx.runtime import Job
    from blackbox_fx.space import Space

    assert "ray" not in sys.modules and "torch" not in sys.modules

    folder = sys.argv[1]

    def half(x, sr):
        import os
        from pathlib import Path

        (Path(folder) / str(os.getppid())).touch()
        return x * 0.5

    pool = blackbox_fx.runtime.Ray(1)
    assert "ray" not in sys.modules
    ones = np.ones((1, 2, 1000), np.float32)
    out = pool.map(Job(function(half, Space()), ones, np.zeros((4, 0)), np.zeros(4, int), 44100))
    assert (out == 0.5).all()
    import ray

    assert ray.is_initialized()
    pool.close()
    assert not ray.is_initialized()
    print("done")
"""


def test_alone_it_starts_a_ray_of_its_own_and_leaves_nothing_behind(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(SCRIPT), str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (shown.stdout, shown.stderr) == ("done\n", "")
    assert len(actors(tmp_path)) == 1
    wait_for(lambda: not any(map(is_running, actors(tmp_path))), 10)
