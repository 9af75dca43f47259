"""Work in a process of its own: answers, and every way not to give one."""

import functools
import os
import signal
import time
from pathlib import Path

import pytest

from blackbox_fx import isolation
from blackbox_fx.isolation import limits
from tests.programs import write_module


@pytest.fixture
def program(tmp_path, monkeypatch):
    return functools.partial(write_module, tmp_path, monkeypatch)


def test_it_reports_and_answers(program):
    heard = []
    body = "print('noise'); [report(k) for k in range(3)]; os.system('echo more'); return {'got': question}"
    assert isolation.call(program(body), [1, "a"], 20, heard.append) == {"got": [1, "a"]}
    assert heard == [0, 1, 2]


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashes with SIGSEGV"),
        ("os.abort()", "crashes with SIGABRT"),
        ("os._exit(3)", "ends the process"),
        ("os.closerange(3, 100); os._exit(0)", "ends the process"),
    ],
)
def test_a_crash_is_said(body, cause, program):
    with pytest.raises(isolation.Failed, match=cause):
        isolation.call(program(body), None, 20)


def test_a_hang_ends_with_all_that_it_started(tmp_path, program):
    body = (
        f"import subprocess; open({str(tmp_path / 'pid')!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid));"
    )
    with pytest.raises(isolation.Failed, match="does not answer within 2 seconds"):
        isolation.call(program(body + " time.sleep(600)"), None, 2)
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
                return
        except FileNotFoundError:
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("what it started is still there")


def test_a_child_that_holds_on_does_not_hold_up(program):
    body = """
import subprocess
fds = [fd for fd in range(3, 30) if os.path.exists(f"/proc/self/fd/{fd}")]
subprocess.Popen(["sleep", "600"], pass_fds=fds); os._exit(1)
"""
    with pytest.raises(isolation.Failed, match="ends the process"):
        isolation.call(program(body), None, 20)


def test_a_reason_is_passed_on(program):
    with pytest.raises(isolation.Refused) as caught:
        isolation.call(program("raise ValueError('no\\nsuch')"), None, 20)
    assert caught.value.args == ("ValueError", "no such")


def test_what_a_process_prints_is_bounded(program):
    """Neither the file nor what is read of it grows without end."""
    body = """
for _ in range(40):
    os.write(1, b"x" * 2**20); time.sleep(0.02)
time.sleep(0.6)
return os.path.getsize(os.path.join(os.environ["TMPDIR"], "output.txt"))
"""
    assert isolation.call(program(body), None, 30) < 2**24
    assert limits.log_path().stat().st_size < 2**22
