"""Work in a process of its own: answers, and every way not to give one."""

import os
import signal
import time
from pathlib import Path

import pytest

from blackbox_fx import isolation
from blackbox_fx.isolation import limits

HEAD = "import os, signal, sys, time\nfrom blackbox_fx import aside\n"


def program(folder, body):
    path = folder / "program.py"
    path.write_text(HEAD + "def reply(question, tell):\n    " + body + "\naside.answer(reply)\n")
    return str(path)


def test_it_tells_and_answers(tmp_path):
    heard = []
    body = "print('noise'); [tell(k) for k in range(3)]; os.system('echo more'); return {'got': question}"
    assert isolation.call(program(tmp_path, body), [1, "a"], 20, heard.append) == {"got": [1, "a"]}
    assert heard == [0, 1, 2]


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashes with SIGSEGV"),
        ("os.abort()", "crashes with SIGABRT"),
        ("os._exit(3)", "ends the process"),
        ("os.close(int(sys.argv[1])); os._exit(0)", "ends the process"),
    ],
)
def test_a_crash_is_said(body, cause, tmp_path):
    with pytest.raises(isolation.Failed, match=cause):
        isolation.call(program(tmp_path, body), None, 20)


def test_a_hang_ends_with_all_that_it_started(tmp_path):
    body = (
        f"import subprocess; open({str(tmp_path / 'pid')!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid));"
    )
    with pytest.raises(isolation.Failed, match="does not answer within 2 seconds"):
        isolation.call(program(tmp_path, body + " time.sleep(600)"), None, 2)
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


def test_a_child_that_holds_on_does_not_hold_up(tmp_path):
    body = "import subprocess; subprocess.Popen(['sleep', '600'], pass_fds=[int(sys.argv[1])]); os._exit(1)"
    with pytest.raises(isolation.Failed, match="ends the process"):
        isolation.call(program(tmp_path, body), None, 20)


def test_a_reason_is_passed_on(tmp_path):
    with pytest.raises(isolation.Refused) as caught:
        isolation.call(program(tmp_path, "raise ValueError('no\\nsuch')"), None, 20)
    assert caught.value.args == ("ValueError", "no such")


def test_what_a_process_prints_is_bounded(tmp_path):
    """Neither the file nor what is read of it grows without end."""
    program = tmp_path / "prints.py"
    program.write_text(
        "import os, time\nfrom blackbox_fx import aside, sandbox\n"
        "def reply(question, tell):\n"
        "    for _ in range(40):\n        os.write(1, b'x' * 2**20); time.sleep(0.02)\n"
        "    time.sleep(0.6)\n"
        "    return os.path.getsize(os.path.join(os.environ['TMPDIR'], limits.LOG))\n"
        "aside.answer(reply)\n"
    )
    assert isolation.call(str(program), None, 30) < 2**24
    assert limits.log_path().stat().st_size < 2**22
