import atexit
import ctypes.util
import functools
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests import cases

# what tests measure of effects stays out of the user's cache
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="blackbox_fx-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# machines that run tests are busy: how long an example takes says nothing
settings.register_profile("shared", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _seeded():
    """What a test draws without a generator is the same in every run."""
    torch.manual_seed(0)


# words in the ids of tests, a file that they need, and the Debian package it comes from
NEEDED = (
    ("ladspa", "ladspa/sc4_1882.so", "swh-plugins"),
    ("ladspa", "ladspa/tap_reverb.so", "tap-plugins"),
    ("ladspa", "ladspa/cmt.so", "cmt"),
    ("ladspa", "ladspa/caps.so", "caps"),
    ("tremolo", "ladspa/tap_tremolo.so", "tap-plugins"),
    ("its_effect[freeverb3", "ladspa/cmt.so", "cmt"),
    ("test_vst3", "vst3/ZamVerb.vst3", "zam-plugins"),
    ("its_effect[zam", "vst3/ZamVerb.vst3", "zam-plugins"),
    ("vst2:", "vst/MVerb-vst.so", "dpf-plugins-vst"),
    ("vst2:Zam", "vst/ZamCompX2-vst.so", "zam-plugins"),
    ("lv2:urn:dragonfly", "lv2/DragonflyPlateReverb.lv2", "dragonfly-reverb-lv2"),
    ("mda/", "lv2/mda.lv2", "mda-lv2"),
    ("by_ardour", "ardour7/utils/ardour7-export", "ardour"),
    ("by_ardour", "vst3/ZaMaximX2.vst3", "zam-plugins"),
    ("by_ardour", "lv2/mda.lv2", "mda-lv2"),
    ("ardour_session", "vst3/ZamEQ2.vst3", "zam-plugins"),
    ("ardour_session", "ladspa/hard_limiter_1413.so", "swh-plugins"),
    ("ardour_session", "lv2/mda.lv2", "mda-lv2"),
    ("test_lmms", "ladspa/cmt.so", "cmt"),
    ("test_lmms", "ladspa/hard_limiter_1413.so", "swh-plugins"),
    ("test_lmms", "ladspa/tap_reverb.so", "tap-plugins"),
    ("test_lmms", "ladspa/caps.so", "caps"),
    ("by_lmms", "/usr/bin/lmms", "lmms"),
    ("demos_of_lmms", "/usr/share/lmms/projects", "lmms-common"),
    ("pingus", "/usr/share/games/pingus/data/music", "pingus-data"),
    ("biniax2", "/usr/share/games/biniax2/music", "biniax2-data"),
)

NOTEBOOKS = "test_notebooks.py::test_it_runs"
FIRST = ("test_odd_plugins.py", NOTEBOOKS)  # what waits for minutes, while notebooks compute

DPF = Path("/usr/share/dpf/distrho")


@functools.cache
def _absent():
    """Words in the ids of tests that need what is not installed, and what to say of it; none in CI."""
    if os.environ.get("CI"):
        return {}
    from blackbox_fx.effects.hosts.vst3.effect import installed

    found = {path.stem for path in installed()}
    wanted = {name.removeprefix("vst3:") for name in cases.EFFECTS if name.startswith("vst3:")}
    absent = {name: f"VST3 plugin {name} is not installed (apt-get install zam-plugins)" for name in wanted - found}
    if not shutil.which("sox"):
        absent["sox"] = "sox is not installed (apt-get install sox)"
    if ctypes.util.find_library("openmpt") is None:
        absent["test_modules"] = "libopenmpt is not installed (apt-get install libopenmpt0)"
    if importlib.util.find_spec("av") is None:
        absent["test_stems"] = "PyAV is not installed (pip install 'blackbox_fx[musdb]')"
    if importlib.util.find_spec("dawdreamer") is None:
        line = "dawdreamer is not installed (pip install 'blackbox_fx[dawdreamer]')"
        absent |= dict.fromkeys(("vst2:", "lv2:", "faust:", "test_dawdreamer", "by_ardour", "ardour_session"), line)
    if not (shutil.which("g++") and DPF.is_dir()):
        built = "plugins that behave oddly cannot be built (apt-get install g++ dpf-source)"
        absent |= dict.fromkeys(("misbehav", "odd_plugin"), built)
    for word, file, package in NEEDED:
        if not any((Path(folder) / file).exists() for folder in ("/usr/lib", "/usr/local/lib")):
            absent.setdefault(word, f"{file} is not installed (apt-get install {package})")
    return absent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """The tests of a file run in one process, but each notebook, which takes longest, goes to whichever is free."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return nodeid if NOTEBOOKS in nodeid else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items):
    """What takes longest comes first; what is missing skips its tests with one loud line, and fails them in CI."""
    items.sort(key=lambda item: [word not in item.nodeid for word in FIRST])
    absent = _absent()
    for item in items:
        for line in [line for word, line in absent.items() if word in item.nodeid][:1]:
            item.add_marker(pytest.mark.skip(reason=line))


def pytest_terminal_summary(terminalreporter):
    for line in sorted(set(_absent().values())):
        terminalreporter.write_line(f"TESTS WERE SKIPPED: {line}", red=True)


@pytest.fixture(params=list(cases.EFFECTS))
def effect(request):
    return cases.EFFECTS[request.param]()


@pytest.fixture(scope="session")
def pools():
    opened = {name: make() for name, make in cases.POOLS.items()}
    yield opened
    for pool in opened.values():
        pool.close()


@pytest.fixture(scope="session")
def misbehave(tmp_path_factory):
    """A VST3 plugin that does what bad plugins do, and copies of it that crash and hang on loading."""
    folder, source = tmp_path_factory.mktemp("vst3"), Path(__file__).parent / "misbehave"
    library = folder / "misbehave.so"
    options = ["-O1", "-std=gnu++14", "-fPIC", "-shared", "-w", "-DDISTRHO_PLUGIN_TARGET_VST3"]
    headers = [f"-I{source}", f"-I{DPF}", f"-I{DPF / 'src'}"]
    sources = [str(source / "misbehave.cpp"), str(DPF / "DistrhoPluginMain.cpp")]
    subprocess.run(["g++", *options, *headers, *sources, "-o", str(library), "-ldl", "-lpthread"], check=True)
    for name in ("misbehave", "crashing", "hanging"):
        inside = folder / f"{name}.vst3/Contents/{platform.machine()}-linux"
        inside.mkdir(parents=True)
        shutil.copy(library, inside / f"{name}.so")
    return folder / "misbehave.vst3"


@pytest.fixture(autouse=True)
def subnormal():
    """Sees that no library turns subnormal numbers off for the tests that follow."""
    yield
    assert np.float64(5e-324) * 1.0 != 0


@pytest.fixture
def root():
    return Path(__file__).parent.parent
