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


def pytest_collection_modifyitems(items):
    """A missing plugin skips its tests with one loud line on a user's machine, and fails them in CI."""
    from blackbox_fx.effects.vst3 import installed

    found = {path.stem for path in installed()}
    wanted = {name.removeprefix("vst3:") for name in cases.EFFECTS if name.startswith("vst3:")}
    missing = sorted(wanted - found)
    if not missing or os.environ.get("CI"):
        return
    line = f"VST3 plugins not installed: {', '.join(missing)} (apt-get install zam-plugins)"
    for item in items:
        if any(name in item.nodeid for name in missing):
            item.add_marker(pytest.mark.skip(reason=line))


def pytest_report_header(config):
    from blackbox_fx.effects.vst3 import installed

    count = len(installed())
    return "" if count else "NO VST3 PLUGINS FOUND: their tests are skipped; apt-get install zam-plugins"


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
