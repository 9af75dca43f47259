"""Compiled functions: of processes that start together one compiles, and a lock that is not let go of stops nobody."""

import os
import subprocess
import sys

from filelock import FileLock

from blackbox_fx.core import compiled

MODULE = """
import numpy as np
from blackbox_fx.core.compiled import compiled

@compiled
def doubled(x):
    total = np.zeros_like(x)
    for k in range(len(x)):
        total[k] = 2 * x[k]
    return total
"""
CHILD = """
import numpy as np
from numba.core import event
import module
with event.install_recorder("numba:compile") as recorder:
    assert module.doubled(np.ones(3)).tolist() == [2, 2, 2]
print("compiled" if recorder.buffer else "read")
"""


def start(folder, **more):
    own = (
        more
        | os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
            "NUMBA_CACHE_DIR": str(folder / "kept"),
        }
    )
    return subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, env=own)


def test_of_processes_that_start_together_one_compiles(tmp_path):
    (tmp_path / "module.py").write_text(MODULE)
    said = [child.communicate(timeout=200)[0].strip() for child in [start(tmp_path) for _ in range(3)]]
    assert sorted(said) == ["compiled", "read", "read"]


def test_numba_may_be_told_not_to_compile(tmp_path):
    (tmp_path / "module.py").write_text(MODULE)
    child = start(tmp_path, NUMBA_DISABLE_JIT="1")
    assert child.communicate(timeout=200)[0].strip() == "read"


def test_a_lock_that_is_held_or_cannot_be_made_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "_PATIENCE_S", 0.1)
    entered = []
    with FileLock(tmp_path / "one.lock"), compiled.alone(tmp_path / "one.lock"):
        entered.append("held")
    (tmp_path / "a file").touch()
    with compiled.alone(tmp_path / "a file" / "one.lock"):
        entered.append("no folder")
    assert entered == ["held", "no folder"]
