import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import cases

# what tests measure of effects stays out of the user's cache
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="blackbox_fx-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# machines that run tests are busy: how long an example takes says nothing
settings.register_profile("shared", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


# a library of each Debian package of LADSPA plugins that tests use
LADSPA_PACKAGES = {"swh-plugins": "sc4_1882.so", "tap-plugins": "tap_reverb.so", "cmt": "cmt.so", "caps": "caps.so"}


def missing():
    """What of a test's id stands for a plugin that is not installed, and what to say of it."""
    from blackbox_fx.effects import ladspa, vst3

    found = {path.stem for path in vst3.installed()}
    wanted = {name.removeprefix("vst3:") for name in cases.EFFECTS if name.startswith("vst3:")}
    lacking = sorted(wanted - found)
    line = f"VST3 plugins not installed: {', '.join(lacking)} (apt-get install zam-plugins)"
    words = dict.fromkeys(lacking, line)
    folders = ladspa.search_path()
    packages = [p for p, file in LADSPA_PACKAGES.items() if not any((folder / file).exists() for folder in folders)]
    if packages:
        line = f"LADSPA plugins not installed (apt-get install {' '.join(packages)})"
        words |= {"ladspa:": line, "test_ladspa.py": line}
    return words


def pytest_collection_modifyitems(items):
    """A missing plugin skips its tests with one loud line on a user's machine, and fails them in CI."""
    words = {} if os.environ.get("CI") else missing()
    for item in items:
        for word, line in words.items():
            if word in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=line))


def pytest_report_header(config):
    return [f"THEIR TESTS DO NOT RUN: {line}" for line in dict.fromkeys(missing().values())]


@pytest.fixture(params=list(cases.EFFECTS))
def effect(request):
    return cases.EFFECTS[request.param]()


@pytest.fixture(scope="session")
def pools():
    opened = {name: make() for name, make in cases.POOLS.items()}
    yield opened
    for pool in opened.values():
        pool.close()


@pytest.fixture
def root():
    return Path(__file__).parent.parent
